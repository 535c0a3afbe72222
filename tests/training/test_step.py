import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from crosstrainer_jax.training import sharding
from crosstrainer_jax.training.step import TrainState, init_state


def copy(state: TrainState) -> TrainState:
  return jax.tree.map(jnp.copy, state)


def run(toy, state, batch, rate=0.1):
  state, scalars = toy.step(state, sharding.put_batch(batch, toy.mesh), np.float32(rate))
  return state, {name: float(value) for name, value in scalars.items()}


def test_updates_lower_the_loss_and_count(toy):
  state, batches, losses = toy.state(), toy.batches(), []
  for _ in range(30):
    state, scalars = run(toy, state, next(batches))
    losses.append(scalars['loss'])
  assert int(state.step) == 30
  assert losses[-1] < 0.2 * losses[0]


def test_scalars_are_weighted_means_and_norms(toy):
  batch = next(toy.batches())
  batch['weight'] = np.array([0, 1, 2, 3, 0, 1, 1, 0.5], np.float32)
  before = jax.tree.map(np.asarray, toy.state().params)
  after, scalars = run(toy, toy.state(), batch)
  error = batch['x'] @ before['kernel'][:, 0] - batch['y'] + scalars['noise']
  assert scalars['loss'] == pytest.approx(np.average(error**2, weights=batch['weight']), rel=1e-5)
  assert scalars['size'] == pytest.approx(np.average(np.abs(error), weights=batch['weight']), rel=1e-5)
  assert scalars['weight'] == pytest.approx(8.5)
  assert scalars['param_norm'] == pytest.approx(float(optax.tree.norm(after.params)), rel=1e-5)
  moved = jax.tree.map(lambda a, b: np.asarray(a) - b, after.params, before)
  assert scalars['update_norm'] == pytest.approx(float(optax.tree.norm(moved)), rel=1e-4)


def test_rows_of_weight_zero_change_nothing(toy):
  batch, other = next(toy.batches()), next(toy.batches())
  batch['weight'][5:] = other['weight'][5:] = 0
  for name in ('x', 'y'):
    other[name][5:] = 1e3
  one, scalars = run(toy, toy.state(), batch)
  two, others = run(toy, toy.state(), other)
  assert scalars == others
  jax.tree.map(np.testing.assert_array_equal, one.params, two.params)


def test_a_padded_batch_gives_the_update_of_the_batch_alone(toy):
  batch = next(toy.batches())
  padded = {name: np.concatenate([value, np.zeros_like(value)]) for name, value in batch.items()}
  one, scalars = run(toy, toy.state(), batch)
  two, others = run(toy, toy.state(), padded)
  assert others['weight'] == scalars['weight'] == 8
  assert others == pytest.approx(scalars, rel=1e-5)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), one.params, two.params)


def test_a_batch_without_weight_is_no_update(toy):
  batch = next(toy.batches())
  batch['weight'][:] = 0
  before = jax.tree.map(np.asarray, toy.state().params)
  after, scalars = run(toy, toy.state(), batch)
  assert scalars['loss'] == scalars['grad_norm'] == 0
  jax.tree.map(np.testing.assert_array_equal, after.params, before)


def test_the_rate_of_an_update_is_its_argument(toy):
  state, batch = toy.state(), next(toy.batches())
  before = jax.tree.map(np.asarray, state.params)
  resting, _ = run(toy, copy(state), batch, 0.0)
  jax.tree.map(np.testing.assert_array_equal, resting.params, before)
  # the first step of Adam has size 1
  moved, _ = run(toy, state, batch, 0.25)
  np.testing.assert_allclose(np.abs(np.asarray(moved.params['kernel']) - before['kernel']), 0.25, rtol=1e-3)


def test_the_key_depends_on_seed_and_step_alone(toy):
  batch, noises = next(toy.batches()), {}
  for seed in (0, 1):
    state = toy.state(seed)
    for number in range(3):
      again, scalars = run(toy, copy(state), batch)
      state, same = run(toy, state, batch)
      assert scalars == same
      np.testing.assert_array_equal(again.key, state.key)
      noises[seed, number] = scalars['noise']
  assert len(set(noises.values())) == 6


def test_the_old_state_is_donated(toy):
  state = toy.state()
  run(toy, state, next(toy.batches()))
  assert all(leaf.is_deleted() for leaf in jax.tree.leaves((state.params, state.opt_state)))


def test_the_moments_lie_where_their_parameters_lie(toy):
  mesh = toy.mesh
  split = jax.NamedSharding(mesh, jax.P('fsdp'))
  whole = sharding.replicated(mesh)
  params = {'split': jax.device_put(jnp.ones((16, 2)), split), 'whole': jax.device_put(jnp.ones(3), whole)}
  state = init_state(params, toy.tx, 0)
  adam = state.opt_state[0]
  for moment in (adam.mu, adam.nu):
    assert moment['split'].sharding == split
    assert moment['whole'].sharding == whole
  for leaf in (state.step, state.key, adam.count):
    assert leaf.sharding.device_set == set(mesh.devices.flat)


def test_one_compilation_serves_all_updates(toy):
  state, batches = toy.state(), toy.batches(24)
  before = toy.step.func._cache_size()
  for _ in range(3):
    state, _ = run(toy, state, next(batches))
  assert toy.step.func._cache_size() == before + 1
