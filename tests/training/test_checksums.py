import jax
import jax.numpy as jnp
import numpy as np
import pytest

from crosstrainer_jax.training.checksums import checksums, require_same

RANDOM = np.random.default_rng(0)


def flip(array, bit):
  data = bytearray(array.tobytes())
  data[bit // 8] ^= 1 << bit % 8
  return np.frombuffer(bytes(data), array.dtype).reshape(array.shape)


@pytest.mark.parametrize('dtype', ['float32', 'float16', jnp.bfloat16, 'int32', 'uint32', 'int8'])
def test_any_flipped_bit_is_seen(dtype):
  whole = RANDOM.integers(-50, 50, (3, 5)).astype(dtype)
  recorded = checksums({'a': {'b': jnp.asarray(whole)}, 'c': jnp.zeros(())})
  assert list(recorded) == ['a/b', 'c']
  require_same({'a': {'b': jnp.asarray(whole)}, 'c': jnp.zeros(())}, recorded)
  for bit in RANDOM.choice(8 * whole.nbytes, 20, replace=False):
    with pytest.raises(ValueError, match=r'bits have flipped, in 1 of 2 arrays: a/b'):
      require_same({'a': {'b': jnp.asarray(flip(whole, int(bit)))}, 'c': jnp.zeros(())}, recorded)


def test_two_numbers_that_change_places_are_seen():
  assert checksums(jnp.array([[1.0, 2.0], [3.0, 4.0]])) != checksums(jnp.array([[1.0, 3.0], [2.0, 4.0]]))


def test_a_mesh_changes_nothing(eight_devices, one_device):
  array = RANDOM.normal(size=(16, 8)).astype(np.float32)
  placed = [
    jax.device_put({'x': array}, jax.NamedSharding(mesh, spec))
    for mesh, spec in ((one_device, jax.P()), (eight_devices, jax.P('fsdp')), (eight_devices, jax.P(None, 'fsdp')))
  ]
  assert len({tuple(checksums(tree).items()) for tree in placed}) == 1
