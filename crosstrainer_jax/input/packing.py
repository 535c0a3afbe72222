"""How the clips of one update share rows, the same on every host.

Clips are put into rows by first-fit decreasing, on lengths that are known beforehand: those of the longest prompt that
a clip may get. The arrays of all updates of a stage have one shape, so that one program is compiled.
"""

import dataclasses
import math
from collections.abc import Iterable

import numpy as np

# Rows are as long as a multiple of this; kernels of attention work on blocks of 128.
BLOCK = 128
# Room in a row, over the average, for more clips and more targets than the average row holds.
ROOM = 1.25


@dataclasses.dataclass(frozen=True)
class Shape:
  """Of the arrays of an update: R rows of L tokens, with at most M targets and K clips in each.

  Attributes:
    rows: R.
    tokens: L.
    targets: M.
    clips: K.
  """

  rows: int
  tokens: int
  targets: int
  clips: int


@dataclasses.dataclass(frozen=True)
class Sizes:
  """What clips need: int32[N] tokens in all, and int32[N] targets among them."""

  tokens: np.ndarray
  targets: np.ndarray

  def __getitem__(self, rows: np.ndarray) -> 'Sizes':
    return Sizes(self.tokens[rows], self.targets[rows])


def pack(sizes: Sizes, shape: Shape) -> list[list[int]] | None:
  """The clips of each row, by first-fit decreasing; None when they do not fit into the rows.

  Every clip is in one row, and clips of equal length go in their order.
  """
  free_tokens, free_targets = np.full(shape.rows, shape.tokens), np.full(shape.rows, shape.targets)
  free_places = np.full(shape.rows, shape.clips)
  rows: list[list[int]] = [[] for _ in range(shape.rows)]
  for clip in np.argsort(-sizes.tokens, kind='stable'):
    fits = (free_tokens >= sizes.tokens[clip]) & (free_targets >= sizes.targets[clip]) & (free_places > 0)
    row = int(np.argmax(fits))
    if not fits[row]:
      return None
    rows[row].append(int(clip))
    free_tokens[row] -= sizes.tokens[clip]
    free_targets[row] -= sizes.targets[clip]
    free_places[row] -= 1
  return rows


def choose_shape(updates: Iterable[Sizes], longest_row: int, multiple: int) -> Shape:
  """The smallest arrays that hold each of the `updates`: of all numbers of rows, up to twice as many as there must be.

  Args:
    updates: what the clips of every update need; at least one.
    longest_row: no row is longer.
    multiple: of rows: into so many parts a mesh and the accumulation of gradients split an update.

  Raises:
    ValueError: a single clip is longer than `longest_row`.
  """
  # Those that need most first: they say soonest that a shape is too small.
  parts = sorted(updates, key=lambda part: -int(part.tokens.sum()))
  longest = max(int(part.tokens.max()) for part in parts)
  if longest > longest_row:
    raise ValueError(
      f'a clip needs {longest} tokens, more than a row of training.row_tokens = {longest_row}: give longer rows '
      '(at most decoder.max_position), or prepare shorter clips'
    )
  most = int(parts[0].tokens.sum())
  fewest = math.ceil(most / (longest_row * multiple))
  averages = tuple(float(np.concatenate(each).mean()) for each in zip(*map(dataclasses.astuple, parts), strict=True))
  most_clips, most_targets = max(len(part.tokens) for part in parts), max(int(part.targets.max()) for part in parts)

  def with_room(rows: int, tokens: int, room: float) -> Shape:
    """Rows that take `room` times the targets and clips of an average row, as far as there are so many."""
    clips = room * tokens / averages[0]
    targets = max(min(clips * averages[1], tokens), most_targets)
    return Shape(rows, tokens, min(tokens, 16 * math.ceil(targets / 16)), math.ceil(min(clips, most_clips)))

  found: list[Shape] = []
  # Half of the room in rows is enough for first fit, unless one of them is full of targets or of clips.
  for room in (ROOM, math.inf):
    for rows in range(fewest * multiple, 2 * fewest * multiple + 1, multiple):
      shortest = BLOCK * math.ceil(max(longest, most / rows) / BLOCK)
      for tokens in range(shortest, longest_row + BLOCK, BLOCK):
        if found and rows * tokens >= found[-1].rows * found[-1].tokens:
          break
        shape = with_room(rows, min(tokens, longest_row), room)
        if all(pack(part, shape) is not None for part in parts):
          found.append(shape)
          break
    if found:
      return found[-1]
  raise AssertionError('first fit fills every row but one to more than a half')
