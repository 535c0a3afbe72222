"""The programs of a config as the compiler gets them, from shapes alone: the train step, and generation.

They are the functions that a run calls, traced with abstract arguments that lie where a run's lie. Nothing is
allocated.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import optax
from flax import nnx
from jax.sharding import Mesh, NamedSharding

from crosstrainer_jax.inference import generate
from crosstrainer_jax.input.examples import bucket
from crosstrainer_jax.models import pretrained
from crosstrainer_jax.planning.workload import Clip, Workload
from crosstrainer_jax.training import optimizer, sharding, stages
from crosstrainer_jax.training.step import TrainState, make_step

TRAIN, GENERATE = 'train step', 'generation'


@dataclasses.dataclass(frozen=True)
class Program:
  """One program of a config on a mesh.

  Attributes:
    name: `TRAIN` or `GENERATE`.
    lower: traces it; what comes back can be compiled.
    arguments: bytes on a chip of what it is given, by kind.
    params: abstract, of the whole model.
  """

  name: str
  lower: Callable[[], jax.stages.Lowered]
  arguments: dict[str, float]
  params: nnx.State


@dataclasses.dataclass(frozen=True)
class Model:
  """The model of a config, abstract, on a mesh.

  Attributes:
    params: each with its place.
  """

  config: ml_collections.ConfigDict
  mesh: Mesh
  blueprint: stages.Blueprint
  params: nnx.State
  feature_dim: int
  vocab_size: int


def make_model(config: ml_collections.ConfigDict, mesh: Mesh, feature_dim: int) -> Model:
  """The model of `config`; its decoder's directory may hold a config.json alone."""
  base = pretrained.find(config)
  vocab_size = config.tokenizer.vocab_size if base is None else base.config.vocab_size
  create = stages.architecture(config, vocab_size, feature_dim, vocab_size, config.seed, None, mesh)
  graph, abstract, *(rest,) = nnx.split(nnx.eval_shape(create), nnx.Param, ...)
  params = jax.tree.map(_placed, abstract, sharding.state_shardings(abstract, mesh))
  blueprint = stages.Blueprint(graph, jax.tree.map(_zeros, rest), tuple(config.training.frozen))
  return Model(config, mesh, blueprint, params, feature_dim, vocab_size)


def decoder_of(model: Model) -> Any:
  """The config of L."""
  return nnx.merge(model.blueprint.graph, model.params, model.blueprint.rest, copy=True).decoder.config


def train_step(model: Model, workload: Workload) -> Program:
  """The update of a run: what `stages.make_update` makes and `loop.fit` calls."""
  trained, frozen = model.blueprint.split(model.params)
  tx = optimizer.make_optimizer(model.config.training.optimizer)
  step = make_step(stages.make_loss(model.blueprint), tx, model.mesh, frozen, workload.accumulate)
  state = abstract_state(trained, tx, model.mesh)
  batch = abstract_batch(workload, model)
  # From the host, as the loop passes it.
  rate = jax.ShapeDtypeStruct((), jnp.float32)
  arguments = {
    'weights, frozen': bytes_per_chip(frozen),
    'weights, trained': bytes_per_chip(trained),
    'optimiser': bytes_per_chip(state.opt_state),
    'batch': bytes_per_chip(batch),
  }
  return Program(TRAIN, lambda: lowered(step, state, batch, rate), arguments, model.params)


def abstract_batch(workload: Workload, model: Model) -> dict[str, jax.ShapeDtypeStruct]:
  """A batch of packed rows, split over the data axes, as `input/pipeline.py` makes it."""
  clip, shape = workload.clip, workload.shape
  rows, length, most = shape.rows, shape.tokens, shape.targets
  shapes = {
    **dict.fromkeys(('tokens', 'segment_ids', 'video_slots'), ((rows, length), jnp.int32)),
    'positions': ((rows, length, 3) if decoder_of(model).mrope_section else (rows, length), jnp.int32),
    **dict.fromkeys(('target_slots', 'target_ids'), ((rows, most), jnp.int32)),
    'target_weights': ((rows, most), jnp.float32),
    'features': ((rows, shape.clips, clip.views, clip.view_tokens, model.feature_dim), jnp.float16),
  }
  place = sharding.batch_sharding(model.mesh)
  return {name: jax.ShapeDtypeStruct(shape, dtype, sharding=place) for name, (shape, dtype) in shapes.items()}


def abstract_state(params: nnx.State, tx: optax.GradientTransformation, mesh: Mesh) -> TrainState:
  """What `step.init_state` makes of the parameters that train, with the same places."""
  everywhere = sharding.replicated(mesh)
  moments = optax.tree_map_params(
    tx,
    lambda moment, param: moment if isinstance(moment, optax.MaskedNode) else _placed(moment, param.sharding),
    jax.eval_shape(tx.init, params),
    params,
    transform_non_params=lambda leaf: _placed(leaf, everywhere),
    is_leaf=lambda moment: isinstance(moment, optax.MaskedNode),
  )
  key: Any = _placed(jax.eval_shape(lambda: jax.random.key_data(jax.random.key(0))), everywhere)
  step: Any = jax.ShapeDtypeStruct((), jnp.int32, sharding=everywhere)
  return TrainState(step, params, moments, key)


def generation(model: Model, clip: Clip, rows: int, new_tokens: int) -> Program:
  """Prefill of a batch of prompts, and the loop that writes `new_tokens` behind each: what `assess` and `eval` run.

  Args:
    rows: of the batch, rounded up to what divides over the mesh.
  """
  shards = sharding.data_shards(model.mesh)
  rows = -(-rows // shards) * shards
  decoder = nnx.merge(model.blueprint.graph, model.params, model.blueprint.rest).decoder
  graphdef, state = nnx.split(decoder)
  everywhere, split = sharding.replicated(model.mesh), sharding.batch_sharding(model.mesh)
  # Parameters have their places; streams of random numbers lie everywhere.
  state = jax.tree.map(lambda leaf: _placed(leaf, _place(leaf, everywhere)), state)
  length = bucket(clip.video_tokens + clip.prompt_tokens)
  config = decoder.config
  prompt = jax.ShapeDtypeStruct((rows, length, config.hidden_size), config.dtype, sharding=split)
  mask = jax.ShapeDtypeStruct((rows, length), jnp.bool_, sharding=split)
  places = jax.ShapeDtypeStruct((rows, length, 3), jnp.int32, sharding=split) if config.mrope_section else None
  small = {
    'eos_ids': jax.ShapeDtypeStruct((1,), jnp.int32, sharding=everywhere),
    'pad_id': jax.ShapeDtypeStruct((), jnp.int32, sharding=everywhere),
    'temperature': jax.ShapeDtypeStruct((), jnp.float32, sharding=everywhere),
    'key': _placed(jax.eval_shape(lambda: jax.random.key(0)), everywhere),
    'banned_ids': jax.ShapeDtypeStruct((1,), jnp.int32, sharding=everywhere),
  }

  def lower() -> jax.stages.Lowered:
    return generate._generate.lower(
      graphdef, state, prompt, mask, *small.values(), None, places, None,
      top_k=None, max_new_tokens=new_tokens, samples=1, greedy=True, split_layers=False,
    )  # fmt: skip

  cache = 2 * config.num_layers * config.num_kv_heads * config.head_dim * jnp.dtype(config.dtype).itemsize
  arguments = {
    'weights': bytes_per_chip(state),
    'prompts': bytes_per_chip(prompt),
    # Made inside, and so among what is temporary; named since it grows with clips and lengths.
    'cache of keys and values (temporary)': cache * (length + new_tokens - 1) * rows / shards,
  }
  return Program(GENERATE, lower, arguments, model.params)


def lowered(step: Any, *arguments: Any) -> jax.stages.Lowered:
  """A step of `make_step`, traced; it may be bound to its first arguments."""
  return step.func.lower(*step.args, *arguments) if hasattr(step, 'func') else step.lower(*arguments)


def bytes_per_chip(tree: Any) -> float:
  """Bytes that the arrays of a tree take on one chip, by their shardings."""
  return float(sum(_leaf_bytes(leaf) for leaf in jax.tree.leaves(tree)))


def _leaf_bytes(leaf: Any) -> int:
  if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
    return 8 * math.prod(leaf.shape)
  shape: Sequence[int] = leaf.shape if leaf.sharding is None else leaf.sharding.shard_shape(leaf.shape)
  return math.prod(shape) * jnp.dtype(leaf.dtype).itemsize


def _placed(leaf: Any, place: NamedSharding) -> jax.ShapeDtypeStruct:
  return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place)


def _place(leaf: Any, otherwise: NamedSharding) -> NamedSharding:
  place = getattr(leaf, 'sharding', None)
  return place if isinstance(place, NamedSharding) else otherwise


def _zeros(leaf: Any) -> jax.Array:
  """Streams of random numbers have to have values; which ones decides nothing about a program."""
  if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
    return jax.random.split(jax.random.key(0), leaf.shape) if leaf.shape else jax.random.key(0)
  return jnp.zeros(leaf.shape, leaf.dtype)
