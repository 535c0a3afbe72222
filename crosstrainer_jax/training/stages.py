"""One stage of training from start to `done.json`: model, data and loss meet here."""

import dataclasses
import functools
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from flax import nnx
from jax.sharding import Mesh

from crosstrainer_jax.input import pipeline
from crosstrainer_jax.input.buckets import as_path
from crosstrainer_jax.input.files import write_atomically
from crosstrainer_jax.models import pretrained
from crosstrainer_jax.models.crosstrainer import CrossTrainer, negative_log_likelihood
from crosstrainer_jax.models.encoders import Encoder
from crosstrainer_jax.training import checkpoints, optimizer, sharding
from crosstrainer_jax.training.ledger import TimeLedger
from crosstrainer_jax.training.loop import fit
from crosstrainer_jax.training.profiling import Profiler
from crosstrainer_jax.training.step import Loss, Step, init_state, make_step
from crosstrainer_jax.training.telemetry import MetricWriter, say


@dataclasses.dataclass(frozen=True)
class Blueprint:
  """How a CrossTrainer is built; its parameters are kept apart, so that one blueprint serves every stage and row.

  Attributes:
    graph: the module's structure.
    rest: what is not a parameter (streams of random numbers).
    frozen: regular expressions; a parameter in whose path one is found does not train.
    base: fingerprints of the models that it is built on, which checkpoints name and do not hold.
  """

  graph: nnx.GraphDef
  rest: nnx.State
  frozen: tuple[str, ...] = ()
  base: Mapping[str, str] = dataclasses.field(default_factory=dict)

  def merge(self, params: nnx.State, key: jax.Array | None = None) -> CrossTrainer:
    """The module with `params`; `key` gives every random stream a new seed."""
    rest = self.rest if key is None else _reseed(self.rest, key)
    # Copied, since a stream belongs to the trace that made it.
    return nnx.merge(self.graph, params, rest, copy=True)

  def split(self, params: nnx.State) -> tuple[nnx.State, nnx.State]:
    """The parameters that train, and those that are frozen; `nnx.merge_state` joins them."""
    return divide(params, self.frozen)


def divide(params: nnx.State, frozen: Sequence[str]) -> tuple[nnx.State, nnx.State]:
  """The parameters that train, and those in whose path one of the patterns `frozen` is found."""
  still, trained = nnx.split_state(params, lambda path, _: _is_frozen('/'.join(map(str, path)), frozen), ...)
  return trained, still


def _is_frozen(path: str, patterns: Sequence[str]) -> bool:
  return any(re.search(pattern, path) for pattern in patterns)


def architecture(
  config: ml_collections.ConfigDict,
  vocab_size: int,
  feature_dim: int,
  video_id: int,
  seed: int = 0,
  encoder: Encoder | None = None,
  mesh: Mesh | None = None,
) -> Callable[[], CrossTrainer]:
  """What makes the model of `config`; under `nnx.eval_shape` it makes its shapes alone.

  Args:
    vocab_size: rows of the embedding table of a decoder that starts from nothing; a pretrained one has its own.
    encoder: f_v, where frames come in.
    mesh: what it is to run on; none is needed for its shapes.
  """
  rows = None if mesh is None else sharding.batch_sharding(mesh)
  base = pretrained.find(config)
  decoder = pretrained.fresh(config, vocab_size) if base is None else base.config
  whitened = config.mapper.whiten and (encoder is None or _is_frozen('encoder/', config.training.frozen))
  merger = pretrained.find_mapper(config)
  hidden = 0 if merger is None else merger.hidden
  if merger is not None and (merger.inputs, merger.outputs) != (feature_dim, decoder.hidden_size):
    raise ValueError(
      f'{merger.directory}: its merger makes {merger.outputs} numbers of {merger.inputs}, but f_v gives {feature_dim} '
      f'and L takes {decoder.hidden_size}: name one model as encoder.weights, mapper.weights and decoder.weights'
    )

  def create() -> CrossTrainer:
    eyes = None if encoder is None else nnx.merge(encoder.graph, encoder.params)
    rounded = _is_frozen('encoder/', config.training.frozen)
    return CrossTrainer(decoder, feature_dim, video_id, nnx.Rngs(seed), eyes, whitened, rounded, rows, hidden)

  return create


def build(
  config: ml_collections.ConfigDict,
  vocab_size: int,
  feature_dim: int,
  video_id: int,
  seed: int,
  mesh: Mesh,
  encoder: Encoder | None = None,
) -> tuple[Blueprint, nnx.State]:
  """The model of `config`, each parameter made or read where it belongs on the mesh; arguments as in `architecture`."""
  create = architecture(config, vocab_size, feature_dim, video_id, seed, encoder, mesh)
  graph, abstract, *_ = nnx.split(nnx.eval_shape(create), nnx.Param, ...)
  shardings = sharding.state_shardings(abstract, mesh)
  ready: dict[str, nnx.State] = {}
  base = pretrained.find(config)
  if base is not None:
    ready['decoder'] = base.load(jax.tree.map(_placed, abstract['decoder'], shardings['decoder']))
  merger = pretrained.find_mapper(config)
  if merger is not None:
    ready['mapper'] = merger.load(jax.tree.map(_placed, abstract['mapper'], shardings['mapper']))
  if encoder is not None:
    ready['encoder'] = jax.device_put(encoder.params, shardings['encoder'])
  there = {path for path, _ in nnx.to_flat_state(nnx.State(ready))}

  def missing(state: nnx.State) -> nnx.State:
    return nnx.from_flat_state([(path, leaf) for path, leaf in nnx.to_flat_state(state) if path not in there])

  @functools.partial(jax.jit, out_shardings=(missing(shardings), None))
  def initialise() -> tuple[nnx.State, nnx.State]:
    # What was read is not made: the compiler drops what is not returned.
    _, params, *(rest,) = nnx.split(create(), nnx.Param, ...)
    return missing(params), rest

  with jax.set_mesh(mesh):
    made, rest = initialise()
  params = nnx.merge_state(made, nnx.State(ready)) if ready else made
  found = {} if encoder is None else {'encoder': encoder.fingerprint}
  found |= {} if base is None else {'decoder': base.fingerprint}
  return Blueprint(graph, rest, tuple(config.training.frozen), found), params


def _placed(shape: jax.ShapeDtypeStruct, place: jax.sharding.NamedSharding) -> jax.ShapeDtypeStruct:
  return jax.ShapeDtypeStruct(shape.shape, shape.dtype, sharding=place)


def make_loss(blueprint: Blueprint, deterministic: bool = False) -> Loss:
  """Negative log-likelihood of the targets; `deterministic` switches dropout off."""

  def loss(trained: nnx.State, frozen: nnx.State, batch: dict[str, jax.Array], key: jax.Array) -> Any:
    model = blueprint.merge(nnx.merge_state(trained, frozen), key)
    total, weight, correct = negative_log_likelihood(model, batch, deterministic)
    real = (batch['segment_ids'] > 0).astype(jnp.float32)
    counts = {'tokens': (real.sum(), jnp.ones(())), 'fill': (real.sum(), jnp.array(real.size, jnp.float32))}
    return total, weight, {'token_accuracy': (correct, weight), **counts}

  return loss


def make_update(blueprint: Blueprint, params: nnx.State, config: ml_collections.ConfigDict, mesh: Mesh) -> Step:
  """The update of every stage of a run, from the training settings `config`.

  Args:
    params: of the model; the update keeps those that are frozen.
  """
  frozen = blueprint.split(params)[1]
  tx = optimizer.make_optimizer(config.optimizer)
  return make_step(make_loss(blueprint), tx, mesh, frozen, config.accumulate)


def make_evaluate(
  blueprint: Blueprint,
  params: nnx.State,
  stage: pipeline.Stage,
  video: pipeline.Video,
  config: ml_collections.ConfigDict,
  mesh: Mesh,
  most: int = 16,
) -> Callable[[nnx.State], dict[str, float]]:
  """A function of the parameters that train, to the loss on validation clips.

  {'validation/<task>/loss': mean over the target tokens of the first `most` batches of each task}

  Args:
    params: of the model, for those that are frozen.
    stage: of validation clips; nothing is dropped from them.
    config: the training settings.
  """
  whole = dataclasses.replace(stage, view_dropout=0.0, name_dropout=0.0)
  loss, frozen = jax.jit(make_loss(blueprint, deterministic=True)), blueprint.split(params)[1]
  batches: dict[str, list[Any]] = {}
  count = min(most, -(-len(stage.train) // config.batch_size))
  for task in stage.tasks:
    updates = _updates(dataclasses.replace(whole, tasks=[task]), video, config, 0, count, mesh)
    batches[task.name] = [updates(number) for number in range(count)]

  def evaluate(trained: nnx.State) -> dict[str, float]:
    found = {}
    for name, members in batches.items():
      parts = [loss(trained, frozen, sharding.put_batch(batch, mesh), jax.random.key(0))[:2] for batch in members]
      total, weight = np.sum(jax.device_get(parts), axis=0)
      found[f'validation/{name}/loss'] = float(total / max(weight, 1e-6))
    return found

  return evaluate


def _updates(
  stage: pipeline.Stage, video: pipeline.Video, config: ml_collections.ConfigDict, seed: int, count: int, mesh: Mesh
) -> pipeline.Updates:
  own, multiple = sharding.OwnRows.of(mesh), sharding.data_shards(mesh) * config.accumulate
  return pipeline.Updates(stage, video, config.batch_size, seed, count, multiple, config.row_tokens, own)


def updates_of(epochs: float, clips: int, batch_size: int) -> int:
  """The one converter of durations: `epochs` passes over `clips`, in updates (at least one)."""
  return max(1, math.ceil(epochs * clips / batch_size))


def train_stage(
  directory: str | Path,
  name: str,
  step: Step,
  blueprint: Blueprint,
  params: nnx.State,
  stage: pipeline.Stage,
  video: pipeline.Video,
  config: ml_collections.ConfigDict,
  updates: int,
  *,
  mesh: Mesh,
  seed: int,
  writer: MetricWriter | None = None,
  evaluate: Callable[[nnx.State], dict[str, float]] | None = None,
) -> nnx.State:
  """`params` after training for `updates`, resuming from checkpoints; a stage that is done is read back.

  Only what trains is kept in checkpoints.

  Args:
    directory: of the stage.
    name: the tag in TensorBoard.
    step: from `make_update`; one serves all stages, so that it is compiled once for each shape of batch.
    blueprint, params: of the model.
    config: the training settings (batch size, optimiser, reading, saving).
  """
  before = finished(directory, name, blueprint, params)
  if before is not None:
    return before
  contents = _updates(stage, video, config, seed, updates, mesh)
  for line in contents.packed():
    say(f'  {name}, {line}')
  kind_of = (lambda update: stage.task_of(update).name) if len(stage.tasks) > 1 else None
  return train_updates(
    directory, name, step, blueprint, params, contents, config, mesh=mesh, seed=seed, writer=writer, evaluate=evaluate,
    kind_of=kind_of,
  )  # fmt: skip


def finished(directory: str | Path, name: str, blueprint: Blueprint, params: nnx.State) -> nnx.State | None:
  """`params` as a stage left them that is done; None where it is not."""
  done = as_path(directory) / 'done.json'
  if not done.is_file():
    return None
  say(f'  {name}: done before ({json.loads(done.read_text())["updates"]} updates)')
  return load_params(directory, blueprint, params)


def load_finished(directory: str | Path, name: str, blueprint: Blueprint, params: nnx.State) -> nnx.State:
  """`params` as a stage left them.

  Raises:
    FileNotFoundError: it is not done.
  """
  if not (as_path(directory) / 'done.json').is_file():
    raise FileNotFoundError(f'{directory}: {name} is not trained; start its launch command again')
  return load_params(directory, blueprint, params)


def train_updates(
  directory: str | Path,
  name: str,
  step: Step,
  blueprint: Blueprint,
  params: nnx.State,
  contents: pipeline.ByNumber,
  config: ml_collections.ConfigDict,
  *,
  mesh: Mesh,
  seed: int,
  writer: MetricWriter | None = None,
  evaluate: Callable[[nnx.State], dict[str, float]] | None = None,
  kind_of: Callable[[int], str] | None = None,
) -> nnx.State:
  """`params` after all updates of `contents`, with checkpoints, ledger and `done.json`; arguments as in `train_stage`.

  Args:
    contents: the updates, of `config.batch_size` clips each.
    kind_of: names the kind of an update.
  """
  directory = as_path(directory)
  updates = contents.count
  iterator = pipeline.Batches(contents, config.workers, config.threads, config.prefetch)
  trained, frozen = blueprint.split(params)
  ledger = TimeLedger(directory / 'ledger.jsonl')
  try:
    state = fit(
      name,
      step,
      # The optimiser's buffers are donated; the caller's parameters (stage I, for example) must live on.
      init_state(jax.tree.map(jnp.copy, trained), optimizer.make_optimizer(config.optimizer), seed),
      iterator,
      updates,
      optimizer.schedule(config.optimizer, updates),
      mesh=mesh,
      checkpoints=checkpoints.Checkpoints(
        directory / 'checkpoints', config.keep, config.keep_every, base=blueprint.base
      ),
      writer=writer,
      save_every=config.save_every,
      log_every=config.log_every,
      clips_per_step=config.batch_size,
      evaluate=evaluate,
      evaluate_every=config.evaluate_every,
      kind_of=kind_of,
      watchdog=config.watchdog,
      profiler=None if writer is None else Profiler(writer.directory, config.profile_at, config.profile_updates),
      ledger=ledger,
    )
  finally:
    iterator.close()
  sums = checkpoints.save_params(directory / 'params', state.params)
  seconds = ledger.elapsed
  rate = updates * config.batch_size / seconds
  facts = {'updates': updates, 'seconds': round(seconds, 1), 'clips_per_second': round(rate, 1), 'checksums': sums}
  write_atomically(directory / 'done.json', json.dumps(facts))
  return nnx.merge_state(state.params, frozen)


def load_params(directory: str | Path, blueprint: Blueprint, like: nnx.State) -> nnx.State:
  """`like` with what a finished stage has trained."""
  trained, frozen = blueprint.split(like)
  done = as_path(directory) / 'done.json'
  sums = json.loads(done.read_text()).get('checksums') if done.is_file() else None
  return nnx.merge_state(checkpoints.load_params(as_path(directory) / 'params', trained, sums), frozen)


def _reseed(rest: nnx.State, key: jax.Array) -> nnx.State:
  """Every stream of random numbers starts anew from `key`; counters keep their value."""
  number = 0

  def renew(path: tuple[Any, ...], variable: nnx.Variable) -> Any:
    nonlocal number
    del path
    if not isinstance(variable, nnx.RngKey):
      return variable
    number += 1
    return variable.replace(
      jax.random.split(jax.random.fold_in(key, number), variable.shape)
      if variable.shape
      else jax.random.fold_in(key, number)
    )

  return nnx.map_state(renew, rest)
