"""Learners' clips and a library side by side: one numbering, features of one shape, words of one tokenizer."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import jax
import ml_collections
import numpy as np
from jax.sharding import Mesh

from crosstrainer_jax import datasets, distributed
from crosstrainer_jax.baselines.retrieval import Setting, ValidTokens
from crosstrainer_jax.inference import confidence
from crosstrainer_jax.inference.encoding import check_rate, to_common_shape
from crosstrainer_jax.inference.trained import Card, prompt_tokenizer
from crosstrainer_jax.input import prompts, splits, tokenizer
from crosstrainer_jax.input.features import FeatureCache, RecordFeatures
from crosstrainer_jax.input.second_features import ClipFeatures
from crosstrainer_jax.input.source import ClipInfo, ClipSource
from crosstrainer_jax.models import encoders, pretrained
from crosstrainer_jax.provenance import claim_workdir
from crosstrainer_jax.retrieval import relevance
from crosstrainer_jax.run import cached_features, model_fingerprints
from crosstrainer_jax.training import sharding
from crosstrainer_jax.training.telemetry import timed

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
  """What rows are made from: a setting over learners' clips and then the library's; `library` is where those begin."""

  setting: Setting
  library: int
  learners_test: list[int]
  library_test: list[int]

  @property
  def clips(self) -> Sequence[ClipInfo]:
    return self.setting.clips


def open_part(config: ml_collections.ConfigDict, directory: Path, encoder: encoders.Encoder, mesh: Mesh) -> Part:
  """A dataset with its cached features, encoded first where they are not there. Raises ValueError."""
  source = ClipSource(directory)
  clips = source.infos()
  check_rate((clip.frame_times for clip in clips), encoder)
  shape = to_common_shape(clips, encoder)
  cache = cached_features(source, clips, encoder, mesh, config.encoder.batch_size, shape)
  return Part(source, clips, cache, splits.split_of(clips, config))


def open_material(config: ml_collections.ConfigDict, workdir: Path, learners: Path, library: Path) -> Material:
  """Both datasets as one.

  Raises:
    SettingsError: the workdir belongs to another config or to other data.
    ValueError: datasets that do not fit the encoder.
  """
  mesh = sharding.make_mesh(config.mesh, across=config.mesh_across)
  eyes = config.encoder
  encoder = encoders.load(eyes.weights, eyes.revision, eyes.fps, eyes.dtype, eyes.size)
  with timed('video features'):
    parts = [open_part(config, directory, encoder, mesh) for directory in (learners, library)]
  fingerprints = {
    'data_fingerprint': parts[0].source.fingerprint, 'library_fingerprint': parts[1].source.fingerprint,
    **model_fingerprints(config, encoder),
  }  # fmt: skip
  base = pretrained.find(config)
  claim_workdir(workdir, config, fingerprints, dataset=str(learners.absolute()), library=str(library.absolute()))
  clips = [*parts[0].clips, *parts[1].clips]
  views, frames = to_common_shape(clips, encoder)
  seconds = frames // encoder.config.frames_per_token
  begin = len(parts[0].clips)
  words_of = [parts[1].clips[index].commentary for index in parts[1].split.train]
  names = sorted({clip.sport for clip in clips})
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
    workdir, clips, parts[0].split.train, parts[0].split.validation, video, ValidTokens(clips, words, seconds), words,
    mesh, config, seconds=seconds,
  )  # fmt: skip
  # For those who ask the finished run about new videos.
  if jax.process_index() == 0:
    Card(
      config.data.dataset,
      sorted({parts[0].clips[index].sport for index in parts[0].split.train}),
      simulated=datasets.simulated(config.data),
      views=views,
      seconds=seconds,
      frames=frames,
      fit=parts[0].source.fit,
      threshold=confidence.NEVER,
      precision=0.0,
      encoder=encoder.fingerprint,
      validation_clips=0,
      frame_size=parts[0].source.frame_size,
    ).write(workdir)
  library_test = [begin + index for index in parts[1].split.test]
  return Material(setting, begin, list(parts[0].split.test), library_test)


def library_train(material: Material) -> list[int]:
  """The library's clips that are not for the test."""
  tested = set(material.library_test)
  return [index for index in range(material.library, len(material.clips)) if index not in tested]
