"""f_v: a compact video transformer over keypoints, one view at a time.

Each frame passes a small convolutional stem to an 8 x 8 grid. K learned maps then attend over the grid; what a map
yields is *where* it looks (the expected position, as in spatial soft-argmax, Levine et al. 2016) and *what* it sees
there. That is one token a frame; a transformer mixes the frames, and the frames of one second are joined into its
feature. With a plain patch transformer of the same cost, training did not get past predicting the mean pose: positions
as numbers are what a network of this size cannot invent from so few clips.

Time is encoded by sinusoids, so that a clip may have any number of seconds; views carry no embedding (paper, section
4.2: views are concatenated).
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
  patch: int = 4
  channels: int = 48
  keypoints: int = 32
  values: int = 4
  width: int = 128
  layers: int = 3
  heads: int = 4
  mlp_ratio: int = 4
  feature_dim: int = 256
  dtype: str = 'float32'

  def __post_init__(self) -> None:
    if self.fps % self.tokens_per_second:
      raise ValueError(f'encoder.fps={self.fps} must be a multiple of tokens_per_second={self.tokens_per_second}')
    if self.image_size % (2 * self.patch):
      raise ValueError(f'encoder.image_size={self.image_size} must be a multiple of 2 x patch = {2 * self.patch}')

  @property
  def frames_per_token(self) -> int:
    return self.fps // self.tokens_per_second

  @property
  def grid(self) -> int:
    """Cells of the feature grid along one side."""
    return self.image_size // (2 * self.patch)


def sinusoids(positions: jax.Array, width: int) -> jax.Array:
  """float[..., width] sinusoidal embedding of positions in seconds; periods run from 0.5 s to 64 s."""
  periods = 0.5 * 128 ** (jnp.arange(width // 2) / max(width // 2 - 1, 1))
  angle = 2 * math.pi * positions[..., None] / periods
  return jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], -1)


def neighbourhoods(x: jax.Array, stride: int) -> jax.Array:
  """3 x 3 neighbourhoods of float[N, H, W, C] as rows float[N * H/stride * W/stride, 9 * C], zero-padded.

  A convolution is then one matrix product, whose gradient XLA's CPU backend computes several times faster.
  """
  _, h, w, c = x.shape
  padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
  parts = [padded[:, i : i + h : stride, j : j + w : stride] for i in range(3) for j in range(3)]
  return jnp.concatenate(parts, -1).reshape(-1, 9 * c)


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
    c, dtype = config, jnp.dtype(config.dtype)

    def linear(inputs: int, outputs: int) -> nnx.Linear:
      return nnx.Linear(inputs, outputs, dtype=dtype, rngs=rngs)

    def norm(width: int) -> nnx.LayerNorm:
      return nnx.LayerNorm(width, dtype=dtype, rngs=rngs)

    half = c.channels // 2
    self.patches, self.patch_norm = linear(3 * c.patch**2, half), norm(half)
    self.reduce = linear(9 * half, c.channels)
    self.norm1, self.conv1 = norm(c.channels), linear(9 * c.channels, c.channels)
    self.norm2, self.conv2 = norm(c.channels), linear(9 * c.channels, c.channels)
    self.grid_norm = norm(c.channels)
    self.maps = linear(c.channels, c.keypoints)
    self.values = linear(c.channels, c.keypoints * c.values)
    self.token = linear(c.keypoints * (2 + c.values), c.width)

    @nnx.split_rngs(splits=config.layers)
    @nnx.vmap(in_axes=(0,), out_axes=0)
    def blocks(rngs: nnx.Rngs) -> Block:
      return Block(config, rngs)

    self.blocks = blocks(rngs)
    self.norm = norm(c.width)
    self.project = linear(c.frames_per_token * c.width, c.feature_dim)

  def __call__(self, frames: jax.Array, valid: jax.Array | None = None) -> jax.Array:
    """Encodes views.

    Args:
      frames: uint8[N, T, H, W, 3]; T a multiple of `frames_per_token`, H = W = `image_size`.
      valid: bool[N, T], False where a frame is padding; None when all are real.

    Returns:
      float32[N, S, D]; a token without any valid frame is zero.
    """
    return self.observe(frames, valid)[0]

  def observe(self, frames: jax.Array, valid: jax.Array | None = None) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Features as `__call__` gives them, and what the maps look at, which pretraining supervises.

    Returns:
      features float32[N, S, D]; logits of the maps float32[N, T, K, cells]; expected positions float32[N, T, K, 2]
      (x, y in image widths from the upper left corner).
    """
    c = self.config
    n, t, h, w, _ = frames.shape
    if (h, w) != (c.image_size, c.image_size) or t % c.frames_per_token:
      raise ValueError(
        f'the encoder takes {c.image_size} x {c.image_size} frames, a multiple of {c.frames_per_token} of them; '
        f'got {frames.shape}'
      )
    cells = self._stem(frames.reshape(n * t, h, w, 3))
    logits, positions, seen = self._look(cells)
    x = jnp.concatenate([4 * positions - 2, seen], -1).reshape(n * t, -1)
    x = self.token(x).reshape(n, t, c.width)
    x = x + sinusoids((jnp.arange(t) + 0.5) / c.fps, c.width).astype(x.dtype)

    @nnx.scan(in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)
    def forward(carry: jax.Array, block: Block) -> jax.Array:
      return block(carry, valid)

    x = self.norm(forward(x, self.blocks))
    if valid is not None:
      x = x * valid[..., None]
    features = self.project(x.reshape(n * t // c.frames_per_token, -1)).reshape(n, -1, c.feature_dim)
    if valid is not None:
      features = features * valid.reshape(n, -1, c.frames_per_token).any(-1)[..., None]
    return (
      features.astype(jnp.float32),
      logits.astype(jnp.float32).reshape(n, t, c.keypoints, -1),
      positions.astype(jnp.float32).reshape(n, t, c.keypoints, 2),
    )

  def _stem(self, frames: jax.Array) -> jax.Array:
    """uint8[F, H, W, 3] -> float[F, cells, channels]."""
    c = self.config
    count, side = len(frames), 2 * c.grid
    x = frames.astype(jnp.dtype(c.dtype)) / 127.5 - 1.0
    x = x.reshape(count, side, c.patch, side, c.patch, 3).transpose(0, 1, 3, 2, 4, 5)
    x = jax.nn.relu(self.patch_norm(self.patches(x.reshape(count * side * side, -1))))
    x = self.reduce(neighbourhoods(x.reshape(count, side, side, -1), 2))
    for norm, conv in ((self.norm1, self.conv1), (self.norm2, self.conv2)):
      around = jax.nn.relu(norm(x)).reshape(count, c.grid, c.grid, -1)
      x = x + conv(neighbourhoods(around, 1))
    return jax.nn.relu(self.grid_norm(x)).reshape(count, c.grid**2, -1)

  def _look(self, cells: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Where the maps look and what they see: logits [F, K, cells], positions [F, K, 2], values [F, K, values]."""
    c = self.config
    count, area, channels = cells.shape
    rows = cells.reshape(-1, channels)
    logits = self.maps(rows).reshape(count, area, c.keypoints).transpose(0, 2, 1)
    weights = jax.nn.softmax(logits, -1)
    steps = (jnp.arange(c.grid) + 0.5) / c.grid
    centres = jnp.stack([jnp.tile(steps, c.grid), jnp.repeat(steps, c.grid)], -1).astype(weights.dtype)
    values = self.values(rows).reshape(count, area, c.keypoints, c.values)
    return logits, weights @ centres, jnp.einsum('fka,fakv->fkv', weights, values)
