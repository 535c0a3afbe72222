"""The transformer encoder that CLIP, SigLIP, V-JEPA 2 and BERT share: stacked blocks, scanned.

Pre-norm, x + Attention(norm x) then x + MLP(norm x), or, as in BERT, post-norm, norm(x + Attention x) then
norm(x + MLP x). What comes before the blocks and after them belongs to the family.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from crosstrainer_jax.models.lora import LoRAConfig, LoRALinear
from crosstrainer_jax.weights.convert import LINEAR, Source

# By the names that Hugging Face configs use. An activation that is not here is refused, never replaced.
ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
  'gelu': functools.partial(jax.nn.gelu, approximate=False),
  'gelu_pytorch_tanh': functools.partial(jax.nn.gelu, approximate=True),
  'gelu_new': functools.partial(jax.nn.gelu, approximate=True),
  'quick_gelu': lambda x: x * jax.nn.sigmoid(1.702 * x),
  'relu': jax.nn.relu,
  'silu': jax.nn.silu,
}


@dataclasses.dataclass(frozen=True)
class TransformerConfig:
  """Sizes of the stack.

  Raises:
    ValueError: an activation that is not known, or heads that do not divide the width.
  """

  layers: int
  width: int
  heads: int
  mlp: int
  activation: str
  eps: float
  post_norm: bool = False
  qkv_bias: bool = True
  dtype: str = 'float32'  # of the computation; norms and softmax are float32 in any case
  param_dtype: str = 'float32'

  def __post_init__(self) -> None:
    if self.activation not in ACTIVATIONS:
      raise ValueError(f'activation {self.activation!r} is not known; known: {", ".join(ACTIVATIONS)}')
    if self.width % self.heads:
      raise ValueError(f'a width of {self.width} does not divide into {self.heads} heads')


def layer_norm(width: int, eps: float, config: Any, rngs: nnx.Rngs) -> nnx.LayerNorm:
  """LayerNorm with scale and bias; `config` has `dtype` and `param_dtype`."""
  return nnx.LayerNorm(
    width,
    epsilon=eps,
    dtype=jnp.dtype(config.dtype),
    param_dtype=jnp.dtype(config.param_dtype),
    # the variance as E[(x - mean)²]: the faster E[x²] - mean² cancels where the mean is large
    use_fast_variance=False,
    scale_metadata={'logical_axes': ('embed',)},
    bias_metadata={'logical_axes': ('embed',)},
    rngs=rngs,
  )


def linear(
  inputs: int,
  outputs: int,
  config: Any,
  rngs: nnx.Rngs,
  axes: tuple[str | None, str | None] = (None, None),
  bias: bool = True,
  lora: LoRAConfig | None = None,
) -> nnx.Linear:
  """A linear layer on the logical `axes`, adapted where there is `lora`; `config` has `dtype` and `param_dtype`."""
  settings: dict[str, Any] = {
    'use_bias': bias,
    'dtype': jnp.dtype(config.dtype),
    'param_dtype': jnp.dtype(config.param_dtype),
    'kernel_metadata': {'logical_axes': axes},
    'bias_metadata': {'logical_axes': axes[1:]},
    'rngs': rngs,
  }
  return nnx.Linear(inputs, outputs, **settings) if lora is None else LoRALinear(inputs, outputs, lora=lora, **settings)


class Attention(nnx.Module):
  """Multi-head self-attention; without `qkv_bias` only the last projection has a bias."""

  def __init__(self, config: TransformerConfig, rngs: nnx.Rngs) -> None:
    self.heads = config.heads
    width, bias = config.width, config.qkv_bias
    self.q_proj = linear(width, width, config, rngs, ('embed', 'heads'), bias)
    self.k_proj = linear(width, width, config, rngs, ('embed', 'heads'), bias)
    self.v_proj = linear(width, width, config, rngs, ('embed', 'heads'), bias)
    self.out_proj = linear(width, width, config, rngs, ('heads', 'embed'))

  def __call__(
    self, x: jax.Array, mask: jax.Array | None = None, rotate: Callable[[jax.Array], jax.Array] | None = None
  ) -> jax.Array:
    """float[B, L, D] of float[B, L, D].

    Args:
      mask: bool, broadcast to [B, heads, L, L]: whether a query sees a key.
      rotate: turns queries and keys, float[B, L, heads, head_dim], by their positions.
    """

    def heads(y: jax.Array) -> jax.Array:
      return y.reshape(*y.shape[:2], self.heads, -1)

    queries, keys, values = heads(self.q_proj(x)), heads(self.k_proj(x)), heads(self.v_proj(x))
    if rotate is not None:
      queries, keys = rotate(queries), rotate(keys)
    mixed = jax.nn.dot_product_attention(queries, keys, values, mask=mask)
    return self.out_proj(mixed.reshape(x.shape))


class Block(nnx.Module):
  """Attention and MLP, each with its norm and its residual."""

  def __init__(self, config: TransformerConfig, rngs: nnx.Rngs) -> None:
    self.post_norm, self.activation = config.post_norm, config.activation
    self.norm1 = layer_norm(config.width, config.eps, config, rngs)
    self.attention = Attention(config, rngs)
    self.norm2 = layer_norm(config.width, config.eps, config, rngs)
    self.fc1 = linear(config.width, config.mlp, config, rngs, ('embed', 'mlp'))
    self.fc2 = linear(config.mlp, config.width, config, rngs, ('mlp', 'embed'))

  def __call__(
    self, x: jax.Array, mask: jax.Array | None = None, rotate: Callable[[jax.Array], jax.Array] | None = None
  ) -> jax.Array:
    if self.post_norm:
      x = self.norm1(x + self.attention(x, mask, rotate))
      return self.norm2(x + self._mlp(x))
    x = x + self.attention(self.norm1(x), mask, rotate)
    return x + self._mlp(self.norm2(x))

  def _mlp(self, x: jax.Array) -> jax.Array:
    return self.fc2(ACTIVATIONS[self.activation](self.fc1(x)))


class Transformer(nnx.Module):
  """All blocks; every parameter is one tensor with the layers as its first axis."""

  def __init__(self, config: TransformerConfig, rngs: nnx.Rngs) -> None:
    @nnx.split_rngs(splits=config.layers)
    @nnx.vmap(in_axes=0, out_axes=0)
    def stack(rngs: nnx.Rngs) -> Block:
      return Block(config, rngs)

    self.blocks = stack(rngs)

  def __call__(
    self, x: jax.Array, mask: jax.Array | None = None, rotate: Callable[[jax.Array], jax.Array] | None = None
  ) -> tuple[jax.Array, jax.Array]:
    """The last states float[B, L, D], and those after every block float[layers, B, L, D] (free where unused)."""

    @nnx.scan(in_axes=(nnx.Carry, 0), out_axes=(nnx.Carry, 0))
    def forward(x: jax.Array, block: Block) -> tuple[jax.Array, jax.Array]:
      x = block(x, mask, rotate)
      return x, x

    return forward(x, self.blocks)


def block_sources(ours: str, names: dict[str, str]) -> dict[str, Source]:
  """Sources of a Transformer's parameters.

  Args:
    ours: path of the Transformer, for example 'vision/transformer'.
    names: module of a block here -> its name there with `{}` for the layer's number; a path ending in `norm1` or
      `norm2` is a norm, everything else a linear layer. Example: 'attention/q_proj': 'layers.{}.self_attn.q_proj'.
  """
  sources = {}
  for path, name in names.items():
    norm = path in ('norm1', 'norm2')
    sources[f'{ours}/blocks/{path}/{"scale" if norm else "kernel"}'] = Source(f'{name}.weight', () if norm else LINEAR)
    sources[f'{ours}/blocks/{path}/bias'] = Source(f'{name}.bias')
  return sources
