"""Positions of words and pictures together."""

import numpy as np
import pytest

from crosstrainer_jax.input.mrope import Grid, places, positions


def test_the_example_of_qwens_authors() -> None:
  """3 steps of 2 x 2 tokens, 50 apart in time, then five words: they go on behind the last moment."""
  found, behind = positions([places(Grid(3, 2, 2, 50.0)), 5])
  time, rows, columns = found.T
  assert time[:12].tolist() == [0] * 4 + [50] * 4 + [100] * 4
  assert rows[:12].tolist() == [0, 0, 1, 1] * 3
  assert columns[:12].tolist() == [0, 1] * 6
  assert found[12:].tolist() == [[place] * 3 for place in range(101, 106)]
  assert behind == 106


def test_text_alone_is_counted() -> None:
  found, behind = positions([4, 0, 3])
  assert found.tolist() == [[place] * 3 for place in range(7)]
  assert behind == 7
  assert positions([])[0].shape == (0, 3)


def test_a_picture_begins_where_the_text_before_it_ends_and_its_longer_side_decides() -> None:
  found, behind = positions([2, places(Grid(1, 1, 3)), 1, places(Grid(1, 4, 2)), 1])
  assert found[2:5].tolist() == [[2, 2, 2], [2, 2, 3], [2, 2, 4]]
  assert found[5].tolist() == [5, 5, 5]
  assert found[6].tolist() == [6, 6, 6]
  assert found[-1].tolist() == [10, 10, 10]
  assert behind == 11


@pytest.mark.parametrize(('interval', 'expected'), [(0.5, [0, 0, 1, 1]), (1.5, [0, 1, 3, 4]), (2.0, [0, 2, 4, 6])])
def test_fractions_of_a_place_are_rounded_down_and_do_not_add_up(interval: float, expected: list[int]) -> None:
  assert places(Grid(4, 1, 1, interval))[:, 0].tolist() == expected


def test_places_are_whole_numbers_of_32_bits() -> None:
  assert positions([1, places(Grid(2, 1, 1, 0.3))])[0].dtype == np.int32
