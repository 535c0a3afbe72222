"""The vision tower of Qwen2.5-VL (Bai et al. 2025, arXiv:2502.13923, section 2.1.1), up to the layers of its merger.

A picture, or two frames of a video, is a grid of patches. In most blocks a patch sees its own window of 8 x 8 patches,
in a few its whole picture, and never another time step: how frames follow one another is left to L. Two by two
neighbouring patches make one token of L, through two linear layers, which here are f_m (`mapper.Mapper`).

Patches lie in slots, window after window, and what a window at the border lacks is padding. So attention within windows
is a reshape, pictures of any shape share a batch, and shapes are few. `windows` says which patch lies where.
"""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from crosstrainer_jax.models.decoder import RMSNorm
from crosstrainer_jax.models.lora import LoRAConfig, apply
from crosstrainer_jax.models.rotary import rotary_angles, rotary_frequencies, rotate
from crosstrainer_jax.models.transformer import ACTIVATIONS, linear
from crosstrainer_jax.weights.convert import LINEAR, Source

# In a config of the tower, of which nobody has seen another.
ROPE_THETA = 10_000.0


@dataclasses.dataclass(frozen=True)
class QwenVisionConfig:
  """Sizes of the tower, by the names of `vision_config`; the defaults are those of the 3B and 7B models.

  Attributes:
    fullatt_block_indexes: blocks in which a patch sees its whole picture.
    out_hidden_size: of L.
    tokens_per_second: temporal positions of a second, for L.
    dtype: of the computation; norms, rotary angles and softmax are float32 in any case.
    lora: adapters, where `targets` names 'visual/attention/qkv', 'visual/mlp/gate_proj' and the like.
    remat: the backward pass keeps nothing of a block but its input.

  Raises:
    ValueError: a field that is not possible, or not supported.
  """

  depth: int = 32
  hidden_size: int = 1280
  intermediate_size: int = 3420
  num_heads: int = 16
  hidden_act: str = 'silu'
  in_channels: int = 3
  patch_size: int = 14
  temporal_patch_size: int = 2
  spatial_merge_size: int = 2
  window_size: int = 112
  fullatt_block_indexes: tuple[int, ...] = (7, 15, 23, 31)
  out_hidden_size: int = 3584
  tokens_per_second: int = 2
  dtype: str = 'float32'
  param_dtype: str = 'float32'
  lora: LoRAConfig | None = None
  remat: bool = False

  def __post_init__(self) -> None:
    if self.hidden_act not in ACTIVATIONS:
      raise ValueError(f'hidden_act={self.hidden_act!r} is not supported; supported: {", ".join(ACTIVATIONS)}')
    if self.hidden_size % (4 * self.num_heads):
      raise ValueError(f'num_heads={self.num_heads} does not divide hidden_size={self.hidden_size} into whole quarters')
    if self.window_side < 1:
      raise ValueError(
        f'window_size={self.window_size} has no room for {self.spatial_merge_size} patches of {self.patch_size} pixels'
      )
    if wrong := [block for block in self.fullatt_block_indexes if not 0 <= block < self.depth]:
      raise ValueError(f'fullatt_block_indexes names blocks {wrong}, of {self.depth}')

  @property
  def head_dim(self) -> int:
    return self.hidden_size // self.num_heads

  @property
  def rms_norm_eps(self) -> float:
    return 1e-6

  @property
  def patch_dim(self) -> int:
    """Numbers of a patch: channels, frames, rows, columns."""
    return self.in_channels * self.temporal_patch_size * self.patch_size**2

  @property
  def window_side(self) -> int:
    """Merged tokens along a side of a window."""
    return self.window_size // self.spatial_merge_size // self.patch_size

  @property
  def merged(self) -> int:
    """Patches of a merged token."""
    return self.spatial_merge_size**2

  @property
  def feature_dim(self) -> int:
    """Width of what the tower makes of a merged token."""
    return self.merged * self.hidden_size

  @property
  def unit(self) -> int:
    """Pixels along a side of a merged token: what the sides of a picture are multiples of."""
    return self.patch_size * self.spatial_merge_size


class Windows(NamedTuple):
  """Which patch of a grid lies in which slot.

  Attributes:
    patches: int32[P], the patch in each slot, counted row after row; 0 where it is padding.
    positions: int32[P, 2], its row and column.
    valid: bool[P], False in padding.
    tokens: int32[N], for every merged token, row after row, where it stands among the P / merged of all slots.
  """

  patches: np.ndarray
  positions: np.ndarray
  valid: np.ndarray
  tokens: np.ndarray


@functools.lru_cache(maxsize=256)
def windows(rows: int, columns: int, config: QwenVisionConfig) -> Windows:
  """Slots for a picture of `rows` x `columns` patches, a whole number of windows.

  Raises:
    ValueError: patches that cannot be merged.
  """
  merge, side = config.spatial_merge_size, config.window_side
  if rows < 1 or columns < 1 or rows % merge or columns % merge:
    raise ValueError(f'a grid of {rows} x {columns} patches cannot be merged {merge} by {merge}')
  high, wide = rows // merge, columns // merge
  down, across = -(-high // side), -(-wide // side)
  grid = np.full((down * side, across * side), -1)
  grid[:high, :wide] = np.arange(high * wide).reshape(high, wide)
  tokens = grid.reshape(down, side, across, side).transpose(0, 2, 1, 3).reshape(-1)
  real = tokens >= 0
  corner = np.stack(np.divmod(np.where(real, tokens, 0), wide), -1) * merge
  inside = np.stack(np.divmod(np.arange(merge**2), merge), -1)
  valid = np.repeat(real, merge**2)
  positions = np.where(valid[:, None], (corner[:, None] + inside).reshape(-1, 2), 0)
  places = np.flatnonzero(real)[np.argsort(tokens[real])]
  return Windows(
    (positions @ [columns, 1]).astype(np.int32), positions.astype(np.int32), valid, places.astype(np.int32)
  )


class Sight(NamedTuple):
  """Who sees whom in a block.

  Attributes:
    angles: of the rotary positions, from `rotary_angles`.
    valid: bool[N, P].
    whole: bool[], whether all of a picture, or a window.
  """

  angles: tuple[jax.Array, jax.Array]
  valid: jax.Array
  whole: jax.Array


class Attention(nnx.Module):
  """Multi-head attention within windows, or within whole pictures."""

  def __init__(self, config: QwenVisionConfig, rngs: nnx.Rngs) -> None:
    self.config = config
    width = config.hidden_size
    # One matrix for queries, keys and values, as in the checkpoint, since an adapter of it has one A for the three.
    self.qkv = _linear(config, 'attention/qkv', width, 3 * width, ('embed', None), rngs)
    self.proj = _linear(config, 'attention/proj', width, width, (None, 'embed'), rngs)

  def __call__(self, x: jax.Array, sight: Sight, deterministic: bool) -> jax.Array:
    config = self.config
    batch, slots, _ = x.shape
    queries, keys, values = jnp.split(
      apply(self.qkv, x, deterministic).reshape(batch, slots, -1, config.head_dim), 3, 2
    )
    queries, keys = rotate(queries, sight.angles), rotate(keys, sight.angles)
    size = config.merged * config.window_side**2

    def seen(size: int, queries: jax.Array, keys: jax.Array, values: jax.Array) -> jax.Array:
      """Attention within stretches of `size` slots."""
      q, k, v = (array.reshape(-1, size, *array.shape[2:]) for array in (queries, keys, values))
      return jax.nn.dot_product_attention(q, k, v, mask=sight.valid.reshape(-1, 1, 1, size)).reshape(queries.shape)

    mixed = jax.lax.cond(
      sight.whole, functools.partial(seen, slots), functools.partial(seen, size), queries, keys, values
    )
    return apply(self.proj, mixed.reshape(x.shape), deterministic)


class Mlp(nnx.Module):
  """down(act(gate(x)) * up(x)), with biases."""

  def __init__(self, config: QwenVisionConfig, rngs: nnx.Rngs) -> None:
    self.activation = config.hidden_act
    width, inner = config.hidden_size, config.intermediate_size
    self.gate_proj = _linear(config, 'mlp/gate_proj', width, inner, ('embed', None), rngs)
    self.up_proj = _linear(config, 'mlp/up_proj', width, inner, ('embed', None), rngs)
    self.down_proj = _linear(config, 'mlp/down_proj', inner, width, (None, 'embed'), rngs)

  def __call__(self, x: jax.Array, deterministic: bool) -> jax.Array:
    gate, up = (apply(layer, x, deterministic) for layer in (self.gate_proj, self.up_proj))
    return apply(self.down_proj, ACTIVATIONS[self.activation](gate) * up, deterministic)


class Block(nnx.Module):
  """Attention, then the MLP, each behind a norm and added to what was."""

  def __init__(self, config: QwenVisionConfig, rngs: nnx.Rngs) -> None:
    self.norm1, self.norm2 = RMSNorm(config, config.hidden_size), RMSNorm(config, config.hidden_size)
    self.attention, self.mlp = Attention(config, rngs), Mlp(config, rngs)

  def __call__(self, x: jax.Array, sight: Sight, deterministic: bool) -> jax.Array:
    x = x + self.attention(self.norm1(x), sight, deterministic)
    return x + self.mlp(self.norm2(x), deterministic)


class QwenVision(nnx.Module):
  """The tower: patches to features, one for each merged token."""

  def __init__(self, config: QwenVisionConfig, rngs: nnx.Rngs) -> None:
    self.config = config
    shape = (config.in_channels, config.temporal_patch_size, config.patch_size, config.patch_size, config.hidden_size)
    initial = jax.nn.initializers.lecun_normal(in_axis=(0, 1, 2, 3), out_axis=4)
    # A convolution whose steps are as long as its kernel: a product with each patch.
    self.patch_kernel = nnx.Param(
      initial(rngs.params(), shape, jnp.dtype(config.param_dtype)), logical_axes=(None, None, None, None, 'embed')
    )

    @nnx.split_rngs(splits=config.depth)
    @nnx.vmap(in_axes=0, out_axes=0)
    def stack(rngs: nnx.Rngs) -> Block:
      return Block(config, rngs)

    self.blocks = stack(rngs)
    self.norm = RMSNorm(config, config.hidden_size)

  def __call__(
    self, patches: jax.Array, positions: jax.Array, valid: jax.Array, deterministic: bool = True
  ) -> jax.Array:
    """Features of the merged tokens in their slots; what is padding means nothing.

    Args:
      patches: float[N, P, patch_dim], of N pictures or time steps, normalised, in the slots of `windows`.
      positions: int32[N, P, 2], or int32[1, P, 2] where all have one shape.
      valid: bool[N, P], or bool[1, P].
      deterministic: False switches the dropout of adapters on.

    Returns:
      dtype[N, P / merged, feature_dim].

    Raises:
      ValueError: P is no whole number of windows.
    """
    config = self.config
    count, slots, _ = patches.shape
    if slots % (config.merged * config.window_side**2):
      raise ValueError(f'{slots} slots are no whole number of windows of {config.merged * config.window_side**2}')
    kernel = self.patch_kernel[...].astype(config.dtype).reshape(config.patch_dim, -1)
    x = patches.astype(config.dtype) @ kernel
    half = rotary_frequencies(config.head_dim // 2, ROPE_THETA)
    angles = rotary_angles(positions, np.concatenate([half, half]), (len(half), len(half)))
    valid = jnp.broadcast_to(valid, (count, slots))

    def block(layer: Block, x: jax.Array, whole: jax.Array) -> jax.Array:
      return layer(x, Sight(angles, valid, whole), deterministic)

    whole = np.isin(np.arange(config.depth), config.fullatt_block_indexes)
    body: Any = nnx.remat(block, prevent_cse=False) if config.remat else block
    x = nnx.scan(body, in_axes=(0, nnx.Carry, 0), out_axes=nnx.Carry)(self.blocks, x, jnp.asarray(whole))
    # The four patches of a token are neighbours.
    return self.norm(x).reshape(count, slots // config.merged, config.feature_dim)


def _linear(
  config: QwenVisionConfig, name: str, inputs: int, outputs: int, axes: tuple[str | None, str | None], rngs: nnx.Rngs
) -> nnx.Linear:
  adapted = config.lora is not None and config.lora.adapts(f'visual/{name}')
  return linear(inputs, outputs, config, rngs, axes, lora=config.lora if adapted else None)


def linears() -> dict[str, str]:
  """Path of every linear layer of a block here -> its name there."""
  names = {'attention/qkv': 'attn.qkv', 'attention/proj': 'attn.proj'}
  return names | {f'mlp/{name}_proj': f'mlp.{name}_proj' for name in ('gate', 'up', 'down')}


def sources(prefix: str = 'visual.') -> dict[str, Source]:
  """Where each parameter of a `QwenVision` comes from; adapters are not among them.

  Args:
    prefix: what the names of the tower begin with.
  """
  block = f'{prefix}blocks.{{}}.'
  found = {
    'patch_kernel': Source(f'{prefix}patch_embed.proj.weight', (1, 2, 3, 4, 0)),
    'norm/scale': Source(f'{prefix}merger.ln_q.weight'),
  }
  found |= {f'blocks/{name}/scale': Source(f'{block}{name}.weight') for name in ('norm1', 'norm2')}
  for path, name in linears().items():
    found[f'blocks/{path}/kernel'] = Source(f'{block}{name}.weight', LINEAR)
    found[f'blocks/{path}/bias'] = Source(f'{block}{name}.bias')
  return found
