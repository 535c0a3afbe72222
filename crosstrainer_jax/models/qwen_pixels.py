"""What Qwen2.5-VL is given of a picture: about its own shape and size, in patches that lie as its tower wants them.

The sides become multiples of a merged token (28 pixels), and the number of pixels lies within limits, as its processor
does it. Two frames make a time step; a picture is shown twice, and so is the last frame of an odd number.
"""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from crosstrainer_jax.models.preprocessing import Preprocessing
from crosstrainer_jax.models.qwen_vision import QwenVisionConfig, windows

# Of a picture, where a directory says nothing else: those of the processor of transformers.
PICTURE = 56 * 56, 28 * 28 * 1280
# Pictures that are longer for their width are refused, as the processor does.
LONGEST_RATIO = 200
SIZES = {'shortest_edge': 'min_pixels', 'longest_edge': 'max_pixels'}


@dataclasses.dataclass(frozen=True)
class QwenPixels:
  """How pictures become patches.

  Attributes:
    preprocessing: without its resizing, which follows from the size of a picture.
    min_pixels, max_pixels: of a picture, or of a frame of a video.

  Raises:
    ValueError: limits that are not possible.
  """

  preprocessing: Preprocessing
  min_pixels: int = PICTURE[0]
  max_pixels: int = PICTURE[1]

  def __post_init__(self) -> None:
    if not 0 < self.min_pixels <= self.max_pixels:
      raise ValueError(f'min_pixels={self.min_pixels}, max_pixels={self.max_pixels}: a least and a most are needed')

  @classmethod
  def from_hugging_face(cls, processor: dict[str, Any], config: QwenVisionConfig) -> 'QwenPixels':
    """From the content of `preprocessor_config.json`, for a tower.

    Raises:
      ValueError: a field, or a value of one, that would change the picture and is not supported, named.
    """
    given = {name: value for name, value in processor.items() if value is not None}
    wanted = {
      'patch_size': config.patch_size,
      'temporal_patch_size': config.temporal_patch_size,
      'merge_size': config.spatial_merge_size,
    }
    for name, value in wanted.items():
      if given.pop(name, value) != value:
        raise ValueError(f'image processor: {name}={processor[name]!r}, but the model has {value}')
    limits = dict(zip(('min_pixels', 'max_pixels'), PICTURE, strict=True))
    limits |= {SIZES[name]: value for name, value in dict(given.get('size', {})).items() if name in SIZES}
    limits |= {name: given.pop(name) for name in tuple(limits) if name in given}
    for name in ('min_frames', 'max_frames', 'cap_pixels_per_frame', 'max_video_tokens'):
      given.pop(name, None)  # which frames of a video are taken is not for the processor to say here
    if not given.get('do_resize', True):
      raise ValueError('image processor: do_resize=False is not supported; supported: True, to whole merged tokens')
    given['size'] = {'height': 1, 'width': 1}
    preprocessing = dataclasses.replace(Preprocessing.from_hugging_face(given), resize=None)
    return cls(preprocessing, **limits)

  def size(self, height: int, width: int, unit: int) -> tuple[int, int]:
    """(height, width) that a picture is resized to.

    Args:
      unit: what both are to be multiples of.

    Raises:
      ValueError: the picture is too narrow.
    """
    if max(height, width) > LONGEST_RATIO * min(height, width):
      raise ValueError(f'a picture of {width} x {height} pixels: one side is over {LONGEST_RATIO} times the other')
    # Python rounds halves to even, as the processor does.
    nearest = round(height / unit) * unit, round(width / unit) * unit
    pixels = math.prod(nearest)
    if pixels > self.max_pixels:
      shrink = math.sqrt(height * width / self.max_pixels)
      high, wide = (max(unit, math.floor(side / shrink / unit) * unit) for side in (height, width))
      return high, wide
    if pixels < self.min_pixels:
      grow = math.sqrt(self.min_pixels / (height * width))
      high, wide = (math.ceil(side * grow / unit) * unit for side in (height, width))
      return high, wide
    return nearest

  def grid(self, height: int, width: int, config: QwenVisionConfig) -> tuple[int, int]:
    """Rows and columns of the patches of a picture."""
    high, wide = self.size(height, width, config.unit)
    return high // config.patch_size, wide // config.patch_size

  def patches(self, frames: jax.Array, config: QwenVisionConfig) -> jax.Array:
    """float32[N, S, P, patch_dim] of the videos uint8[N, T, H, W, 3], in the slots of `windows`.

    S time steps are T frames, two by two; the last of an odd number stands twice.
    """
    count, length, height, width, _ = frames.shape
    rows, columns = self.grid(height, width, config)
    side, depth = config.patch_size, config.temporal_patch_size
    preprocessing = dataclasses.replace(self.preprocessing, resize=(rows * side, columns * side))
    pixels = preprocessing(frames.reshape(-1, height, width, 3)).reshape(count, length, rows * side, columns * side, 3)
    pixels = jnp.concatenate([pixels, *[pixels[:, -1:]] * (-length % depth)], axis=1)
    cut = pixels.reshape(count, -1, depth, rows, side, columns, side, 3)
    # Within a patch the numbers lie as the kernel of the tower has them: channels, frames, rows, columns.
    cut = cut.transpose(0, 1, 3, 5, 7, 2, 4, 6).reshape(count, -1, rows * columns, config.patch_dim)
    slots = windows(rows, columns, config)
    return jnp.where(slots.valid[:, None], cut[:, :, slots.patches], 0)


def check_frames(frames: Any) -> np.ndarray:
  """uint8[T, H, W, 3] of a picture uint8[H, W, 3], or of a video.

  Raises:
    ValueError: neither.
  """
  array = np.asarray(frames)
  if array.dtype != np.uint8 or array.ndim not in (3, 4) or array.shape[-1] != 3 or 0 in array.shape:
    raise ValueError(f'a picture is uint8[H, W, 3] and a video uint8[T, H, W, 3]; got {array.dtype}{list(array.shape)}')
  return array if array.ndim == 4 else array[None]
