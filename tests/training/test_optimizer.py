import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax
import pytest

from crosstrainer_jax.training import optimizer


def config(**changes) -> ml_collections.ConfigDict:
  settings = {
    'name': 'adamw', 'learning_rate': 2e-3, 'learning_rate_rules': (('^mapper/', 10.0), ('bias', 0.5)),
    'warmup_fraction': 0.2, 'final_fraction': 0.1, 'b1': 0.9, 'b2': 0.98, 'weight_decay': 0.0, 'clip_norm': 1.0,
  }  # fmt: skip
  return ml_collections.ConfigDict(settings | changes)


def rates(config, steps):
  schedule = optimizer.schedule(config, steps)
  return np.array([float(schedule(i)) for i in range(steps)])


def test_warm_up_then_cosine():
  values = rates(config(), 50)
  np.testing.assert_allclose(values[:10], 2e-3 * np.arange(1, 11) / 10, rtol=1e-5)
  assert (np.diff(values[9:]) < 0).all()
  # half of the way down the cosine, and its end
  assert values[29] == pytest.approx(2e-3 * 0.55, rel=1e-5)
  assert values[-1] == pytest.approx(2e-4, rel=1e-5)


@pytest.mark.parametrize('steps', [1, 2, 3])
def test_no_update_of_a_short_run_is_lost(steps):
  assert (rates(config(), steps) > 0).all()


def test_one_schedule_for_any_number_of_updates_is_relative():
  np.testing.assert_allclose(rates(config(), 200)[3::4], rates(config(), 50), rtol=0.02, atol=2e-5)


PARAMS = {
  'mapper': {'kernel': jnp.full((2, 2), 3.0), 'bias': jnp.full(2, 3.0)},
  'decoder': {'mapper': jnp.full((2, 2), 3.0), 'bias': jnp.full(2, 3.0)},
}


def first_updates(config, gradient=1.0):
  tx = optimizer.make_optimizer(config)
  gradients = jax.tree.map(lambda p: jnp.full_like(p, gradient), PARAMS)
  return jax.tree.map(np.asarray, tx.update(gradients, tx.init(PARAMS), PARAMS)[0])


def test_rules_scale_the_updates_of_the_paths_they_match():
  updates = first_updates(config())
  # Adam's first step is the sign of the gradient; the first rule that matches counts
  for path, expected in (('mapper/kernel', -10), ('mapper/bias', -10), ('decoder/mapper', -1), ('decoder/bias', -0.5)):
    module, name = path.split('/')
    np.testing.assert_allclose(updates[module][name], expected, rtol=1e-4, err_msg=path)


def test_matrices_decay_and_vectors_do_not():
  updates = first_updates(config(weight_decay=0.1, learning_rate_rules=()), gradient=0.0)
  for module in updates.values():
    for name, value in module.items():
      np.testing.assert_allclose(value, -0.3 if name == 'kernel' else 0.0, rtol=1e-5)


@pytest.mark.parametrize('name', ['adamw', 'muon'])
def test_norms_that_are_stacked_over_layers_do_not_decay(name):
  tx = optimizer.make_optimizer(config(name=name, weight_decay=0.1, learning_rate_rules=()))
  gradients = jax.tree.map(jnp.zeros_like, LAYERED)
  updates = tx.update(gradients, tx.init(LAYERED), LAYERED)[0]
  still = jax.tree.map(lambda u: not bool(jnp.any(u)), updates)
  decoder = {'layers': {'kernel': False, 'scale': True}, 'embedding': False}
  assert still == {'decoder': decoder, 'mapper': {'kernel': False}}


def test_gradients_are_clipped_by_their_global_norm():
  tx = optimizer.make_optimizer(config(clip_norm=0.5))
  for size, kept in ((100.0, 0.5), (0.01, 0.01)):
    gradients = {'kernel': jnp.array([[size, 0.0]])}
    _, state = tx.update(gradients, tx.init(gradients), gradients)
    moment = optax.tree_utils.tree_get(state, 'mu')
    np.testing.assert_allclose(moment['kernel'], [[0.1 * kept, 0.0]], rtol=1e-5)


LAYERED = {
  'decoder': {'layers': {'kernel': jnp.ones((2, 8, 6)), 'scale': jnp.ones((2, 8))}, 'embedding': jnp.ones((16, 8))},
  'mapper': {'kernel': jnp.ones((8, 8))},
}


def test_muon_turns_the_layers_matrices_and_adam_does_the_rest():
  random = np.random.default_rng(0)
  gradients = jax.tree.map(lambda p: jnp.asarray(random.normal(size=p.shape), jnp.float32), LAYERED)
  first = {}
  for name in ('muon', 'adamw'):
    tx = optimizer.make_optimizer(config(name=name, learning_rate_rules=(('^mapper/', 10.0),)))
    first[name] = jax.tree.map(np.asarray, tx.update(gradients, tx.init(LAYERED), LAYERED)[0])
  muon, adam = first['muon'], first['adamw']
  for layer, gradient in zip(
    muon['decoder']['layers'].pop('kernel'), gradients['decoder']['layers']['kernel'], strict=True
  ):
    # all directions of the gradient alike, with the root mean square of AdamW's updates, 0.2 (Liu et al. 2025)
    left, _, right = np.linalg.svd(gradient, full_matrices=False)
    values = np.diag(left.T @ layer @ right.T)
    np.testing.assert_allclose(values, -0.2 * 8**0.5, rtol=0.35)
    assert np.sqrt(np.mean(layer**2)) == pytest.approx(0.2, rel=0.2)
  adam['decoder']['layers'].pop('kernel')
  jax.tree.map(np.testing.assert_array_equal, muon, adam)


def test_each_layer_is_turned_by_itself():
  random = np.random.default_rng(1)
  tx = optimizer.make_optimizer(config(name='muon', learning_rate_rules=(), clip_norm=1e9))
  gradient = jnp.asarray(random.normal(size=(3, 5, 4)), jnp.float32)
  together, alone = (
    tx.update(tree, tx.init(tree), tree)[0]['layers']['kernel']
    for tree in ({'layers': {'kernel': gradient}}, {'layers': {'kernel': gradient[1:2]}})
  )
  np.testing.assert_allclose(together[1:2], alone, rtol=1e-4, atol=1e-5)


def test_path_names():
  tree = {'a': [0, {'b': 1}]}
  names = [optimizer.path_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(tree)]
  assert names == ['a/0', 'a/1/b']
  assert optimizer.scale_of('mapper/fc1/kernel', [('^fc1', 5.0), ('fc1', 2.0), ('mapper', 3.0)]) == 2.0
  assert optimizer.scale_of('decoder', [('mapper', 3.0)]) == 1.0
