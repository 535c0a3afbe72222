"""Decoders of the Llama family against a record of the reference: parity for a machine without PyTorch."""

import dataclasses
import functools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from crosstrainer_jax.inference.generate import generate
from crosstrainer_jax.models.decoder import Decoder, Visible
from crosstrainer_jax.models.decoder_config import DecoderConfig
from crosstrainer_jax.models.llama_family import ignored, read_config, sources
from crosstrainer_jax.models.rotary import RopeScaling, rotary_angles, rotary_frequencies
from crosstrainer_jax.weights import convert
from crosstrainer_jax.weights.tensors import Tensors
from tests.models import hub_directories

GOLDEN = Path(__file__).parent.parent / 'golden' / 'llama_family.npz'
TOLERANCE = 1e-4
VOCAB = 40
TOKENS = np.random.default_rng(1).integers(0, VOCAB, (2, 11))
# Tokens of the record that greedy decoding writes behind TOKENS.
WRITTEN = 64
SMALL = {'vocab_size': VOCAB, 'rms_norm_eps': 1e-3, 'max_position_embeddings': 128}
ROPE = {
  'rope_type': 'llama3', 'factor': 8.0, 'low_freq_factor': 1.0, 'high_freq_factor': 4.0,
  'original_max_position_embeddings': 32,
}  # fmt: skip
# What `hub_directories.write_llama` is given; the weights follow from its seed.
VARIANTS: dict[str, dict[str, Any]] = {
  'llama': {**SMALL, 'rope_scaling': ROPE, 'rope_theta': 100.0},
  'llama_linear': {**SMALL, 'rope_scaling': {'rope_type': 'linear', 'factor': 4.0}},
  'llama_tied': {**SMALL, 'tie_word_embeddings': True, 'head_dim': 12, 'attention_bias': True, 'mlp_bias': True},
  'mistral': {**SMALL, 'model_type': 'mistral', 'sliding_window': 80},
  'qwen2': {**SMALL, 'model_type': 'qwen2'},
  'qwen3': {**SMALL, 'model_type': 'qwen3', 'head_dim': 12, 'rope_theta': 1e6},
}
ROPE_OURS = RopeScaling('llama3', 8.0, 1.0, 4.0, 32)
# Fields read wrongly, each alone.
WRONG: dict[str, list[dict[str, Any]]] = {
  'llama': [
    {'rope_theta': 10_000.0},
    {'rope_scaling': None},
    {'rope_scaling': RopeScaling('linear', 8.0)},
    *({'rope_scaling': dataclasses.replace(ROPE_OURS, **{name: value})} for name, value in (
      ('factor', 4.0), ('low_freq_factor', 0.5), ('high_freq_factor', 8.0), ('original_max_position', 128))),
    {'num_heads': 8, 'num_kv_heads': 4, 'head_dim': 4},
    {'tie_embeddings': True},
  ],
  'llama_linear': [{'rope_scaling': None}, {'rope_scaling': RopeScaling('linear', 2.0)}],
  'llama_tied': [{'qkv_bias': False}, {'o_bias': False}, {'mlp_bias': False}],
  'mistral': [{'rope_theta': 1e6}],
  'qwen2': [{'qkv_bias': False}, {'rope_theta': 1e6}],
  'qwen3': [{'qk_norm': False}, {'rope_theta': 10_000.0}],
}  # fmt: skip


@pytest.fixture(scope='module')
def read(tmp_path_factory):
  """A function of the variant: config and parameters of its directory."""

  @functools.cache
  def read(name: str) -> tuple[DecoderConfig, nnx.State]:
    directory = hub_directories.write_llama(tmp_path_factory.mktemp(name), **VARIANTS[name])
    config = read_config(directory)
    abstract = nnx.state(nnx.eval_shape(lambda: Decoder(config, nnx.Rngs(0))))
    return config, convert.load(Tensors(directory), sources(config), abstract, ignored(config))

  return read


def merge(config: DecoderConfig, state: nnx.State) -> Decoder:
  """A decoder with those of the parameters that it has."""
  graph, abstract = nnx.split(nnx.eval_shape(lambda: Decoder(config, nnx.Rngs(0))))
  paths = {path for path, _ in nnx.to_flat_state(abstract)}
  kept = [(path, leaf) for path, leaf in nnx.to_flat_state(state) if path in paths]
  return nnx.merge(graph, nnx.from_flat_state(kept), copy=True)


def positions(tokens: jax.Array) -> jax.Array:
  return jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)


def logits(decoder: Decoder, tokens: jax.Array) -> jax.Array:
  return decoder.logits(decoder(decoder.embed(tokens), positions(tokens), jnp.ones_like(tokens))[0])


def layers(decoder: Decoder, tokens: jax.Array) -> jax.Array:
  """What enters each layer, and the normed states behind the last, as `transformers` lists them."""
  config, length = decoder.config, tokens.shape[1]
  frequencies = rotary_frequencies(config.head_dim, config.rope_theta, config.rope_scaling)
  angles, mask = rotary_angles(positions(tokens), frequencies), jnp.tril(jnp.ones((length, length), bool))[None, None]
  visible = Visible(jnp.ones_like(tokens), mask, 'xla', None)
  graph, stacked = nnx.split(decoder.layers)
  states = [decoder.embed(tokens)]
  for number in range(config.num_layers):
    layer = nnx.merge(graph, jax.tree.map(lambda leaf, number=number: leaf[number], stacked))
    states.append(layer(states[-1], angles, visible)[0])
  return jnp.stack([*states[:-1], decoder.final_norm(states[-1])])


@pytest.mark.parametrize('name', VARIANTS)
def test_the_record(name, read):
  """Logits, states of every layer, and the tokens that greedy decoding writes: each is the likeliest after the last."""
  decoder, golden = merge(*read(name)), np.load(GOLDEN)
  written, length = golden[f'{name}/written'], TOKENS.shape[1]
  tokens = jnp.asarray(np.concatenate([TOKENS, written[:, :-1]], axis=1))

  @nnx.jit
  def run(decoder: Decoder, tokens: jax.Array) -> tuple[jax.Array, jax.Array]:
    return logits(decoder, tokens), layers(decoder, tokens[:, :length])

  found, states = run(decoder, tokens)
  expected = golden[f'{name}/logits']
  assert expected.std() > 0.3
  assert len(np.unique(written)) > 8
  np.testing.assert_allclose(found[:, :length], expected, atol=TOLERANCE, rtol=0)
  np.testing.assert_allclose(states, golden[f'{name}/states'], atol=TOLERANCE, rtol=0)
  np.testing.assert_array_equal(found[:, length - 1 :].argmax(-1), written)


def test_the_written_tokens(read):
  decoder = merge(*read('llama'))
  # No end token: an id outside the vocabulary never comes.
  prompt = decoder.embed(jnp.asarray(TOKENS)), jnp.ones(TOKENS.shape, bool)
  tokens, _ = generate(decoder, *prompt, WRITTEN, eos_id=VOCAB, pad_id=0)
  np.testing.assert_array_equal(tokens, np.load(GOLDEN)['llama/written'])


@pytest.mark.parametrize('name', VARIANTS)
def test_a_changed_field_shows(name, read):
  """The comparison with the record would notice: each moves the logits by far more than the tolerance."""
  config, state = read(name)
  expected = np.load(GOLDEN)[f'{name}/logits']
  for change in (*WRONG[name], {'rms_norm_eps': 1e-5}):
    changed = merge(dataclasses.replace(config, **change), state)
    with jax.disable_jit():  # nothing of it is worth compiling
      found = logits(changed, jnp.asarray(TOKENS))
    assert np.abs(found - expected).max() >= 10 * TOLERANCE, change


def test_longer_than_the_window_is_refused(read):
  decoder = merge(*read('mistral'))
  with pytest.raises(ValueError, match='81 tokens is longer than sliding_window = 80'):
    logits(decoder, jnp.zeros((1, 81), jnp.int32))
