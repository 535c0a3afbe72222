"""The encoder of V-JEPA 2 (Assran et al. 2025, arXiv:2506.09985): a video transformer over tubelets.

A tubelet is a patch of `tubelet_size` frames; each becomes one token, and all tokens of a clip see each other. Where a
token lies (frame, row, column) is told by turning queries and keys, a third of each head for each of the three.

As f_v it looks at one second at a time and yields the mean of the second's tokens.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from crosstrainer_jax.models.preprocessing import Preprocessing
from crosstrainer_jax.models.transformer import (
  ACTIVATIONS,
  Transformer,
  TransformerConfig,
  block_sources,
  layer_norm,
  linear,
)
from crosstrainer_jax.weights.convert import Source

# It serves training alone.
IGNORED = (r'predictor\.',)

# Fields of `config.json` that are fields of the config here.
HUGGING_FACE_FIELDS = (
  'hidden_size', 'num_hidden_layers', 'num_attention_heads', 'mlp_ratio', 'hidden_act', 'layer_norm_eps', 'qkv_bias',
  'crop_size', 'patch_size', 'tubelet_size',
)  # fmt: skip


def preprocessing(processor: dict[str, Any]) -> Preprocessing:
  """What the video processor does, from the content of `video_preprocessor_config.json`; {} for its defaults.

  The shorter edge becomes 256 / 224 of the crop, bilinear, whatever `size` the file says: the processor does so too.
  """
  return Preprocessing.from_hugging_face({'video_processor_type': 'VJEPA2VideoProcessor', **processor})


@dataclasses.dataclass(frozen=True)
class VJEPA2Config:
  """Sizes of the encoder, by the names of `config.json`, and how it is used as f_v.

  Attributes:
    crop_size: pixels along a side that positions count in, see `rotary_tables`.
    preprocessing: of the frames; its crop is what the encoder sees.
    fps: frames of a second that are looked at, a multiple of `tubelet_size`.

  Raises:
    ValueError: a setting that is not supported.
  """

  hidden_size: int = 1024
  num_hidden_layers: int = 24
  num_attention_heads: int = 16
  mlp_ratio: float = 4.0
  hidden_act: str = 'gelu'
  layer_norm_eps: float = 1e-6
  qkv_bias: bool = True
  crop_size: int = 256
  patch_size: int = 16
  tubelet_size: int = 2
  preprocessing: Preprocessing = dataclasses.field(default_factory=lambda: preprocessing({}))
  fps: int = 4
  dtype: str = 'float32'
  param_dtype: str = 'float32'

  def __post_init__(self) -> None:
    if self.hidden_act not in ACTIVATIONS:
      raise ValueError(f'hidden_act={self.hidden_act!r} is not supported; supported: {", ".join(ACTIVATIONS)}')
    if not isinstance(self.patch_size, int):
      raise ValueError(f'patch_size={self.patch_size!r} is not supported: patches are square, give one number')
    if self.fps < 1 or self.fps % self.tubelet_size:
      raise ValueError(f'fps={self.fps} must be a multiple of tubelet_size={self.tubelet_size}')
    if self.hidden_size % self.num_attention_heads or self.hidden_size < 6 * self.num_attention_heads:
      raise ValueError(
        f'num_attention_heads={self.num_attention_heads} must divide hidden_size={self.hidden_size} into heads of at '
        'least 6, which hold the three positions'
      )

  @classmethod
  def from_hugging_face(
    cls, config: dict[str, Any], processor: dict[str, Any] | None = None, **settings: Any
  ) -> 'VJEPA2Config':
    """The config of a checkpoint.

    Dropout and drop path belong to training and `frames_per_clip` to the predictor: they change no feature.

    Args:
      config: content of `config.json`.
      processor: content of `video_preprocessor_config.json` or `preprocessor_config.json`; None for a checkpoint
        without, whose crop is then `crop_size`.
      settings: fields that a checkpoint does not say: `fps`, `dtype`, `param_dtype`.

    Raises:
      ValueError: a field that is not supported.
    """
    if config.get('model_type', 'vjepa2') != 'vjepa2':
      raise ValueError(f'model_type={config["model_type"]!r} is not supported here; supported: vjepa2')
    if config.get('in_chans', 3) != 3:
      raise ValueError(f'in_chans={config["in_chans"]} is not supported; supported: 3, for red, green and blue')
    if config.get('use_SiLU', False):
      raise ValueError('use_SiLU=True is not supported; supported: False, an MLP of two layers with hidden_act')
    named = {name: config[name] for name in HUGGING_FACE_FIELDS if name in config}
    if processor is None:
      processor = {'crop_size': config.get('crop_size', cls.crop_size)}
    return cls(**named, preprocessing=preprocessing(processor), **settings)

  @property
  def image_size(self) -> int:
    """Height and width of frames that need no resizing."""
    resize = self.preprocessing.resize
    return resize if isinstance(resize, int) else self.crop_size

  @property
  def tokens_per_second(self) -> int:
    return 1

  @property
  def frames_per_token(self) -> int:
    return self.fps

  @property
  def feature_dim(self) -> int:
    return self.hidden_size

  @property
  def transformer(self) -> TransformerConfig:
    return TransformerConfig(
      layers=self.num_hidden_layers,
      width=self.hidden_size,
      heads=self.num_attention_heads,
      mlp=int(self.hidden_size * self.mlp_ratio),
      activation=self.hidden_act,
      eps=self.layer_norm_eps,
      qkv_bias=self.qkv_bias,
      dtype=self.dtype,
      param_dtype=self.param_dtype,
    )


def rotary_tables(tokens: int, grid: int, head_dim: int) -> tuple[jax.Array, jax.Array]:
  """Cosines and sines that turn queries and keys, float32[tokens, 3 * segment]: by frame, then row, then column.

  A token's place is worked out from its number, for frames of `grid` x `grid` patches, as `transformers` does it:
  frames of another size have tokens at places that are not theirs, unless `crop_size` is changed with them.

  The two numbers of a pair are turned by different angles: frequencies are laid out as for pairs (i, i + segment / 2),
  pairs as (2 i, 2 i + 1). The weights were trained so. It is no rotation, and attention does not depend on distances
  alone.
  """
  segment = 2 * (head_dim // 3 // 2)
  number = jnp.arange(tokens)
  places = jnp.stack([number // grid**2, number % grid**2 // grid, number % grid], -1)
  frequencies = 1 / 10_000 ** (jnp.arange(segment // 2) / (segment / 2))
  angles = jnp.tile(places[..., None] * frequencies, 2).reshape(tokens, -1)
  return jnp.cos(angles), jnp.sin(angles)


def rotate(x: jax.Array, cos: jax.Array, sin: jax.Array) -> jax.Array:
  """Queries or keys float[B, L, heads, head_dim], turned; what is left of a head after three segments stays."""
  turned = x[..., : cos.shape[-1]].astype(jnp.float32)
  pairs = turned.reshape(*turned.shape[:-1], -1, 2)
  across = jnp.stack([-pairs[..., 1], pairs[..., 0]], -1).reshape(turned.shape)
  turned = turned * cos[:, None] + across * sin[:, None]
  return jnp.concatenate([turned.astype(x.dtype), x[..., cos.shape[-1] :]], -1)


class VJEPA2(nnx.Module):
  """uint8[N, T, H, W, 3] -> float32[N, S, D]: a feature a second, S = T / fps, D = hidden_size."""

  def __init__(self, config: VJEPA2Config, rngs: nnx.Rngs) -> None:
    self.config = config
    tubelet = config.tubelet_size * config.patch_size**2 * 3
    self.patch_embedding = linear(tubelet, config.hidden_size, config, rngs, (None, 'embed'))
    self.transformer = Transformer(config.transformer, rngs)
    self.norm = layer_norm(config.hidden_size, config.layer_norm_eps, config, rngs)

  def __call__(self, frames: jax.Array, valid: jax.Array | None = None) -> jax.Array:
    """Encodes every second from its own frames alone.

    A tubelet without a valid frame is seen by no token and is left out of the mean. In a tubelet with some, those that
    are not valid are replaced by the first that is.

    Args:
      frames: uint8[N, T, H, W, 3]; T a multiple of `fps`.
      valid: bool[N, T], False where a frame is padding; None when all are real.

    Returns:
      float32[N, S, D]; a second without any valid frame is zero.

    Raises:
      ValueError: T is not a multiple of `fps`, or preprocessed frames do not divide into patches.
    """
    c = self.config
    n, t = frames.shape[:2]
    if t % c.fps:
      raise ValueError(f'the encoder takes a multiple of fps={c.fps} frames; got {frames.shape}')
    seconds, tubelets = n * t // c.fps, c.fps // c.tubelet_size
    seen = None
    if valid is not None:
      frames, seen = replace_invalid(frames, valid, c.tubelet_size)
      seen = seen.reshape(seconds, tubelets)
    pixels = c.preprocessing(frames.reshape(seconds, c.fps, *frames.shape[2:]))
    tokens = self.encode(pixels, seen)[0].astype(jnp.float32).reshape(seconds, tubelets, -1, c.hidden_size)
    weights = jnp.ones((seconds, tubelets)) if seen is None else seen.astype(jnp.float32)
    features = jnp.einsum('st,std->sd', weights, tokens.mean(2)) / jnp.maximum(weights.sum(1, keepdims=True), 1)
    return features.reshape(n, -1, c.hidden_size)

  def encode(self, pixels: jax.Array, seen: jax.Array | None = None) -> tuple[jax.Array, jax.Array]:
    """Tokens of clips of any length, in the order frame, row, column.

    Args:
      pixels: float[B, T, H, W, 3], preprocessed; T a multiple of `tubelet_size`, H and W of `patch_size`.
      seen: bool[B, T / tubelet_size], False for tubelets that no token may see; None when all may be seen.

    Returns:
      The normalised tokens float[B, L, D], and the states after every block float[layers, B, L, D].
    """
    c = self.config
    batch, t, h, w, _ = pixels.shape
    if t % c.tubelet_size or h % c.patch_size or w % c.patch_size:
      raise ValueError(
        f'clips must divide into tubelets of tubelet_size={c.tubelet_size} frames and patches of '
        f'patch_size={c.patch_size} pixels; got {pixels.shape}'
      )
    deep, high, wide = t // c.tubelet_size, h // c.patch_size, w // c.patch_size
    x = pixels.reshape(batch, deep, c.tubelet_size, high, c.patch_size, wide, c.patch_size, 3)
    x = x.transpose(0, 1, 3, 5, 2, 4, 6, 7).reshape(batch, deep * high * wide, -1)
    x = self.patch_embedding(x)
    mask = None if seen is None else jnp.repeat(seen, high * wide, 1)[:, None, None, :]
    cos, sin = rotary_tables(x.shape[1], c.crop_size // c.patch_size, c.hidden_size // c.num_attention_heads)
    x, states = self.transformer(x, mask, lambda heads: rotate(heads, cos, sin))
    return self.norm(x), states


def replace_invalid(frames: jax.Array, valid: jax.Array, tubelet_size: int) -> tuple[jax.Array, jax.Array]:
  """Frames [N, T, H, W, 3] with those not `valid` replaced by the first valid one of their tubelet.

  Returns:
    The frames, and bool[N, T / tubelet_size]: whether a tubelet has a valid frame. One without keeps its first frame.
  """
  n, t = valid.shape
  valid = valid.reshape(n, -1, tubelet_size)
  own = jnp.arange(t).reshape(-1, tubelet_size)
  first = own[:, :1] + jnp.argmax(valid, -1, keepdims=True)
  taken = jnp.where(valid, own, first).reshape(n, t, 1, 1, 1)
  return jnp.take_along_axis(frames, taken, 1), valid.any(-1)


def sources(config: VJEPA2Config) -> dict[str, Source]:
  """Where each parameter of `VJEPA2` comes from in a checkpoint of `VJEPA2Model`.

  In one of `VJEPA2ForVideoClassification` the same names follow the prefix 'vjepa2.'.
  """
  layer = 'encoder.layer.{}.'
  blocks = {
    'norm1': layer + 'norm1',
    'attention/q_proj': layer + 'attention.query',
    'attention/k_proj': layer + 'attention.key',
    'attention/v_proj': layer + 'attention.value',
    'attention/out_proj': layer + 'attention.proj',
    'norm2': layer + 'norm2',
    'fc1': layer + 'mlp.fc1',
    'fc2': layer + 'mlp.fc2',
  }
  patches = 'encoder.embeddings.patch_embeddings.proj'
  found = {
    # [D, RGB, frames, rows, columns] to [frames, rows, columns, RGB, D], as pixels are laid out
    'patch_embedding/kernel': Source(f'{patches}.weight', (2, 3, 4, 1, 0)),
    'patch_embedding/bias': Source(f'{patches}.bias'),
    'norm/scale': Source('encoder.layernorm.weight'),
    'norm/bias': Source('encoder.layernorm.bias'),
    **block_sources('transformer', blocks),
  }
  if not config.qkv_bias:
    for name in 'qkv':
      del found[f'transformer/blocks/attention/{name}_proj/bias']
  return found
