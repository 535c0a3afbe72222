"""The second step: a model that sees the learner and a candidate says whether the candidate is the clip to watch.

f_v → f_m → L as everywhere: with Qwen2.5-VL named for all three and LoRA on its decoder it is the model of the paper
[P]; with our own decoder and mapper it is the small cross-encoder that takes its place where there is none [O]. Its
score is log p(yes) − log p(no) [O], or log p(some attribute) − log p(none) where it answers with those (`relevance`).
The learner's part of the question is read once, and its keys and values are shared by all candidates.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from flax import nnx
from jax.sharding import Mesh

from crosstrainer_jax.baselines.retrieval import Setting
from crosstrainer_jax.inference.generate import Prefix, prefill
from crosstrainer_jax.input import examples, pipeline
from crosstrainer_jax.models import mapper, pretrained
from crosstrainer_jax.retrieval.relevance import Pairs, Question, RelevanceUpdates, Shown
from crosstrainer_jax.training import sharding, stages
from crosstrainer_jax.training.step import Step
from crosstrainer_jax.training.telemetry import MetricWriter, Progress, say
from crosstrainer_jax.training.this_host import HostModel

Arrays = dict[str, np.ndarray]


class Learner(NamedTuple):
  """Whom a clip is looked for: features float16[V, S, D], which of them are real bool[V, S], and the sport."""

  features: np.ndarray
  valid: np.ndarray
  sport: str


class Reranker:
  """f_m and L of `setting.config`, trained on pairs.

  Args:
    setting: `train` are the clips that whiten f_m.
    name: of the row; seeds what is random.
    blind: the learner's clip is hidden, in training and later: what the candidate alone is worth.

  Raises:
    ValueError: weights that do not belong together; the message says which.
  """

  def __init__(self, setting: Setting, name: str, blind: bool = False):
    self._setting, self._name, self._blind = setting, name, blind
    config, words = setting.config, setting.words
    self._seed = int(hashlib.sha256(f'{config.seed} {name}'.encode()).hexdigest()[:8], 16) % 2**31
    self._folder = setting.directory / 'reranker'
    self._question = Question(words, config.rerank.narration_tokens, config.rerank.answer)
    self._sizes = words.rows, setting.video(setting.train[0])['features'].shape[-1], words.video_id
    base = pretrained.find(config)
    self._longest = (pretrained.fresh(config, words.rows) if base is None else base.config).max_position
    self._blueprint, self._initial = stages.build(config, *self._sizes, self._seed, setting.mesh)
    if 'whitening' in self._initial['mapper']:
      few = mapper.sample(setting.train)
      real = [setting.video(i)['features'][seen] for i, seen in zip(few, setting.valid(few), strict=True)]
      self._initial['mapper'] = mapper.whiten(self._initial['mapper'], np.concatenate(real).astype(np.float32))
    self._params = self._initial
    self._known: tuple[nnx.State, _Ready] | None = None
    self._told: set[str] = set()

  def fit(
    self, pairs: Pairs, writer: MetricWriter | None, attributes: Mapping[int, Sequence[str]] | None = None
  ) -> None:
    """Trains on `pairs`, or reads back what was trained.

    Args:
      attributes: of learners' clips, by index: L first learns to write those, for `config.rerank.attribute_epochs`. A
        yes or no says little of what is seen, and an L that starts from nothing finds nothing in it.
    """
    setting, config = self._setting, self._setting.config
    before = stages.finished(self._folder, self._name, self._blueprint, self._initial)
    if before is not None:
      self._params = before
      return
    clips, training = setting.clips, training_of(config)
    narrations = [clip.commentary for clip in clips]
    self._say_cut(sorted(set(pairs.candidates.tolist())))
    updates = RelevanceUpdates(
      pairs,
      self._question,
      setting.words,
      Shown(setting.video, setting.valid(range(len(clips)))),
      [clip.sport for clip in clips],
      narrations,
      training.batch_size,
      self._seed,
      stages.updates_of(config.rerank.epochs, len(pairs), training.batch_size),
      sharding.data_shards(setting.mesh) * training.accumulate,
      sharding.OwnRows.of(setting.mesh),
      training.view_dropout,
      self._blind,
      self._longest,
    )
    step = stages.make_update(self._blueprint, self._initial, training, setting.mesh)
    start = self._initial
    if attributes and config.rerank.attribute_epochs and not self._blind:
      start = self._with_attributes(attributes, step, training, writer)
    self._params = stages.train_updates(
      self._folder, self._name, step, self._blueprint, start, updates, training, mesh=setting.mesh,
      seed=self._seed, writer=writer,
    )  # fmt: skip

  def _with_attributes(
    self,
    attributes: Mapping[int, Sequence[str]],
    step: Step,
    training: ml_collections.ConfigDict,
    writer: MetricWriter | None,
  ) -> nnx.State:
    """Parameters that write the attributes of a clip, as those of CrossTrainer do after stage I."""
    setting, clips = self._setting, list(self._setting.clips)
    for index, named in attributes.items():
      clips[index] = dataclasses.replace(clips[index], incorrect=list(named))
    task = pipeline.Task(examples.ATTRIBUTES, 1)
    stage = pipeline.Stage(clips, list(attributes), [task], setting.words, training.view_dropout, setting.seconds)
    count = stages.updates_of(setting.config.rerank.attribute_epochs, len(attributes), training.batch_size)
    return stages.train_stage(
      setting.directory / 'attributes', f'{self._name}, attributes', step, self._blueprint, self._initial, stage,
      setting.video, training, count, mesh=setting.mesh, seed=self._seed, writer=writer,
    )  # fmt: skip

  def load(self) -> None:
    """Reads what `fit` has left. Raises FileNotFoundError where it has not."""
    self._params = stages.load_finished(self._folder, self._name, self._blueprint, self._initial)

  def learner(self, clip: int) -> Learner:
    """A clip of the setting as a learner's."""
    setting = self._setting
    return Learner(setting.video(clip)['features'], setting.valid([clip])[0], setting.clips[clip].sport)

  def scores(self, learners: Sequence[Learner], candidates: Sequence[Sequence[int]]) -> list[np.ndarray]:
    """log p(yes) − log p(no), float32[K], of the K candidates of each learner, by index.

    About `config.eval.batch_size` pairs are computed at a time; every learner's part is computed once.
    """
    most = max(map(len, candidates), default=0)
    if not most:
      return [np.zeros(0, np.float32) for _ in learners]
    self._say_cut(sorted({clip for own in candidates for clip in own}))
    model = self._ready
    shards = sharding.data_shards(model.mesh)
    rows = -(-self._setting.config.eval.batch_size // shards)
    # On each device of so many learners so many candidates at a time.
    each = min(most, rows)
    group = shards * max(1, min(rows // each, -(-len(learners) // shards)))
    progress = Progress(f're-ranking ({self._name})', len(learners), unit='clip') if len(learners) > group else None
    found: list[np.ndarray] = []
    try:
      for start in range(0, len(learners), group):
        some, theirs = learners[start : start + group], candidates[start : start + group]
        prefix = model.read(model.params, sharding.put_batch(self._about(some, group), model.mesh))
        parts = [
          np.asarray(
            model.judge(model.params, prefix, sharding.put_batch(self._asked(theirs, group, begin, each), model.mesh))
          )
          for begin in range(0, max(map(len, theirs)), each)
        ]
        scored = np.concatenate([part.reshape(group, each) for part in parts], 1) if parts else np.zeros((group, 0))
        found += [row[: len(own)] for row, own in zip(scored, theirs, strict=False)]
        if progress is not None:
          progress.update(len(some))
    finally:
      if progress is not None:
        progress.close()
    return found

  @property
  def _ready(self) -> _Ready:
    """The model on this host, and its programs, compiled once for each shape as long as the parameters stay."""
    if self._known is None or self._known[0] is not self._params:
      blueprint, mesh, params = self._blueprint, self._setting.mesh, self._params
      if jax.process_count() > 1:
        here = HostModel.of(blueprint, self._setting.config, *self._sizes)
        blueprint, mesh, params = here.blueprint, here.mesh, here.bring(params)
      read = jax.jit(_reader(blueprint))
      judge = jax.jit(_judge(blueprint, self._question.yes, self._question.no))
      self._known = self._params, _Ready(params, mesh, read, judge)
    return self._known[1]

  def _say_cut(self, clips: Sequence[int]) -> None:
    narrations = {self._setting.clips[clip].commentary for clip in clips} - self._told
    self._told |= narrations
    if cut := self._question.cut(sorted(narrations)):
      most = self._setting.config.rerank.narration_tokens
      say(f'  {self._name}: {cut} of {len(narrations)} narrations are cut to config.rerank.narration_tokens={most}')

  def _about(self, learners: Sequence[Learner], rows: int) -> Arrays:
    """The beginning of the question about each learner; rows that fill up are padding."""
    kept = [self._kept(self._question.about(learner.sport), learner.valid & (not self._blind)) for learner in learners]
    length = examples.bucket(max(len(ids) for ids, _ in kept))
    made = [
      self._arrays(*part, length) | {'features': learner.features} for part, learner in zip(kept, learners, strict=True)
    ]
    return _filled(made, rows)

  def _asked(self, candidates: Sequence[Sequence[int]], group: int, begin: int, each: int) -> Arrays:
    """The rest of the question, for candidates `begin` to `begin + each` of every learner; one of them has some."""
    setting = self._setting
    clips = sorted({clip for own in candidates for clip in own[begin : begin + each]})
    kept = [
      self._kept(self._question.asked(setting.clips[clip].commentary), seen)
      for clip, seen in zip(clips, setting.valid(clips), strict=True)
    ]
    length = examples.bucket(max(len(ids) for ids, _ in kept))
    whole = {
      clip: self._arrays(*part, length) | {'features': setting.video(clip)['features']}
      for clip, part in zip(clips, kept, strict=True)
    }
    blank = {name: np.zeros_like(value) for name, value in whole[clips[0]].items()}
    rows = [
      whole[own[place]] if place < len(own) else blank for own in candidates for place in range(begin, begin + each)
    ]
    return _filled(rows, group * each)

  def _kept(self, ids: Sequence[int], valid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    words = self._setting.words
    return examples.prompt_ids(ids, valid.reshape(-1), words.video_id, words.pictures)

  def _arrays(self, ids: np.ndarray, slots: np.ndarray, length: int) -> Arrays:
    words, places = self._setting.words, None
    if words.pictures is not None:
      places = examples.positions(ids, slots, words.video_id, words.pictures)
    return examples.prompt_arrays(ids, slots, length, words.pad_id, places)


class _Ready(NamedTuple):
  """Parameters on a mesh, and the programs that compute with them."""

  params: nnx.State
  mesh: Mesh
  read: Callable[[nnx.State, dict[str, jax.Array]], Prefix]
  judge: Callable[[nnx.State, Prefix, dict[str, jax.Array]], jax.Array]


def training_of(config: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
  """The settings of training, with the re-ranker's batch size; nothing is validated on the way."""
  training = ml_collections.ConfigDict(config.training.to_dict())
  training.batch_size = config.rerank.batch_size
  training.evaluate_every = 0
  return training


def _filled(rows: Sequence[Arrays], count: int) -> Arrays:
  """Rows one upon another, and zeros up to `count` of them, which are padding."""
  missing = count - len(rows)
  arrays = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
  return {name: np.pad(value, [(0, missing), *[(0, 0)] * (value.ndim - 1)]) for name, value in arrays.items()}


def _reader(blueprint: stages.Blueprint) -> Callable[[nnx.State, dict[str, jax.Array]], Prefix]:
  """What computes the learners' part of the question."""

  def read(params: nnx.State, batch: dict[str, jax.Array]) -> Prefix:
    model = blueprint.merge(params)
    mask = batch['segment_ids'] > 0
    return prefill(model.decoder, model.embed(batch), mask, batch.get('positions'), None)[1]

  return read


def _judge(
  blueprint: stages.Blueprint, yes: int | None, no: int
) -> Callable[[nnx.State, Prefix, dict[str, jax.Array]], jax.Array]:
  """What computes the scores float32[Q * K] of K candidates for each of Q learners; those of padding mean nothing."""

  def judge(params: nnx.State, prefix: Prefix, batch: dict[str, jax.Array]) -> jax.Array:
    model = blueprint.merge(params)
    mask = batch['segment_ids'] > 0
    each = len(mask) // len(prefix.counts)
    shared = Prefix(prefix.cache.repeat(each), jnp.repeat(prefix.counts, each))
    hidden, _ = prefill(model.decoder, model.embed(batch), mask, batch.get('positions'), shared)
    last = jnp.maximum(mask.sum(1) - 1, 0)
    state = jnp.take_along_axis(hidden, last[:, None, None], 1)[:, 0]
    logits = model.decoder.logits(state)
    if yes is None:  # everything else that could be said
      others = jnp.where(jnp.arange(logits.shape[1]) == no, -jnp.inf, logits)
      return jax.nn.logsumexp(others, 1) - logits[:, no]
    return logits[:, yes] - logits[:, no]

  return judge
