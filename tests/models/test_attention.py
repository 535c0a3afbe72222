"""Every kernel gives what the plain form gives, and is chosen where it can run."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from crosstrainer_jax.models import attention
from crosstrainer_jax.models.decoder import Decoder
from crosstrainer_jax.models.decoder_config import DecoderConfig
from crosstrainer_jax.training.sharding import make_mesh

LENGTH, HEADS, KV_HEADS, WIDTH = 256, 2, 1, 128


@pytest.fixture(autouse=True)
def interpreted(monkeypatch):
  monkeypatch.setattr(attention, 'INTERPRET', True)


def inputs(rows):
  random = np.random.default_rng(0)
  arrays = [jnp.asarray(random.normal(size=(rows, LENGTH, heads, WIDTH)), jnp.float32)
            for heads in (HEADS, KV_HEADS, KV_HEADS)]  # fmt: skip
  # three clips and padding, which end elsewhere in every row
  ends = np.array([[70, 128, 200], [1, 130, 256]])[:rows, :, None]
  segments = 1 + (np.arange(LENGTH) >= ends).sum(1)
  return (*arrays, jnp.asarray(np.where(segments > 3, 0, segments), jnp.int32))


def plain(queries, keys, values, segments):
  """Written out: softmax(q k / √H) over the keys at or before a query, in its own segment."""
  keys, values = (jnp.repeat(x, HEADS // KV_HEADS, axis=2) for x in (keys, values))
  scores = jnp.einsum('blnh,bsnh->bnls', queries, keys) / np.sqrt(WIDTH)
  places = jnp.arange(LENGTH)
  seen = (places[:, None] >= places) & (segments[:, :, None] == segments[:, None, :])
  weights = jax.nn.softmax(jnp.where(seen[:, None], scores, -1e30), axis=-1)
  return jnp.einsum('bnls,bsnh->blnh', weights, values)


def with_gradients(attend, queries, keys, values, segments):
  """Results at real tokens, and gradients of a sum over them."""
  real = (segments > 0)[..., None, None]
  random = jnp.asarray(np.random.default_rng(1).normal(size=queries.shape), jnp.float32)

  def total(*arrays):
    mixed = attend(*arrays, segments)
    return (jnp.where(real, mixed, 0.0) * random).sum(), jnp.where(real, mixed, 0.0)

  gradients, mixed = jax.jit(jax.grad(total, (0, 1, 2), has_aux=True))(queries, keys, values)
  return [mixed, *gradients]


@pytest.mark.parametrize('kernel', ['xla', 'splash'])
def test_a_kernel_is_the_plain_form(kernel, record_property):
  given = inputs(2)
  mask = attention.mask_of(given[-1], given[-1]) if kernel == 'xla' else None

  def attend(*arrays):
    return attention.attend(*arrays, mask, kernel)

  ours = with_gradients(attend, *given)
  for one, other in zip(ours, with_gradients(plain, *given), strict=True):
    record_property('largest difference', f'{jnp.abs(one - other).max():.1e}')
    np.testing.assert_allclose(one, other, atol=1e-4)


def test_a_kernel_runs_on_a_mesh():
  """Rows over four devices and, with two heads of keys, heads over two."""
  mesh = make_mesh((2, 2, 2))
  queries, keys, values, segments = (jnp.concatenate([x, x[::-1]]) for x in inputs(2))
  queries, keys, values = (jnp.concatenate([x, -x], axis=2) for x in (queries, keys, values))
  ours = jax.jit(lambda *arrays: attention.attend(*arrays, None, 'splash', mesh))(queries, keys, values, segments)
  mask = attention.mask_of(segments, segments)
  real = np.asarray(segments > 0)
  np.testing.assert_allclose(
    ours[real], attention.attend(queries, keys, values, segments, mask, 'xla')[real], atol=1e-4
  )
  with pytest.raises(ValueError, match='2 heads of keys cannot be split over mesh axis tensor of 4'):
    attention.attend(queries, keys, values, segments, None, 'splash', make_mesh((1, 2, 4)))


def test_what_is_chosen_where():
  assert attention.choose_kernel('auto', 256, 128, None) == 'xla'
  assert attention.choose_kernel('auto', 256, 128, make_mesh()) == 'xla'
  assert attention.choose_kernel('cudnn', 17, 5, None) == 'cudnn'
  assert attention.choose_kernel('splash', 256, 128, None) == 'splash'
  for length, width in ((200, 128), (256, 64)):
    with pytest.raises(ValueError, match=r'decoder\.attention=splash takes sequences and heads of multiples of 128'):
      attention.choose_kernel('splash', length, width, None)


def test_a_decoder_is_the_same_with_either_kernel():
  config = DecoderConfig(
    vocab_size=8, hidden_size=16, intermediate_size=16, num_layers=2, num_heads=2, num_kv_heads=1, head_dim=128
  )
  x = jax.random.normal(jax.random.key(0), (1, LENGTH, 16))
  segments = inputs(1)[-1]
  positions = jnp.tile(jnp.arange(LENGTH), (1, 1))
  hidden = []
  for kernel in ('xla', 'splash'):
    decoder = Decoder(dataclasses.replace(config, attention=kernel), nnx.Rngs(0))
    hidden.append(np.asarray(nnx.jit(lambda decoder: decoder(x, positions, segments)[0])(decoder)))
  real = np.asarray(segments > 0)
  np.testing.assert_allclose(hidden[0][real], hidden[1][real], atol=1e-4)
