"""One update, for every stage: pytrees in, pytrees out."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from crosstrainer_jax.training import sharding

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


def make_step(loss_fn: Loss, tx: optax.GradientTransformation, mesh: Mesh, frozen: Any = ()) -> Step:
  """The jitted update.

  Args:
    frozen: what the loss needs beside the parameters that train, on the mesh. It gets no gradient and no state.

  Every mean is Σ(w·x)/Σw. The key of an update depends on the seed and the step alone, so that a resumed run is the
  same run.
  """

  def step(
    frozen: Any, state: TrainState, batch: Any, learning_rate: jax.Array
  ) -> tuple[TrainState, dict[str, jax.Array]]:
    key = jax.random.fold_in(jax.random.wrap_key_data(state.key), state.step)

    def mean_loss(params: Any) -> tuple[jax.Array, tuple[jax.Array, dict[str, tuple[jax.Array, jax.Array]]]]:
      total, weight, metrics = loss_fn(params, frozen, batch, key)
      return total / jnp.maximum(weight, 1e-6), (weight, metrics)

    (loss, (weight, metrics)), grads = jax.value_and_grad(mean_loss, has_aux=True)(state.params)
    updates, opt_state = tx.update(grads, state.opt_state, state.params)
    updates = jax.tree.map(lambda u: (learning_rate * u).astype(u.dtype), updates)
    params = optax.apply_updates(state.params, updates)
    scalars = {
      'loss': loss,
      'weight': weight,
      'grad_norm': optax.tree.norm(grads),
      'update_norm': optax.tree.norm(updates),
      'param_norm': optax.tree.norm(params),
    }
    scalars |= {name: total / jnp.maximum(w, 1e-6) for name, (total, w) in metrics.items()}
    return TrainState(state.step + 1, params, opt_state, state.key), scalars

  # Parameters keep the sharding they came with; batches come split over the data axes.
  jitted = jax.jit(step, donate_argnums=1, in_shardings=(None, None, sharding.batch_sharding(mesh), None))
  return functools.partial(jitted, frozen)
