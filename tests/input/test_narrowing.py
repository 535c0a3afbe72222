"""A clip of which less is seen than was prepared."""

import math

import numpy as np
import pytest

from crosstrainer_jax.input.examples import valid_tokens
from crosstrainer_jax.input.narrowing import narrow
from crosstrainer_jax.input.source import ClipInfo


def clip(time: float = 12.0) -> ClipInfo:
  """Two views of eight seconds from 8 s on, two frames a second; the second view begins two seconds late."""
  times = np.tile(8 + np.arange(16, dtype=np.float32) / 2, (2, 1))
  times[1, :4] = np.nan
  return ClipInfo(
    'c', 'golf', 'putt', 'p', 't', 'train', ['a', 'b'], 'x', times, [], [], [], False, -1, commentary_time=time
  )


def seen(one: ClipInfo) -> list[list[int]]:
  return valid_tokens(one.frame_times, 8).astype(int).tolist()


def test_nothing_is_asked_and_nothing_changes():
  one = clip()
  before = one.frame_times
  narrow([one], (0.0, 0.0), 0)
  narrow([one], [0.0, 0.0], 0)  # as a recorded config has it
  assert one.frame_times is before


def test_the_window_is_around_the_comment():
  one = clip()
  before = one.frame_times.copy()
  narrow([one], (3.0, 1.0), 0)
  assert seen(one) == [[0, 1, 1, 1, 1, 1, 0, 0], [0, 0, 1, 1, 1, 1, 0, 0]]
  inside = np.isfinite(one.frame_times)
  np.testing.assert_array_equal(one.frame_times[inside], before[inside])
  assert one.frame_times[inside].min() == 9.0
  assert one.frame_times[inside].max() == 13.0


def test_without_a_comment_the_middle_counts():
  one = clip(math.nan)
  narrow([one], (1.0, 1.0), 0)
  assert seen(one)[0] == [0, 0, 0, 1, 1, 0, 0, 0]


def test_the_first_views_are_kept():
  one = clip()
  narrow([one], (0.0, 0.0), 1)
  assert seen(one) == [[1] * 8, [0] * 8]


def test_a_clip_of_which_nothing_is_left_is_named():
  with pytest.raises(ValueError, match="clip 'c': nothing is left to see"):
    narrow([clip(40.0)], (1.0, 1.0), 0)
