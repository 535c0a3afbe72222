"""Every family of L against `transformers` on torch, through a directory of the hub's form.

The same weights give the same logits, hidden states, gradients and texts.
"""

import functools
import json
from collections.abc import Callable
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
from crosstrainer_jax.models.rotary import rotary_angles, rotary_frequencies
from crosstrainer_jax.weights import convert
from crosstrainer_jax.weights.tensors import Tensors

pytestmark = pytest.mark.parity
torch = pytest.importorskip('torch')
transformers = pytest.importorskip('transformers')

TOLERANCE = 1e-4
VOCAB = 64
TOKENS = np.random.default_rng(0).integers(0, VOCAB, (3, 17))
LLAMA3 = {
  # a base so small that some of the few frequencies are kept, some stretched, and some lie between
  'rope_type': 'llama3', 'rope_theta': 100.0, 'factor': 8.0, 'low_freq_factor': 1.0, 'high_freq_factor': 4.0,
  'original_max_position_embeddings': 32,
}  # fmt: skip
SIZES = {
  'vocab_size': VOCAB, 'hidden_size': 32, 'intermediate_size': 56, 'num_hidden_layers': 3, 'num_attention_heads': 4,
  'num_key_value_heads': 2, 'max_position_embeddings': 128, 'bos_token_id': None, 'eos_token_id': None,
  'rms_norm_eps': 1e-3,
}  # fmt: skip
# name -> (class in transformers, what differs from SIZES)
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
  'llama2': ('Llama', {'num_key_value_heads': 4}),
  'llama3.1': ('Llama', {'rope_parameters': LLAMA3}),
  'llama3.2 tied, own head_dim': ('Llama', {'rope_parameters': LLAMA3, 'tie_word_embeddings': True, 'head_dim': 12}),
  'llama with biases, one kv head': ('Llama', {'attention_bias': True, 'mlp_bias': True, 'num_key_value_heads': 1}),
  'llama, linear rope': ('Llama', {'rope_parameters': {'rope_type': 'linear', 'rope_theta': 1e4, 'factor': 4.0}}),
  'mistral': ('Mistral', {'sliding_window': 96, 'head_dim': 12}),
  'qwen2.5': ('Qwen2', {}),
  'qwen2.5 tied': ('Qwen2', {'tie_word_embeddings': True}),
  'qwen3': ('Qwen3', {'head_dim': 12, 'rope_parameters': {'rope_type': 'default', 'rope_theta': 1e6}}),
  'qwen3 tied, biases': ('Qwen3', {'head_dim': 16, 'tie_word_embeddings': True, 'attention_bias': True}),
}
EVERY = pytest.mark.parametrize('name', VARIANTS)
# One of each family, for what takes longer.
FAMILIES = pytest.mark.parametrize('name', ['llama2', 'llama3.2 tied, own head_dim', 'mistral', 'qwen2.5', 'qwen3'])


@pytest.fixture(scope='session')
def reference(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Any, Path]]:
  """(the reference, its directory) of a variant: random weights and norms are wide, since small ones hide errors."""
  root = tmp_path_factory.mktemp('hub')

  @functools.cache
  def make(name: str) -> tuple[Any, Path]:
    family, changes = VARIANTS[name]
    config = getattr(transformers, f'{family}Config')(**{**SIZES, **changes}, attn_implementation='eager')
    torch.manual_seed(0)
    model = getattr(transformers, f'{family}ForCausalLM')(config)
    with torch.no_grad():
      for path, weight in model.named_parameters():
        weight.normal_(1.0 if 'norm' in path else 0.0, 0.2)
    directory = root / name.replace(' ', '_')
    model.save_pretrained(directory, max_shard_size='20KB')
    assert (directory / 'model.safetensors.index.json').is_file()
    return model.eval(), directory

  return make


@functools.cache
def read(directory: Path) -> tuple[DecoderConfig, nnx.GraphDef, nnx.State]:
  config = read_config(directory)
  graph, abstract = nnx.split(nnx.eval_shape(lambda: Decoder(config, nnx.Rngs(0))))
  return config, graph, convert.load(Tensors(directory), sources(config), abstract, ignored(config))


def load(directory: Path) -> Decoder:
  """The decoder of a directory."""
  _, graph, state = read(directory)
  return nnx.merge(graph, state, copy=True)


@nnx.jit
def logits(decoder: Decoder, tokens: jax.Array) -> jax.Array:
  positions = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)
  return decoder.logits(decoder(decoder.embed(tokens), positions, jnp.ones_like(tokens))[0])


def difference(a: Any, b: Any) -> float:
  return float(np.abs(np.asarray(a) - np.asarray(b)).max())


@EVERY
def test_logits_and_every_layer(name: str, reference: Callable, record_property: Callable) -> None:
  model, directory = reference(name)
  decoder = load(directory)
  with torch.no_grad():
    expected = model(torch.tensor(TOKENS), output_hidden_states=True)
  assert expected.logits.std() > 0.3
  found = difference(logits(decoder, jnp.asarray(TOKENS)), expected.logits)
  config: DecoderConfig = decoder.config
  x = decoder.embed(jnp.asarray(TOKENS))
  positions = jnp.broadcast_to(jnp.arange(17), TOKENS.shape)
  angles = rotary_angles(positions, rotary_frequencies(config.head_dim, config.rope_theta, config.rope_scaling))
  visible = Visible(jnp.ones_like(positions), jnp.tril(jnp.ones((17, 17), bool))[None, None], 'xla', None)
  graph, state = nnx.split(decoder.layers)
  for number in range(config.num_layers):
    found = max(found, difference(x, expected.hidden_states[number]))
    x, _ = nnx.merge(graph, jax.tree.map(lambda leaf, number=number: leaf[number], state))(x, angles, visible)
  found = max(found, difference(decoder.final_norm(x), expected.hidden_states[-1]))
  record_property('max_abs_difference', f'{found:.1e}')
  assert found <= TOLERANCE


def test_a_window_is_exact_until_it_is_full_and_refused_beyond(reference: Callable, tmp_path: Path) -> None:
  _, directory = reference('mistral')
  for file in directory.iterdir():
    (tmp_path / file.name).symlink_to(file)
  fields = json.loads((directory / 'config.json').read_text()) | {'sliding_window': 17}
  (tmp_path / 'config.json').unlink()
  (tmp_path / 'config.json').write_text(json.dumps(fields))
  model = transformers.MistralForCausalLM.from_pretrained(tmp_path, attn_implementation='eager').eval()
  decoder = load(tmp_path)
  with torch.no_grad():
    expected = model(torch.tensor(TOKENS)).logits
  assert difference(logits(decoder, jnp.asarray(TOKENS)), expected) <= TOLERANCE
  longer = jnp.asarray(np.concatenate([TOKENS, TOKENS[:, :1]], axis=1))
  with pytest.raises(ValueError, match='18 tokens is longer than sliding_window = 17'):
    logits(decoder, longer)


def test_padded_prompts(reference: Callable) -> None:
  model, directory = reference('llama3.1')
  decoder = load(directory)
  mask = np.arange(17)[None] >= np.array([[0], [5], [11]])
  positions = np.maximum(np.cumsum(mask, 1) - 1, 0)
  with torch.no_grad():
    expected = model(
      torch.tensor(TOKENS), attention_mask=torch.tensor(mask.astype(int)), position_ids=torch.tensor(positions)
    ).logits.numpy()
  hidden, _ = decoder(decoder.embed(jnp.asarray(TOKENS)), jnp.asarray(positions), jnp.asarray(mask, jnp.int32))
  assert difference(np.asarray(decoder.logits(hidden))[mask], expected[mask]) <= TOLERANCE


@FAMILIES
def test_gradients(name: str, reference: Callable, record_property: Callable) -> None:
  model, directory = reference(name)
  decoder = load(directory)
  model.zero_grad()
  model(torch.tensor(TOKENS), labels=torch.tensor(TOKENS)).loss.backward()
  expected = {path: weight.grad.numpy() for path, weight in model.named_parameters()}

  @nnx.jit
  def gradient(decoder: Decoder, tokens: jax.Array) -> nnx.State:
    def loss(decoder: Decoder) -> jax.Array:
      positions = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)
      hidden, _ = decoder(decoder.embed(tokens), positions, jnp.ones_like(tokens))
      log_probs = jax.nn.log_softmax(decoder.logits(hidden[:, :-1]))
      return -jnp.mean(jnp.take_along_axis(log_probs, tokens[:, 1:, None], axis=-1))

    return nnx.grad(loss)(decoder)

  found = 0.0
  table = sources(decoder.config)
  for path, leaf in convert.flat(gradient(decoder, jnp.asarray(TOKENS))).items():
    members = [expected[member] for member in table[path].names(leaf.shape[0])]
    wanted = np.stack(members) if '{}' in table[path].name else members[0]
    wanted = wanted.swapaxes(-1, -2) if path.endswith('kernel') else wanted
    # The scores of a query are all moved alike by what the keys' bias adds before rotation: its gradient is small.
    assert np.abs(wanted).max() > (1 if 'k_proj/bias' in path else 20) * TOLERANCE, path
    found = max(found, difference(leaf[...], wanted))
  record_property('max_abs_difference', f'{found:.1e}')
  assert found <= TOLERANCE


@FAMILIES
def test_greedy_text(name: str, reference: Callable) -> None:
  """64 tokens, from prompts of unequal length, given as tokens there and as embeddings here."""
  model, directory = reference(name)
  decoder = load(directory)
  mask = np.arange(17)[None] >= np.array([[0], [5], [11]])
  with torch.no_grad():
    expected = model.generate(
      torch.tensor(TOKENS), attention_mask=torch.tensor(mask.astype(int)), max_new_tokens=64, do_sample=False,
      pad_token_id=0,
    ).numpy()[:, 17:]  # fmt: skip
  # No end token: an id outside the vocabulary never comes.
  tokens, _ = generate(decoder, decoder.embed(jnp.asarray(TOKENS)), jnp.asarray(mask), 64, eos_id=VOCAB, pad_id=0)
  np.testing.assert_array_equal(tokens, expected)
  assert len(np.unique(expected)) > 8


@pytest.mark.parametrize('dtype', ['bfloat16', 'float16'])
def test_half_precision_files(dtype: str, reference: Callable, tmp_path: Path) -> None:
  model, _ = reference('llama3.1')
  half = getattr(torch, dtype)
  transformers.LlamaForCausalLM(model.config).to(half).save_pretrained(tmp_path)
  rounded = transformers.LlamaForCausalLM.from_pretrained(tmp_path, dtype=torch.float32, attn_implementation='eager')
  with torch.no_grad():
    expected = rounded(torch.tensor(TOKENS)).logits
  # the file says its type; parameters are float32 here, as the config of the decoder says
  assert difference(logits(load(tmp_path), jnp.asarray(TOKENS)), expected) <= TOLERANCE
