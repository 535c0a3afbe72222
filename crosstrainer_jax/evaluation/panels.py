"""The paper's tables and figures as panels: what stands in which cell, and which runs of ours answer to it.

A panel is a table, or one drawing of a figure: rows × columns. What a cell of ours is taken from: the runs of its
setting, over all seeds, and of their test clips those of the cell's sport and skill.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from crosstrainer_jax.evaluation import published
from crosstrainer_jax.evaluation.published import Cell

# The row of table 4 whose runs learnt attributes of another backend.
OTHER = 'trained on attributes of another LLM'
NAMES = {'egoexo4d': 'Ego-Exo4D', 'qevd': 'QEVD', 'youtube': 'YouTube'}


class Tests(Protocol):
  """What a place must know of a run, planned or finished; `tested` holds pairs of sport and skill."""

  @property
  def setting(self) -> str: ...
  @property
  def source(self) -> str: ...
  @property
  def other(self) -> bool: ...
  @property
  def tested(self) -> Collection[tuple[str, str]]: ...


@dataclasses.dataclass(frozen=True)
class Place:
  """Where a value of ours comes from: the runs by setting and what they held out, and which of their clips."""

  setting: str
  sport: str = ''
  skill: str = ''
  source: str = ''
  other: bool = False  # runs that learnt attributes of another backend

  def serves(self, run: Tests) -> bool:
    """Whether a run is one of this setting that tests such clips."""
    return (
      run.setting == self.setting
      and run.other == self.other
      and self.source in ('', run.source)
      and any(self.sport in ('', sport) and self.skill in ('', skill) for sport, skill in run.tested)
    )


@dataclasses.dataclass
class Panel:
  """One table, or one drawing of a figure.

  Attributes:
    item, title: where it stands in the paper, and what it shows.
    columns: the values along its axis: metrics, settings, sports or skills.
    rows: published rows by name; `ours` maps them to ours, "" where there is none.
    published: row → one figure for each column, NaN for none.
    places, metrics: for each column, where ours is taken from and by which metric.
    doubt: what must be known of the published figures.
    dataset: theirs.
  """

  item: str
  title: str
  columns: list[str]
  rows: list[str]
  ours: dict[str, str]
  published: dict[str, list[float]]
  places: dict[str, list[Place]]
  metrics: list[str]
  doubt: str
  dataset: str


def is_other(name: str) -> bool:
  """Whether a run of this name learnt attributes of another backend."""
  return '-other-' in f'{name}-'


def panels(item: str, dataset: str, skills: Mapping[str, Collection[str]]) -> list[Panel]:
  """The panels of one of `published.ITEMS`, as they are filled from runs on `dataset`.

  Args:
    skills: of each sport of the dataset. On one that is not the paper's, figure 6 shows its sports; in figure 5 a sport
      that trains for a skill of its own does so without that skill, which is ZS-2.
  """
  cells = [c for c in published.of_item(item) if c.item != 'table 4 right']
  theirs = {cell.dataset for cell in cells}
  if dataset in theirs:
    cells = [cell for cell in cells if cell.dataset == dataset]
  groups: dict[tuple[str, ...], list[Cell]] = {}
  for cell in cells:
    groups.setdefault(_panel_of(cell), []).append(cell)
  found = [_panel(group, skills) for group in groups.values()]
  if item == 'figure 6' and dataset not in theirs:
    found = [_own_sport(panel, sport) for panel in _one_of_each_metric(found) for sport in skills]
  return found


def place_of(cell: Cell, skills: Mapping[str, Collection[str]]) -> Place:
  """Where ours for a published figure comes from."""
  if cell.setting != 'SPORT':
    return Place(cell.setting, cell.sport, cell.skill, other=cell.row == OTHER)
  if cell.skill in skills.get(cell.row, ()):
    return Place('ZS-2', cell.row, cell.skill)
  return Place('SPORT', '', cell.skill, cell.row)


def describe(place: Place) -> str:
  """A place in words."""
  of = place.skill or place.sport
  parts = (
    place.setting,
    'with attributes of another backend' if place.other else '',
    f'from {place.source}' if place.source else '',
    f'to {of}' if of else '',
  )
  return ' '.join(filter(None, parts))


def _panel_of(cell: Cell) -> tuple[str, ...]:
  """Cells with the same key share a panel."""
  if cell.item.startswith('figure') and cell.item != 'figure 5':
    return cell.item, cell.dataset, cell.sport, cell.skill, cell.metric
  return cell.item, cell.dataset


def _panel(cells: Sequence[Cell], skills: Mapping[str, Collection[str]]) -> Panel:
  first = cells[0]
  axis = next(
    name
    for name in ('metric', 'setting', 'sport', 'skill')
    if len({getattr(cell, name) for cell in cells}) > 1 or (name == 'metric' and first.item == 'table 3')
  )
  columns = list(dict.fromkeys(getattr(cell, axis) for cell in cells))
  rows = list(dict.fromkeys(cell.row for cell in cells))
  by_place = {(cell.row, getattr(cell, axis)): cell for cell in cells}
  places, figures = {}, {}
  for row in rows:
    found = [by_place[row, column] for column in columns]
    figures[row] = [cell.value for cell in found]
    places[row] = [place_of(cell, skills) for cell in found]
  what = [f'{first.item.capitalize()}, {NAMES[first.dataset]}']
  what += [name for name in (first.skill if axis != 'skill' else '', first.sport if axis != 'sport' else '') if name]
  what += [first.metric] if axis != 'metric' else []
  metrics = [by_place[rows[0], column].metric for column in columns]
  ours = {cell.row: cell.ours for cell in cells}
  return Panel(first.item, ', '.join(what), columns, rows, ours, figures, places, metrics, first.doubt, first.dataset)


def _one_of_each_metric(found: Sequence[Panel]) -> list[Panel]:
  return list({panel.metrics[0]: panel for panel in found}.values())


def _own_sport(panel: Panel, sport: str) -> Panel:
  """The same drawing of a sport that the paper does not have."""
  metric = panel.metrics[0]
  return dataclasses.replace(
    panel,
    title=f'Figure 6, {sport}, {metric}',
    published={row: [math.nan] * len(panel.columns) for row in panel.rows},
    places={row: [Place(setting, sport) for setting in panel.columns] for row in panel.rows},
  )
