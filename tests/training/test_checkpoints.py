import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from crosstrainer_jax.training.checkpoints import Checkpoints, load_params, save_params
from crosstrainer_jax.training.step import TrainState, init_state

TX = optax.scale_by_adam()


def state(mesh, rows=16, extra=False, fill=0.0) -> TrainState:
  params = {'kernel': jnp.arange(2.0 * rows).reshape(rows, 2) + fill}
  if extra:
    params['bias'] = jnp.ones(8)
  return init_state(jax.device_put(params, jax.NamedSharding(mesh, jax.P('fsdp'))), TX, 3)


def at(state: TrainState, step: int) -> TrainState:
  return state._replace(step=jax.device_put(jnp.asarray(step, jnp.int32), state.step.sharding))


def assert_same(one, other):
  assert jax.tree.structure(one) == jax.tree.structure(other)
  for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
    assert (a.dtype, a.sharding) == (b.dtype, b.sharding)
    np.testing.assert_array_equal(a, b)


def test_everything_comes_back_where_it_was(eight_devices, tmp_path):
  saved = at(state(eight_devices, fill=0.5), 7)
  checkpoints = Checkpoints(tmp_path)
  assert checkpoints.latest() is None
  checkpoints.save(saved, {'global_next_index': 56})
  checkpoints.close()
  restored, data = Checkpoints(tmp_path).restore(state(eight_devices))
  assert data == {'global_next_index': 56}
  assert_same(restored, saved)


def test_a_checkpoint_moves_to_another_mesh(eight_devices, one_device, tmp_path):
  checkpoints = Checkpoints(tmp_path)
  checkpoints.save(at(state(eight_devices, fill=0.5), 7), {})
  checkpoints.close()
  restored, _ = Checkpoints(tmp_path).restore(state(one_device))
  assert_same(restored, at(state(one_device, fill=0.5), 7))


def test_the_newest_are_kept(eight_devices, tmp_path):
  checkpoints = Checkpoints(tmp_path, keep=2)
  for step in (2, 4, 6):
    checkpoints.save(at(state(eight_devices, fill=step), step), {'k': step})
  checkpoints.close()
  again = Checkpoints(tmp_path)
  assert again.latest() == 6
  assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == ['4', '6']
  assert again.restore(state(eight_devices))[1] == {'k': 6}


@pytest.mark.parametrize(
  ('other', 'names'),
  [({'rows': 24}, r'params/kernel \(16, 2\) → \(24, 2\)'), ({'extra': True}, r'params/bias absent → \(8,\)')],
)
def test_another_model_is_a_clear_error(eight_devices, tmp_path, other, names):
  checkpoints = Checkpoints(tmp_path / 'run')
  checkpoints.save(at(state(eight_devices), 1), {})
  checkpoints.close()
  save_params(tmp_path / 'params', state(eight_devices).params)
  like = state(eight_devices, **other)
  with pytest.raises(ValueError, match=rf'run: the checkpoint does not fit this model .*{names}.* another --workdir'):
    Checkpoints(tmp_path / 'run').restore(like)
  with pytest.raises(ValueError, match=rf'params: the checkpoint does not fit this model .*{names.split("/")[1]}'):
    load_params(tmp_path / 'params', like.params)


def test_parameters_alone(eight_devices, one_device, tmp_path):
  for fill in (1.0, 2.0):
    save_params(tmp_path / 'params', state(eight_devices, fill=fill).params)
  for mesh in (eight_devices, one_device):
    assert_same(load_params(tmp_path / 'params', state(mesh).params), state(mesh, fill=2.0).params)


def test_no_parameters_say_how_to_make_them(eight_devices, tmp_path):
  with pytest.raises(FileNotFoundError, match=r'params: no parameters here\. Train first'):
    load_params(tmp_path / 'params', state(eight_devices).params)
