"""What an image processor of Hugging Face does to a picture: resize, centre crop, rescale, normalise; on the device.

The resizing is that of Pillow 13, bit for bit: filters widened when shrinking, a pass along the width and one along the
height, each in fixed point and rounded to uint8. Weights of 22 bits do not fit into the matrix units of an accelerator,
which may multiply float32 as bfloat16 or TF32; cut into limbs of 8 bits they do, and every product and sum is exact.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

# OpenAI's CLIP, and ImageNet.
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
HALF = (0.5, 0.5, 0.5)


def _triangle(x: np.ndarray) -> np.ndarray:
  return np.maximum(1 - np.abs(x), 0)


def _cubic(x: np.ndarray) -> np.ndarray:
  """Keys 1981 with a = -0.5."""
  x = np.abs(x)
  return np.where(x < 1, (1.5 * x - 2.5) * x**2 + 1, np.where(x < 2, ((-0.5 * x + 2.5) * x - 4) * x + 2, 0))


# name -> the filter, how far it reaches, and its number in Pillow, which configs hold.
FILTERS: dict[str, tuple[Callable[[np.ndarray], np.ndarray], int, int]] = {
  'bilinear': (_triangle, 1, 2),
  'bicubic': (_cubic, 2, 3),
}
# Fraction bits of a weight in Pillow: 8 bits of a pixel and 2 of headroom are left of 32.
FRACTION = 22


@dataclasses.dataclass(frozen=True)
class Preprocessing:
  """What an image processor of Hugging Face does to a picture.

  Raises:
    ValueError: a `resample` that is not known, or sizes that are not positive.
  """

  resize: int | tuple[int, int] | None  # the shorter edge, or (height, width); None for no resizing
  crop: tuple[int, int] | None  # (height, width) around the centre, zeros where the picture is smaller
  mean: tuple[float, float, float]
  std: tuple[float, float, float]
  resample: str = 'bicubic'
  scale: float = 1 / 255

  def __post_init__(self) -> None:
    if self.resample not in FILTERS:
      raise ValueError(f'resample={self.resample!r} is not known; known: {", ".join(FILTERS)}')
    if (self.resize is not None and np.min(self.resize) < 1) or (self.crop is not None and min(self.crop) < 1):
      raise ValueError(f'resize={self.resize}, crop={self.crop}: sizes are at least 1')

  @classmethod
  def from_hugging_face(cls, processor: dict[str, Any]) -> 'Preprocessing':
    """From the content of `preprocessor_config.json`, with the defaults of the processor that it names.

    Fields that say which frames of a video are taken, or on what device, do not change a picture and are not read.

    Raises:
      ValueError: a field, or a value of one, that would change the picture and is not supported, named.
    """
    return _from_hugging_face(processor)

  def resized(self, height: int, width: int) -> tuple[int, int]:
    """(height, width) after the resizing of a picture of this size."""
    if self.resize is None:
      return height, width
    if isinstance(self.resize, tuple):
      return self.resize
    short, long = min(height, width), max(height, width)
    # truncated, as transformers and torchvision do
    other = int(self.resize * long / short)
    return (other, self.resize) if width <= height else (self.resize, other)

  def output(self, height: int, width: int) -> tuple[int, int]:
    """(height, width) of what becomes of a picture of this size."""
    return self.crop or self.resized(height, width)

  def pixels(self, frames: jax.Array) -> jax.Array:
    """uint8[..., H, W, 3] -> uint8[..., h, w, 3], resized and cropped.

    Raises:
      ValueError: frames that are not uint8 pictures with three channels.
    """
    if frames.dtype != jnp.uint8 or frames.ndim < 3 or frames.shape[-1] != 3:
      raise ValueError(f'frames must be uint8[..., H, W, 3]; got {frames.dtype}{list(frames.shape)}')
    height, width = frames.shape[-3:-1]
    resized, output = self.resized(height, width), self.output(height, width)
    # Pillow goes along the width first, since version 13 unless the height loses more than twice as many pixels
    lost = (height - resized[0], width - resized[1])
    for axis in (0, 1) if lost[0] > max(0, 2 * lost[1]) else (1, 0):
      frames = _resample(frames, frames.ndim - 3 + axis, resized[axis], output[axis], self.resample)
    return frames

  def __call__(self, frames: jax.Array) -> jax.Array:
    """uint8[..., H, W, 3] -> float32[..., h, w, 3].

    Raises:
      ValueError: frames that are not uint8 pictures with three channels.
    """
    scaled = self.pixels(frames).astype(jnp.float32) * np.float32(self.scale)
    return (scaled - np.asarray(self.mean, np.float32)) / np.asarray(self.std, np.float32)


def _resample(x: jax.Array, axis: int, size: int, crop: int, resample: str) -> jax.Array:
  """uint8 resized to `size` along `axis`, of which the middle `crop` are kept."""
  first = (size - crop) // 2  # negative where zeros surround the picture
  before = x.shape[axis]
  if size == before:
    padding = [(-first, crop - size + first, 0) if a == axis else (0, 0, 0) for a in range(x.ndim)]
    return jax.lax.pad(x, jnp.uint8(0), padding)
  weights = np.zeros((crop, before), np.int32)
  kept = slice(max(first, 0), min(first + crop, size))
  weights[kept.start - first : kept.stop - first] = _weights(before, size, resample)[kept]
  total = jnp.int32(1 << (FRACTION - 1))  # one half, for rounding
  x = jnp.moveaxis(x, axis, -1).astype(jnp.float32)
  for shift, limb in _limbs(weights):
    # Exact: the factors are integers of at most 8 bits, and sums stay below 2^24 unless a picture shrinks 200-fold.
    product = jax.lax.dot_general(x, limb, (((x.ndim - 1,), (1,)), ((), ())), precision=jax.lax.Precision.DEFAULT)
    total = total + (product.astype(jnp.int32) << shift)
  return jnp.moveaxis(jnp.clip(total >> FRACTION, 0, 255).astype(jnp.uint8), -1, axis)


def _weights(before: int, after: int, resample: str) -> np.ndarray:
  """int32[after, before]: how much of each pixel goes into each new one, in units of 2^-22 (as Pillow's Resample.c)."""
  kernel, reach, _ = FILTERS[resample]
  scale = before / after
  widened = max(scale, 1.0)
  centres = (np.arange(after)[:, None] + 0.5) * scale
  pixels = np.arange(before)[None, :]
  first = np.maximum(np.floor(centres - reach * widened + 0.5), 0)
  last = np.minimum(np.floor(centres + reach * widened + 0.5), before)
  weights = np.where((pixels >= first) & (pixels < last), kernel((pixels - centres + 0.5) / widened), 0)
  weights = weights / weights.sum(1, keepdims=True) * 2**FRACTION
  return np.trunc(weights + np.copysign(0.5, weights)).astype(np.int32)


def _limbs(weights: np.ndarray) -> list[tuple[int, np.ndarray]]:
  """int32 as a sum of float32 limbs of 8 signed bits, each with the number of bits that it is shifted by."""
  limbs = []
  for shift in (0, 8, 16):
    limb = (weights + 128) % 256 - 128 if shift < 16 else weights
    limbs.append((shift, limb.astype(np.float32)))
    weights = (weights - limb) // 256
  return limbs


# Defaults of the processors of transformers, for fields that a config leaves out: the name without its ending
# ('ImageProcessor', 'FeatureExtractor', …). An int as `size` is the shorter edge unless `default_to_square`.
_CROPPING = {'size': {'shortest_edge': 224}, 'do_center_crop': True, 'crop_size': 224, 'default_to_square': False}
_CLIP = _CROPPING | {'resample': 3, 'image_mean': CLIP_MEAN, 'image_std': CLIP_STD}
_VIDEO_MAE = _CROPPING | {'resample': 2, 'image_mean': HALF, 'image_std': HALF}
_SQUARE = {'size': {'height': 224, 'width': 224}, 'image_mean': HALF, 'image_std': HALF}
DEFAULTS: dict[str, dict[str, Any]] = {
  'CLIP': _CLIP,
  'Bit': _CLIP,
  'Siglip': _SQUARE | {'resample': 3, 'default_to_square': False},
  # its size follows from the picture, see siglip2.py
  'Siglip2': {'resample': 2, 'image_mean': HALF, 'image_std': HALF},
  # its size follows from the picture, see qwen_pixels.py
  'Qwen2VL': {'resample': 3, 'image_mean': CLIP_MEAN, 'image_std': CLIP_STD},
  'ViT': _SQUARE | {'resample': 2, 'default_to_square': True},
  'VideoMAE': _VIDEO_MAE,
  'VJEPA2': _VIDEO_MAE | {'crop_size': 256, 'image_mean': IMAGENET_MEAN, 'image_std': IMAGENET_STD},
}
_ENDINGS = ('Fast', 'Pil', 'ImageProcessor', 'VideoProcessor', 'FeatureExtractor')
_TYPES = ('image_processor_type', 'video_processor_type', 'feature_extractor_type')
_READ = ('size', 'crop_size', 'resample', 'rescale_factor', 'image_mean', 'image_std', 'default_to_square') + (
  'do_resize', 'do_center_crop', 'do_rescale', 'do_normalize',
)  # fmt: skip
# These change no picture of three channels that is given as uint8.
_WITHOUT_EFFECT = (*_TYPES, 'processor_class', 'auto_map', 'do_convert_rgb', 'num_channels', 'model_input_names') + (
  'data_format', 'input_data_format', 'device', 'return_tensors', 'disable_grouping', 'return_metadata',
  'video_metadata', 'do_sample_frames', 'fps', 'num_frames', 'transformers_version', '_valid_processor_keys',
)  # fmt: skip


def _from_hugging_face(processor: dict[str, Any]) -> Preprocessing:
  """See `Preprocessing.from_hugging_face`."""
  given = {name: value for name, value in processor.items() if value is not None}
  unknown = {
    name: value for name, value in given.items() if name not in (*_READ, *_WITHOUT_EFFECT) and value is not False
  }
  if unknown:
    listed = ', '.join(f'{name}={value!r}' for name, value in unknown.items())
    raise ValueError(f'image processor: {listed}: not supported; supported: {", ".join(_READ)}')
  family = next((given[name] for name in _TYPES if name in given), None)
  fields: dict[str, Any] = {'do_resize': True, 'do_center_crop': False, 'do_rescale': True, 'do_normalize': True}
  fields |= {'rescale_factor': 1 / 255} | _defaults(family) | given
  crop, resize, resample = None, None, 'bicubic'
  if fields['do_center_crop']:
    match _size('crop_size', _needed(fields, 'crop_size'), square=True):
      case (height, width):
        crop = height, width
      case edge:
        raise ValueError(f'image processor: crop_size has a shortest_edge={edge}: give a height and a width')
  if fields['do_resize']:
    resize = _size('size', _needed(fields, 'size'), fields.get('default_to_square'))
    if str(family).startswith('VJEPA2') and crop:
      # it takes its size from the crop, whatever the config says
      resize = int(crop[0] * 256 / 224)
    codes = {code: name for name, (_, _, code) in FILTERS.items()}
    if _needed(fields, 'resample') not in codes:
      supported = ', '.join(f'{code} ({name})' for code, name in codes.items())
      raise ValueError(f'image processor: resample={fields["resample"]!r} is not supported; supported: {supported}')
    resample = codes[fields['resample']]
  mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
  if fields['do_normalize']:
    mean, std = (_channels(name, _needed(fields, name)) for name in ('image_mean', 'image_std'))
  return Preprocessing(resize, crop, mean, std, resample, fields['rescale_factor'] if fields['do_rescale'] else 1.0)


def _defaults(family: str | None) -> dict[str, Any]:
  """Defaults of the processor with this name; none where a config names none."""
  if family is None:
    return {}
  name = family
  for ending in _ENDINGS:
    name = name.removesuffix(ending)
  if name not in DEFAULTS:
    raise ValueError(f'image processor: {family} is not supported; supported: processors of {", ".join(DEFAULTS)}')
  return DEFAULTS[name]


def _needed(fields: dict[str, Any], name: str) -> Any:
  if name not in fields:
    raise ValueError(f'image processor: {name} is missing, and the config names no processor whose default it could be')
  return fields[name]


def _size(name: str, size: Any, square: bool | None) -> int | tuple[int, int]:
  """The shorter edge, or (height, width), of any form that `size` has had."""
  if isinstance(size, int) and square is not None:
    return (size, size) if square else size
  if isinstance(size, (list, tuple)) and len(size) == 2:
    return int(size[0]), int(size[1])
  if isinstance(size, dict):
    edges = {edge: length for edge, length in size.items() if length is not None}
    if set(edges) == {'height', 'width'}:
      return edges['height'], edges['width']
    if set(edges) == {'shortest_edge'}:
      return edges['shortest_edge']
  raise ValueError(
    f'image processor: {name}={size!r} is not supported; supported: a height and a width, or a shortest_edge'
  )


def _channels(name: str, value: Any) -> tuple[float, float, float]:
  values = tuple(map(float, value)) if isinstance(value, (list, tuple)) else (float(value),) * 3
  if len(values) != 3:
    raise ValueError(f'image processor: {name}={value!r}: three channels are supported')
  return values
