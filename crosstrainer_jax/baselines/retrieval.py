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
from crosstrainer_jax.models import mapper
from crosstrainer_jax.models.text_encoder import TextEncoder
from crosstrainer_jax.models.two_towers import BertTower, TextTower, TowerConfig, TwoTowers, VideoTower
from crosstrainer_jax.training import contrastive, optimizer, sharding, stages
from crosstrainer_jax.training.contrastive import Relation
from crosstrainer_jax.training.step import make_step
from crosstrainer_jax.training.telemetry import MetricWriter, say

# Folder of what is trained, in that of the row.
TOWERS = 'towers'
# The whitening of the video tower is set by at most so many clips.
_WHITENED_BY = 1024


@dataclasses.dataclass(frozen=True)
class Setting:
  """Of a prepared run, what a row that retrieves is made from.

  Attributes:
    directory: of the row.
    clips: all clips; `train` and `validation` are indices of them.
    video: index of a clip -> {'features': float16[V, S, D]}.
    valid: indices of clips -> bool[N, V, S], which video tokens are real.
    words: turns text into the run's own tokens.
    config: of the run.
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
    self._encoder, self._texts = self._read(texts)
    self._blueprint, self._initial = self._build()
    self._params = self._initial

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
      clips, self._texts, right, sources, pairs.CachedClips(clips, setting.valid(clips), setting.video, dropout)
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
    """Reads what `fit` has left.

    Raises:
      FileNotFoundError: it is not there.
    """
    if not (self._folder / 'done.json').is_file():
      raise FileNotFoundError(f'{self._folder}: {self._name} is not trained; start its launch command again')
    self._params = stages.load_params(self._folder, self._blueprint, self._initial)

  @property
  def scale(self) -> float:
    """Of the cosines in the loss."""
    towers: Any = self._blueprint.merge(self._params)
    return float(towers.scale())

  def similarities(self, clips: Sequence[int]) -> np.ndarray:
    """float32[N, T]: cosines of clips, by index, and all texts."""
    setting = self._setting
    embedder = Embedder(self._blueprint, self._params, setting.config.contrastive.batch_size)

    def read(part: slice) -> dict[str, np.ndarray]:
      chosen = list(clips[part])
      return {'features': self._features(chosen), 'valid': setting.valid(chosen)}

    return embedder.clips(len(clips), read) @ embedder.texts(self._texts.ids, self._texts.mask).T

  def _features(self, clips: Sequence[int]) -> np.ndarray:
    return np.stack([self._setting.video(index)['features'] for index in clips])

  def _read(self, texts: Sequence[str]) -> tuple[TextEncoder | None, pairs.Texts]:
    """The pretrained encoder that reads texts, if there is one, and the tokens of the texts."""
    words, longest = self._setting.words, self._setting.config.contrastive.max_text_tokens
    encoder: TextEncoder | None = None
    if directory := self._setting.config.contrastive.text_encoder:
      encoder = TextEncoder.load(directory)
      longest = min(longest, encoder.max_length)
      tokens = [list(text.ids) for text in encoder.tokens(texts)]
    else:
      tokens = [words.text(text) for text in texts]
    return encoder, pairs.Texts.of(tokens, longest)

  def _build(self) -> tuple[stages.Blueprint, nnx.State]:
    """Makes the towers, each parameter where it belongs on the mesh; the video tower's whitening is set."""
    setting, encoder = self._setting, self._encoder
    settings = setting.config.contrastive
    sizes = TowerConfig(settings.width, settings.layers, settings.heads, settings.dim)
    few = setting.train[:: max(1, -(-len(setting.train) // _WHITENED_BY))]
    features = self._features(few)
    views, seconds, width = features.shape[1:]

    def create() -> TwoTowers:
      rngs = nnx.Rngs(self._seed)
      video = VideoTower(sizes, width, views * seconds, rngs)
      if encoder is not None:
        return TwoTowers(video, BertTower(encoder.config, sizes, rngs))
      return TwoTowers(video, TextTower(sizes, setting.words.rows, settings.max_text_tokens, rngs))

    graph, abstract, *_ = nnx.split(nnx.eval_shape(create), nnx.Param, ...)
    # Small as they are, the towers lie whole on every device, whatever the mesh divides.
    everywhere = sharding.replicated(setting.mesh)
    shardings = nnx.map_state(lambda _, variable: variable.replace(everywhere), abstract)

    @functools.partial(jax.jit, out_shardings=(shardings, None))
    def initialise() -> tuple[nnx.State, nnx.State]:
      _, params, *(rest,) = nnx.split(create(), nnx.Param, ...)
      return params, rest

    with jax.set_mesh(setting.mesh):
      params, rest = initialise()
    if encoder is not None:
      pretrained = nnx.split(encoder.model, nnx.Param)[1]
      params['texts']['bert'] = jax.device_put(pretrained, shardings['texts']['bert'])
    seen = features[setting.valid(few)].astype(np.float32)
    params['clips']['mapper'] = mapper.whiten(params['clips']['mapper'], seen)
    return stages.Blueprint(graph, rest, tuple(settings.frozen)), params


def _training(config: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
  """The settings of training, with the contrastive batch size and optimiser in the place of the stages'."""
  training = ml_collections.ConfigDict(config.training.to_dict())
  training.batch_size = config.contrastive.batch_size
  training.optimizer = config.contrastive.optimizer
  training.evaluate_every = 0
  return training
