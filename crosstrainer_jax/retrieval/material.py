"""Learners' clips and a library side by side: one numbering, features of one shape, words of one tokenizer."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import ml_collections
import numpy as np
from jax.sharding import Mesh

from crosstrainer_jax import backends, datasets, distributed
from crosstrainer_jax.baselines.retrieval import Setting, ValidTokens
from crosstrainer_jax.discovery.backend import Attributes
from crosstrainer_jax.discovery.dataset import discover_dataset, read_attributes
from crosstrainer_jax.discovery.journal import describe_unread
from crosstrainer_jax.inference import confidence
from crosstrainer_jax.inference.encoding import check_rate, to_common_shape
from crosstrainer_jax.inference.trained import Card, prompt_tokenizer
from crosstrainer_jax.input import prompts, splits, tokenizer
from crosstrainer_jax.input.features import FeatureCache, RecordFeatures
from crosstrainer_jax.input.second_features import ClipFeatures
from crosstrainer_jax.input.source import ClipInfo, ClipSource
from crosstrainer_jax.models import encoders, pretrained
from crosstrainer_jax.provenance import claim_workdir
from crosstrainer_jax.retrieval import relevance, weak
from crosstrainer_jax.retrieval.weak import Spoken
from crosstrainer_jax.run import cached_features, model_fingerprints
from crosstrainer_jax.training import sharding
from crosstrainer_jax.training.telemetry import say, timed

Cache = FeatureCache | ClipFeatures | RecordFeatures


@dataclasses.dataclass(frozen=True)
class Part:
  """One dataset: its clips, their features, and who trains and tests."""

  source: ClipSource
  clips: list[ClipInfo]
  cache: Cache
  split: splits.Split


@dataclasses.dataclass(frozen=True)
class PaddedFeatures:
  """Features of the clips of several caches, numbered through, padded to one shape; it goes to reader processes."""

  caches: tuple[Cache, ...]
  starts: tuple[int, ...]
  shape: tuple[int, int]

  def __call__(self, index: int) -> dict[str, np.ndarray]:
    """{'features': float16[V, S, D]}"""
    part = int(np.searchsorted(self.starts, index, side='right')) - 1
    features = self.caches[part][index - self.starts[part]]
    missing = [(0, wanted - there) for wanted, there in zip(self.shape, features.shape[:2], strict=True)]
    return {'features': np.pad(features, [*missing, (0, 0)])}


@dataclasses.dataclass(frozen=True)
class Material:
  """What rows are made from: a setting over learners' clips and then the library's; `library` is where those begin.

  Attributes:
    learners_test: indices of the clips that queries are drawn from.
    library_test, library_train: of candidates, and of the library's clips that are not for the test.
    spoken: by index, of training clips of learners and of all of the library; clips without words, or whose words could
      not be read, are in neither part and among no training clips.
    card: what must be known to use what is trained here.
  """

  setting: Setting
  library: int
  learners_test: list[int]
  library_test: list[int]
  library_train: list[int]
  spoken: Mapping[int, Spoken]
  card: Card

  @property
  def clips(self) -> Sequence[ClipInfo]:
    return self.setting.clips


def open_part(config: ml_collections.ConfigDict, source: ClipSource, encoder: encoders.Encoder, mesh: Mesh) -> Part:
  """A dataset with its cached features, encoded first where they are not there. Raises ValueError."""
  clips = source.infos()
  check_rate((clip.frame_times for clip in clips), encoder)
  shape = to_common_shape(clips, encoder)
  cache = cached_features(source, clips, encoder, mesh, config.encoder.batch_size, shape)
  return Part(source, clips, cache, splits.split_of(clips, config))


def open_material(config: ml_collections.ConfigDict, workdir: Path, learners: Path, library: Path) -> Material:
  """Both datasets as one.

  Raises:
    SettingsError: the workdir belongs to another config or to other data.
    ValueError: datasets that do not fit the encoder or each other, or without words.
  """
  mesh = sharding.make_mesh(config.mesh, across=config.mesh_across)
  eyes = config.encoder
  encoder = encoders.load(eyes.weights, eyes.revision, eyes.fps, eyes.dtype, eyes.size)
  sources = ClipSource(learners), ClipSource(library)
  fingerprints = {
    'data_fingerprint': sources[0].fingerprint, 'library_fingerprint': sources[1].fingerprint,
    **model_fingerprints(config, encoder),
  }  # fmt: skip
  with distributed.first('workdir'):
    claim_workdir(workdir, config, fingerprints, dataset=str(learners.absolute()), library=str(library.absolute()))
  with timed('attributes'):
    attributes = [_discovered(config, source, workdir / f'{name}.jsonl')
                  for name, source in zip(('learners', 'library'), sources, strict=True)]  # fmt: skip
  with timed('video features'):
    parts = [open_part(config, source, encoder, mesh) for source in sources]
  clips, begin = [*parts[0].clips, *parts[1].clips], len(parts[0].clips)
  both = {clip.clip_id for clip in parts[0].clips} & {clip.clip_id for clip in parts[1].clips}
  if both:
    raise ValueError(f'{len(both)} clips are in {learners} and in {library}, for example {min(both)!r}: rename a take')
  spoken = {
    index: of(clip.clip_id, clip.sport, attributes[index >= begin][clip.clip_id])
    for of, indices in ((weak.of_learner, parts[0].split.train), (weak.of_candidate, range(begin, len(clips))))
    for index in indices
    if (clip := clips[index]).clip_id in attributes[index >= begin]
  }
  train = [index for index in parts[0].split.train if index in spoken]
  tested = {begin + index for index in parts[1].split.test}
  told = [index for index in range(begin, len(clips)) if index in spoken]
  for what, kept, whole in (
    ('training clips of learners', len(train), len(parts[0].split.train)),
    ('clips of the library', len(told), len(parts[1].clips)),
  ):
    if kept < whole:
      say(f'  {whole - kept} of {whole} {what} have no words, or none that could be read, and are left out')
    if not kept:
      raise ValueError(f'none of {whole} {what} has words that could be read: there is nothing to learn from')
  views, frames = to_common_shape(clips, encoder)
  seconds = frames // encoder.config.frames_per_token
  base = pretrained.find(config)
  names = sorted({clip.sport for clip in clips})
  words_of = [clips[index].commentary for index in told if index not in tested]
  with distributed.first('tokenizer'):
    folder = workdir / 'tokenizer'
    if not (folder / tokenizer.LAST_FILE).is_file():
      if base is None:
        texts = [*relevance.ANSWERS, *(f' {text}' for text in [*names, *words_of])]
        phrases = (*prompts.unchanging(config.prompt.k), *relevance.PHRASES)
        tokenizer.train_tokenizer(texts, config.tokenizer.vocab_size, folder, phrases)
      else:
        tokenizer.adopt_tokenizer(base.directory, folder)
  words = prompt_tokenizer(folder, config, encoder, base, views, seconds)
  video = PaddedFeatures(tuple(part.cache for part in parts), (0, begin), (views, seconds * encoder.each))
  setting = Setting(
    workdir, clips, train, parts[0].split.validation, video, ValidTokens(clips, words, seconds), words, mesh, config,
    seconds=seconds,
  )  # fmt: skip
  card = Card(
    config.data.dataset,
    sorted({clips[index].sport for index in train}),
    simulated=datasets.simulated(config.data),
    views=views,
    seconds=seconds,
    frames=frames,
    fit=sources[0].fit,
    threshold=confidence.NEVER,
    precision=0.0,
    encoder=encoder.fingerprint,
    validation_clips=0,
    frame_size=sources[0].frame_size,
  )
  return Material(
    setting,
    begin,
    list(parts[0].split.test),
    [index for index in told if index in tested],
    [index for index in told if index not in tested],
    spoken,
    card,
  )


def _discovered(config: ml_collections.ConfigDict, source: ClipSource, path: Path) -> dict[str, Attributes]:
  """Attributes by clip of those that have words: asked once, by one process, whatever starts the run again."""
  with distributed.first(f'attributes of {path.stem}') as mine:
    if mine:
      discoverer = backends.create(config.discovery.backend, backends.ModelSettings.of(config.discovery))
      found = discover_dataset(source.directory, path, discoverer, again=False)
      for line in describe_unread(found.output, found.unread):
        say(f'  {line}')
  return read_attributes(path)
