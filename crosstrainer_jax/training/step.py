"""One update, for every stage: pytrees in, pytrees out."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from crosstrainer_jax.training import sharding
from crosstrainer_jax.training.optimizer import path_name

# loss_fn(params, frozen, batch, key) -> (sum of weighted losses, sum of weights, {name: (sum, weight)}).
Loss = Callable[[Any, Any, Any, jax.Array], tuple[jax.Array, jax.Array, dict[str, tuple[jax.Array, jax.Array]]]]


class TrainState(NamedTuple):
  """All that an update reads and writes, and all that a checkpoint holds beside the iterator."""

  step: jax.Array
  params: Any
  opt_state: Any
  key: jax.Array


def init_state(params: Any, tx: optax.GradientTransformation, seed: int) -> TrainState:
  """The state before the first update: the optimiser's moments lie where their parameters lie.

  `params` must be on a mesh (NamedSharding).
  """
  everywhere = sharding.replicated(jax.tree.leaves(params)[0].sharding.mesh)
  places = optax.tree_map_params(
    tx,
    # A moment that an optimiser does not keep (one of several, each for a part of the parameters) stays absent.
    lambda moment, param: moment if isinstance(moment, optax.MaskedNode) else param.sharding,
    jax.eval_shape(tx.init, params),
    params,
    transform_non_params=lambda _: everywhere,
    is_leaf=lambda moment: isinstance(moment, optax.MaskedNode),
  )
  start = (jnp.zeros((), jnp.int32), jax.random.key_data(jax.random.key(seed)))
  step, key = jax.device_put(start, everywhere)
  return TrainState(step, params, jax.jit(tx.init, out_shardings=places)(params), key)


# step(state, batch, learning rate) -> the next state and its scalars.
Step = Callable[[TrainState, Any, Any], tuple[TrainState, dict[str, jax.Array]]]


def make_step(
  loss_fn: Loss, tx: optax.GradientTransformation, mesh: Mesh, frozen: Any = (), accumulate: int = 1
) -> Step:
  """The jitted update.

  Args:
    frozen: what the loss needs beside the parameters that train, on the mesh. It gets no gradient and no state.
    accumulate: into so many parts the rows of a batch are cut, whose gradients are added up: less memory, the same
      update (dropout draws anew for each part).

  Every mean is Σ(w·x)/Σw over the whole batch. The key of an update depends on the seed and the step alone, so that a
  resumed run is the same run.
  """

  def sums(params: Any, frozen: Any, batch: Any, key: jax.Array) -> tuple[Any, Any]:
    """(Σ w·loss, Σ w, metrics), and the gradient of the first."""

    def total_loss(params: Any) -> tuple[jax.Array, tuple[jax.Array, Any]]:
      total, weight, metrics = loss_fn(params, frozen, batch, key)
      return total, (weight, metrics)

    (total, (weight, metrics)), grads = jax.value_and_grad(total_loss, has_aux=True)(params)
    return (total, weight, metrics), grads

  def accumulated(params: Any, frozen: Any, batch: Any, key: jax.Array) -> tuple[Any, Any]:
    if accumulate == 1:
      return sums(params, frozen, batch, key)

    def cut(rows: jax.Array) -> jax.Array:
      # Each device's own rows are dealt to the parts, so that nothing moves between devices.
      parts = jnp.moveaxis(rows.reshape(-1, accumulate, *rows.shape[1:]), 1, 0)
      return jax.lax.with_sharding_constraint(parts, sharding.part_sharding(mesh))

    def add(so_far: Any, part: tuple[jax.Array, Any]) -> tuple[Any, None]:
      number, rows = part
      return jax.tree.map(jnp.add, so_far, sums(params, frozen, rows, jax.random.fold_in(key, number))), None

    parts = jax.tree.map(cut, batch)
    like = jax.eval_shape(sums, params, frozen, jax.tree.map(lambda x: x[0], parts), key)
    # In float32, whatever the parameters are.
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, jnp.promote_types(x.dtype, jnp.float32)), like)
    return jax.lax.scan(add, zeros, (jnp.arange(accumulate), parts))[0]

  def step(
    frozen: Any, state: TrainState, batch: Any, learning_rate: jax.Array
  ) -> tuple[TrainState, dict[str, jax.Array]]:
    key = jax.random.fold_in(jax.random.wrap_key_data(state.key), state.step)
    (total, weight, metrics), grads = accumulated(state.params, frozen, batch, key)
    grads = jax.tree.map(lambda g: g / jnp.maximum(weight, 1e-6).astype(g.dtype), grads)
    updates, opt_state = tx.update(grads, state.opt_state, state.params)
    updates = jax.tree.map(lambda u: (learning_rate * u).astype(u.dtype), updates)
    params = optax.apply_updates(state.params, updates)
    scalars = {
      'loss': total / jnp.maximum(weight, 1e-6),
      'weight': weight,
      'grad_norm': optax.tree.norm(grads),
      'update_norm': optax.tree.norm(updates),
      'param_norm': optax.tree.norm(params),
    }
    scalars |= norms_by_group('grad_norm', grads) | norms_by_group('param_norm', params)
    scalars |= {name: total / jnp.maximum(w, 1e-6) for name, (total, w) in metrics.items()}
    return TrainState(state.step + 1, params, opt_state, state.key), scalars

  # Parameters keep the sharding they came with; batches come split over the data axes.
  jitted = jax.jit(step, donate_argnums=1, in_shardings=(None, None, sharding.batch_sharding(mesh), None))
  return functools.partial(jitted, frozen)


def norms_by_group(name: str, tree: Any) -> dict[str, jax.Array]:
  """Norms of the parts of a model, `grad_norm/decoder/layers` for example: which of them was the first to diverge."""
  groups: dict[str, list[jax.Array]] = {}
  for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
    groups.setdefault('/'.join([name, *path_name(path).split('/')[:2]]), []).append(leaf)
  return {group: optax.tree.norm(leaves) for group, leaves in groups.items()}
