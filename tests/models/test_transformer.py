"""The shared stack of blocks: scanned = one by one, masks, both norms, refused settings, where parameters come from."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from crosstrainer_jax.models.transformer import Transformer, TransformerConfig, block_sources
from crosstrainer_jax.weights.convert import flat

SIZES = {'layers': 3, 'width': 16, 'heads': 2, 'mlp': 24, 'activation': 'gelu', 'eps': 1e-5}
NAMES = {
  'norm1': 'l.{}.n1', 'norm2': 'l.{}.n2', 'fc1': 'l.{}.up', 'fc2': 'l.{}.down',
  **{f'attention/{name}_proj': f'l.{{}}.{name}' for name in ('q', 'k', 'v', 'out')},
}  # fmt: skip


def made(**changes) -> Transformer:
  return nnx.jit(lambda: Transformer(TransformerConfig(**SIZES | changes), nnx.Rngs(0)))()


@pytest.mark.parametrize('post_norm', [False, True])
def test_scanned_is_one_by_one(post_norm):
  stack, x = made(post_norm=post_norm), jax.random.normal(jax.random.key(0), (2, 5, 16))
  last, every = nnx.jit(lambda stack, x: stack(x))(stack, x)
  assert every.shape == (3, 2, 5, 16)
  np.testing.assert_array_equal(every[-1], last)
  graph, state = nnx.split(stack.blocks)
  for number in range(3):
    block = nnx.merge(graph, jax.tree.map(lambda leaf, number=number: leaf[number], state))
    x = nnx.jit(lambda block, x: block(x))(block, x)
    np.testing.assert_allclose(every[number], x, atol=1e-5)


def test_what_is_masked_is_not_seen():
  stack, x = made(), jax.random.normal(jax.random.key(0), (1, 5, 16))
  mask = (jnp.arange(5) < 3)[None, None, None]
  changed = x.at[:, 3:].set(9.0)
  one, other = (stack(some, mask)[0][:, :3] for some in (x, changed))
  np.testing.assert_allclose(one, other, atol=1e-6)
  assert float(jnp.abs(stack(x)[0][:, :3] - one).max()) > 1e-3


def test_queries_and_keys_are_turned_and_values_are_not():
  stack, x = made(), jax.random.normal(jax.random.key(0), (1, 5, 16))
  seen = []

  def rotate(y: jax.Array) -> jax.Array:
    seen.append(y.shape)
    return -y

  # both turned around: their products are what they were
  np.testing.assert_allclose(stack(x, rotate=rotate)[0], stack(x)[0], atol=1e-5)
  assert set(seen) == {(1, 5, 2, 8)}
  assert len(seen) % 2 == 0


@pytest.mark.parametrize('activation', ['quick_gelu', 'relu', 'silu', 'gelu_pytorch_tanh'])
def test_activations_differ(activation):
  x = jax.random.normal(jax.random.key(0), (1, 5, 16))
  assert float(jnp.abs(made(activation=activation)(x)[0] - made()(x)[0]).max()) > 1e-5


@pytest.mark.parametrize(('changes', 'message'), [({'activation': 'mish'}, 'mish'), ({'heads': 3}, '3 heads')])
def test_impossible_settings_are_refused(changes, message):
  with pytest.raises(ValueError, match=message):
    TransformerConfig(**SIZES | changes)


@pytest.mark.parametrize('bias', [True, False])
def test_every_parameter_has_a_source_and_logical_axes(bias):
  state = nnx.state(made(qkv_bias=bias), nnx.Param)
  sources = block_sources('', NAMES)
  for path, variable in flat(state).items():
    source = sources[f'/{path}']
    assert len(source.names(3)) == 3
    assert len(variable.get_metadata('logical_axes')) == variable[...].ndim - 1
