"""Adapters: nothing at first, scaled, dropped out in training only, found by pattern, counted from shapes."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from crosstrainer_jax.models.decoder import Decoder
from crosstrainer_jax.models.decoder_config import DecoderConfig
from crosstrainer_jax.models.lora import LoRAConfig, LoRALinear, merged

TINY = DecoderConfig(vocab_size=24, hidden_size=16, intermediate_size=24, num_layers=2, num_heads=2, num_kv_heads=1,
                     head_dim=8)  # fmt: skip
LORA = LoRAConfig(rank=4, alpha=8.0, dropout=0.5)
LLAMA_8B = DecoderConfig(
  vocab_size=128_256, hidden_size=4096, intermediate_size=14_336, num_layers=32, num_heads=32, num_kv_heads=8,
  head_dim=128, tie_embeddings=False, max_position=8192,
)  # fmt: skip


def layer(**changes) -> LoRALinear:
  config = dataclasses.replace(LORA, **changes)
  return LoRALinear(6, 5, lora=config, rngs=nnx.Rngs(params=0, dropout=1), use_bias=False)


def test_a_fresh_adapter_changes_nothing():
  x = jax.random.normal(jax.random.key(0), (3, 6))
  np.testing.assert_array_equal(layer()(x), x @ layer().kernel[...])


def test_the_adapter_is_scaled_by_alpha_over_rank():
  linear, x = layer(dropout=0.0), jax.random.normal(jax.random.key(0), (3, 6))
  linear.lora_b[...] = jax.random.normal(jax.random.key(1), (4, 5))
  expected = x @ linear.kernel[...] + 2.0 * (x @ linear.lora_a[...] @ linear.lora_b[...])
  np.testing.assert_allclose(linear(x), expected, rtol=1e-5)
  alone = merged(linear.kernel[...], linear.lora_a[...], linear.lora_b[...], linear.scale)
  np.testing.assert_allclose(x @ alone, expected, rtol=1e-5)


def test_dropout_is_for_training_and_for_the_adapter_alone():
  linear, x = layer(), jnp.ones((20_000, 6))
  linear.lora_b[...] = jnp.ones((4, 5))
  still = linear(x)
  np.testing.assert_array_equal(still, linear(x))
  wet = linear(x, deterministic=False)
  assert float(jnp.abs(wet - still).max()) > 0.1
  # on average the input is what it was
  np.testing.assert_allclose(wet.mean(0), still.mean(0), atol=0.1)
  without = wet - x @ linear.kernel[...]
  assert len(np.unique(np.round(np.asarray(without[:, 0]), 4))) > 10
  assert nnx.state(layer(dropout=0.0), nnx.RngState) == nnx.State({})


@pytest.mark.parametrize(
  ('targets', 'adapted'),
  [
    ('_proj$', {'q_proj', 'k_proj', 'v_proj', 'o_proj', 'gate_proj', 'up_proj', 'down_proj'}),
    ('attention/', {'q_proj', 'k_proj', 'v_proj', 'o_proj'}),
    ('(q|v)_proj', {'q_proj', 'v_proj'}),
    ('^mlp/up_proj$', {'up_proj'}),
  ],
)
def test_targets_are_found_by_pattern(targets, adapted):
  config = dataclasses.replace(TINY, lora=dataclasses.replace(LORA, targets=targets))
  state = nnx.state(nnx.eval_shape(lambda: Decoder(config, nnx.Rngs(0))), nnx.LoRAParam)
  assert {path[-2] for path, _ in nnx.to_flat_state(state)} == adapted


def test_every_layer_has_an_adapter_and_a_stream_of_its_own():
  config = dataclasses.replace(TINY, lora=LORA)
  decoder = nnx.jit(lambda: Decoder(config, nnx.Rngs(params=0, dropout=1)))()
  a = decoder.layers.attention.q_proj.lora_a[...]
  assert a.shape == (2, 16, 4)
  assert float(jnp.abs(a[0] - a[1]).max()) > 1e-2
  keys = jax.random.key_data(decoder.layers.attention.q_proj.dropout.rngs.key[...])
  assert len(np.unique(np.asarray(keys), axis=0)) == 2


def test_adapters_of_a_half_precision_model_are_in_single_precision():
  config = dataclasses.replace(TINY, lora=LORA, dtype='bfloat16', param_dtype='bfloat16')
  decoder = nnx.jit(lambda: Decoder(config, nnx.Rngs(0)))()
  assert decoder.layers.mlp.up_proj.kernel.dtype == jnp.bfloat16
  assert decoder.layers.mlp.up_proj.lora_a.dtype == jnp.float32
  x = decoder.embed(jnp.ones((1, 3), jnp.int32))
  assert decoder(x, jnp.arange(3)[None], jnp.ones((1, 3), jnp.int32))[0].dtype == jnp.bfloat16


def test_counts_of_the_paper_from_shapes_alone():
  """Llama-3.1-8B with r = 128 on every linear layer but the head: nothing is allocated."""
  config = dataclasses.replace(LLAMA_8B, lora=LoRAConfig())
  state = nnx.state(nnx.eval_shape(lambda: Decoder(config, nnx.Rngs(0))), nnx.Param)
  adapters, base = nnx.split_state(state, nnx.LoRAParam, ...)
  assert sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(base)) == 8_030_261_248
  assert sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(adapters)) == 335_544_320


@pytest.mark.parametrize(('field', 'value'), [('rank', 0), ('dropout', 1.0), ('dropout', -0.1), ('targets', '(')])
def test_impossible_settings_are_refused_by_name(field, value):
  with pytest.raises(ValueError, match=f'lora: {field}'):
    dataclasses.replace(LORA, **{field: value})


def test_the_head_is_never_adapted():
  with pytest.raises(ValueError, match='names the head'):
    dataclasses.replace(TINY, lora=dataclasses.replace(LORA, targets='proj|head'))
