"""The mapper: the paper's two layers, by the formula."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.scipy.special import erf

from crosstrainer_jax.models import decoder
from crosstrainer_jax.models.mapper import LOGICAL_AXES, Mapper, whiten, whitening


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
  for path, leaf in nnx.to_flat_state(nnx.state(Mapper(6, 10, rngs=nnx.Rngs(0), whitened=True))):
    axes = leaf.get_metadata('logical_axes')
    assert len(axes) == leaf[...].ndim, path
    assert set(axes) - {None} <= set(LOGICAL_AXES), path


def features(count: int = 4000) -> np.ndarray:
  """Correlated, off centre, and of very different size."""
  random = np.random.default_rng(0)
  turn, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(6, 6)))
  return random.normal(size=(count, 6)) * [4, 2, 1, 1, 0.5, 0.5] @ turn + 5


def test_whitened_features_are_uncorrelated_and_of_unit_variance() -> None:
  mean, matrix = whitening(features(), floor=0.0)
  white = (features() - mean) @ matrix
  np.testing.assert_allclose(white.mean(0), 0, atol=1e-4)
  np.testing.assert_allclose(np.cov(white, rowvar=False), np.eye(6), atol=0.05)


def test_few_or_equal_features_are_not_blown_up() -> None:
  mean, matrix = whitening(features(4))
  assert np.abs((features() - mean) @ matrix).max() < 30
  mean, matrix = whitening(np.full((5, 6), 3.0))
  np.testing.assert_allclose(matrix, np.eye(6), atol=1e-6)
  np.testing.assert_allclose(mean, 3, atol=1e-6)


def test_whitening_gets_no_gradient_and_the_layers_behind_it_do() -> None:
  graph, params = nnx.split(Mapper(6, 10, rngs=nnx.Rngs(0), whitened=True))
  x = jnp.asarray(features(8), jnp.float32)
  gradients = jax.grad(lambda params: nnx.merge(graph, params)(x).sum())(params)
  sizes = {'/'.join(path): float(jnp.abs(leaf[...]).max()) for path, leaf in nnx.to_flat_state(gradients)}
  assert {name for name, size in sizes.items() if size == 0} == {'whitening/mean', 'whitening/matrix'}


def test_whitening_keeps_its_digits_under_a_large_mean_in_bfloat16() -> None:
  mapper = Mapper(6, 10, rngs=nnx.Rngs(0), dtype='bfloat16', whitened=True)
  graph, params = nnx.split(mapper)
  x = features(64) + 1000
  changed = nnx.merge(graph, whiten(params, features() + 1000))
  mean, matrix = whitening(features() + 1000)
  np.testing.assert_allclose(changed.whitening(jnp.asarray(x)), (x - mean) @ matrix, atol=0.02)


def test_a_mapper_is_whitened_in_its_place() -> None:
  mapper = Mapper(6, 10, rngs=nnx.Rngs(0), whitened=True)
  x = features(8).astype(np.float32)
  np.testing.assert_allclose(mapper(x), Mapper(6, 10, rngs=nnx.Rngs(0))(x), atol=1e-4)
  graph, params = nnx.split(mapper)
  changed = nnx.merge(graph, whiten(params, features()))
  mean, matrix = whitening(features())
  np.testing.assert_allclose(changed(x), Mapper(6, 10, rngs=nnx.Rngs(0))((x - mean) @ matrix), atol=1e-4)
  np.testing.assert_array_equal(params['whitening']['matrix'].get_value(), np.eye(6))
  for name in ('fc1', 'fc2'):
    jax.tree.map(np.testing.assert_array_equal, nnx.state(changed)[name], params[name])
