"""Random models of the Llama family in the format of the hub, for benchmarks whose two sides read the same files."""

import json
from pathlib import Path
from typing import Any

import jax
from flax import nnx

from crosstrainer_jax.models import llama_family
from crosstrainer_jax.models.decoder import Decoder
from crosstrainer_jax.weights import convert
from crosstrainer_jax.weights.files import write_shards

COMMON: dict[str, Any] = {
  'model_type': 'llama', 'architectures': ['LlamaForCausalLM'], 'max_position_embeddings': 4096, 'rms_norm_eps': 1e-5,
  'rope_theta': 10000.0, 'tie_word_embeddings': False, 'bos_token_id': None, 'eos_token_id': None, 'pad_token_id': None,
}  # fmt: skip
SIZES: dict[str, dict[str, Any]] = {
  # a test, not a measurement
  'tiny': {
    'vocab_size': 256, 'hidden_size': 64, 'intermediate_size': 128, 'num_hidden_layers': 2, 'num_attention_heads': 4,
    'num_key_value_heads': 2,
  },
  '100m': {
    'vocab_size': 16_384, 'hidden_size': 768, 'intermediate_size': 2048, 'num_hidden_layers': 12,
    'num_attention_heads': 12, 'num_key_value_heads': 4,
  },
  '50m': {
    'vocab_size': 16_384, 'hidden_size': 512, 'intermediate_size': 1536, 'num_hidden_layers': 12,
    'num_attention_heads': 8, 'num_key_value_heads': 4,
  },
  # Llama-3.1-8B, for a GPU of 80 GB
  '8b': {
    'vocab_size': 128_256, 'hidden_size': 4096, 'intermediate_size': 14_336, 'num_hidden_layers': 32,
    'num_attention_heads': 32, 'num_key_value_heads': 8,
  },
}  # fmt: skip


def write_model(directory: Path, sizes: dict[str, Any], dtype: str, seed: int) -> int:
  """Writes a random model, its weights in `dtype`; returns the number of its parameters."""
  config = llama_family.decoder_config(sizes, dtype=dtype, param_dtype=dtype)

  @jax.jit
  def make() -> nnx.State:
    return nnx.state(Decoder(config, nnx.Rngs(seed)), nnx.Param)

  state: Any = make()
  # Fresh weights give all tokens about the same probability, so that rounding would choose among them.
  state['lm_head']['kernel'] = state['lm_head']['kernel'].replace(state['lm_head']['kernel'].get_value() * 4.0)
  write_shards(directory, convert.tensors(state, llama_family.sources(config)))
  (directory / 'config.json').write_text(json.dumps(sizes))
  return sum(leaf.size for leaf in jax.tree.leaves(state))
