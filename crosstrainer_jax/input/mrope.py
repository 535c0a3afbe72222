"""Rotary positions of words and pictures together (M-RoPE; Qwen2-VL, arXiv:2409.12191, section 2.1).

A token has three places: in time, in rows and in columns. Those of a word are equal, so that text alone is positioned
as by plain rotary positions. A picture begins where the text before it ended; its merged tokens have the row and column
of their own, and the time of their step. The text behind it goes on from the furthest of these places: Qwen2.5-VL was
trained so, and vLLM serves it so. `transformers` 5 goes on from the furthest row or column, whatever the time is, which
differs for videos with more time steps than that; see docs/qwen2_5_vl.md.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Grid(NamedTuple):
  """The merged tokens of a picture or a video.

  Attributes:
    steps: T, time steps; 1 for a picture.
    rows, columns: of merged tokens.
    interval: how far apart two steps are in time; those of Qwen2.5-VL are 1 / tokens_per_second of a second.
  """

  steps: int
  rows: int = 1
  columns: int = 1
  interval: float = 1.0

  @property
  def tokens(self) -> int:
    return self.steps * self.rows * self.columns


@functools.lru_cache(maxsize=64)
def places(grid: Grid) -> np.ndarray:
  """int32[tokens, 3]: time, row and column of every token, step after step and row after row, from 0."""
  steps, rows, columns = np.indices((grid.steps, grid.rows, grid.columns)).reshape(3, -1)
  # Rounded down behind the product, so that intervals that are no whole numbers do not add up to an error.
  return np.stack([np.floor(steps * grid.interval), rows, columns], -1).astype(np.int32)


def positions(parts: Sequence[int | np.ndarray]) -> tuple[np.ndarray, int]:
  """Positions of a sequence.

  Args:
    parts: in their order, a number of words, or the places int32[N, 3] of a picture's tokens.

  Returns:
    int32[L, 3], and the position of what would follow.
  """
  found, start = [np.zeros((0, 3), np.int32)], 0
  for part in parts:
    own = np.repeat(np.arange(part, dtype=np.int32)[:, None], 3, 1) if isinstance(part, int) else part
    if len(own):
      found.append(own + np.int32(start))
      start = int(found[-1].max()) + 1
  return np.concatenate(found), start
