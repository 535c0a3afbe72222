"""The mapper: the paper's two layers, by the formula."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.scipy.special import erf
from jax.sharding import AxisType, PartitionSpec

from crosstrainer_jax.models import decoder
from crosstrainer_jax.models.mapper import LOGICAL_AXES, Mapper


def test_is_linear_gelu_linear() -> None:
  mapper = Mapper(6, 10, rngs=nnx.Rngs(0))
  mapper.fc1.bias[...], mapper.fc2.bias[...] = jax.random.normal(jax.random.key(1), (2, 10))
  x = 2 * jax.random.normal(jax.random.key(2), (3, 2, 6))
  y = x @ mapper.fc1.kernel[...] + mapper.fc1.bias[...]
  y = y * 0.5 * (1 + erf(y / np.sqrt(2)))
  y = y @ mapper.fc2.kernel[...] + mapper.fc2.bias[...]
  np.testing.assert_allclose(mapper(x), y, atol=1e-5)


def test_parameter_count_of_the_paper() -> None:
  state = nnx.state(nnx.eval_shape(lambda: Mapper(4096, 4096, rngs=nnx.Rngs(0))))
  assert sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(state)) == 33_562_624


def test_dtypes() -> None:
  mapper = Mapper(6, 10, rngs=nnx.Rngs(0), dtype='bfloat16')
  assert mapper(jnp.ones((2, 6))).dtype == jnp.bfloat16
  assert mapper.fc1.kernel.dtype == jnp.float32


def test_every_parameter_names_its_axes() -> None:
  assert set(LOGICAL_AXES) - {'features'} <= set(decoder.LOGICAL_AXES)
  for path, leaf in nnx.to_flat_state(nnx.state(Mapper(6, 10, rngs=nnx.Rngs(0)))):
    axes = leaf.get_metadata('out_sharding')
    assert len(axes) == leaf[...].ndim, path
    assert set(axes) <= set(LOGICAL_AXES), path


def test_made_on_a_mesh_it_lies_there_and_computes_the_same() -> None:
  mesh = jax.make_mesh((4, 2), ('fsdp', 'tensor'), axis_types=(AxisType.Auto,) * 2)
  rules = (('features', None), ('mlp', 'tensor'), ('embed', 'fsdp'))
  x = jax.random.normal(jax.random.key(2), (3, 2, 6))
  with jax.set_mesh(mesh), nnx.logical_axis_rules(rules):
    mapper = nnx.jit(lambda: Mapper(6, 8, rngs=nnx.Rngs(0)))()
    placed = nnx.jit(lambda mapper, x: mapper(x))(mapper, x)
  assert mapper.fc2.kernel[...].sharding.spec == PartitionSpec('tensor', 'fsdp')
  np.testing.assert_allclose(placed, Mapper(6, 8, rngs=nnx.Rngs(0))(x), atol=1e-5)
