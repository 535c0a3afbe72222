"""What judges see of a clip: of a dataset, and of a window of a video file."""

import io

import numpy as np
import pytest
from PIL import Image

from crosstrainer_jax.input.source import ClipSource
from crosstrainer_jax.input.video import VideoError
from crosstrainer_jax.pictures import HEIGHT, ClipPictures, Picture, VideoPictures, Window
from tests.inference.test_coach import write_video


def test_a_picture_moves_with_its_views_side_by_side():
  frames = np.random.default_rng(0).integers(0, 255, (2, 5, 8, 12, 3)).astype(np.uint8)
  moving = Image.open(io.BytesIO(Picture(frames, 125).moving()))
  assert (moving.n_frames, moving.size) == (5, (HEIGHT * 24 // 8, HEIGHT))
  strip = Image.open(io.BytesIO(Picture(frames, 125).strip()))
  assert strip.size[0] / strip.size[1] == pytest.approx(5 * 12 / 8)


def test_clips_of_a_dataset(small_data):
  source = ClipSource(small_data)
  pictures = ClipPictures(source)
  assert len(pictures) == len(source)
  clip = source[3]
  assert clip.clip_id in pictures
  assert 'no clip' not in pictures
  picture = pictures[clip.clip_id]
  np.testing.assert_array_equal(picture.frames, clip.frames)
  assert picture.milliseconds == 250


def test_windows_of_a_video_without_the_bars(tmp_path):
  path = tmp_path / 'video.mp4'
  write_video(path, 4)
  (tmp_path / 'broken.mp4').write_bytes(b'no video')
  pictures = VideoPictures({'a': Window(path, 1.0, 2.5), 'b': Window(tmp_path / 'broken.mp4', 0.0, 1.0)})
  assert list(pictures) == ['a', 'b']
  picture = pictures['a']
  assert picture.frames.shape[:2] == (1, 12)
  assert picture.milliseconds == 125
  # no row and no column is black throughout
  brightness = picture.frames[0].max((0, 3))
  assert brightness.max(0).min() > 0
  assert brightness.max(1).min() > 0
  with pytest.raises(VideoError, match=r'broken\.mp4'):
    pictures['b']
