"""Clips share rows: each is there once, nothing is over-full, and the shape serves every update."""

import math

import numpy as np
import pytest

from crosstrainer_jax.input import packing
from crosstrainer_jax.input.packing import Shape, Sizes


def sizes(*tokens, share=0.25):
  tokens = np.array(tokens)
  return Sizes(tokens, np.ceil(tokens * share).astype(int))


def drawn(count, clips, seed=0):
  random = np.random.default_rng(seed)
  return [sizes(*random.normal(155, 35, clips).clip(60, 400).astype(int)) for _ in range(count)]


def test_longest_first_into_the_first_row_that_has_room():
  assert packing.pack(sizes(30, 60, 50, 40, 20), Shape(2, 100, 100, 9)) == [[1, 3], [2, 0, 4]]


@pytest.mark.parametrize(
  ('shape', 'rows'),
  [
    (Shape(2, 100, 99, 9), [[0, 1], [2, 3]]),
    # targets decide
    (Shape(2, 999, 24, 9), [[0, 2], [1, 3]]),
    # a third row is left empty
    (Shape(3, 200, 99, 9), [[0, 1, 2, 3], [], []]),
    # clips decide
    (Shape(2, 999, 999, 2), [[0, 1], [2, 3]]),
    (Shape(1, 100, 99, 9), None),
    (Shape(1, 999, 20, 9), None),
    (Shape(1, 999, 999, 3), None),
  ],
)
def test_what_a_row_has_room_for(shape, rows):
  assert packing.pack(sizes(50, 45, 42, 38), shape) == rows


@pytest.mark.parametrize('multiple', [1, 8])
def test_one_shape_serves_all_updates_and_is_nearly_full(multiple):
  updates = drawn(40, 128)
  shape = packing.choose_shape(updates, 2048, multiple)
  assert shape.rows % multiple == 0
  assert shape.tokens <= 2048
  for update in updates:
    rows = packing.pack(update, shape)
    assert sorted(clip for row in rows for clip in row) == list(range(128))
    for row in rows:
      assert update.tokens[row].sum() <= shape.tokens
      assert update.targets[row].sum() <= shape.targets
      assert len(row) <= shape.clips
  fill = np.mean([update.tokens.sum() for update in updates]) / (shape.rows * shape.tokens)
  assert fill > 0.87
  # little more than what the clips themselves need of the head and of f_m
  assert shape.targets * shape.rows < 1.5 * np.mean([update.targets.sum() for update in updates])
  assert shape.clips * shape.rows < 1.6 * 128


def test_it_is_the_same_on_every_host():
  assert packing.choose_shape(drawn(8, 64), 1024, 4) == packing.choose_shape(drawn(8, 64), 1024, 4)
  update = drawn(1, 64)[0]
  shape = packing.choose_shape([update], 1024, 4)
  assert packing.pack(update, shape) == packing.pack(update, shape)


def test_few_clips_leave_rows_of_a_large_mesh_empty():
  shape = packing.choose_shape([sizes(100, 90)], 2048, 16)
  assert (shape.rows, shape.tokens) == (16, 128)
  assert sum(bool(row) for row in packing.pack(sizes(100, 90), shape)) == 2


def test_clips_of_extreme_sizes_still_fit():
  # one clip is nearly all target, and one row could hold a hundred of the short ones
  updates = [Sizes(np.array([1000, *[10] * 100]), np.array([990, *[1] * 100])), sizes(*[500] * 7)]
  shape = packing.choose_shape(updates, 1024, 1)
  assert all(packing.pack(update, shape) is not None for update in updates)


def test_a_clip_that_is_longer_than_a_row_is_an_error():
  with pytest.raises(ValueError, match=r'a clip needs 300 tokens, more than a row of training\.row_tokens = 256'):
    packing.choose_shape([sizes(20, 300)], 256, 1)


def test_a_limit_that_is_no_multiple_of_a_block_is_a_limit():
  shape = packing.choose_shape(drawn(4, 16), 500, 1)
  assert shape.tokens <= 500
  assert math.ceil(max(update.tokens.sum() for update in drawn(4, 16)) / 500) <= shape.rows
