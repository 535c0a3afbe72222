"""python -m crosstrainer_jax.represent: a video-text representation of how-to clips, and what it is worth."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import jax
import ml_collections
import numpy as np
from absl import flags

from crosstrainer_jax import datasets, distributed, settings
from crosstrainer_jax.baselines.retrieval import Setting
from crosstrainer_jax.evaluation.table import Table, markdown
from crosstrainer_jax.input.buckets import as_path
from crosstrainer_jax.input.examples import PromptTokenizer
from crosstrainer_jax.input.files import write_atomically
from crosstrainer_jax.input.source import ClipInfo
from crosstrainer_jax.training.telemetry import MetricWriter, say, timed

if TYPE_CHECKING:
  from crosstrainer_jax.representation.report import Report


def define_flags() -> None:
  """Not done on import: other verbs have flags of the same names."""
  settings.define_config_flag('configs/sportskills.py')
  flags.DEFINE_string('workdir', '', 'Checkpoints, TensorBoard logs and the report go here; by default runs/<config>.')
  flags.DEFINE_string('data_dir', 'runs/datasets', 'Where prepared datasets lie.')
  flags.DEFINE_multi_string('runs', [], 'Workdir of a finished run; several print their mean, and train nothing.')
  flags.DEFINE_bool('dry-run', False, 'Print what would be done, and do nothing.')


def main(argv: list[str]) -> None:
  del argv
  if flags.FLAGS.runs:
    print('\n'.join(markdown(table) for table in summary_of(flags.FLAGS.runs)))
    return
  config = settings.config_from_flags()
  workdir = as_path(flags.FLAGS.workdir or Path('runs') / settings.run_name(flags.FLAGS.config, flags.FLAGS.override))
  if flags.FLAGS['dry-run'].value:
    say(plan(config, workdir))
    return
  distributed.initialize()
  run(config, workdir, flags.FLAGS.data_dir).print()
  say(f'written: {workdir}/representation.md, .json and .png')


def summary_of(workdirs: Sequence[str]) -> list[Table]:
  """Means over runs of several seeds. Raises FileNotFoundError, ValueError."""
  from crosstrainer_jax.representation import report

  return report.summary([report.read(Path(workdir) / 'representation.json') for workdir in workdirs])


def plan(config: ml_collections.ConfigDict, workdir: Path) -> str:
  """What a run of `config` will do, in a few lines."""
  represent, contrastive = config.represent, config.contrastive
  return '\n'.join(
    [
      f'Would train {", ".join(represent.rows)} on {config.data.dataset}, seed {config.seed}.',
      f'  clips      {config.encoder.weights}, as {config.encoder.source}',
      f'  texts      {contrastive.text_encoder or "a small transformer over the run’s own tokens"}',
      f'  training   {contrastive.epochs:g} epochs in updates of {contrastive.batch_size} pairs',
      f'  scores     in pools of {represent.pool} within a sport',
      f'  workdir    {workdir}{" (exists: resumes)" if workdir.is_dir() else ""}',
      '',
      settings.dump(config),
    ]
  )


def run(config: ml_collections.ConfigDict, workdir: Path, data_dir: str | Path) -> Report:
  """Trains what is not trained, scores all rows, and writes the report.

  Raises:
    SettingsError: the workdir belongs to another config or to other data.
    ValueError: a library that does not fit.
  """
  from crosstrainer_jax.curation import howto
  from crosstrainer_jax.measure import hardware
  from crosstrainer_jax.representation import report, rows, scoring

  begun = time.monotonic()
  settings.keep_compiled(data_dir)
  with timed(f'data: {config.data.dataset}'), distributed.first('data'):
    if config.data.dataset == howto.NAME:
      directory = howto.prepare(data_dir, **config.data.howto.to_dict())
    else:
      directory = datasets.prepare(config.data, data_dir)
  setting, test = open_library(config, workdir, directory)
  clips = [setting.clips[index] for index in test]
  pools = scoring.draw_pools(clips, config.represent.pool, config.split.seed)
  said = [clip.commentary for clip in clips]
  writer = MetricWriter(workdir / 'tensorboard')
  scores = {}
  try:
    for name in config.represent.rows:
      retriever = rows.open_row(
        name, dataclasses.replace(setting, directory=workdir / 'rows' / name.replace(' ', '_')), writer
      )
      found = scoring.ranks_of(retriever.clip_vectors(test), retriever.text_vectors(said), pools)
      scores[name] = scoring.score(found, clips, pools, config.represent.resamples)
  finally:
    writer.close()
  channels = len({clip.participant for clip in clips})
  facts = [
    f'{len(setting.train)} training clips; {len(pools.queries)} of {len(test)} test clips have a pool; they are of '
    f'{len({clip.take for clip in clips})} videos by {channels} channels, none of which trains.',
    f'Both directions, clip to narration and back; seed {config.seed}; encoder {config.encoder.weights}, texts by '
    f'{config.contrastive.text_encoder or "a transformer from nothing"}.',
    f'[95 % percentile bootstrap by video, {config.represent.resamples} resamples]; {hardware()}, '
    f'{time.monotonic() - begun:.0f} s.',
  ]
  made = report.Report(scores, pools.size, facts)
  if jax.process_index() == 0:
    write_atomically(workdir / 'representation.md', made.to_markdown())
    write_atomically(workdir / 'representation.json', made.to_json())
    report.plot(made, workdir / 'representation.png')
  return made


@dataclasses.dataclass(frozen=True)
class ValidTokens:
  """Which video tokens of clips are real."""

  clips: Sequence[ClipInfo]
  words: PromptTokenizer
  seconds: int

  def __call__(self, indices: Sequence[int]) -> np.ndarray:
    """bool[N, V, S] of clips, by index."""
    return np.stack([self.words.valid(self.clips[index].frame_times, self.seconds) for index in indices])


def open_library(config: ml_collections.ConfigDict, workdir: Path, directory: Path) -> tuple[Setting, list[int]]:
  """What the rows are trained from, and the indices of the test clips.

  Raises:
    SettingsError: the workdir belongs to another config, to other data or to another encoder.
  """
  from crosstrainer_jax.inference.encoding import check_rate, to_common_shape
  from crosstrainer_jax.inference.trained import prompt_tokenizer
  from crosstrainer_jax.input import splits, tokenizer
  from crosstrainer_jax.input.source import ClipSource
  from crosstrainer_jax.models import encoders
  from crosstrainer_jax.provenance import claim_workdir
  from crosstrainer_jax.run import Video, cached_features
  from crosstrainer_jax.training import sharding

  mesh = sharding.make_mesh(config.mesh, across=config.mesh_across)
  source = ClipSource(directory)
  eyes = config.encoder
  encoder = encoders.load(eyes.weights, eyes.revision, eyes.fps, eyes.dtype, eyes.size)
  fingerprints = {'data_fingerprint': source.fingerprint, 'encoder_fingerprint': encoder.fingerprint}
  claim_workdir(workdir, config, fingerprints, dataset=str(source.directory.absolute()))
  clips = source.infos()
  split = splits.split_of(clips, config)
  train, test = ([i for i in part if clips[i].commentary.strip()] for part in (split.train, split.test))
  with timed('video features'):
    check_rate((clip.frame_times for clip in clips), encoder)
    shape = to_common_shape(clips, encoder)
    frames = eyes.source == 'frames'
    cache = None if frames else cached_features(source, clips, encoder, mesh, eyes.batch_size, shape)
  with distributed.first('tokenizer'):
    folder = workdir / 'tokenizer'
    if not (folder / tokenizer.LAST_FILE).is_file():
      texts = (f' {text}' for i in train for text in (clips[i].commentary, clips[i].sport, clips[i].skill))
      tokenizer.train_tokenizer(texts, config.tokenizer.vocab_size, folder, ())
  seconds = shape[1] // encoder.config.frames_per_token
  words = prompt_tokenizer(folder, config, encoder, None, shape[0], seconds)
  return Setting(
    workdir,
    clips,
    train,
    split.validation,
    Video(cache, source, encoder.frame_size, shape),
    ValidTokens(clips, words, seconds),
    words,
    mesh,
    config,
    encoder if frames else None,
  ), test


if __name__ == '__main__':
  define_flags()
  settings.run(main)
