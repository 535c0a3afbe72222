"""Two towers over a closed list of texts: what the rows that retrieve have in common."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import ml_collections
import numpy as np
from flax import nnx
from jax.sharding import Mesh

from crosstrainer_jax.inference.embedding import Embedder
from crosstrainer_jax.input import pairs
from crosstrainer_jax.input.examples import PromptTokenizer
from crosstrainer_jax.input.source import ClipInfo
from crosstrainer_jax.models import clip_text, lora, mapper
from crosstrainer_jax.models.clip_text import ClipTextEncoder
from crosstrainer_jax.models.encoders import Encoder
from crosstrainer_jax.models.lora import LoRAConfig
from crosstrainer_jax.models.text_encoder import TextEncoder
from crosstrainer_jax.models.two_towers import (
  BertTower,
  ClipTextTower,
  FramesTower,
  MeanTower,
  TextTower,
  TowerConfig,
  TwoTowers,
  VideoTower,
)
from crosstrainer_jax.training import contrastive, optimizer, sharding, stages
from crosstrainer_jax.training.contrastive import Relation
from crosstrainer_jax.training.step import make_step
from crosstrainer_jax.training.telemetry import MetricWriter, say

# Folder of what is trained, in that of the row.
TOWERS = 'towers'


@dataclasses.dataclass(frozen=True)
class Setting:
  """Of a prepared run, what a row that retrieves is made from.

  Attributes:
    directory: of the row.
    clips: all clips; `train` and `validation` are indices of them.
    video: index of a clip -> {'features': float16[V, S, D]}, or frames as of `run.Video`.
    valid: indices of clips -> bool[N, V, S], which video tokens are real.
    words: turns text into the run's own tokens.
    config: of the run.
    encoder: of the frames, where clips are shown by them.
    seconds: of a view.
  """

  directory: Path
  clips: Sequence[ClipInfo]
  train: Sequence[int]
  validation: Sequence[int]
  video: Callable[[int], dict[str, np.ndarray]]
  valid: Callable[[Sequence[int]], np.ndarray]
  words: PromptTokenizer
  mesh: Mesh
  config: ml_collections.ConfigDict
  encoder: Encoder | None = None
  seconds: int = 0


@dataclasses.dataclass(frozen=True)
class ValidTokens:
  """Which video tokens of clips are real."""

  clips: Sequence[ClipInfo]
  words: PromptTokenizer
  seconds: int

  def __call__(self, indices: Sequence[int]) -> np.ndarray:
    """bool[N, V, S] of clips, by index."""
    return np.stack([self.words.valid(self.clips[index].frame_times, self.seconds) for index in indices])


class Retriever:
  """Clips and `texts` in one space, trained to lie close where they belong together.

  Args:
    name: of the row; seeds what is random.
    texts: different texts.
  """

  def __init__(self, setting: Setting, name: str, texts: Sequence[str]):
    self._setting, self._name = setting, name
    self._seed = int(hashlib.sha256(f'{setting.config.seed} {name}'.encode()).hexdigest()[:8], 16) % 2**31
    self._folder = setting.directory / TOWERS
    self._words = _text_source(setting.config.contrastive.text_encoder)
    self._texts = self._read(texts)
    self._blueprint, self._initial = self._build()
    self._params = self._initial
    self._embedders: tuple[nnx.State, dict[int, Embedder]] = self._params, {}

  def fit(
    self, clips: Sequence[int], right: Sequence[Sequence[int]], relation: Relation, writer: MetricWriter | None
  ) -> None:
    """Trains on `clips`, or reads back what was trained.

    Args:
      clips: indices of clips.
      right: for each of them, the numbers of the texts that are right for it, at least one.
      relation: which of them belong together in an update.
    """
    setting, config = self._setting, self._setting.config.contrastive
    before = stages.finished(self._folder, self._name, self._blueprint, self._initial)
    if before is not None:
      self._params = before
      return
    if self._texts.cut:
      say(f'  {self._name}: {self._texts.cut} of {len(self._texts.ids)} texts were cut to '
          f'config.contrastive.max_text_tokens={config.max_text_tokens}')  # fmt: skip
    dropout = setting.config.training.view_dropout
    takes = {take: number for number, take in enumerate(sorted({setting.clips[i].take for i in clips}))}
    sources = np.array([takes[setting.clips[i].take] for i in clips], np.int32)
    material = pairs.Material(
      clips, self._texts, right, sources, pairs.ShownClips(clips, setting.valid(clips), setting.video, dropout)
    )
    training = _training(setting.config)
    updates = pairs.PairUpdates(
      material,
      config.batch_size,
      self._seed,
      stages.updates_of(config.epochs, len(clips), config.batch_size),
      sharding.data_shards(setting.mesh),
      sharding.OwnRows.of(setting.mesh),
    )
    loss = contrastive.make_loss(self._blueprint, relation, setting.mesh, config.block)
    frozen = self._blueprint.split(self._initial)[1]
    step = make_step(loss, optimizer.make_optimizer(config.optimizer), setting.mesh, frozen)
    self._params = stages.train_updates(
      self._folder, self._name, step, self._blueprint, self._initial, updates, training, mesh=setting.mesh,
      seed=self._seed, writer=writer,
    )  # fmt: skip

  def load(self) -> None:
    """Reads what `fit` has left. Raises FileNotFoundError where it has not."""
    self._params = stages.load_finished(self._folder, self._name, self._blueprint, self._initial)

  @property
  def scale(self) -> float:
    """Of the cosines in the loss."""
    towers: Any = self._blueprint.merge(self._params)
    return float(towers.scale())

  def similarities(self, clips: Sequence[int]) -> np.ndarray:
    """float32[N, T]: cosines of clips, by index, and all texts."""
    return self.clip_vectors(clips) @ self._vectors(self._texts).T

  def clip_vectors(self, clips: Sequence[int]) -> np.ndarray:
    """float32[N, E], unit vectors of clips, by index."""

    def read(part: slice) -> dict[str, np.ndarray]:
      chosen = list(clips[part])
      return {**self._seen(chosen), 'valid': self._setting.valid(chosen)}

    return self._embedder.clips(len(clips), read)

  def vectors_of(self, features: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """float32[N, E], unit vectors of clips by their features float[N, V, S, D]; valid is bool[N, V, S]."""
    rows = min(len(features), self._setting.config.contrastive.batch_size)
    return self._embedder_of(rows).clips(len(features), lambda part: {'features': features[part], 'valid': valid[part]})

  def text_vectors(self, texts: Sequence[str]) -> np.ndarray:
    """float32[N, E], unit vectors of any texts."""
    return self._vectors(self._read(texts))

  def _vectors(self, texts: pairs.Texts) -> np.ndarray:
    return self._embedder.texts(texts.ids, texts.mask)

  @property
  def _embedder(self) -> Embedder:
    return self._embedder_of(self._setting.config.contrastive.batch_size)

  def _embedder_of(self, rows: int) -> Embedder:
    """That of so many rows at a time, kept as long as the parameters stay."""
    if self._embedders[0] is not self._params:
      self._embedders = self._params, {}
    known = self._embedders[1]
    if rows not in known:
      known[rows] = Embedder(self._blueprint, self._params, rows)
    return known[rows]

  def _seen(self, clips: Sequence[int]) -> dict[str, np.ndarray]:
    rows = [self._setting.video(index) for index in clips]
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}

  def _read(self, texts: Sequence[str]) -> pairs.Texts:
    """The tokens of the texts."""
    longest = self._setting.config.contrastive.max_text_tokens
    if self._words is None:
      return pairs.Texts.of([self._setting.words.text(text) for text in texts], longest)
    # CLIP's end of text is its last token, which must not be cut off.
    tokens = self._words.tokens(texts)
    if not isinstance(self._words, ClipTextEncoder):
      longest = min(longest, self._words.max_length)
    else:
      longest = self._words.max_length
    found = pairs.Texts.of([list(text.ids) for text in tokens], longest)
    # Some have lost their end to the tokenizer already.
    return dataclasses.replace(found, cut=max(found.cut, sum(text.cut for text in tokens)))

  def _build(self) -> tuple[stages.Blueprint, nnx.State]:
    """Makes the towers, each parameter where it belongs on the mesh; a video tower's whitening is set."""
    setting, settings = self._setting, self._setting.config.contrastive
    few = mapper.sample(setting.train)
    # Small as they are, the towers lie whole on every device, whatever the mesh divides.
    everywhere = sharding.replicated(setting.mesh)
    pretrained: list[str] = []
    if setting.encoder is None and self._words is None:

      @functools.partial(jax.jit, out_shardings=(everywhere, None))
      def initialise() -> tuple[nnx.State, nnx.State]:
        _, params, *(rest,) = nnx.split(self._create([]), nnx.Param, ...)
        return params, rest

      graph, *_ = nnx.split(nnx.eval_shape(lambda: self._create([])), nnx.Param, ...)
      with jax.set_mesh(setting.mesh):
        params, rest = initialise()
    else:  # their parameters are there, and must not become constants of a program
      graph, params, *(rest,) = nnx.split(self._create(pretrained), nnx.Param, ...)
      params = jax.device_put(params, everywhere)
    if 'clips' in params and 'mapper' in params['clips']:
      seen = self._seen(few)['features'][setting.valid(few)].astype(np.float32)
      params['clips']['mapper'] = mapper.whiten(params['clips']['mapper'], seen)
    frozen = tuple(settings.frozen)
    if settings.lora_rank:
      frozen += tuple(f'^{place}/(?!.*lora_[ab]$)' for place in pretrained)
    return stages.Blueprint(graph, rest, frozen), params

  def _create(self, pretrained: list[str]) -> TwoTowers:
    """The towers; where in them pretrained encoders are is added to `pretrained`."""
    rngs = nnx.Rngs(self._seed)
    return TwoTowers(self._clip_tower(pretrained, rngs), self._text_tower(pretrained, rngs))

  def _clip_tower(self, pretrained: list[str], rngs: nnx.Rngs) -> nnx.Module:
    setting, settings = self._setting, self._setting.config.contrastive
    views, seconds = setting.valid(setting.train[:1]).shape[1:]
    if setting.encoder is None:
      if settings.head == 'none':
        return MeanTower()
      width = setting.video(setting.train[0])['features'].shape[-1]
      return VideoTower(self._sizes, width, views * seconds, rngs)
    eyes = self._adapted(nnx.merge(setting.encoder.graph, setting.encoder.params), rngs)
    pretrained.append('clips/encoder')
    width = setting.encoder.config.feature_dim
    whole = settings.head == 'none'
    tower = MeanTower() if whole else VideoTower(self._sizes, width, views * seconds, rngs, whitened=False)
    return FramesTower(eyes, tower)

  def _text_tower(self, pretrained: list[str], rngs: nnx.Rngs) -> nnx.Module:
    settings, words = self._setting.config.contrastive, self._words
    if words is None:
      if settings.head == 'none':
        raise ValueError(
          "config.contrastive.head='none' needs a text_encoder in whose space the features lie, as CLIP's"
        )
      return TextTower(self._sizes, self._setting.words.rows, settings.max_text_tokens, rngs)
    if isinstance(words, ClipTextEncoder):
      if settings.head != 'none':
        raise ValueError("CLIP's text tower has the space of its image tower: set config.contrastive.head='none'")
      text = self._adapted(words.model, rngs)
      pretrained.append('texts/text')
      return ClipTextTower(text)
    if settings.head == 'none':
      raise ValueError("config.contrastive.head='none' needs CLIP as text_encoder: a BERT has a space of its own")
    tower = BertTower(words.config, self._sizes, rngs)
    tower.bert = self._adapted(words.model, rngs)
    pretrained.append('texts/bert')
    return tower

  def _adapted(self, module: Any, rngs: nnx.Rngs) -> Any:
    """The module, with adapters where the config asks for them."""
    settings = self._setting.config.contrastive
    if settings.lora_rank:
      lora.adapt(module, LoRAConfig(settings.lora_rank, settings.lora_rank, 0.0, settings.lora_targets), rngs)
    return module

  @property
  def _sizes(self) -> TowerConfig:
    settings = self._setting.config.contrastive
    return TowerConfig(settings.width, settings.layers, settings.heads, settings.dim)


def _text_source(directory: str) -> TextEncoder | ClipTextEncoder | None:
  """The pretrained encoder of texts in a directory; None for ''."""
  if not directory:
    return None
  return ClipTextEncoder.load(directory) if clip_text.is_clip(directory) else TextEncoder.load(directory)


def _training(config: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
  """The settings of training, with the contrastive batch size and optimiser in the place of the stages'."""
  training = ml_collections.ConfigDict(config.training.to_dict())
  training.batch_size = config.contrastive.batch_size
  training.optimizer = config.contrastive.optimizer
  training.evaluate_every = 0
  return training
