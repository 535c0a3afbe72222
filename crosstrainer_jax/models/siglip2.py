"""SigLIP 2 NaFlex (Tschannen et al. 2025, arXiv:2502.14786): SigLIP for pictures of any shape.

A picture keeps about its shape: it is resized to whole patches, at most `max_num_patches` of them, and the grid of
position embeddings is resized to the grid of its patches. The text tower is that of SigLIP.

As f_v, frames of one call have one size, so that the grid is known when the call is compiled and no patch is padding.
The tower itself takes padded batches of patches from pictures of different shapes.
"""

import dataclasses
import math
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from crosstrainer_jax.models.image_text import (
  Encoded,
  FrameEncoder,
  FrameEncoderConfig,
  Similarity,
  patches,
  section,
  tower_prefix,
)
from crosstrainer_jax.models.preprocessing import Preprocessing
from crosstrainer_jax.models.siglip import (
  BUFFERS,
  PairLogits,
  SiglipEncoder,
  SiglipText,
  SiglipTextConfig,
  SiglipTowerConfig,
  text_sources,
  vision_sources,
  whole_sources,
)
from crosstrainer_jax.weights.convert import LINEAR, Source

# Tensors of checkpoints that the image tower and f_v have no use for; for the others see siglip.py.
IGNORED = (*BUFFERS, r'text_model\.', r'logit_(scale|bias)$')


@dataclasses.dataclass(frozen=True)
class Siglip2VisionConfig(SiglipTowerConfig):
  """Sizes of the image tower.

  Attributes:
    num_patches: of the square grid of position embeddings.
  """

  patch_size: int = 16
  num_patches: int = 256
  vision_use_head: bool = True

  def __post_init__(self) -> None:
    super().__post_init__()
    if not self.vision_use_head:
      raise ValueError('vision_use_head=False is not supported; supported: True, a picture has one embedding')
    if math.isqrt(self.num_patches) ** 2 != self.num_patches:
      raise ValueError(f'num_patches={self.num_patches} is not supported; supported: square numbers')

  @classmethod
  def from_hugging_face(cls, config: dict[str, Any], **settings: Any) -> 'Siglip2VisionConfig':
    """From the content of `config.json` of the whole model or of the image tower.

    Args:
      settings: fields that win, for example `dtype`.

    Raises:
      ValueError: a field that is not supported.
    """
    return cls(**_vision_fields(config) | settings)

  @property
  def positions(self) -> int:
    return self.num_patches

  @property
  def feature_dim(self) -> int:
    return self.hidden_size


@dataclasses.dataclass(frozen=True)
class Siglip2Config:
  """Sizes of both towers."""

  vision: Siglip2VisionConfig
  text: SiglipTextConfig

  @classmethod
  def from_hugging_face(cls, config: dict[str, Any], **settings: Any) -> 'Siglip2Config':
    """From the content of `config.json` of the whole model.

    Args:
      settings: `dtype` and `param_dtype`.

    Raises:
      ValueError: a field that is not supported.
    """
    return cls(
      Siglip2VisionConfig.from_hugging_face(config, **settings), SiglipTextConfig.from_hugging_face(config, **settings)
    )


@dataclasses.dataclass(frozen=True)
class Siglip2FramesConfig(FrameEncoderConfig, Siglip2VisionConfig):
  """The image tower as f_v.

  Attributes:
    preprocessing: of the frames, without its resizing, which follows from their size.
    max_num_patches: of a frame.

  Raises:
    ValueError: a setting that is not supported.
  """

  max_num_patches: int = 256

  def __post_init__(self) -> None:
    super().__post_init__()
    if self.preprocessing.resize is not None or self.preprocessing.crop is not None:
      raise ValueError(f'{self.preprocessing}: frames are resized to whole patches and not cropped; give None for both')
    if self.max_num_patches < 1:
      raise ValueError(f'max_num_patches={self.max_num_patches} must be at least 1')

  @classmethod
  def from_hugging_face(  # type: ignore[override]
    cls, config: dict[str, Any], processor: dict[str, Any], **settings: Any
  ) -> 'Siglip2FramesConfig':
    """From a checkpoint of the whole model or of the image tower.

    Args:
      config: content of `config.json`.
      processor: content of `preprocessor_config.json`.
      settings: fields that win: `max_num_patches`, `fps`, `dtype`, `param_dtype`.

    Raises:
      ValueError: a field that is not supported.
    """
    fields = _vision_fields(config)
    given = {name: value for name, value in processor.items() if value is not None}
    if not given.pop('do_resize', True):
      raise ValueError('image processor: do_resize=False is not supported; supported: True, to whole patches')
    patch_size = given.pop('patch_size', 16)
    if patch_size != fields.get('patch_size', 16):
      raise ValueError(f'image processor: patch_size={patch_size}, but the model has {fields.get("patch_size", 16)}')
    fields['max_num_patches'] = given.pop('max_num_patches', 256)
    # `size` is not looked at there; the size of a picture follows from its patches
    given['size'] = {'height': 1, 'width': 1}
    preprocessing = dataclasses.replace(Preprocessing.from_hugging_face(given), resize=None)
    return cls(preprocessing=preprocessing, **fields | settings)

  @property
  def image_size(self) -> int:
    """Height and width of square frames that need no resizing."""
    return self.patch_size * self.grid(self.patch_size, self.patch_size)[0]

  def grid(self, height: int, width: int) -> tuple[int, int]:
    """Rows and columns of the patches of a picture: as many as may be, in about its shape.

    Both edges are scaled by one number, found by bisection with the bounds and the precision of the processor, and
    rounded up to whole patches.
    """

    def scaled(scale: float) -> tuple[int, int]:
      rows, columns = (max(1, math.ceil(edge * scale / self.patch_size)) for edge in (height, width))
      return rows, columns

    low, high = 1e-6, 100.0
    while high - low >= 1e-5:
      middle = (low + high) / 2
      if math.prod(scaled(middle)) <= self.max_num_patches:
        low = middle
      else:
        high = middle
    return scaled(low)


def _vision_fields(config: dict[str, Any]) -> dict[str, Any]:
  families = {'siglip2': 'whole', 'siglip2_vision_model': 'tower'}
  return section(config, 'vision_config', Siglip2VisionConfig, families)


def resized_positions(table: jax.Array, shapes: jax.Array, length: int) -> jax.Array:
  """Position embeddings of patches, by antialiased bilinear resizing of a square grid of them.

  Args:
    table: float[side * side, D].
    shapes: int[B, 2], rows and columns of each picture, at most `length` patches.

  Returns:
    float32[B, length, D]; padding has the first patch's.
  """
  side = math.isqrt(len(table))
  rows, columns = shapes[:, :1], shapes[:, 1:]
  number = jnp.arange(length) * (jnp.arange(length) < rows * columns)

  def weights(place: jax.Array, count: jax.Array) -> jax.Array:
    """float32[B, length, side]: of what the grid has along one axis in each patch."""
    scale = (side / count)[..., None]
    centre = (place[..., None] + 0.5) * scale - 0.5
    triangle = jnp.maximum(1 - jnp.abs(jnp.arange(side) - centre) / jnp.maximum(scale, 1), 0)
    return triangle / triangle.sum(-1, keepdims=True)

  high, wide = weights(number // columns, rows), weights(number % columns, columns)
  both = (high[..., :, None] * wide[..., None, :]).reshape(*high.shape[:2], side * side)
  return both @ table.astype(jnp.float32)


class Siglip2Vision(SiglipEncoder):
  """The image tower for pictures of any shape."""

  def __init__(self, config: Siglip2VisionConfig, rngs: nnx.Rngs) -> None:
    super().__init__(config, rngs)

  def __call__(self, patches: jax.Array, shapes: jax.Array, padded: bool = True) -> Encoded:
    """Encodes patches, row after row.

    Args:
      patches: float[B, L, patch_size * patch_size * 3], preprocessed; what is behind a picture's last patch is padding.
      shapes: int[B, 2], rows and columns of each picture; one for all where it is int[1, 2].
      padded: False where no picture has padding, which is then not looked for.
    """
    length = patches.shape[1]
    positions = resized_positions(self.position_embedding.embedding[...], shapes, length)
    mask = jnp.arange(length) < shapes.prod(-1, keepdims=True) if padded else None
    return self.encode(patches, positions.astype(jnp.dtype(self.config.dtype)), mask)


class Siglip2(nnx.Module):
  """Both towers."""

  def __init__(self, config: Siglip2Config, rngs: nnx.Rngs) -> None:
    self.config = config
    self.vision, self.text = Siglip2Vision(config.vision, rngs), SiglipText(config.text, rngs)
    self.logits = PairLogits()

  def __call__(
    self, patches: jax.Array, shapes: jax.Array, tokens: jax.Array, mask: jax.Array | None = None
  ) -> Similarity:
    """Compares pictures, as `Siglip2Vision` takes them, with texts int32[C, L]; `mask` as in `SiglipText`."""
    return self.logits(self.vision(patches, shapes).features, self.text(tokens, mask).features)


class Siglip2Frames(FrameEncoder):
  """The image tower as f_v."""

  def __init__(self, config: Siglip2FramesConfig, rngs: nnx.Rngs) -> None:
    super().__init__(config, Siglip2Vision(config, rngs))

  def features(self, frames: jax.Array) -> jax.Array:
    """float[B, D] of the pictures uint8[B, H, W, 3]."""
    size = self.config.patch_size
    rows, columns = self.config.grid(*frames.shape[1:3])
    preprocessing = dataclasses.replace(self.config.preprocessing, resize=(rows * size, columns * size))
    # all frames have the shape of the first, and no patch is padding
    return self.tower(patches(preprocessing(frames), size), jnp.asarray([[rows, columns]]), padded=False).features


def sources(
  config: Siglip2Config | Siglip2VisionConfig | SiglipTextConfig | Siglip2FramesConfig, names: Iterable[str] = ()
) -> dict[str, Source]:
  """Where each parameter of the module with this config comes from, in a checkpoint of the whole model or of the tower.

  Args:
    names: of the checkpoint's tensors, see `tower_prefix`.
  """
  if isinstance(config, Siglip2Config):
    return whole_sources(vision_sources('vision_model.', LINEAR), text_sources())
  if isinstance(config, SiglipTextConfig):
    return text_sources(names)
  found = vision_sources(tower_prefix('vision_model.', names), LINEAR)
  if isinstance(config, Siglip2FramesConfig):
    return {f'tower/{path}': source for path, source in found.items()}
  return found
