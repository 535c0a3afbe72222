"""L, the language model: a scanned decoder of the Llama family (RMSNorm, RoPE, grouped-query attention, SwiGLU).

Llama, Mistral, Qwen2 and Qwen3 are values of its config (`decoder_config.py`); `llama_family.py` reads them from a
directory.

It takes embeddings, not tokens, since video tokens stand among the words (paper section 3.2), and gives hidden states,
not logits, since logits are wanted at few positions only:

    x = decoder.embed(tokens)                                # float[B, L, D], to be mixed with video tokens
    hidden, _ = decoder(x, positions, segment_ids)
    logits = decoder.logits(hidden[:, -n:])                  # float32[B, n, vocab]

Attention rule, the same with and without cache: a token sees the tokens at or before its own slot that have its own
segment id; segment 0 is padding and is seen by nobody. Slots give the order and `positions` the rotary angle, so
padding may stand left, right or in between, and rows may be packed.

Parameters carry the logical axes `LOGICAL_AXES`; all layers share one stacked tensor per parameter with `layers` as
its first axis. Rotary halves follow the layout of Hugging Face, so that a checkpoint's weights need transposing only.
"""

import dataclasses
import operator
from collections.abc import Sequence
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from flax import nnx
from jax.ad_checkpoint import checkpoint_name
from jax.sharding import Mesh

from crosstrainer_jax.models import attention
from crosstrainer_jax.models.decoder_config import REMAT_POLICIES, DecoderConfig
from crosstrainer_jax.models.lora import LoRALinear, apply
from crosstrainer_jax.models.matmul import matmul
from crosstrainer_jax.models.quantized import QuantizedLinear, QuantizedLoRALinear
from crosstrainer_jax.models.rotary import rotary_angles, rotary_frequencies, rotate

# `heads` and `kv_heads` name a projection's flattened width, heads x head_dim: a rule must split it into whole heads.
LOGICAL_AXES = ('layers', 'vocab', 'embed', 'heads', 'kv_heads', 'mlp', 'long')


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class KVCache:
  """Keys and values of the slots written so far, and who may see them.

  Attributes:
    keys: dtype[layers, B, S, kv_heads, head_dim], rotated.
    values: dtype[layers, B, S, kv_heads, head_dim].
    segment_ids: int32[B, S]; 0 where the slot is empty or holds padding.
    index: int32[], the next free slot.
  """

  keys: jax.Array
  values: jax.Array
  segment_ids: jax.Array
  index: jax.Array

  def grow(self, slots: int) -> 'KVCache':
    """The same cache with `slots` more free slots at its end."""
    wide = [(0, 0), (0, 0), (0, slots), (0, 0), (0, 0)]
    keys, values = jnp.pad(self.keys, wide), jnp.pad(self.values, wide)
    return KVCache(keys, values, jnp.pad(self.segment_ids, wide[1:3]), self.index)

  def repeat(self, times: int) -> 'KVCache':
    """The cache of a batch in which every row stands `times` times in succession."""
    keys, values = jnp.repeat(self.keys, times, axis=1), jnp.repeat(self.values, times, axis=1)
    return KVCache(keys, values, jnp.repeat(self.segment_ids, times, axis=0), self.index)


class Normed(Protocol):
  """The config of a module with norms."""

  @property
  def rms_norm_eps(self) -> float: ...

  @property
  def param_dtype(self) -> str: ...


class RMSNorm(nnx.Module):
  """x / sqrt(mean(x²) + eps) * scale, computed in float32 (Zhang & Sennrich 2019)."""

  def __init__(self, config: Normed, width: int, axis: str | None = 'embed') -> None:
    self.eps = config.rms_norm_eps
    self.scale = nnx.Param(jnp.ones(width, config.param_dtype), logical_axes=(axis,))

  def __call__(self, x: jax.Array) -> jax.Array:
    x32 = x.astype(jnp.float32)
    x32 *= jax.lax.rsqrt(jnp.mean(jnp.square(x32), axis=-1, keepdims=True) + self.eps)
    return x32.astype(x.dtype) * self.scale[...].astype(x.dtype)


def _dot_general(x: jax.Array, kernel: jax.Array, dimensions: Any, **_: Any) -> jax.Array:
  return matmul(x, kernel)


def _linear(
  config: DecoderConfig,
  name: str,
  inputs: int,
  outputs: int,
  axes: tuple[str, str],
  rngs: nnx.Rngs,
  gain: float = 1.0,
  bias: bool = False,
) -> nnx.Linear:
  """The linear layer `name` of a block: quantised, and with an adapter, where the config wants it."""
  settings: dict[str, Any] = {
    'use_bias': bias,
    'dtype': jnp.dtype(config.dtype),
    'param_dtype': jnp.dtype(config.param_dtype),
    'kernel_init': jax.nn.initializers.variance_scaling(gain, 'fan_in', 'normal'),
    'kernel_metadata': {'logical_axes': axes},
    'bias_metadata': {'logical_axes': axes[1:]},
    'dot_general': _dot_general,
    'rngs': rngs,
  }
  adapted = config.lora is not None and config.lora.adapts(name)
  kind: type[nnx.Linear] = LoRALinear if adapted else nnx.Linear
  if adapted:
    settings['lora'] = config.lora
  if config.quantize:
    kind = QuantizedLoRALinear if adapted else QuantizedLinear
    settings |= {'kind': config.quantize, 'tile': config.quantize_tile}
  return kind(inputs, outputs, **settings)


@dataclasses.dataclass(frozen=True)
class Visible:
  """Who may attend to whom, made once for all layers.

  Attributes:
    segments: int32[B, L], of the queries.
    mask: bool[B, 1, L, S], for the kernels that take one.
    kernel, mesh: for `attention.attend`.
  """

  segments: jax.Array
  mask: jax.Array | None
  kernel: str
  mesh: Mesh | None


class Attention(nnx.Module):
  """Grouped-query attention with rotary positions (Ainslie et al. 2023)."""

  def __init__(self, config: DecoderConfig, rngs: nnx.Rngs) -> None:
    self.config = config
    embed, width, kv_width = (
      config.hidden_size,
      config.num_heads * config.head_dim,
      config.num_kv_heads * config.head_dim,
    )

    def linear(name: str, inputs: int, outputs: int, axes: tuple[str, str], **settings: Any) -> nnx.Linear:
      return _linear(config, f'attention/{name}', inputs, outputs, axes, rngs, **settings)

    self.q_proj = linear('q_proj', embed, width, ('embed', 'heads'), bias=config.qkv_bias)
    self.k_proj = linear('k_proj', embed, kv_width, ('embed', 'kv_heads'), bias=config.qkv_bias)
    self.v_proj = linear('v_proj', embed, kv_width, ('embed', 'kv_heads'), bias=config.qkv_bias)
    gain = 0.5 / config.num_layers
    self.o_proj = linear('o_proj', width, embed, ('heads', 'embed'), gain=gain, bias=config.o_bias)
    if config.qk_norm:
      self.q_norm = RMSNorm(config, config.head_dim, None)
      self.k_norm = RMSNorm(config, config.head_dim, None)

  def __call__(
    self,
    x: jax.Array,
    angles: tuple[jax.Array, jax.Array],
    visible: Visible,
    cache: KVCache | None,
    layer: jax.Array,
    deterministic: bool,
  ) -> tuple[jax.Array, KVCache | None]:
    def heads(linear: nnx.Linear) -> jax.Array:
      return apply(linear, x, deterministic).reshape(*x.shape[:2], -1, self.config.head_dim)

    queries, keys, values = heads(self.q_proj), heads(self.k_proj), heads(self.v_proj)
    if self.config.qk_norm:
      queries, keys = self.q_norm(queries), self.k_norm(keys)
    queries, keys = rotate(queries, angles), rotate(keys, angles)
    if cache is not None:
      start = (layer, 0, cache.index, 0, 0)
      cache = dataclasses.replace(
        cache,
        keys=jax.lax.dynamic_update_slice(cache.keys, keys[None].astype(cache.keys.dtype), start),
        values=jax.lax.dynamic_update_slice(cache.values, values[None].astype(cache.values.dtype), start),
      )
      keys, values = cache.keys[layer], cache.values[layer]
    seen = visible.segments, visible.mask, visible.kernel, visible.mesh
    mixed = checkpoint_name(attention.attend(queries, keys, values, *seen), 'mixed')
    return apply(self.o_proj, mixed.reshape(*x.shape[:2], -1), deterministic), cache


class SwiGLU(nnx.Module):
  """down(silu(gate(x)) * up(x)) (Shazeer 2020)."""

  def __init__(self, config: DecoderConfig, rngs: nnx.Rngs) -> None:
    embed, width, bias = config.hidden_size, config.intermediate_size, config.mlp_bias
    gain = 0.5 / config.num_layers
    self.gate_proj = _linear(config, 'mlp/gate_proj', embed, width, ('embed', 'mlp'), rngs, bias=bias)
    self.up_proj = _linear(config, 'mlp/up_proj', embed, width, ('embed', 'mlp'), rngs, bias=bias)
    self.down_proj = _linear(config, 'mlp/down_proj', width, embed, ('mlp', 'embed'), rngs, gain, bias)

  def __call__(self, x: jax.Array, deterministic: bool) -> jax.Array:
    gate, up = (apply(linear, x, deterministic) for linear in (self.gate_proj, self.up_proj))
    return apply(self.down_proj, jax.nn.silu(gate) * up, deterministic)


class DecoderLayer(nnx.Module):
  """One pre-norm block: attention, then MLP, each added to the residual."""

  def __init__(self, config: DecoderConfig, rngs: nnx.Rngs) -> None:
    self.input_norm = RMSNorm(config, config.hidden_size)
    self.attention = Attention(config, rngs)
    self.post_attention_norm = RMSNorm(config, config.hidden_size)
    self.mlp = SwiGLU(config, rngs)
    # Without dropout no random stream is made, so that the state holds parameters only.
    self.dropout = nnx.Dropout(config.dropout, rngs=rngs if config.dropout else None)

  def __call__(
    self,
    x: jax.Array,
    angles: tuple[jax.Array, jax.Array],
    visible: Visible,
    deterministic: bool = True,
    cache: KVCache | None = None,
    layer: jax.Array | int = 0,
  ) -> tuple[jax.Array, KVCache | None]:
    mixed, cache = self.attention(self.input_norm(x), angles, visible, cache, jnp.asarray(layer), deterministic)
    x = x + self.dropout(mixed, deterministic=deterministic)
    return x + self.dropout(self.mlp(self.post_attention_norm(x), deterministic), deterministic=deterministic), cache


class Decoder(nnx.Module):
  """The decoder; see the module's docstring for its use.

  Args:
    config: shape and numerics.
    rngs: `params`, and `dropout` where dropout is above 0: every layer then draws from a stream of its own.
    mesh: what it runs on, for kernels that the compiler cannot split over it.
  """

  def __init__(self, config: DecoderConfig, rngs: nnx.Rngs, mesh: Mesh | None = None) -> None:
    self.config, self.mesh = config, mesh
    self.embedding = nnx.Embed(
      config.vocab_size,
      config.hidden_size,
      dtype=jnp.dtype(config.dtype),
      param_dtype=jnp.dtype(config.param_dtype),
      embedding_init=jax.nn.initializers.normal(config.hidden_size**-0.5),
      embedding_metadata={'logical_axes': ('vocab', 'embed')},
      rngs=rngs,
    )

    @nnx.split_rngs(splits=config.num_layers)
    @nnx.vmap(in_axes=0, out_axes=0)
    def stack(rngs: nnx.Rngs) -> DecoderLayer:
      return DecoderLayer(config, rngs)

    self.layers = stack(rngs)
    self.final_norm = RMSNorm(config, config.hidden_size)
    if not config.tie_embeddings:
      head = dataclasses.replace(config, lora=None, quantize='')
      self.lm_head = _linear(head, 'lm_head', config.hidden_size, config.vocab_size, ('embed', 'vocab'), rngs)

  def embed(self, tokens: jax.Array) -> jax.Array:
    """Word embeddings dtype[B, L, D] of `tokens` int32[B, L]."""
    return self.embedding(tokens)

  def init_cache(self, batch: int, length: int) -> KVCache:
    """An empty cache for `batch` rows of at most `length` slots."""
    config = self.config
    shape = (config.num_layers, batch, length, config.num_kv_heads, config.head_dim)
    empty = jnp.zeros(shape, config.dtype)
    return KVCache(empty, empty, jnp.zeros((batch, length), jnp.int32), jnp.zeros((), jnp.int32))

  def __call__(
    self,
    embeddings: jax.Array,
    positions: jax.Array,
    segment_ids: jax.Array,
    deterministic: bool = True,
    cache: KVCache | None = None,
    layers: Sequence[DecoderLayer] | None = None,
  ) -> tuple[jax.Array, KVCache | None]:
    """Hidden states after the last norm; with a cache, of a continuation of what it holds.

    Args:
      embeddings: float[B, L, D].
      positions: int32[B, L], rotary position of each token within its own segment; or int32[B, L, 3], its places in
        time, rows and columns, where the config has `mrope_section`.
      segment_ids: int32[B, L], 0 for padding, whose states mean nothing; a token attends only within its own segment.
      deterministic: False switches dropout on.
      cache: what was computed before; `L` further slots are written. It must have room for them.
      layers: those of the stack one by one, from `split_layers`, to be computed in their place.

    Returns:
      dtype[B, L, D] and the new cache (None without one).

    Raises:
      ValueError: the sequence, or the cache, is longer than `max_position` or the sliding window.
    """
    config = self.config
    length = embeddings.shape[1] if cache is None else cache.segment_ids.shape[1]
    if length > config.max_position:
      raise ValueError(f'decoder: a sequence of {length} tokens is longer than max_position = {config.max_position}')
    if 0 < config.sliding_window < length:
      raise ValueError(
        f'decoder: a sequence of {length} tokens is longer than sliding_window = {config.sliding_window}, '
        'and attention within a window is not supported'
      )
    if cache is None:
      kernel = attention.choose_kernel(config.attention, length, config.head_dim, self.mesh)
      mask = None if kernel == 'splash' else attention.mask_of(segment_ids, segment_ids)
    else:
      # One form for a whole prompt and for the single token behind it, whatever stands in the cache.
      kernel = 'xla'
      seen = jax.lax.dynamic_update_slice(cache.segment_ids, segment_ids, (0, cache.index))
      mask = attention.mask_of(segment_ids, seen, cache.index)
      cache = dataclasses.replace(cache, segment_ids=seen)
    visible = Visible(segment_ids, mask, kernel, self.mesh)
    frequencies = rotary_frequencies(config.head_dim, config.rope_theta, config.rope_scaling)
    angles = rotary_angles(positions, frequencies, config.mrope_section)

    def block(layer: DecoderLayer, carry: Any, number: jax.Array | int) -> Any:
      x, cache = carry
      return layer(x, angles, visible, deterministic, cache, number)

    if config.remat != 'none':
      # Inside a scan nothing can be merged across iterations, and the barrier against it would cost speed; layers that
      # are written out need it.
      block = nnx.remat(block, prevent_cse=config.unroll, policy=REMAT_POLICIES[config.remat])
    carry = embeddings.astype(config.dtype), cache
    if layers is None:
      scan = nnx.scan(block, in_axes=(0, nnx.Carry, 0), out_axes=nnx.Carry, unroll=config.unroll or 1)
      carry = scan(self.layers, carry, jnp.arange(config.num_layers))
    else:
      for number, layer in enumerate(layers):
        carry = block(layer, carry, number)
    x, cache = carry
    if cache is not None:
      cache = dataclasses.replace(cache, index=cache.index + embeddings.shape[1])
    return self.final_norm(x), cache

  def split_layers(self) -> list[DecoderLayer]:
    """The layers of the stack, each with a copy of its own parameters.

    In a loop over the stack XLA copies the weights of a layer before it multiplies with them, on CPUs and GPUs at
    least. That is lost among the products of many tokens, but a decoding step is little else than the reading of
    weights: it takes twice as long (docs/pretrained.md has the figures).
    """
    graph, state = nnx.split(self.layers)
    return [nnx.merge(graph, jax.tree.map(operator.itemgetter(i), state)) for i in range(self.config.num_layers)]

  def logits(self, hidden: jax.Array) -> jax.Array:
    """Unnormalised log-probabilities float32[..., vocab] of `hidden` float[..., D]."""
    dtype = jnp.dtype(self.config.dtype)
    return jnp.matmul(hidden.astype(dtype), self.head(), preferred_element_type=jnp.float32)

  def head(self) -> jax.Array:
    """What makes logits of hidden states: dtype[D, vocab]."""
    table = self.embedding.embedding[...].T if self.config.tie_embeddings else self.lm_head.kernel[...]
    return table.astype(self.config.dtype)
