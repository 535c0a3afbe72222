"""The recipe: what a run is made of, and in which order it is trained.

    data → attributes → features → tokenizer → stage I → folds → stage II → other rows → probe

Every step leaves its result in the workdir (or beside the dataset, when other runs can use it) and is skipped when that
is there, so that a killed run goes on where it was.
"""

import contextlib
import dataclasses
import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import ml_collections
import numpy as np
from flax import nnx
from jax.sharding import Mesh

from crosstrainer_jax import datasets, settings
from crosstrainer_jax.discovery.dataset import discover_dataset, read_attributes
from crosstrainer_jax.inference import confidence
from crosstrainer_jax.inference.assessment import Assessor
from crosstrainer_jax.inference.coach import Card
from crosstrainer_jax.inference.encoding import common_shape, encode_dataset, fitted
from crosstrainer_jax.input import examples, features, pipeline, prompts, splits, tokenizer
from crosstrainer_jax.input.source import ClipInfo, ClipSource
from crosstrainer_jax.models import encoders, mapper
from crosstrainer_jax.models.proficiency import Probe, fit_probe
from crosstrainer_jax.training import sharding, stages
from crosstrainer_jax.training.telemetry import MetricWriter, say

STAGE1, STAGE2 = 'stage1', 'stage2'
# Trained rows of the table -> (folder, whether the video is hidden).
CROSSTRAINER, END_TO_END, ZEROED = 'CrossTrainer', 'end to end without attributes', 'video zeroed'


@dataclasses.dataclass(frozen=True)
class Video:
  """What the model sees of one clip: cached features, or frames when the encoder trains too.

  A value of its own, and not a method of `Run`, since reader processes get a copy of it.

  Attributes:
    cache: of features; None for frames.
    shape: views and frames (V, T) of every clip.
    hidden: all zeros of the same shapes, so that only the language prior is left.
  """

  cache: features.FeatureCache | None
  source: ClipSource
  encoder: encoders.Encoder
  shape: tuple[int, int]
  hidden: bool = False

  def __call__(self, index: int) -> dict[str, np.ndarray]:
    if self.cache is not None:
      seen = {'features': self.cache[index]}
    else:
      clip = self.source[index]
      frames, times = fitted(clip.frames, clip.frame_times, self.encoder, self.shape)
      seen = {'frames': frames, 'frames_valid': np.isfinite(times)}
    return {name: np.zeros_like(value) for name, value in seen.items()} if self.hidden else seen


@dataclasses.dataclass
class Run:
  """A prepared run: data with attributes, split, features, words and a model to fill with parameters."""

  config: ml_collections.ConfigDict
  workdir: Path
  mesh: Mesh
  source: ClipSource
  clips: list[ClipInfo]
  split: splits.Split
  words: tokenizer.Words
  text: examples.Encoder
  video_encoder: encoders.Encoder
  video: Video
  blueprint: stages.Blueprint
  initial: nnx.State
  update: stages.Step
  views: int
  seconds: int

  def videos(
    self, indices: Sequence[int], views: Sequence[int] | None = None
  ) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Stacked `video` of several clips and bool[N, V, S], which video tokens are real (and in `views`)."""
    rows = [self.video(i) for i in indices]
    valid = np.stack([examples.valid_tokens(self.clips[i].frame_times, self.seconds) for i in indices])
    if views is not None:
      valid[:, [v for v in range(self.views) if v not in views]] = False
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}, valid

  def assessor(self, params: nnx.State) -> Assessor:
    data_axes = self.mesh.shape['replica'] * self.mesh.shape['fsdp']
    batch_size = -(-self.config.eval.batch_size // data_axes) * data_axes
    return Assessor(self.blueprint, params, self.words, self.text, self.mesh, batch_size)

  def params(self, folder: str) -> nnx.State:
    """The parameters that a finished stage left."""
    return stages.checkpoints.load_params(self.workdir / folder / 'params', self.initial)

  def probe(self) -> Probe | None:
    return Probe.load(self.workdir / 'probe' / 'probe.npz')


# --- Preparing


def open_run(config: ml_collections.ConfigDict, workdir: str | Path, dataset: str | Path) -> Run:
  """Prepares everything before the first update, or reads it back.

  Args:
    dataset: the prepared dataset's directory.

  Raises:
    SettingsError: the workdir belongs to another config, to other data or to another video encoder.
  """
  workdir = Path(workdir)
  mesh = sharding.make_mesh(config.mesh)
  source = ClipSource(dataset)
  video_encoder = encoders.load(config.encoder.weights)
  settings.claim_workdir(workdir, config, source.fingerprint, video_encoder.fingerprint)

  with timed('attributes'):
    found = discover_dataset(dataset, workdir / 'attributes.jsonl', config.discovery.backend, progress=False)
    attributes = read_attributes(workdir / 'attributes.jsonl')
    clips = source.infos()
    for clip in clips:
      if clip.clip_id in attributes:
        clip.correct, clip.incorrect = attributes[clip.clip_id].correct, attributes[clip.clip_id].incorrect
    say(f'  {found.clips - found.silent} comments of {found.clips} clips, {found.faulty} with something to improve')
  split = splits.make_split(
    clips, config.split.setting, config.split.held_out, config.split.validation_share, config.split.seed
  )
  split = _spoken(clips, split)
  say(
    f'  {config.split.setting}: {len(split.train)} clips train, {len(split.validation)} validate, '
    f'{len(split.test)} test'
  )

  with timed('video features'):
    views, frames = common_shape((clip.frame_times for clip in clips), video_encoder)
    for clip in clips:
      missing = [(0, views - clip.frame_times.shape[0]), (0, frames - clip.frame_times.shape[1])]
      clip.frame_times = np.pad(clip.frame_times, missing, constant_values=np.nan)
    cache = None
    if config.encoder.source == 'features':
      folder = source.directory / f'features-{video_encoder.fingerprint}'
      cache = encode_dataset(source, folder, video_encoder, mesh, config.encoder.batch_size, (views, frames))
  seconds = frames // video_encoder.config.frames_per_token

  words = _words(config, workdir, clips, split)
  text = examples.Encoder(words, views * seconds, config.prompt.k)
  video_id = words.convert_tokens_to_ids(prompts.VIDEO)
  joint = None if cache is not None else nnx.merge(video_encoder.graph, video_encoder.params)
  blueprint, initial = stages.build(
    config, tokenizer.table_size(words), video_encoder.config.feature_dim, video_id, config.seed, mesh, joint
  )
  if cache is not None:
    initial['mapper'] = mapper.whiten(initial['mapper'], _training_features(cache, clips, split.train, seconds))
  update = stages.make_update(blueprint, config.training.optimizer, mesh)
  return Run(
    config,
    workdir,
    mesh,
    source,
    clips,
    split,
    words,
    text,
    video_encoder,
    Video(cache, source, video_encoder, (views, frames)),
    blueprint,
    initial,
    update,
    views,
    seconds,
  )


def _spoken(clips: Sequence[ClipInfo], split: splits.Split) -> splits.Split:
  """Training and validation without clips that have no commentary to learn from; how many went is said."""
  kept = {name: [i for i in getattr(split, name) if clips[i].commentary.strip()] for name in ('train', 'validation')}
  dropped = sum(len(getattr(split, name)) - len(kept[name]) for name in kept)
  if dropped:
    say(f'  {dropped} training clips without commentary are left out')
  if not kept['train']:
    raise ValueError('no training clip has commentary: there is nothing to learn from')
  return dataclasses.replace(split, **kept)


def _training_features(
  cache: features.FeatureCache, clips: Sequence[ClipInfo], train: Sequence[int], seconds: int, most: int = 1024
) -> np.ndarray:
  """float32[N, D]: the real video tokens of at most `most` training clips, evenly drawn."""
  chosen = train[:: max(1, len(train) // most)]
  valid = np.stack([examples.valid_tokens(clips[i].frame_times, seconds) for i in chosen])
  return cache.gather(chosen)[valid].astype(np.float32)


def _words(
  config: ml_collections.ConfigDict, workdir: Path, clips: Sequence[ClipInfo], split: splits.Split
) -> tokenizer.Words:
  """The tokenizer, trained on the training part's text alone."""
  folder = workdir / 'tokenizer'
  if folder.is_dir():
    return tokenizer.load_tokenizer(folder)
  return tokenizer.train_tokenizer(
    training_texts(clips, split.train),
    config.tokenizer.vocab_size,
    folder,
    prompts.unchanging(config.prompt.k),
  )


def training_texts(clips: Sequence[ClipInfo], train: Sequence[int]) -> Iterator[str]:
  """All the text that the tokenizer may learn from: sports, attributes and commentary of the clips in `train`."""
  for index in train:
    clip = clips[index]
    yield f' {clip.sport}'
    yield f' {prompts.serialize_attributes(clip.incorrect)}'
    yield f' {clip.commentary}'


# --- Training


def train(run: Run) -> None:
  """Trains whatever is not yet trained."""
  config, clips = run.config, len(run.split.train)
  batch_size = config.training.batch_size
  first = stages.updates_of(config.stage1, clips, batch_size)
  second = stages.updates_of(config.stage2, clips, batch_size)
  writer = MetricWriter(run.workdir / 'tensorboard')
  attributes, feedback, direct = (
    pipeline.Task(name, share)
    for name, share in (
      (examples.ATTRIBUTES, config.stage2.attributes),
      (examples.FEEDBACK, config.stage2.feedback),
      (examples.DIRECT, 1),
    )
  )
  try:
    with timed('stage I'):
      stage1 = _train(run, STAGE1, run.initial, [attributes], run.split.train, first, writer)
    with timed('attributes out of fold'):
      predicted = _out_of_fold(run, writer)
    with timed('stage II'):
      mixed = dataclasses.replace(feedback, predicted=predicted, true_ratio=config.stage2.true_ratio)
      stage2 = _train(run, STAGE2, stage1, [mixed, attributes], run.split.train, second, writer)
    if END_TO_END in config.eval.rows:
      with timed(f'row: {END_TO_END}'):
        _train(run, folder_of(END_TO_END), run.initial, [direct], run.split.train, first + second, writer)
    if ZEROED in config.eval.rows:
      with timed(f'row: {ZEROED}'):
        prior = _train(
          run, folder_of(ZEROED, STAGE1), run.initial, [attributes], run.split.train, first, writer, hidden=True
        )
        _train(run, folder_of(ZEROED), prior, [feedback, attributes], run.split.train, second, writer, hidden=True)
    if config.probe.steps:
      with timed('proficiency probe'):
        _fit_probe(run, stage2)
    with timed('confidence'):
      _write_card(run, stage2)
  finally:
    writer.close()


def folder_of(row: str, stage: str = STAGE2) -> str:
  """Where a trained row keeps its parameters, under the workdir."""
  return stage if row == CROSSTRAINER else f'rows/{row.replace(" ", "_")}/{stage}'


def _train(
  run: Run,
  folder: str,
  params: nnx.State,
  tasks: Sequence[pipeline.Task],
  clips: Sequence[int],
  updates: int,
  writer: MetricWriter,
  hidden: bool = False,
) -> nnx.State:
  config = run.config
  pad_id, video_id = run.words.pad_token_id, run.words.convert_tokens_to_ids(prompts.VIDEO)
  stage = pipeline.Stage(
    run.clips,
    clips,
    tasks,
    run.text,
    video_id,
    pad_id,
    config.training.view_dropout,
    run.seconds,
    config.training.name_dropout,
  )
  # Every stage draws its own order, the same one in every run with this seed.
  seed = int(hashlib.sha256(f'{config.seed} {folder}'.encode()).hexdigest()[:8], 16) % 2**31
  video = dataclasses.replace(run.video, hidden=hidden)
  outcome = stages.train_stage(
    run.workdir / folder,
    folder,
    run.update,
    params,
    stage,
    video,
    config.training,
    updates,
    mesh=run.mesh,
    seed=seed,
    writer=writer,
  )
  return outcome.params


def _out_of_fold(run: Run, writer: MetricWriter) -> dict[int, list[str]]:
  """For every training clip, the attributes that a stage I which has not seen its person writes."""
  config, path = run.config, run.workdir / 'folds' / 'predicted.json'
  if path.is_file():
    by_id = json.loads(path.read_text())
    return {i: by_id[run.clips[i].clip_id] for i in run.split.train}
  predicted: dict[int, list[str]] = {}
  if config.stage2.folds:
    parts = splits.folds(run.clips, run.split.train, config.stage2.folds, config.split.seed)
    for number, fold in enumerate(parts):
      others = [i for part in parts if part is not fold for i in part]
      updates = max(1, round(config.stage2.fold_epochs * len(others) / config.training.batch_size))
      task = pipeline.Task(examples.ATTRIBUTES, 1)
      params = _train(run, f'folds/{number}', run.initial, [task], others, updates, writer)
      predicted |= dict(zip(fold, predict_attributes(run, params, fold), strict=True))
    path.write_text(json.dumps({run.clips[i].clip_id: listed for i, listed in predicted.items()}))
  return predicted


def predict_attributes(
  run: Run, params: nnx.State, indices: Sequence[int], views: Sequence[int] | None = None
) -> list[list[str]]:
  """F_a on clips of the run."""
  video, valid = run.videos(indices, views)
  return run.assessor(params).attributes(
    [run.clips[i].sport for i in indices], video, valid, run.config.eval.max_attribute_tokens
  )


def _fit_probe(run: Run, params: nnx.State) -> None:
  path = run.workdir / 'probe' / 'probe.npz'
  levels = np.array([run.clips[i].proficiency for i in run.split.train])
  if path.is_file():
    return
  if (levels < 0).all():
    say('  no training clip has a level of proficiency: no probe')
    return
  video, valid = run.videos(run.split.train)
  pooled = run.assessor(params).pooled(video, valid)
  probe = fit_probe(
    pooled, levels, run.config.probe.steps, run.config.probe.learning_rate, run.config.probe.weight_decay
  )
  probe.save(path)


def _write_card(run: Run, params: nnx.State) -> None:
  """Sets the threshold of confidence on validation clips, and writes what `assess` must know of the model."""
  config, indices = run.config, run.split.validation[: run.config.assess.validation_clips]
  threshold, precision = confidence.NEVER, 0.0
  if indices:
    video, valid = run.videos(indices)
    chances = run.assessor(params).probabilities(
      [run.clips[i].sport for i in indices],
      video,
      valid,
      config.eval.max_attribute_tokens,
      config.assess.samples,
      config.assess.temperature,
      config.seed,
    )
    truths = [run.clips[i].faults if run.clips[i].has_faults else run.clips[i].incorrect for i in indices]
    threshold, precision = confidence.choose_threshold(chances, truths, config.assess.target_precision)
  sports = sorted({run.clips[i].sport for i in run.split.train})
  Card(
    config.data.dataset,
    sports,
    simulated=datasets.simulated(config.data),
    views=run.views,
    seconds=run.seconds,
    frames=run.seconds * run.video_encoder.config.frames_per_token,
    fit='letterbox',
    threshold=threshold,
    precision=precision,
    encoder=run.video_encoder.fingerprint,
  ).write(run.workdir)
  if threshold > 1:
    say(
      f'  no threshold reaches a precision of {config.assess.target_precision:.0%} (best {precision:.0%}): never sure'
    )
  else:
    say(f'  sure from a probability of {threshold:.0%}: precision {precision:.0%} on {len(indices)} validation clips')


@contextlib.contextmanager
def timed(name: str) -> Iterator[None]:
  """Prints the name of a step, and afterwards its seconds."""
  say(f'— {name}')
  start = time.monotonic()
  yield
  say(f'  {name}: {time.monotonic() - start:.1f} s')
