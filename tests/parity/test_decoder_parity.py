"""The decoder against `transformers`' Llama on torch: the same weights give the same logits, gradients and texts."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from crosstrainer_jax.inference.generate import generate
from crosstrainer_jax.models.decoder import Decoder, DecoderConfig

pytestmark = pytest.mark.parity
torch = pytest.importorskip('torch')
transformers = pytest.importorskip('transformers')

TOLERANCE = 1e-4
CONFIG = DecoderConfig(
  vocab_size=64, hidden_size=32, intermediate_size=56, num_layers=3, num_heads=4, num_kv_heads=2, head_dim=12,
  rope_theta=500_000.0, rms_norm_eps=1e-3, max_position=128,
)  # fmt: skip
TOKENS = np.random.default_rng(0).integers(0, CONFIG.vocab_size, (3, 17))


def reference(config: DecoderConfig) -> Any:
  """A random Llama of this shape; weights and norms are wide, since small ones hide errors."""
  llama = transformers.LlamaForCausalLM(
    transformers.LlamaConfig(
      vocab_size=config.vocab_size,
      hidden_size=config.hidden_size,
      intermediate_size=config.intermediate_size,
      num_hidden_layers=config.num_layers,
      num_attention_heads=config.num_heads,
      num_key_value_heads=config.num_kv_heads,
      head_dim=config.head_dim,
      rope_parameters={'rope_type': 'default', 'rope_theta': config.rope_theta},
      rms_norm_eps=config.rms_norm_eps,
      tie_word_embeddings=config.tie_embeddings,
      max_position_embeddings=config.max_position,
      attn_implementation='eager',
      bos_token_id=None,
      eos_token_id=None,
    )
  )
  torch.manual_seed(0)
  with torch.no_grad():
    for name, weight in llama.named_parameters():
      weight.normal_(1.0 if 'norm' in name else 0.0, 0.2)
  return llama.eval()


def names(config: DecoderConfig) -> dict[str, str]:
  """Path of each parameter here -> name in the reference, `{}` for the layer's number."""
  layer = 'model.layers.{}.'
  table = {
    'embedding.embedding': 'model.embed_tokens.weight',
    'final_norm.scale': 'model.norm.weight',
    'layers.input_norm.scale': layer + 'input_layernorm.weight',
    'layers.post_attention_norm.scale': layer + 'post_attention_layernorm.weight',
  }
  table |= {f'layers.attention.{name}_proj.kernel': f'{layer}self_attn.{name}_proj.weight' for name in 'qkvo'}
  table |= {f'layers.mlp.{name}_proj.kernel': f'{layer}mlp.{name}_proj.weight' for name in ('gate', 'up', 'down')}
  return table if config.tie_embeddings else table | {'lm_head.kernel': 'lm_head.weight'}


def stacked(path: str, tensors: dict[str, Any], config: DecoderConfig) -> np.ndarray:
  """The tensor that belongs at `path`: layers stacked, kernels transposed."""
  name = names(config)[path]
  parts = [name.format(i) for i in range(config.num_layers)] if '{}' in name else [name]
  arrays = [tensors[part].numpy().T if path.endswith('kernel') else tensors[part].numpy() for part in parts]
  return np.stack(arrays) if '{}' in name else arrays[0]


def pair(**fields: Any) -> tuple[Decoder, Any]:
  config = dataclasses.replace(CONFIG, **fields)
  llama = reference(config)
  decoder = nnx.jit(lambda: Decoder(config, nnx.Rngs(0)))()
  tensors = {name: weight.detach() for name, weight in llama.named_parameters()}
  for path, leaf in nnx.to_flat_state(nnx.state(decoder, nnx.Param)):
    value = stacked('.'.join(path), tensors, config)
    assert value.shape == leaf[...].shape, path
    leaf[...] = jnp.asarray(value)
  return decoder, llama


def logits(decoder: Decoder, tokens: np.ndarray = TOKENS) -> np.ndarray:
  @nnx.jit
  def compute(decoder: Decoder, tokens: jax.Array) -> jax.Array:
    positions = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)
    return decoder.logits(decoder(decoder.embed(tokens), positions, jnp.ones_like(tokens))[0])

  return np.asarray(compute(decoder, jnp.asarray(tokens, jnp.int32)))


def difference(a: np.ndarray, b: Any) -> float:
  return float(np.abs(a - np.asarray(b)).max())


@pytest.mark.parametrize('tie_embeddings', [True, False], ids=['tied', 'untied'])
@pytest.mark.parametrize('num_kv_heads', [1, 2, 4])
def test_logits(tie_embeddings: bool, num_kv_heads: int, record_property: Callable[[str, object], None]) -> None:
  decoder, llama = pair(tie_embeddings=tie_embeddings, num_kv_heads=num_kv_heads)
  with torch.no_grad():
    expected = llama(torch.tensor(TOKENS)).logits.numpy()
  assert expected.std() > 0.3
  found = difference(logits(decoder), expected)
  record_property('max_abs_difference', f'{found:.1e}')
  assert found <= TOLERANCE


def test_a_changed_field_shows() -> None:
  """The comparison would notice a wrong theta, eps or tying: each moves the logits by far more than the tolerance."""
  decoder, _ = pair()
  plain = logits(decoder)
  for change in ({'rope_theta': 10_000.0}, {'rms_norm_eps': 1e-5}):
    graphdef, state = nnx.split(decoder)
    other = nnx.jit(lambda change=change: Decoder(dataclasses.replace(CONFIG, **change), nnx.Rngs(0)))()
    nnx.update(other, state)
    assert difference(logits(other), plain) > 10 * TOLERANCE, change


def test_padded_prompts() -> None:
  decoder, llama = pair()
  mask = np.arange(17)[None] >= np.array([[0], [5], [11]])
  positions = np.maximum(np.cumsum(mask, 1) - 1, 0)
  with torch.no_grad():
    expected = llama(
      torch.tensor(TOKENS), attention_mask=torch.tensor(mask.astype(int)), position_ids=torch.tensor(positions)
    ).logits.numpy()
  hidden, _ = decoder(decoder.embed(jnp.asarray(TOKENS)), jnp.asarray(positions), jnp.asarray(mask, jnp.int32))
  assert difference(np.asarray(decoder.logits(hidden))[mask], expected[mask]) <= TOLERANCE


@pytest.mark.parametrize('tie_embeddings', [True, False], ids=['tied', 'untied'])
def test_gradients(tie_embeddings: bool) -> None:
  decoder, llama = pair(tie_embeddings=tie_embeddings)
  llama(torch.tensor(TOKENS), labels=torch.tensor(TOKENS)).loss.backward()
  expected = {name: weight.grad for name, weight in llama.named_parameters()}

  @nnx.jit
  def gradient(decoder: Decoder, tokens: jax.Array) -> nnx.State:
    def loss(decoder: Decoder) -> jax.Array:
      positions = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)
      hidden, _ = decoder(decoder.embed(tokens), positions, jnp.ones_like(tokens))
      log_probs = jax.nn.log_softmax(decoder.logits(hidden[:, :-1]))
      return -jnp.mean(jnp.take_along_axis(log_probs, tokens[:, 1:, None], axis=-1))

    return nnx.grad(loss)(decoder)

  for path, leaf in nnx.to_flat_state(gradient(decoder, jnp.asarray(TOKENS, jnp.int32))):
    wanted = stacked('.'.join(path), expected, decoder.config)
    assert np.abs(wanted).max() > 100 * TOLERANCE, path
    assert difference(np.asarray(leaf[...]), wanted) <= TOLERANCE, path


@pytest.mark.parametrize('tie_embeddings', [True, False], ids=['tied', 'untied'])
def test_greedy_text(tie_embeddings: bool) -> None:
  """64 tokens, from prompts of unequal length, given as tokens there and as embeddings here."""
  decoder, llama = pair(tie_embeddings=tie_embeddings)
  mask = np.arange(17)[None] >= np.array([[0], [5], [11]])
  with torch.no_grad():
    expected = llama.generate(
      torch.tensor(TOKENS), attention_mask=torch.tensor(mask.astype(int)), max_new_tokens=64, do_sample=False,
      pad_token_id=0,
    ).numpy()[:, 17:]  # fmt: skip
  # No end token: an id outside the vocabulary never comes.
  tokens, _ = generate(
    decoder, decoder.embed(jnp.asarray(TOKENS)), jnp.asarray(mask), 64, eos_id=CONFIG.vocab_size, pad_id=0
  )
  np.testing.assert_array_equal(tokens, expected)
  assert len(np.unique(expected)) > 8
