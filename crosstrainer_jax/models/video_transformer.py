"""f_v: a compact video transformer, one view at a time.

Each view is cut into tubelets, embedded, merged 2 x 2 and passed, together with one *second token* per second of video,
through a transformer. A second's feature is its second token beside the mean of its patch tokens: the first can attend
anywhere, the second keeps the width from being a bottleneck. Time is encoded by sinusoids, so that a clip may have any
number of seconds; views carry no embedding (paper, section 4.2: views are concatenated).
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
from flax import nnx


@dataclasses.dataclass(frozen=True)
class VideoTransformerConfig:
  """Sizes of the encoder. `fps` and `image_size` are what the weights were trained for."""

  image_size: int = 64
  fps: int = 4
  tokens_per_second: int = 1
  tubelet_frames: int = 2
  patch: int = 8
  patch_width: int = 64
  width: int = 128
  layers: int = 3
  heads: int = 4
  mlp_ratio: int = 2
  dtype: str = 'float32'

  def __post_init__(self) -> None:
    if self.fps % (self.tubelet_frames * self.tokens_per_second):
      raise ValueError(
        f'encoder.fps={self.fps} must be a multiple of tubelet_frames x tokens_per_second = '
        f'{self.tubelet_frames} x {self.tokens_per_second}'
      )
    if self.image_size % (2 * self.patch):
      raise ValueError(f'encoder.image_size={self.image_size} must be a multiple of 2 x patch = {2 * self.patch}')

  @property
  def feature_dim(self) -> int:
    """D: width of a feature."""
    return 2 * self.width

  @property
  def frames_per_token(self) -> int:
    return self.fps // self.tokens_per_second


def sinusoids(positions: jax.Array, width: int) -> jax.Array:
  """float[..., width] sinusoidal embedding of positions in seconds; periods run from 0.5 s to 64 s."""
  periods = 0.5 * 128 ** (jnp.arange(width // 2) / max(width // 2 - 1, 1))
  angle = 2 * math.pi * positions[..., None] / periods
  return jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], -1)


class Block(nnx.Module):
  """Pre-norm transformer block: x + Attention(norm x), then x + MLP(norm x), with squared ReLU.

  Linear layers see float[N * L, D]: with a third dimension XLA's CPU backend transposes whole activations in the
  backward pass (2.4 x slower).
  """

  def __init__(self, config: VideoTransformerConfig, rngs: nnx.Rngs):
    width, dtype = config.width, jnp.dtype(config.dtype)
    self.heads = config.heads
    self.norm1 = nnx.LayerNorm(width, dtype=dtype, rngs=rngs)
    self.qkv = nnx.Linear(width, 3 * width, dtype=dtype, rngs=rngs)
    self.out = nnx.Linear(width, width, dtype=dtype, rngs=rngs)
    self.norm2 = nnx.LayerNorm(width, dtype=dtype, rngs=rngs)
    self.up = nnx.Linear(width, config.mlp_ratio * width, dtype=dtype, rngs=rngs)
    self.down = nnx.Linear(config.mlp_ratio * width, width, dtype=dtype, rngs=rngs)

  def __call__(self, x: jax.Array, mask: jax.Array | None) -> jax.Array:
    batch, length, width = x.shape
    rows = x.reshape(-1, width)
    qkv = self.qkv(self.norm1(rows)).reshape(batch, length, 3, self.heads, width // self.heads)
    q, k, v = qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2]
    attended = jax.nn.dot_product_attention(q, k, v, mask=None if mask is None else mask[:, None, None, :])
    rows = rows + self.out(attended.reshape(-1, width))
    rows = rows + self.down(jnp.square(jax.nn.relu(self.up(self.norm2(rows)))))
    return rows.reshape(x.shape)


class VideoTransformer(nnx.Module):
  """uint8[N, T, H, W, 3] -> float32[N, S, D], with S = T / fps * tokens_per_second."""

  def __init__(self, config: VideoTransformerConfig, rngs: nnx.Rngs):
    self.config = config
    dtype = jnp.dtype(config.dtype)
    grid = config.image_size // config.patch
    self.embed = nnx.Linear(config.tubelet_frames * config.patch**2 * 3, config.patch_width, dtype=dtype, rngs=rngs)
    self.patch_norm = nnx.LayerNorm(config.patch_width, dtype=dtype, rngs=rngs)
    self.patch_up = nnx.Linear(config.patch_width, 2 * config.patch_width, dtype=dtype, rngs=rngs)
    self.patch_down = nnx.Linear(2 * config.patch_width, config.patch_width, dtype=dtype, rngs=rngs)
    self.merge = nnx.Linear(4 * config.patch_width, config.width, dtype=dtype, rngs=rngs)
    self.position = nnx.Param(0.02 * jax.random.normal(rngs.params(), ((grid // 2) ** 2, config.width)))
    self.second = nnx.Param(0.02 * jax.random.normal(rngs.params(), (config.width,)))

    @nnx.split_rngs(splits=config.layers)
    @nnx.vmap(in_axes=(0,), out_axes=0)
    def blocks(rngs: nnx.Rngs) -> Block:
      return Block(config, rngs)

    self.blocks = blocks(rngs)
    self.norm = nnx.LayerNorm(config.width, rngs=rngs)
    self.project = nnx.Linear(config.feature_dim, config.feature_dim, rngs=rngs)

  def __call__(self, frames: jax.Array, valid: jax.Array | None = None) -> jax.Array:
    """Encodes views.

    Args:
      frames: uint8[N, T, H, W, 3]; T a multiple of `frames_per_token`, H = W = `image_size`.
      valid: bool[N, T], False where a frame is padding; None when all are real.

    Returns:
      float32[N, S, D]; a token without any valid frame is zero.
    """
    c = self.config
    n, t, h, w, _ = frames.shape
    if (h, w) != (c.image_size, c.image_size) or t % c.frames_per_token:
      raise ValueError(
        f'the encoder takes {c.image_size} x {c.image_size} frames, a multiple of {c.frames_per_token} of them; '
        f'got {frames.shape}'
      )
    steps, grid = t // c.tubelet_frames, h // c.patch
    x = frames.astype(jnp.dtype(c.dtype)) / 127.5 - 1.0
    x = x.reshape(n, steps, c.tubelet_frames, grid, c.patch, grid, c.patch, 3)
    x = x.transpose(0, 1, 3, 5, 2, 4, 6, 7).reshape(n * steps * grid * grid, -1)
    x = self.embed(x)
    x = x + self.patch_down(jnp.square(jax.nn.relu(self.patch_up(self.patch_norm(x)))))
    x = x.reshape(n, steps, grid // 2, 2, grid // 2, 2, -1).transpose(0, 1, 2, 4, 3, 5, 6)
    x = self.merge(x.reshape(n * steps * (grid // 2) ** 2, -1)).reshape(n, steps, (grid // 2) ** 2, -1)

    seconds = t // c.frames_per_token
    step_time = (jnp.arange(steps) + 0.5) * c.tubelet_frames / c.fps
    token_time = (jnp.arange(seconds) + 0.5) / c.tokens_per_second
    x = x + self.position[...] + sinusoids(step_time, c.width)[:, None]
    readout = jnp.broadcast_to(self.second[...] + sinusoids(token_time, c.width), (n, seconds, c.width)).astype(x.dtype)
    patches = x.shape[2]
    tokens = jnp.concatenate([readout, x.reshape(n, steps * patches, c.width)], 1)

    mask, step_valid = None, None
    if valid is not None:
      step_valid = valid.reshape(n, steps, c.tubelet_frames).any(-1)
      mask = jnp.concatenate([jnp.ones((n, seconds), bool), jnp.repeat(step_valid, patches, axis=1)], 1)

    @nnx.scan(in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)
    def forward(carry: jax.Array, block: Block) -> jax.Array:
      return block(carry, mask)

    tokens = self.norm(forward(tokens, self.blocks))
    second, patch = tokens[:, :seconds], tokens[:, seconds:].reshape(n, seconds, -1, c.width)
    if step_valid is None:
      return self.project(jnp.concatenate([second, patch.mean(2)], -1)).astype(jnp.float32)
    weight = jnp.repeat(step_valid, patches, axis=1).reshape(n, seconds, -1, 1)
    pooled = (patch * weight).sum(2) / jnp.maximum(weight.sum(2), 1)
    features = self.project(jnp.concatenate([second, pooled], -1)).astype(jnp.float32)
    return features * weight.any(2)
