"""Decoders of the Llama family against stored logits of the reference: parity for a machine without PyTorch."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from crosstrainer_jax.models.decoder import Decoder
from crosstrainer_jax.models.llama_family import ignored, read_config, sources
from crosstrainer_jax.weights import convert
from crosstrainer_jax.weights.tensors import Tensors
from tests.models import hub_directories

GOLDEN = Path(__file__).parent.parent / 'golden' / 'llama_family.npz'
TOKENS = np.random.default_rng(1).integers(0, 40, (2, 11))
SMALL = {'vocab_size': 40, 'rms_norm_eps': 1e-3, 'max_position_embeddings': 64}
ROPE = {
  'rope_type': 'llama3', 'factor': 8.0, 'low_freq_factor': 1.0, 'high_freq_factor': 4.0,
  'original_max_position_embeddings': 32,
}  # fmt: skip
# What `hub_directories.write_llama` is given; the weights follow from its seed.
VARIANTS = {
  'llama': {**SMALL, 'rope_scaling': ROPE, 'rope_theta': 100.0},
  'llama_tied': {**SMALL, 'tie_word_embeddings': True, 'head_dim': 12, 'attention_bias': True, 'mlp_bias': True},
  'mistral': {**SMALL, 'model_type': 'mistral', 'sliding_window': 32},
  'qwen2': {**SMALL, 'model_type': 'qwen2'},
  'qwen3': {**SMALL, 'model_type': 'qwen3', 'head_dim': 12, 'rope_theta': 1e6},
}


@pytest.mark.parametrize('name', VARIANTS)
def test_logits_are_those_of_the_reference(name, tmp_path):
  directory = hub_directories.write_llama(tmp_path, **VARIANTS[name])
  config = read_config(directory)
  graph, abstract = nnx.split(nnx.eval_shape(lambda: Decoder(config, nnx.Rngs(0))))
  decoder = nnx.merge(graph, convert.load(Tensors(directory), sources(config), abstract, ignored(config)))

  @nnx.jit
  def logits(decoder: Decoder, tokens: jax.Array) -> jax.Array:
    positions = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)
    return decoder.logits(decoder(decoder.embed(tokens), positions, jnp.ones_like(tokens))[0])

  expected = np.load(GOLDEN)[name]
  assert expected.std() > 0.3
  np.testing.assert_allclose(logits(decoder, jnp.asarray(TOKENS)), expected, atol=1e-4, rtol=0)
