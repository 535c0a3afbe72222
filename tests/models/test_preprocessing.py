"""Preprocessing against the image processors of transformers that use Pillow, which need no PyTorch."""

import dataclasses
import json
from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from PIL import Image
from transformers.models.bit.image_processing_pil_bit import BitImageProcessorPil
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil
from transformers.models.videomae.image_processing_pil_videomae import VideoMAEImageProcessorPil
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from crosstrainer_jax.models.preprocessing import CLIP_MEAN, CLIP_STD, HALF, Preprocessing, _limbs, _weights

CLIP = Preprocessing(224, (224, 224), CLIP_MEAN, CLIP_STD)
SMALL = {'size': {'shortest_edge': 48}, 'crop_size': {'height': 48, 'width': 48}}
PLAIN = Preprocessing(None, None, (0.0,) * 3, (1.0,) * 3, scale=1.0)


def picture(height: int, width: int) -> np.ndarray:
  """Noise, and black and white, which a cubic filter overshoots."""
  rng = np.random.default_rng(height * 1000 + width)
  pixels = rng.integers(0, 256, (height, width, 3), np.uint8)
  pixels[: height // 2] = 255 * rng.integers(0, 2, (height // 2, width, 3))
  return pixels


def both(processor: Any, frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """What we make of the picture, and what the processor makes of it, float32[h, w, 3] each."""
  ours = Preprocessing.from_hugging_face(json.loads(processor.to_json_string()))
  expected = processor([Image.fromarray(frames)], return_tensors='np')['pixel_values'].reshape(
    3, *ours.output(*frames.shape[:2])
  )
  return np.asarray(jax.jit(ours)(frames)), expected.transpose(1, 2, 0)


@pytest.mark.parametrize(
  'size',
  [(60, 107), (107, 60), (31, 45), (48, 96), (201, 77), (200, 48), (1, 1)],
  ids=lambda size: f'{size[0]}x{size[1]}',
)
@pytest.mark.parametrize(
  ('kind', 'settings'),
  [
    (CLIPImageProcessorPil, SMALL),
    (CLIPImageProcessorPil, {'size': {'shortest_edge': 41}, 'crop_size': {'height': 64, 'width': 33}, 'resample': 2}),
    (SiglipImageProcessorPil, {'size': {'height': 48, 'width': 41}}),
    (ViTImageProcessorPil, {'size': {'height': 48, 'width': 48}}),
  ],
  ids=['clip', 'crop_larger', 'siglip', 'vit'],
)
def test_equals_the_processor(kind, settings, size):
  """To the last bit of the pixels; what is left is the rounding of float32 in the normalisation."""
  found, expected = both(kind(**settings), picture(*size))
  np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize('size', [(360, 640), (720, 405)], ids=['landscape', 'portrait'])
def test_pixels_of_a_video_are_those_of_pillow(size):
  frames = picture(*size)
  height, width = CLIP.resized(*size)
  expected = Image.fromarray(frames).resize((width, height), Image.Resampling.BICUBIC)
  top, left = (height - 224) // 2, (width - 224) // 2
  expected = np.asarray(expected)[top : top + 224, left : left + 224]
  np.testing.assert_array_equal(CLIP.pixels(jnp.asarray(frames)), expected)


@pytest.mark.parametrize('size', [(81, 64), (30, 40)])
@pytest.mark.parametrize('crop', [(33, 64), (32, 33), (65, 31)])
def test_crop_without_resizing(crop, size):
  """Odd differences, and zeros where the crop is larger than the picture."""
  settings = {'do_resize': False, 'crop_size': {'height': crop[0], 'width': crop[1]}}
  found, expected = both(CLIPImageProcessorPil(**settings), picture(*size))
  np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize(
  'settings',
  [
    {'do_center_crop': False},
    {'do_rescale': False},
    {'do_normalize': False},
    {'do_rescale': False, 'do_normalize': False},
    {'rescale_factor': 1 / 127.5, 'image_mean': [1.0, 1.0, 1.0], 'image_std': [1.0, 1.0, 1.0]},
  ],
  ids=lambda settings: '-'.join(settings),
)
def test_each_step_can_be_left_out(settings):
  found, expected = both(CLIPImageProcessorPil(**SMALL | settings), picture(60, 91))
  np.testing.assert_allclose(found, expected, atol=1e-4 if settings.get('do_rescale') is False else 1e-6)


@pytest.mark.parametrize(
  'kind',
  [
    CLIPImageProcessorPil,
    SiglipImageProcessorPil,
    ViTImageProcessorPil,
    VideoMAEImageProcessorPil,
    BitImageProcessorPil,
  ],
)
def test_defaults_are_those_of_the_processor(kind):
  written = json.loads(kind().to_json_string())
  name = written['image_processor_type']
  everything = Preprocessing.from_hugging_face(written)
  for named in (name, f'{name}Fast', name.replace('ImageProcessor', 'FeatureExtractor')):
    assert Preprocessing.from_hugging_face({'image_processor_type': named}) == everything


def test_old_and_new_forms_of_sizes():
  """As the configs of OpenAI's CLIP and of later ones on the hub are."""
  old = {
    'crop_size': 224, 'do_center_crop': True, 'do_normalize': True, 'do_resize': True, 'resample': 3, 'size': 224,
    'feature_extractor_type': 'CLIPFeatureExtractor', 'image_mean': list(CLIP_MEAN), 'image_std': list(CLIP_STD),
  }  # fmt: skip
  new = old | {'size': {'shortest_edge': 224}, 'crop_size': {'height': 224, 'width': 224}, 'do_convert_rgb': True}
  square = old | {'size': {'height': 300, 'width': 400}, 'crop_size': [16, 24], 'rescale_factor': 0.00392156862745098}
  assert Preprocessing.from_hugging_face(old) == Preprocessing.from_hugging_face(new) == CLIP
  assert Preprocessing.from_hugging_face(square) == dataclasses.replace(CLIP, resize=(300, 400), crop=(16, 24))
  plain = {'image_mean': 0.5, 'image_std': 0.5, 'resample': 2, 'size': 96, 'default_to_square': True}
  assert Preprocessing.from_hugging_face(plain) == Preprocessing((96, 96), None, HALF, HALF, 'bilinear')
  assert Preprocessing.from_hugging_face(plain | {'default_to_square': False}).resize == 96


def test_v_jepa_2_takes_its_size_from_the_crop():
  config = {'video_processor_type': 'VJEPA2VideoProcessor', 'size': {'shortest_edge': 256}, 'crop_size': 384}
  found = Preprocessing.from_hugging_face(config | {'do_sample_frames': True, 'fps': 4, 'num_frames': 64})
  assert (found.resize, found.crop, found.resample) == (438, (384, 384), 'bilinear')


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    ({'resample': 1}, r'resample=1 is not supported; supported: 2 \(bilinear\), 3 \(bicubic\)'),
    ({'do_pad': True}, 'do_pad=True: not supported'),
    ({'do_thumbnail': True, 'size_divisor': 32}, 'do_thumbnail=True, size_divisor=32: not supported'),
    ({'size': {'longest_edge': 224}}, r"size=\{'longest_edge': 224\} is not supported"),
    ({'size': {'shortest_edge': 224, 'longest_edge': 300}}, 'size=.* is not supported'),
    ({'crop_size': {'shortest_edge': 224}}, 'crop_size has a shortest_edge=224: give a height and a width'),
    ({'image_mean': [0.5]}, r'image_mean=\[0.5\]: three channels'),
    ({'image_processor_type': 'OwlViTImageProcessor'}, 'OwlViTImageProcessor is not supported; supported: .* CLIP'),
  ],
)
def test_what_is_not_supported_is_refused_by_name(change, message):
  with pytest.raises(ValueError, match=message):
    Preprocessing.from_hugging_face({'image_processor_type': 'CLIPImageProcessor'} | change)


@pytest.mark.parametrize(
  ('config', 'name'),
  [
    ({}, 'size'),
    ({'size': {'shortest_edge': 8}}, 'resample'),
    ({'do_resize': False, 'do_center_crop': True}, 'crop_size'),
    ({'do_resize': False, 'image_mean': HALF}, 'image_std'),
  ],
)
def test_without_a_processor_everything_must_be_said(config, name):
  with pytest.raises(ValueError, match=f'{name} is missing'):
    Preprocessing.from_hugging_face(config)
  with pytest.raises(ValueError, match='size=8 is not supported'):
    Preprocessing.from_hugging_face({'size': 8, 'resample': 3})


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    ({'resample': 'lanczos'}, 'known: bilinear, bicubic'),
    ({'resize': 0}, 'at least 1'),
    ({'crop': (0, 3)}, 'at least'),
  ],
)
def test_a_wrong_setting_is_a_clear_error(change, message):
  with pytest.raises(ValueError, match=message):
    dataclasses.replace(PLAIN, **change)


@pytest.mark.parametrize('frames', [np.zeros((8, 8, 3), np.float32), np.zeros((3, 8, 8), np.uint8)])
def test_frames_are_pictures_of_bytes(frames):
  with pytest.raises(ValueError, match=r'must be uint8\[\.\.\., H, W, 3\]; got'):
    CLIP(jnp.asarray(frames))


def test_any_leading_axes_and_jit():
  settings = dataclasses.replace(CLIP, resize=24, crop=(24, 24))
  frames = np.stack([[picture(31, 40), picture(31, 40)[::-1]], [picture(31, 40)[:, ::-1], picture(31, 40) // 2]])
  found = np.asarray(jax.jit(settings)(frames))
  assert found.shape == (2, 2, 24, 24, 3)
  assert found.dtype == np.float32
  for i in range(4):
    # the pixels are the same; a compiler may multiply by 1 / std
    np.testing.assert_allclose(found[i // 2, i % 2], settings(jnp.asarray(frames[i // 2, i % 2])), atol=1e-6)


@pytest.mark.parametrize('resample', ['bilinear', 'bicubic'])
@pytest.mark.parametrize(('before', 'after'), [(1920, 224), (37, 224), (3, 2), (4000, 20)])
def test_exact_in_the_number_formats_of_an_accelerator(before, after, resample):
  """The limbs are bfloat16 numbers, and no sum of them with pixels leaves the integers that float32 holds."""
  weights = _weights(before, after, resample)
  limbs = _limbs(weights)
  np.testing.assert_array_equal(sum(limb.astype(np.int64) << shift for shift, limb in limbs), weights)
  for _, limb in limbs:
    np.testing.assert_array_equal(limb.astype(ml_dtypes.bfloat16).astype(np.float32), limb)
    assert 255 * np.abs(limb).sum(1).max() < 2**24
  assert 255 * np.abs(weights.astype(np.int64)).sum(1).max() < 2**31


def test_nothing_to_do_changes_nothing():
  np.testing.assert_array_equal(PLAIN(jnp.asarray(picture(9, 13))), picture(9, 13))
