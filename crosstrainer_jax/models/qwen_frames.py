"""The vision tower of Qwen2.5-VL as f_v: a grid of tokens for each second of a view, and not one token.

What comes out is what goes into the two linear layers of the merger, which are f_m (`config.mapper.weights`). Frames
become squares of `image_size`, since those of a prepared dataset are squares, and since their number of tokens is to be
known before they are seen.
"""

import dataclasses
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from crosstrainer_jax.input.mrope import Grid
from crosstrainer_jax.models import qwen2_5_vl, qwen_vision
from crosstrainer_jax.models.preprocessing import Preprocessing
from crosstrainer_jax.models.qwen_pixels import QwenPixels
from crosstrainer_jax.models.qwen_vision import QwenVision, QwenVisionConfig, windows
from crosstrainer_jax.weights.convert import Source

# Tensors of a checkpoint that are no part of f_v.
IGNORED = (r'lm_head\.', r'model\.(?!visual\.)', r'(model\.)?visual\.merger\.mlp\.', r'(model\.)?visual\.rotary')


@dataclasses.dataclass(frozen=True, kw_only=True)
class QwenFramesConfig(QwenVisionConfig):
  """The tower as f_v.

  Attributes:
    preprocessing: of the frames, without its resizing.
    fps: frames of a second that are looked at; Qwen2.5-VL was trained on 2.
    image_size: height and width of the pictures, a multiple of a merged token. Ours: 224, for 64 tokens a second.

  Raises:
    ValueError: a setting that is not supported.
  """

  preprocessing: Preprocessing
  fps: int = 2
  image_size: int = 224

  def __post_init__(self) -> None:
    super().__post_init__()
    if self.fps < 1 or self.fps % self.temporal_patch_size:
      raise ValueError(f'fps={self.fps} is no multiple of {self.temporal_patch_size}, the frames of a time step')
    if self.image_size < 1 or self.image_size % self.unit:
      raise ValueError(f'image_size={self.image_size} is no multiple of {self.unit}, the pixels of a merged token')

  @classmethod
  def from_hugging_face(cls, config: dict[str, Any], processor: dict[str, Any], **settings: Any) -> 'QwenFramesConfig':
    """From a checkpoint of the whole model.

    Args:
      config: content of `config.json`.
      processor: content of `preprocessor_config.json`; its limits of pixels are of pictures, and are not read.
      settings: fields that win: `image_size`, `fps`, `dtype`, `param_dtype`.

    Raises:
      ValueError: a field that is not supported.
    """
    tower = qwen2_5_vl.model_config(config).vision
    preprocessing = QwenPixels.from_hugging_face(processor, tower).preprocessing
    fields = {field.name: getattr(tower, field.name) for field in dataclasses.fields(tower)}
    return cls(**fields | {'preprocessing': preprocessing} | settings)

  @property
  def frames_per_token(self) -> int:
    """Frames that are encoded together: those of a second."""
    return self.fps

  @property
  def second(self) -> Grid:
    """The tokens of a second."""
    side = self.image_size // self.unit
    steps = self.fps // self.temporal_patch_size
    return Grid(steps, side, side, self.tokens_per_second / steps)


class QwenFrames(nnx.Module):
  """uint8[N, T, H, W, 3] -> float32[N, S, D], where S is the tokens of T / fps seconds."""

  def __init__(self, config: QwenFramesConfig, rngs: nnx.Rngs) -> None:
    self.config, self.tower = config, QwenVision(config, rngs)

  def __call__(self, frames: jax.Array, valid: jax.Array | None = None) -> jax.Array:
    """Encodes every time step from its own frames alone.

    Args:
      frames: uint8[N, T, H, W, 3] of any height and width; T a multiple of `fps`.
      valid: bool[N, T], False where a frame is padding; None when all are real. In a time step with one real frame it
        is shown twice; without any its tokens are zero.

    Returns:
      float32[N, S, D], second after second and row after row.

    Raises:
      ValueError: T is not a multiple of `fps`.
    """
    config = self.config
    count, length = frames.shape[:2]
    if length % config.fps:
      raise ValueError(f'the encoder takes a multiple of fps={config.fps} frames; got {frames.shape}')
    depth = config.temporal_patch_size
    if valid is not None:
      frames, seen = _shown_twice(frames, valid, depth)
    rows = config.image_size // config.patch_size
    layout = windows(rows, rows, config)
    pixels = QwenPixels(config.preprocessing, config.image_size**2, config.image_size**2)
    squares = dataclasses.replace(config.preprocessing, resize=(config.image_size, config.image_size)).pixels(frames)
    patches = pixels.patches(squares, config).reshape(-1, len(layout.valid), config.patch_dim)
    features = self.tower(patches, jnp.asarray(layout.positions[None]), jnp.asarray(layout.valid[None]))
    features = features[:, layout.tokens].astype(jnp.float32).reshape(count, length // depth, -1, config.feature_dim)
    if valid is not None:
      features = jnp.where(seen[..., None, None], features, 0)
    return features.reshape(count, -1, config.feature_dim)


def _shown_twice(frames: jax.Array, valid: jax.Array, depth: int) -> tuple[jax.Array, jax.Array]:
  """Frames of which those that are padding show the first real one of their time step, and which steps have one."""
  count, length = valid.shape
  steps = valid.reshape(count, length // depth, depth)
  first = jnp.argmax(steps, -1)
  source = jnp.where(steps, jnp.arange(depth), first[..., None]) + depth * jnp.arange(length // depth)[:, None]
  taken = jnp.take_along_axis(frames, source.reshape(count, length, 1, 1, 1), axis=1)
  return taken, steps.any(-1)


def sources(names: Iterable[str]) -> dict[str, Source]:
  """Where each parameter of a `QwenFrames` comes from, in a checkpoint with the tensors `names`."""
  found = qwen_vision.sources(qwen2_5_vl.names_of(names).vision)
  return {f'tower/{path}': source for path, source in found.items()}
