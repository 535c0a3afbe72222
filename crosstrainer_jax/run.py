"""A prepared run: data with attributes, split, cached features, tokenizer, and a model that waits for parameters.

What is prepared is kept in the workdir, or beside the dataset when other runs can use it, and read back the next time.
"""

import dataclasses
import functools
import socket
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path

import jax
import ml_collections
import numpy as np
from flax import nnx
from jax.sharding import Mesh

from crosstrainer_jax import backends, distributed, parent, wording
from crosstrainer_jax.discovery.dataset import discover_dataset, read_attributes
from crosstrainer_jax.discovery.journal import describe_unread
from crosstrainer_jax.inference import second_encoding
from crosstrainer_jax.inference.assessment import Assessor
from crosstrainer_jax.inference.encoding import check_rate, encode_dataset, fitted, make_encode, to_common_shape
from crosstrainer_jax.inference.trained import prompt_tokenizer
from crosstrainer_jax.input import examples, features, narrowing, prompts, splits, tokenizer
from crosstrainer_jax.input.buckets import as_path
from crosstrainer_jax.input.recorded_config import CONFIG_FILE
from crosstrainer_jax.input.second_features import ClipFeatures
from crosstrainer_jax.input.source import ClipInfo, ClipSource
from crosstrainer_jax.models import encoders, mapper, pretrained
from crosstrainer_jax.models.proficiency import Probe
from crosstrainer_jax.provenance import claim_workdir
from crosstrainer_jax.settings import SettingsError
from crosstrainer_jax.training import sharding, stages
from crosstrainer_jax.training.telemetry import say, timed
from crosstrainer_jax.training.this_host import HostModel

Features = features.FeatureCache | ClipFeatures | features.RecordFeatures


@dataclasses.dataclass(frozen=True)
class Video:
  """What the model sees of one clip: cached features, or frames when the encoder trains too.

  A value of its own, and not a method of `Run`, since reader processes get a copy of it: nothing of JAX may be in it.

  Attributes:
    cache: of features; None for frames.
    image_size, shape: of frames: H = W (None for any), and views and frames (V, T) of every clip.
    zeroed: all zeros of the same shapes, so that only the language prior is left.
  """

  cache: Features | None
  source: ClipSource
  image_size: int | None
  shape: tuple[int, int]
  zeroed: bool = False

  def __call__(self, index: int) -> dict[str, np.ndarray]:
    if self.cache is not None:
      seen = {'features': self.cache[index]}
    else:
      clip = self.source[index]
      frames, times = fitted(clip.frames, clip.frame_times, self.image_size, self.shape)
      seen = {'frames': frames, 'frames_valid': np.isfinite(times)}
    return {name: np.zeros_like(value) for name, value in seen.items()} if self.zeroed else seen


@dataclasses.dataclass
class Run:
  """A prepared run: data with attributes, split, features, words and a model to fill with parameters."""

  config: ml_collections.ConfigDict
  workdir: Path
  mesh: Mesh
  source: ClipSource
  clips: list[ClipInfo]
  split: splits.Split
  text: examples.PromptTokenizer
  video_encoder: encoders.Encoder
  video: Video
  blueprint: stages.Blueprint
  initial: nnx.State
  update: stages.Step
  views: int
  seconds: int

  def videos(
    self, indices: Sequence[int], views: Sequence[int] | None = None
  ) -> tuple[Callable[[slice], dict[str, np.ndarray]], np.ndarray]:
    """A reader of slices of several clips, which stacks their `video`; and bool[N, V, S], which video tokens are real
    (and in `views`)."""

    def read(part: slice) -> dict[str, np.ndarray]:
      rows = [self.video(i) for i in indices[part]]
      return {name: np.stack([row[name] for row in rows]) for name in rows[0]}

    valid = self.valid(indices)
    if views is not None:
      valid[:, [v for v in range(self.views) if v not in views]] = False
    return read, valid

  def valid(self, indices: Sequence[int]) -> np.ndarray:
    """bool[N, V, S]: which video tokens of several clips are real."""
    return np.stack([self.text.valid(self.clips[i].frame_times, self.seconds) for i in indices])

  def assessor(self, params: nnx.State) -> Assessor:
    """Where there are several processes each answers for itself, on its own devices, and all come to the same."""
    blueprint, mesh = self.blueprint, self.mesh
    if jax.process_count() > 1:
      blueprint, mesh, params = self._on_this_host.blueprint, self._on_this_host.mesh, self._on_this_host.bring(params)
    shards = sharding.data_shards(mesh)
    batch_size = -(-self.config.eval.batch_size // shards) * shards
    return Assessor(blueprint, params, self.text, mesh, batch_size)

  @functools.cached_property
  def _on_this_host(self) -> HostModel:
    sizes = self.text.rows, self.video_encoder.config.feature_dim, self.text.video_id
    eyes = None if self.video.cache is not None else self.video_encoder
    return HostModel.of(self.blueprint, self.config, *sizes, eyes)

  def params(self, folder: str) -> nnx.State:
    """The parameters that a finished stage left."""
    return stages.load_params(self.workdir / folder, self.blueprint, self.initial)

  def probe(self, name: str = 'probe.npz') -> Probe | None:
    return Probe.load(self.workdir / 'probe' / name)


def open_run(config: ml_collections.ConfigDict, workdir: str | Path, dataset: str | Path) -> Run:
  """Prepares everything before the first update, or reads it back.

  Args:
    dataset: the prepared dataset's directory.

  Raises:
    SettingsError: the workdir belongs to another config, to other data or to another video encoder.
  """
  workdir = as_path(workdir)
  mesh = sharding.make_mesh(config.mesh, across=config.mesh_across)
  source = ClipSource(dataset)
  if config.encoder.weights == encoders.RECORDS:
    recorded = features.RecordFeatures(source)
    video_encoder = encoders.of_records(recorded.encoder, recorded.width)
  else:
    eyes = config.encoder
    video_encoder = encoders.load(eyes.weights, eyes.revision, eyes.fps, eyes.dtype, eyes.size)
  base = pretrained.find(config)
  fingerprints = {'data_fingerprint': source.fingerprint, **model_fingerprints(config, video_encoder)}
  if config.discovery.canonical:
    fingerprints['canonical_names'] = wording.fingerprint_of(config.discovery)
  origin = parent.find(config)
  if origin is not None:
    origin.require_fit(config, video_encoder.fingerprint, fingerprints.get('decoder_fingerprint'))
    fingerprints['parent_fingerprint'] = origin.fingerprint
  with distributed.first('workdir') as mine:
    if not mine and not (workdir / CONFIG_FILE).is_file():
      raise SettingsError(
        f'{workdir}: process 0 has written to it, and this one on {socket.gethostname()} does not see that. '
        'All processes need one workdir: --workdir=gs://BUCKET/FOLDER, or on a disk that all hosts have mounted'
      )
    claim_workdir(
      workdir,
      config,
      fingerprints,
      dataset=str(source.directory.absolute()),
    )

  with timed('attributes'):
    with distributed.first('attributes') as mine:
      if mine:
        settings = backends.ModelSettings.of(config.discovery)
        discoverer = backends.create(config.discovery.backend, settings)
        found = discover_dataset(dataset, workdir / 'attributes.jsonl', discoverer, again=False)
        say(f'  {found.clips - found.silent} comments of {found.clips} clips, {found.faulty} with something to improve')
        for line in describe_unread(found.output, found.unread):
          say(f'  {line}')
    attributes = read_attributes(workdir / 'attributes.jsonl')
    clips = source.infos()
    unread = {clip.clip_id for clip in clips if clip.commentary.strip()} - attributes.keys()
    wording.put_attributes(clips, attributes, config.discovery)
  if wordless := wording.put_words(clips, config.data):
    say(f'  {wordless} comments have no sentence in {config.data.condensed}: as if nobody had spoken')
  split = _spoken(clips, _readable(clips, splits.split_of(clips, config), unread))
  say(
    f'  {config.split.setting}: {len(split.train)} clips train, {len(split.validation)} validate, '
    f'{len(split.test)} test'
  )
  if origin is not None:
    origin.require_unseen(clips, split.test, source.fingerprint)

  with timed('video features'):
    check_rate((clip.frame_times for clip in clips), video_encoder)
    _warn_of_small_frames(source, video_encoder)
    views, frames = to_common_shape(clips, video_encoder)
    cache = None
    if config.encoder.source == 'features':
      cache = cached_features(source, clips, video_encoder, mesh, config.encoder.batch_size, (views, frames))
  narrowing.narrow(clips, config.data.window, config.data.views)
  seconds = frames // video_encoder.config.frames_per_token

  with timed('tokenizer'):
    with distributed.first('tokenizer'):
      learnt = base.directory if base is not None else None if origin is None else origin.tokenizer
      folder = _tokenizer(config, workdir, clips, split, learnt)
    text = prompt_tokenizer(folder, config, video_encoder, base, views, seconds)
  with timed('model'):
    blueprint, initial = stages.build(
      config,
      text.rows,
      video_encoder.config.feature_dim,
      text.video_id,
      config.seed,
      mesh,
      None if cache is not None else video_encoder,
    )
  video = Video(cache, source, video_encoder.frame_size, (views, frames))
  if origin is not None:
    say(f'  the parameters of {origin.workdir} after stage II')
    initial = origin.params(blueprint, initial)
  elif 'whitening' in initial['mapper']:
    seen = _training_features(video, video_encoder, mesh, clips, split.train, seconds)
    initial['mapper'] = mapper.whiten(initial['mapper'], seen)
  update = stages.make_update(blueprint, initial, config.training, mesh)
  return Run(
    config,
    workdir,
    mesh,
    source,
    clips,
    split,
    text,
    video_encoder,
    video,
    blueprint,
    initial,
    update,
    views,
    seconds,
  )


def model_fingerprints(config: ml_collections.ConfigDict, encoder: encoders.Encoder) -> dict[str, str]:
  """Names the weights that a run is built on: those of f_v, and of L and f_m where they are pretrained."""
  found = {'encoder_fingerprint': encoder.fingerprint}
  if (base := pretrained.find(config)) is not None:
    found['decoder_fingerprint'] = base.fingerprint
  if (merger := pretrained.find_mapper(config)) is not None:
    found['mapper_fingerprint'] = merger.fingerprint
  return found


def cached_features(
  source: ClipSource,
  clips: Sequence[ClipInfo],
  encoder: encoders.Encoder,
  mesh: Mesh,
  batch_size: int,
  shape: tuple[int, int],
) -> Features:
  """The features of all clips, encoded first where they are not there.

  Args:
    clips: with frame times of `shape`, views and frames.
  """
  if encoder.name == encoders.RECORDS:
    return features.RecordFeatures(source, shape)
  if encoder.by_second:
    plan = second_encoding.make_plan(source, clips, encoder)
    second_encoding.encode(plan, encoder, batch_size)
    return plan.clip_features()
  if jax.process_count() > 1:  # one host makes them, on its own devices
    mesh = sharding.make_mesh((1, -1, 1), jax.local_devices())
  with distributed.first('features'):
    folder = source.directory / f'features-{encoder.fingerprint}'
    return encode_dataset(source, folder, encoder, mesh, batch_size, shape)


def _warn_of_small_frames(source: ClipSource, encoder: encoders.Encoder) -> None:
  """An encoder that takes any size makes its own of small frames too, but finds no more in them than they hold."""
  size = encoder.config.image_size
  if encoder.resizes and 0 < source.frame_size < size:
    say(
      f'  warning: the frames of {source.directory} have {source.frame_size} x {source.frame_size} pixels and are '
      f'enlarged for {encoder.name}, which looks at {size} x {size}: prepare own videos with --size {size}'
    )


def _readable(clips: Sequence[ClipInfo], split: splits.Split, unread: Collection[str]) -> splits.Split:
  """A split without the clips (`unread`, by id) in whose commentary discovery found no answer; how many went is said.

  Nobody knows what is wrong in them, so that they are no part of the test either.
  """
  kept = {}
  for name in ('train', 'validation', 'test'):
    part = getattr(split, name)
    kept[name] = [i for i in part if clips[i].clip_id not in unread]
    if dropped := len(part) - len(kept[name]):
      say(f'  {dropped} of {len(part)} {name} clips have no readable answer of discovery and are left out')
  return dataclasses.replace(split, **kept)


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
  video: Video,
  encoder: encoders.Encoder,
  mesh: Mesh,
  clips: Sequence[ClipInfo],
  train: Sequence[int],
  seconds: int,
) -> np.ndarray:
  """float32[N, D]: the real video tokens of some training clips."""
  chosen = mapper.sample(train)
  valid = np.stack([examples.valid_tokens(clips[i].frame_times, seconds, encoder.each) for i in chosen])
  if video.cache is not None:
    return video.cache.gather(chosen)[valid].astype(np.float32)
  encode, size, found = make_encode(encoder, mesh), sharding.data_shards(mesh), []
  for start in range(0, len(chosen), size):
    rows = [video(index) for index in chosen[start : start + size]]
    frames = np.stack([row['frames'] for row in rows])
    times = np.stack([np.where(row['frames_valid'], 0.0, np.nan).astype(np.float32) for row in rows])
    rest = [(0, size - len(rows))]
    found.append(encode(np.pad(frames, rest + [(0, 0)] * 5), np.pad(times, rest + [(0, 0)] * 2))[: len(rows)])
  return np.concatenate(found)[valid].astype(np.float32)


def _tokenizer(
  config: ml_collections.ConfigDict,
  workdir: Path,
  clips: Sequence[ClipInfo],
  split: splits.Split,
  learnt: Path | None,
) -> Path:
  """The folder of the tokenizer: a copy of the one that the decoder has `learnt` with; for a decoder that starts from
  nothing, one that is trained on the training part's text alone."""
  folder = workdir / 'tokenizer'
  # the last of its files to be written
  if (folder / tokenizer.LAST_FILE).is_file():
    return folder
  if learnt is not None:
    tokenizer.adopt_tokenizer(learnt, folder)
  else:
    texts = training_texts(clips, split.train)
    tokenizer.train_tokenizer(texts, config.tokenizer.vocab_size, folder, prompts.unchanging(config.prompt.k))
  return folder


def training_texts(clips: Sequence[ClipInfo], train: Sequence[int]) -> Iterator[str]:
  """All the text that the tokenizer may learn from: sports, attributes and commentary of the clips in `train`."""
  for index in train:
    clip = clips[index]
    yield f' {clip.sport}'
    yield f' {prompts.serialize_attributes(clip.incorrect)}'
    yield f' {clip.commentary}'
