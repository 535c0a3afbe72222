"""What Qwen2.5-VL is given of a picture: sizes and patches equal to those of its processor."""

import jax.numpy as jnp
import numpy as np
import pytest
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

from crosstrainer_jax.models.preprocessing import CLIP_MEAN, CLIP_STD
from crosstrainer_jax.models.qwen_pixels import PICTURE, QwenPixels, check_frames
from crosstrainer_jax.models.qwen_vision import QwenVisionConfig, windows
from tests.models import tiny_qwen

CONFIG = QwenVisionConfig(**tiny_qwen.VISION | {'fullatt_block_indexes': (1, 3)})
PIXELS = QwenPixels.from_hugging_face(tiny_qwen.processor().to_dict(), CONFIG)


def test_sizes_are_those_of_the_processor() -> None:
  rng = np.random.default_rng(0)
  sizes = [(28, 28), (14, 14), (42, 42), (1, 200), (200, 1), (3000, 4000), *map(tuple, rng.integers(1, 3000, (300, 2)))]
  for least, most in (PICTURE, (256 * 784, 1280 * 784), (784, 784)):
    pixels = QwenPixels(PIXELS.preprocessing, least, most)
    for height, width in sizes:
      if max(height, width) <= 200 * min(height, width):
        assert pixels.size(height, width, 28) == smart_resize(height, width, 28, least, most), (height, width)


def test_a_picture_that_is_too_narrow_is_refused() -> None:
  with pytest.raises(ValueError, match='a picture of 1 x 201 pixels: one side is over 200 times the other'):
    PIXELS.size(201, 1, 28)


@pytest.mark.parametrize('name', tiny_qwen.PICTURES)
def test_patches_are_those_of_the_processor_in_its_order(name: str) -> None:
  frames = check_frames(tiny_qwen.PICTURES[name])
  expected, (steps, rows, columns) = tiny_qwen.processed(tiny_qwen.PICTURES[name])
  assert PIXELS.grid(*frames.shape[1:3], CONFIG) == (rows, columns)
  found = np.asarray(PIXELS.patches(jnp.asarray(frames[None]), CONFIG))[0]
  slots = windows(rows, columns, CONFIG)
  assert not found[:, ~slots.valid].any()
  packed = found.reshape(steps, -1, CONFIG.merged, CONFIG.patch_dim)[:, slots.tokens]
  np.testing.assert_allclose(packed.reshape(expected.shape), expected, rtol=0, atol=1e-6)


def test_published_processors() -> None:
  """The two forms in which limits are written, and what is meant where nothing is."""
  seven_billion = {
    'min_pixels': 3136, 'max_pixels': 12845056, 'patch_size': 14, 'temporal_patch_size': 2, 'merge_size': 2,
    'image_mean': list(CLIP_MEAN), 'image_std': list(CLIP_STD), 'image_processor_type': 'Qwen2VLImageProcessor',
    'processor_class': 'Qwen2_5_VLProcessor',
  }  # fmt: skip
  config = QwenVisionConfig()
  found = QwenPixels.from_hugging_face(seven_billion, config)
  assert (found.min_pixels, found.max_pixels) == (3136, 12845056)
  assert (found.preprocessing.mean, found.preprocessing.resample) == (CLIP_MEAN, 'bicubic')
  newer = {'size': {'shortest_edge': 100, 'longest_edge': 900}, 'image_processor_type': 'Qwen2VLImageProcessorFast'}
  found = QwenPixels.from_hugging_face(newer, config)
  assert (found.min_pixels, found.max_pixels) == (100, 900)
  found = QwenPixels.from_hugging_face({'image_processor_type': 'Qwen2VLImageProcessor'}, config)
  assert (found.min_pixels, found.max_pixels) == PICTURE


@pytest.mark.parametrize(
  ('fields', 'message'),
  [
    ({'patch_size': 16}, 'patch_size=16, but the model has 4'),
    ({'merge_size': 4}, 'merge_size=4, but the model has 2'),
    ({'do_resize': False}, 'do_resize=False is not supported'),
    ({'do_pad': True}, 'do_pad=True: not supported'),
    ({'min_pixels': 9, 'max_pixels': 4}, 'min_pixels=9, max_pixels=4'),
  ],
)
def test_what_would_change_pictures_is_refused(fields: dict, message: str) -> None:
  with pytest.raises(ValueError, match=message):
    QwenPixels.from_hugging_face({'image_processor_type': 'Qwen2VLImageProcessor', **fields}, CONFIG)


@pytest.mark.parametrize('array', [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 4, 3), np.uint8)])
def test_what_is_no_picture_is_refused(array: np.ndarray) -> None:
  with pytest.raises(ValueError, match=r'a picture is uint8\[H, W, 3\]'):
    check_frames(array)
