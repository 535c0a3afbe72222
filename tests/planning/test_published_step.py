"""The plain step of the calibration: small sizes, on this machine's devices."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from crosstrainer_jax.models import llama_family
from crosstrainer_jax.models.decoder import Decoder
from crosstrainer_jax.planning import calibration, published_step, sizes
from crosstrainer_jax.training import sharding

SMALL = sizes.LLAMA_8B | {
  'vocab_size': 64, 'hidden_size': 32, 'intermediate_size': 48, 'num_hidden_layers': 2, 'num_attention_heads': 4,
  'num_key_value_heads': 2,
}  # fmt: skip


@pytest.fixture(scope='module')
def decoder():
  return Decoder(llama_family.decoder_config(SMALL, max_position=16), nnx.Rngs(0))


def plain(queries, keys, values):
  """What the kernel computes: its queries come scaled."""
  heads_last = (jnp.swapaxes(part, 1, 2) for part in (queries, keys, values))
  return jnp.swapaxes(jax.nn.dot_product_attention(*heads_last, is_causal=True, scale=1.0), 1, 2)


def test_its_own_loop_over_blocks_computes_what_the_decoder_computes(decoder):
  tokens = jnp.asarray(np.random.default_rng(0).integers(0, 64, (8, 16)), jnp.int32)
  rows = sharding.batch_sharding(sharding.make_mesh((1, 8, 1)))
  policy = jax.checkpoint_policies.nothing_saveable
  ours = published_step._hidden(decoder, tokens, plain, policy, rows)
  positions = jnp.broadcast_to(jnp.arange(16), tokens.shape)
  theirs, _ = decoder(decoder.embed(tokens), positions, jnp.ones_like(tokens))
  np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_the_loss_in_parts_is_the_loss(decoder, monkeypatch):
  monkeypatch.setattr(published_step, 'CHUNK', 4)
  random = np.random.default_rng(0)
  hidden = jnp.asarray(random.normal(size=(2, 16, 32)), jnp.float32)
  targets = jnp.asarray(random.integers(0, 64, (2, 16)), jnp.int32)
  log_probs = jax.nn.log_softmax(decoder.logits(hidden))
  whole = -jnp.take_along_axis(log_probs, targets[..., None], -1).sum()
  np.testing.assert_allclose(published_step._negative_log_likelihood(decoder, hidden, targets), whole, rtol=1e-5)


def test_the_step_holds_what_was_published():
  """Sequences and bytes on a chip; nothing is compiled."""
  run = dataclasses.replace(calibration.RUNS[0], fields=SMALL)
  mesh = sharding.make_mesh((1, 8, 1))
  program = published_step.train_step(run, mesh)
  # tokens and targets of four sequences a chip
  assert program.arguments['batch'] == 2 * 4 * 4 * calibration.TOKENS
  assert program.arguments['optimiser'] == pytest.approx(2 * program.arguments['weights, trained'], abs=8)
  # by the kernel: 4 * layers * width * pairs, half of them, four and a half times
  pairs = calibration.TOKENS**2 / 2
  assert published_step.kernel_flops(run) == pytest.approx(4.5 * 4 * 2 * 32 * pairs * 4)
