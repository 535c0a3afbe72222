"""bfloat16 against float32 at the size of a small language model: what rounding does to the distribution of a token."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from crosstrainer_jax.models.decoder import Decoder
from crosstrainer_jax.models.decoder_config import DecoderConfig

CONFIG = DecoderConfig(
  vocab_size=16_384, hidden_size=768, intermediate_size=2048, num_layers=12, num_heads=12, num_kv_heads=4, head_dim=64,
  tie_embeddings=False,
)  # fmt: skip
# Fresh weights give every token about the same probability, and attend to everything alike; a trained model does not.
SHARPER = {'lm_head/kernel': 4.0, 'layers/attention/q_proj/kernel': 2.0}
MOST = 0.015  # nats


@pytest.fixture(scope='module')
def params() -> nnx.State:
  """More than 10⁸ weights, rounded to bfloat16 and kept so."""

  @jax.jit
  def make() -> nnx.State:
    made = nnx.to_flat_state(nnx.state(Decoder(CONFIG, nnx.Rngs(0)), nnx.Param))
    return nnx.from_flat_state(
      [
        (path, leaf.replace((leaf.get_value() * SHARPER.get('/'.join(map(str, path)), 1.0)).astype(jnp.bfloat16)))
        for path, leaf in made
      ]
    )

  return make()


def log_probs(params: nnx.State, dtype: str, param_dtype: str) -> np.ndarray:
  """float32[2, 32, vocab] of random tokens; computed in `dtype` from weights that lie in `param_dtype`."""
  config = dataclasses.replace(CONFIG, dtype=dtype, param_dtype=param_dtype)
  graph, _ = nnx.split(nnx.eval_shape(lambda: Decoder(config, nnx.Rngs(0))), nnx.Param)
  tokens = jnp.asarray(np.random.default_rng(0).integers(0, config.vocab_size, (2, 32)))

  @jax.jit
  def forward(params: nnx.State, tokens: jax.Array) -> jax.Array:
    decoder = nnx.merge(graph, params)
    positions = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)
    hidden, _ = decoder(decoder.embed(tokens), positions, jnp.ones_like(tokens))
    return jax.nn.log_softmax(decoder.logits(hidden))

  return np.asarray(forward(jax.tree.map(lambda leaf: leaf.astype(param_dtype), params), tokens))


@pytest.fixture(scope='module')
def exact(params: nnx.State) -> np.ndarray:
  return log_probs(params, 'float32', 'float32')


def test_bfloat16_keeps_the_distribution(params, exact, record_property):
  """Weights and computation in bfloat16, as a frozen L has them, against the same weights in float32."""
  assert sum(leaf.size for leaf in jax.tree.leaves(params)) >= 100e6
  probs = np.exp(exact)
  entropy = -(probs * exact).sum(-1).mean()
  assert 1 <= entropy <= 4
  half = log_probs(params, 'bfloat16', 'bfloat16')
  assert half.dtype == np.float32
  divergence = (probs * (exact - half)).sum(-1)
  record_property('entropy', f'{entropy:.2f} nats')
  record_property('divergence', f'mean {divergence.mean():.1e}, largest {divergence.max():.1e} nats')
  assert 0 < divergence.mean() <= MOST
