"""The figures that the paper prints, from `published.toml`: one `Cell` each, with where ours comes from."""

from __future__ import annotations

import dataclasses
import functools
import importlib.resources
import tomllib
from typing import Any

ITEMS = ('table 1', 'table 3', 'table 4', 'figure 4', 'figure 5', 'figure 6')
# Tables 1a and 3 are one: the first has the column k = 0.7 of the second.
_PARTS = {
  'table 1': ('table 3', 'table 1b', 'table 1c', 'table 1d'),
  'table 4': ('table 4 left', 'table 4 right'),
}
_AXES = ('metric', 'setting', 'sport', 'skill')


@dataclasses.dataclass(frozen=True)
class Cell:
  """One printed figure, 0 … 100.

  Attributes:
    item: where it stands, for example `table 1b`.
    row: the method as the paper calls it; of figure 5, the sport that trains.
    ours: the row of our table that answers to it, "" for a method that is not run here.
    dataset, setting, sport, skill, metric: what was measured; sport and skill are "" for all of them.
    doubt: what a reader must know of the value.
  """

  item: str
  row: str
  ours: str
  dataset: str
  setting: str
  sport: str
  skill: str
  metric: str
  value: float
  doubt: str = ''


@functools.cache
def cells() -> tuple[Cell, ...]:
  """Every cell, in the order of the file."""
  text = importlib.resources.files('crosstrainer_jax.evaluation').joinpath('published.toml').read_text('utf-8')
  content = tomllib.loads(text)
  return tuple(cell for block in content['block'] for cell in _cells(block, content['ours']))


def of_item(item: str) -> tuple[Cell, ...]:
  """The cells of one of `ITEMS`, its parts included."""
  parts = _PARTS.get(item, (item,))
  found = tuple(cell for cell in cells() if cell.item in parts)
  if item == 'table 1':
    found = tuple(cell for cell in found if cell.item != 'table 3' or cell.metric == 'IoU@0.7')
  return found


def _cells(block: dict[str, Any], ours: dict[str, str]) -> list[Cell]:
  axis, columns = block['axis'], block['columns']
  if axis not in _AXES:
    raise ValueError(f'published.toml: axis {axis!r} of {block["item"]} is none of {_AXES}')
  found = []
  for row, values in block['rows'].items():
    if len(values) != len(columns):
      raise ValueError(f'published.toml: {block["item"]}, {row}: {len(values)} values for {len(columns)} columns')
    for column, value in zip(columns, values, strict=True):
      where = {name: block.get(name, '') for name in _AXES} | {axis: column}
      # The rows of figure 5 are all of them CrossTrainer, trained on the sport that the row names.
      answers = 'CrossTrainer' if where['setting'] == 'SPORT' else ours.get(row, '')
      if block['item'] == 'table 4 left':  # conditions of CrossTrainer, which are rows of ours by the same names
        answers = ours.get(row, row)
      found.append(
        Cell(block['item'], row, answers, block['dataset'], value=value, doubt=block.get('doubt', ''), **where)
      )
  return found
