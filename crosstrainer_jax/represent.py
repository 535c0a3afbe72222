"""python -m crosstrainer_jax.represent: a video-text representation of how-to clips, and what it is worth."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import jax
import ml_collections
from absl import flags

from crosstrainer_jax import datasets, distributed, run_layout, settings
from crosstrainer_jax.evaluation.table import Table
from crosstrainer_jax.input.files import write_atomically
from crosstrainer_jax.training.telemetry import MetricWriter, say, timed

if TYPE_CHECKING:
  from crosstrainer_jax.representation.report import Report


def define_flags() -> None:
  """Not done on import: other verbs have flags of the same names."""
  settings.define_run_flags('configs/sportskills.py', 'Checkpoints, TensorBoard logs and the report')


def main(argv: list[str]) -> None:
  del argv
  if flags.FLAGS.runs:
    from crosstrainer_jax.evaluation.table import markdown

    print('\n'.join(markdown(table) for table in summary_of(flags.FLAGS.runs)))
    return
  config = settings.config_from_flags()
  workdir = settings.workdir_from_flags()
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
  from crosstrainer_jax.representation.library import open_library

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
        name, dataclasses.replace(setting, directory=workdir / run_layout.row_folder(name)), writer
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


if __name__ == '__main__':
  define_flags()
  settings.run(main)
