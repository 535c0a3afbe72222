"""Ours beside the paper's: every table and figure of it as panels, filled from finished runs.

A panel is a table, or one drawing of a figure: rows × columns, where each cell is a published figure, ours, or both.
What a cell of ours is taken from: the runs of its setting, over all seeds, and of their test clips those of the cell's
sport and skill. IoU is taken on clips of which an attribute is known, and on all clips beside it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence

from crosstrainer_jax.evaluation import meteor, prefix_kept, published
from crosstrainer_jax.evaluation.bootstrap import Interval, Part, hierarchical
from crosstrainer_jax.evaluation.finished import Finished
from crosstrainer_jax.evaluation.published import Cell
from crosstrainer_jax.evaluation.scores import in_scope
from crosstrainer_jax.evaluation.table import MISSING, Footnotes, Table

# Rows that answer to no published method and must stand beside the others all the same.
FLOORS = ('always none', 'random', 'majority')
EXTERNAL = 'not run here: its answers are scored from a file, eval --external'
NAMES = {'egoexo4d': 'Ego-Exo4D', 'qevd': 'QEVD', 'youtube': 'YouTube'}
SETTINGS = ('FS', 'ZS-1', 'ZS-2', 'ZS-3')


@dataclasses.dataclass(frozen=True)
class Place:
  """Where a value of ours comes from: the runs by setting and what they held out, and which of their clips."""

  setting: str
  sport: str = ''
  skill: str = ''
  source: str = ''

  def serves(self, run: Finished) -> bool:
    """Whether the run is one of this setting that has the clips in its test part."""
    if run.setting != self.setting or (self.source and run.source != self.source):
      return False
    return any(self.skill in ('', r.skill) and self.sport in ('', r.sport) for r in run.references)


@dataclasses.dataclass(frozen=True)
class Column:
  """One column of ours: which clips, and the metrics that may stand for it, the first that a run has."""

  name: str
  metrics: tuple[str, ...]
  scope: str = 'headline'


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


def panels(item: str, dataset: str, sports: Sequence[str]) -> list[Panel]:
  """The panels of one of `published.ITEMS`, as they are filled from runs on `dataset`.

  Args:
    sports: of the dataset: on one that is not the paper's, figure 6 shows its sports.
  """
  cells = [c for c in published.of_item(item) if c.item != 'table 4 right']
  theirs = {cell.dataset for cell in cells}
  if dataset in theirs:
    cells = [cell for cell in cells if cell.dataset == dataset]
  groups: dict[tuple[str, ...], list[Cell]] = {}
  for cell in cells:
    groups.setdefault(_panel_of(cell), []).append(cell)
  found = [_panel(group) for group in groups.values()]
  if item == 'figure 6' and dataset not in theirs:
    found = [_own_sport(panel, sport) for panel in _one_of_each_metric(found) for sport in sports]
  return found


def columns_of(metric: str, dataset: str) -> list[Column]:
  """What ours is shown by beside a published metric."""
  if metric.startswith('IoU'):
    names = (metric,) if metric.endswith('1.0') else (metric, metric.replace('IoU', 'IoU-lex'))
    return [Column('ours', names), Column('ours, all clips', names, 'all')]
  if metric in ('BLEU-4', 'METEOR', 'ROUGE-L'):
    own = meteor.column() if metric == 'METEOR' else metric
    stripped = Column('ours', (own,), 'all')
    if dataset != 'egoexo4d':
      return [stripped]
    return [
      Column('ours, prefix-kept', (f'{own} {prefix_kept.SUFFIX}',), 'all'),
      Column('ours, stripped', (own,), 'all'),
    ]
  return [Column('ours', (metric,), 'all')]


def value(runs: Iterable[Finished], place: Place, row: str, column: Column, resamples: int = 1000) -> Interval:
  """Ours in one cell, over all runs that serve it; NaN with the reason in `note` where there is none."""
  parts, notes = [], {}
  serving = [run for run in runs if place.serves(run)]
  for run in serving:
    metrics = run.rows.get(row)
    if metrics is None:
      notes['this row was not run'] = None
      continue
    found = next((metrics[name] for name in column.metrics if name in metrics), 'no such score')
    if isinstance(found, str):
      notes[found] = None
      continue
    statistic = in_scope(found, column.metrics[0], run.references, column.scope)
    parts.append(
      Part(run.seed, [r.sport for r in run.references], run.takes, statistic.keep(run.where(place.sport, place.skill)))
    )
    if found.note:
      notes[found.note] = None
  if not parts:
    reason = '; '.join(notes) if serving else f'no finished run of {describe(place)}'
    return Interval(math.nan, math.nan, math.nan, 0, 0, reason)
  return dataclasses.replace(hierarchical(parts, resamples), note='; '.join(notes))


def describe(place: Place) -> str:
  """A place in words."""
  of = place.skill or place.sport
  return ' '.join(filter(None, (place.setting, f'from {place.source}' if place.source else '', of and f'to {of}')))


def filled(panel: Panel, runs: Sequence[Finished], footnotes: Footnotes, others: Sequence[str] = FLOORS) -> Table:
  """The panel as a table: for every column what is published, and ours with its interval.

  Args:
    others: rows of ours that follow after those of the paper.
  """
  columns, cells_of = [], []
  for number, name in enumerate(panel.columns):
    columns.append(f'{name} published')
    cells_of.append((number, None))
    for column in columns_of(panel.metrics[number], panel.dataset):
      columns.append(f'{name} {column.name}')
      cells_of.append((number, column))
  rows = []
  for row in [*panel.rows, *(other for other in others if other not in panel.ours.values())]:
    ours = panel.ours.get(row, row)
    # Of several methods that answer to one row of ours, the first shows it.
    first = next((name for name in panel.rows if panel.ours[name] == ours), row) == row or panel.item == 'figure 5'
    cells = []
    for number, column in cells_of:
      if column is None:
        figure = panel.published.get(row, [math.nan] * len(panel.columns))[number]
        cells.append(MISSING if math.isnan(figure) else f'{figure:.4g}')
      elif not ours:
        cells.append(MISSING + footnotes.mark(EXTERNAL))
      elif not first:
        cells.append('″')
      else:
        place = panel.places[row if row in panel.places else panel.rows[0]][number]
        cells.append(shown(value(runs, place, ours, column), footnotes))
    label = row if ours in (row, '') or panel.item == 'figure 5' else f'{row} (ours: {ours})'
    rows.append((label, cells))
  return Table(panel.title, columns, rows)


def shown(interval: Interval, footnotes: Footnotes) -> str:
  """`25.7 [24, 27]`, or – with the reason in a footnote."""
  if math.isnan(interval.value):
    return MISSING + footnotes.mark(interval.note)
  bounds = '' if math.isnan(interval.low) else f' [{interval.low:.0f}, {interval.high:.0f}]'
  return f'{interval.value:.1f}{bounds}{footnotes.mark(interval.note)}'


def _panel_of(cell: Cell) -> tuple[str, ...]:
  """Cells with the same key share a panel."""
  if cell.item.startswith('figure') and cell.item != 'figure 5':
    return cell.item, cell.dataset, cell.sport, cell.skill, cell.metric
  return cell.item, cell.dataset


def _panel(cells: Sequence[Cell]) -> Panel:
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
    places[row] = [_place(cell) for cell in found]
  what = [f'{first.item.capitalize()}, {NAMES[first.dataset]}']
  what += [name for name in (first.skill if axis != 'skill' else '', first.sport if axis != 'sport' else '') if name]
  what += [first.metric] if axis != 'metric' else []
  metrics = [by_place[rows[0], column].metric for column in columns]
  ours = {cell.row: cell.ours for cell in cells}
  return Panel(first.item, ', '.join(what), columns, rows, ours, figures, places, metrics, first.doubt, first.dataset)


def _place(cell: Cell) -> Place:
  return Place(cell.setting, cell.sport, cell.skill, cell.row if cell.setting == 'SPORT' else '')


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
