"""Windows one after another are those that are read at once, and few are in memory."""

import types

import numpy as np
import pytest

from crosstrainer_jax.input import video, video_stream
from tests.overlapping_clips import write_video


@pytest.fixture(scope='module')
def path(tmp_path_factory):
  path = tmp_path_factory.mktemp('videos') / 'own.mp4'
  write_video(path, seconds=8)
  return path


@pytest.mark.parametrize(('length', 'stride'), [(2.0, 0.5), (2.0, 2.0), (20.0, 1.0)])
def test_they_are_those_that_are_read_at_once(path, length, stride):
  spans = video.sliding_windows(8.3, length, stride)
  windows = [[begin + i / 4 for i in range(round(length * 4)) if begin + i / 4 < end + 1] for begin, end in spans]
  found = list(video_stream.stream_windows(path, windows, 16))
  for ours, expected in zip(found, video.read_windows(path, windows, 16), strict=True):
    np.testing.assert_array_equal(ours.frames, expected.frames)
    np.testing.assert_array_equal(ours.times, expected.times)
    assert ours.missing == expected.missing


def test_a_window_comes_as_soon_as_it_is_decoded(path, monkeypatch):
  """Frames are asked for one at a time, and one of them is missing."""
  decoded = []

  def frames_at(path, times, *_):
    for index, time in enumerate(times):
      decoded.append(index)
      yield index, time, None if index == 3 else np.full((4, 4, 3), index, np.uint8)

  monkeypatch.setattr(video_stream, 'video', types.SimpleNamespace(frames_at=frames_at, Window=video.Window))
  stream = video_stream.stream_windows(path, [[i, i + 0.5] for i in range(5)], 4)
  assert not decoded
  assert next(stream).frames[1].mean() == 1
  assert decoded == [0, 1, 2]
  assert next(stream).missing == 1
  assert decoded == [0, 1, 2, 3, 4]
