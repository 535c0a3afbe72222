"""The video tower of EgoVLPv2 (Pramanick et al. 2023, arXiv:2307.05463) as a video encoder f_v.

A ViT-B/16 whose blocks attend over time and then over space, as in Frozen in Time (Bain et al. 2021, arXiv:2104.00650).
CLS, after the last norm, passes the three layers that lead to the space shared with text. What fuses video with text in
the last blocks is not needed for video alone and is not here.
"""

import dataclasses
import math
import re
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx

from crosstrainer_jax.models.preprocessing import Preprocessing
from crosstrainer_jax.models.transformer import ACTIVATIONS, layer_norm, linear
from crosstrainer_jax.weights.convert import LINEAR, Source
from crosstrainer_jax.weights.tensors import Tensors

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
RESAMPLES = ('bicubic', 'bilinear')

# What the names of a checkpoint begin with: saved by the trainer or bare, from several devices or from one.
PREFIXES = ('state_dict.module.', 'state_dict.', 'module.', '')

PROJECTION = ('vid_proj.0.weight', 'vid_proj.2.bias', 'vid_proj.2.weight', 'vid_proj.4.bias', 'vid_proj.4.weight')

# Names without their prefix.
IGNORED = (
  # the text tower, and what joins both towers
  r'(?!video_model\.|vid_proj\.)',
  # fusion with text within the blocks
  r'video_model\.blocks\.\d+\..*(crossattn|cross_attn|i2t|t2i|itm|mlm|alpha)',
  # of the image classifier that training began with
  r'video_model\.(head|fc|fc_norm|pre_logits)\.',
  # not needed with projection=False; `from_checkpoint` refuses a projection of another form
  r'vid_proj\.',
)


@dataclasses.dataclass(frozen=True)
class EgoVLPv2Config:
  """Sizes of the tower, and how it is used. A token is a second, seen in `num_frames` frames.

  Attributes:
    max_frames: frames that the checkpoint has temporal embeddings for.
    num_frames: frames in a second; the first `num_frames` temporal embeddings are used.
    projection: whether features are the projected ones, of `projection_dim`; otherwise CLS, of `width`.
    resample: how frames are resized, 'bicubic' or 'bilinear'. The public code evaluates with bilinear, in two steps:
      shortest edge 256 and crop 256, then 224.
    dtype: of the computation; norms and softmax are float32 in any case.

  Raises:
    ValueError: sizes that do not divide, more frames than there are temporal embeddings, or an unknown `resample`.
  """

  layers: int = 12
  width: int = 768
  heads: int = 12
  mlp: int = 3072
  patch: int = 16
  image_size: int = 224
  max_frames: int = 4
  num_frames: int = 4
  projection: bool = True
  projection_dim: int = 4096
  eps: float = 1e-5
  resample: str = 'bicubic'
  dtype: str = 'float32'
  param_dtype: str = 'float32'

  def __post_init__(self) -> None:
    if self.heads < 1 or self.width % self.heads:
      raise ValueError(f'encoder.heads={self.heads} does not divide a width of {self.width}')
    if self.image_size % self.patch:
      raise ValueError(f'encoder.image_size={self.image_size} must be a multiple of patch={self.patch}')
    if not 1 <= self.num_frames <= self.max_frames:
      raise ValueError(
        f'encoder.num_frames={self.num_frames}: there are temporal embeddings for 1 to {self.max_frames} frames'
      )
    if self.resample not in RESAMPLES:
      raise ValueError(f'encoder.resample={self.resample!r} is not one of {", ".join(RESAMPLES)}')

  @property
  def fps(self) -> int:
    return self.num_frames

  @property
  def tokens_per_second(self) -> int:
    return 1

  @property
  def frames_per_token(self) -> int:
    return self.fps // self.tokens_per_second

  @property
  def feature_dim(self) -> int:
    return self.projection_dim if self.projection else self.width

  @property
  def positions(self) -> int:
    """Patches of a frame."""
    return (self.image_size // self.patch) ** 2

  @property
  def preprocessing(self) -> Preprocessing:
    size = self.image_size
    return Preprocessing(size, (size, size), IMAGENET_MEAN, IMAGENET_STD, self.resample)

  @classmethod
  def from_checkpoint(cls, tensors: Tensors, **settings: Any) -> 'EgoVLPv2Config':
    """The config of a published checkpoint, its sizes read from the shapes.

    Args:
      tensors: of the checkpoint.
      **settings: fields that a shape does not tell: `heads` (default: of 64 channels each), `num_frames` (default: as
        many as the checkpoint has temporal embeddings for), `projection`, `eps`, `resample`, `dtype`, `param_dtype`.

    Raises:
      ValueError: no such tower in the file, one of another form, or a setting that is not one.
    """
    prefix = find_prefix(tensors)
    ranks = {'patch_embed.proj.weight': 4, 'pos_embed': 3, 'temporal_embed': 3, 'blocks.0.mlp.fc1.weight': 2}
    names = {name: f'{prefix}video_model.{name}' for name in ranks}
    shapes = {name: tensors[there].shape for name, there in names.items() if there in tensors}
    if wrong := [names[name] for name, rank in ranks.items() if len(shapes.get(name, ())) != rank]:
      raise ValueError(f'{tensors.path}: these are missing or have another number of axes: {", ".join(wrong)}')
    width, channels, patch, patch_width = shapes['patch_embed.proj.weight']
    positions = shapes['pos_embed'][1] - 1
    side = math.isqrt(max(positions, 0))
    if channels != 3 or patch != patch_width or side**2 != positions or not side:
      raise ValueError(
        f'{tensors.path}: patches of {channels} x {patch} x {patch_width} at {positions} positions; '
        'supported are square patches of 3 channels that tile a square'
      )
    max_frames = shapes['temporal_embed'][1]
    block = re.compile(re.escape(f'{prefix}video_model.blocks.') + r'(\d+)\.')
    read: dict[str, Any] = {
      'layers': 1 + max(int(found[1]) for found in map(block.match, tensors) if found),
      'width': width,
      'mlp': shapes['blocks.0.mlp.fc1.weight'][0],
      'patch': patch,
      'image_size': patch * side,
      'max_frames': max_frames,
    }
    if settings.get('projection', True):
      read['projection_dim'] = _projection_dim(tensors, prefix)
    free = {field.name for field in dataclasses.fields(cls)} - read.keys() - {'projection_dim'}
    if unknown := settings.keys() - free:
      raise ValueError(f'{tensors.path}: {sorted(unknown)} cannot be set; settings are {sorted(free)}')
    return cls(**({'heads': width // 64, 'num_frames': max_frames} | read | settings))


def find_prefix(tensors: Tensors) -> str:
  """What all names of the checkpoint begin with, for `convert.load`.

  Raises:
    ValueError: the file holds no video tower of this family.
  """
  for prefix in PREFIXES:
    if f'{prefix}video_model.patch_embed.proj.weight' in tensors:
      return prefix
  raise ValueError(
    f'{tensors.path}: not a checkpoint of EgoVLPv2: it has no video_model.patch_embed.proj.weight, '
    f'bare or behind {", ".join(filter(None, PREFIXES))}'
  )


def _projection_dim(tensors: Tensors, prefix: str) -> int:
  found = sorted(name.removeprefix(prefix) for name in tensors if name.startswith(f'{prefix}vid_proj.'))
  if found != sorted(PROJECTION):
    raise ValueError(
      f'{tensors.path}: its projection consists of {", ".join(found) or "nothing"}; supported is '
      f'{", ".join(PROJECTION)}, or projection=False for the features before it'
    )
  return tensors[f'{prefix}vid_proj.0.weight'].shape[0]


class DividedAttention(nnx.Module):
  """Attention within groups of patches: those of one frame, or those at one position. CLS belongs to all groups."""

  def __init__(self, config: EgoVLPv2Config, over: Literal['time', 'space'], rngs: nnx.Rngs) -> None:
    self.heads, self.positions, self.over = config.heads, config.positions, over
    self.qkv = linear(config.width, 3 * config.width, config, rngs, ('embed', 'heads'))
    self.proj = linear(config.width, config.width, config, rngs, ('heads', 'embed'))

  def __call__(self, x: jax.Array, valid: jax.Array | None) -> jax.Array:
    """float[B, 1 + F * P, D] of the same: CLS, then the P patches of every one of F frames; valid bool[B, F]."""
    batch, length, width = x.shape
    queries, keys, values = jnp.moveaxis(self.qkv(x).reshape(batch, length, 3, self.heads, -1), 2, 0)

    def grid(y: jax.Array) -> jax.Array:
      return y[:, 1:].reshape(batch, -1, self.positions, *y.shape[2:])

    def group(queries: jax.Array, group_keys: jax.Array, group_values: jax.Array) -> jax.Array:
      # The patches of one frame are valid together, or none of them is and nobody looks at the result.
      mask = _seen(valid) if self.over == 'time' else None
      group_keys = jnp.concatenate([keys[:, :1], group_keys], 1)
      group_values = jnp.concatenate([values[:, :1], group_values], 1)
      return jax.nn.dot_product_attention(queries, group_keys, group_values, mask=mask)

    everything = _seen(None if valid is None else jnp.repeat(valid, self.positions, axis=1))
    cls = jax.nn.dot_product_attention(queries[:, :1], keys, values, mask=everything)
    # [B, F, P, heads, head_dim]: time attention has a group for each position, space attention one for each frame
    groups = 2 if self.over == 'time' else 1
    patches = jax.vmap(group, in_axes=groups, out_axes=groups)(grid(queries), grid(keys), grid(values))
    mixed = jnp.concatenate([cls.reshape(batch, 1, width), patches.reshape(batch, -1, width)], 1)
    return self.proj(mixed)


def _seen(valid: jax.Array | None) -> jax.Array | None:
  """Which of CLS and the keys bool[B, K] every query sees: bool[B, 1, 1, 1 + K]."""
  return None if valid is None else jnp.pad(valid, ((0, 0), (1, 0)), constant_values=True)[:, None, None]


class SpaceTimeBlock(nnx.Module):
  """Time attention, space attention, MLP; the norms are numbered as in the checkpoint."""

  def __init__(self, config: EgoVLPv2Config, rngs: nnx.Rngs) -> None:
    width = config.width
    self.norm3 = layer_norm(width, config.eps, config, rngs)
    self.time = DividedAttention(config, 'time', rngs)
    self.norm1 = layer_norm(width, config.eps, config, rngs)
    self.space = DividedAttention(config, 'space', rngs)
    self.norm2 = layer_norm(width, config.eps, config, rngs)
    self.fc1 = linear(width, config.mlp, config, rngs, ('embed', 'mlp'))
    self.fc2 = linear(config.mlp, width, config, rngs, ('mlp', 'embed'))

  def __call__(self, x: jax.Array, valid: jax.Array | None) -> jax.Array:
    time = self.time(self.norm3(x), valid)
    # Time attention enters through what space attention sees; the residual goes around both (Bain et al. 2021).
    x = x + self.space(self.norm1(x + time), valid)
    return x + self.fc2(ACTIVATIONS['gelu'](self.fc1(self.norm2(x))))


class VideoTower(nnx.Module):
  """Normalised frames of a second to the states of its tokens."""

  def __init__(self, config: EgoVLPv2Config, rngs: nnx.Rngs) -> None:
    self.config = config

    def embedding(*shape: int) -> nnx.Param:
      axes = (*(None for _ in shape[:-1]), 'embed')
      value = 0.02 * jax.random.normal(rngs.params(), shape, jnp.dtype(config.param_dtype))
      return nnx.Param(value, logical_axes=axes)

    self.patches = linear(3 * config.patch**2, config.width, config, rngs, (None, 'embed'))
    self.cls = embedding(config.width)
    self.positions = embedding(1 + config.positions, config.width)
    self.times = embedding(config.max_frames, config.width)

    @nnx.split_rngs(splits=config.layers)
    @nnx.vmap(in_axes=0, out_axes=0)
    def stack(rngs: nnx.Rngs) -> SpaceTimeBlock:
      return SpaceTimeBlock(config, rngs)

    self.blocks = stack(rngs)
    self.norm = layer_norm(config.width, config.eps, config, rngs)

  def embed(self, pixels: jax.Array) -> jax.Array:
    """float[B, F, H, W, 3], H = W = `image_size` -> float[B, 1 + F * P, D], CLS first, then frame after frame."""
    c, dtype = self.config, jnp.dtype(self.config.dtype)
    batch, frames = pixels.shape[:2]
    side = c.image_size // c.patch
    x = pixels.astype(dtype).reshape(batch, frames, side, c.patch, side, c.patch, 3).swapaxes(3, 4)
    x = self.patches(x.reshape(batch, frames, c.positions, -1))
    positions, times = self.positions[...].astype(dtype), self.times[:frames].astype(dtype)
    x = x + (positions[1:] + times[:, None])
    cls = jnp.broadcast_to(self.cls[...].astype(dtype) + positions[0], (batch, 1, c.width))
    return jnp.concatenate([cls, x.reshape(batch, -1, c.width)], 1)

  def __call__(self, pixels: jax.Array, valid: jax.Array | None = None) -> tuple[jax.Array, jax.Array]:
    """CLS of every second, and what the blocks made of all tokens.

    Args:
      pixels: float[B, F, H, W, 3], normalised, H = W = `image_size`, F at most `max_frames`.
      valid: bool[B, F], False where a frame is padding; None when all are real.

    Returns:
      float[B, D] after the last norm, and the states after every block, float[layers, B, 1 + F * P, D], before that
      norm (free where unused).
    """

    @nnx.scan(in_axes=(nnx.Carry, 0), out_axes=(nnx.Carry, 0))
    def forward(x: jax.Array, block: SpaceTimeBlock) -> tuple[jax.Array, jax.Array]:
      x = block(x, valid)
      return x, x

    x, states = forward(self.embed(pixels), self.blocks)
    return self.norm(x[:, 0]), states


class Projection(nnx.Module):
  """Three linear layers with ReLU between, the first without bias."""

  def __init__(self, config: EgoVLPv2Config, rngs: nnx.Rngs) -> None:
    inner = config.projection_dim
    self.fc1 = linear(config.width, inner, config, rngs, ('embed', 'mlp'), bias=False)
    self.fc2 = linear(inner, inner, config, rngs, ('mlp', 'embed'))
    self.fc3 = linear(inner, inner, config, rngs, ('embed', 'features'))

  def __call__(self, x: jax.Array) -> jax.Array:
    return self.fc3(jax.nn.relu(self.fc2(jax.nn.relu(self.fc1(x)))))


class EgoVLPv2(nnx.Module):
  """uint8[N, T, H, W, 3] -> float32[N, S, D], with S = T / num_frames: every second from its own frames."""

  def __init__(self, config: EgoVLPv2Config, rngs: nnx.Rngs) -> None:
    self.config = config
    self.video = VideoTower(config, rngs)
    self.projection = Projection(config, rngs) if config.projection else None

  def __call__(self, frames: jax.Array, valid: jax.Array | None = None) -> jax.Array:
    """Encodes views.

    Args:
      frames: uint8[N, T, H, W, 3] of any H and W; T a multiple of `num_frames`.
      valid: bool[N, T], False where a frame is padding; None when all are real.

    Returns:
      float32[N, S, D]; a second without any valid frame is zero.

    Raises:
      ValueError: T is not a multiple of `num_frames`.
    """
    n, t = frames.shape[:2]
    second = self.config.frames_per_token
    if t % second:
      raise ValueError(f'the encoder takes seconds of {second} frames; got {frames.shape}')
    pixels = self.config.preprocessing(frames)
    pixels = pixels.reshape(-1, second, *pixels.shape[2:])
    features = self.encode(pixels, None if valid is None else valid.reshape(-1, second))
    return features.reshape(n, -1, self.config.feature_dim)

  def encode(self, pixels: jax.Array, valid: jax.Array | None = None) -> jax.Array:
    """The feature float32[B, D] of each second; arguments as for `VideoTower`."""
    x, _ = self.video(pixels, valid)
    x = (x if self.projection is None else self.projection(x)).astype(jnp.float32)
    return x if valid is None else jnp.where(valid.any(-1, keepdims=True), x, 0)


def sources(config: EgoVLPv2Config) -> dict[str, Source]:
  """Where in a checkpoint, behind its prefix, every parameter of `EgoVLPv2` comes from."""
  table = {
    # [D, 3, height, width] to [height * width * 3, D]
    'video/patches/kernel': Source('video_model.patch_embed.proj.weight', (2, 3, 1, 0)),
    'video/patches/bias': Source('video_model.patch_embed.proj.bias'),
    # [1, L, D] to [L, D]
    'video/cls': Source('video_model.cls_token', (0, 1, 2)),
    'video/positions': Source('video_model.pos_embed', (0, 1, 2)),
    'video/times': Source('video_model.temporal_embed', (0, 1, 2)),
  }
  block = 'video_model.blocks.{}'
  norms = {'video/norm': 'video_model.norm'} | {f'video/blocks/norm{i}': f'{block}.norm{i}' for i in (1, 2, 3)}
  for ours, name in norms.items():
    table |= {f'{ours}/scale': Source(f'{name}.weight'), f'{ours}/bias': Source(f'{name}.bias')}
  layers = {
    f'video/blocks/{ours}/{part}': f'{block}.{name}.{part}'
    for ours, name in {'time': 'timeattn', 'space': 'attn'}.items()
    for part in ('qkv', 'proj')
  }
  layers |= {f'video/blocks/{name}': f'{block}.mlp.{name}' for name in ('fc1', 'fc2')}
  if config.projection:
    layers |= {f'projection/fc{1 + i}': f'vid_proj.{2 * i}' for i in range(3)}
  for ours, name in layers.items():
    table |= {f'{ours}/kernel': Source(f'{name}.weight', LINEAR), f'{ours}/bias': Source(f'{name}.bias')}
  table.pop('projection/fc1/bias', None)
  return table
