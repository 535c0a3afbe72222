"""Ours beside the paper's: the value of every cell from finished runs, and a panel as a table.

IoU is taken on clips of which an attribute is known, and on all clips beside it. Text scores on Ego-Exo4D are in both
protocols, of which `prefix_kept` is the one that the published figures may be compared with.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence

import numpy as np

from crosstrainer_jax.evaluation import meteor, prefix_kept
from crosstrainer_jax.evaluation.bootstrap import Interval, Run, Statistic, hierarchical, hierarchical_difference
from crosstrainer_jax.evaluation.finished import Finished
from crosstrainer_jax.evaluation.panels import Panel, Place, describe
from crosstrainer_jax.evaluation.scores import in_headline
from crosstrainer_jax.evaluation.table import MISSING, Footnotes, Table

# Rows of ours that stand in every table: floors, and a rival that is strong.
OTHERS = ('always none', 'random', 'majority', 'nearest neighbour', 'linear classifier on v')
# Those of ours that CrossTrainer is compared with, paired.
CROSSTRAINER, RIVALS = 'CrossTrainer', ('nearest neighbour', 'linear classifier on v', 'end to end without attributes')
# Table 4 does not say how attributes of a test set enter the scores of feedback. Here they do not.
UNCHANGED = 'feedback of the first row: attributes of the test set do not enter its scores here'
EXTERNAL = 'not run here: its answers are scored from a file, eval --external'


# Where the true faults are known, what a panel's scores stand for: of ours alone, since nobody else's is known.
TRUTH = {'table 1b': 'feedback F1', 'table 3': 'attribute F1', 'table 4 left': 'feedback F1'}


@dataclasses.dataclass(frozen=True)
class Column:
  """One column of ours: which clips, and the metrics that may stand for it, the first that a run has."""

  name: str
  metrics: tuple[str, ...]
  scope: str = 'headline'


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
  return [Column('ours', (metric.removesuffix('-score'),), 'all')]


def shown_columns(panel: Panel, number: int) -> list[Column]:
  """What stands beside column `number` of a panel: a figure has one line for each row."""
  found = columns_of(panel.metrics[number], panel.dataset)
  return found[:1] if panel.item.startswith('figure') else found


def truth_column(panel: Panel) -> Column | None:
  """The score against the true faults that stands at the end of a panel, where any are known."""
  name = TRUTH.get(panel.item)
  return None if name is None else Column(f'{name}, ours', (name,))


def value(runs: Iterable[Finished], place: Place, row: str, column: Column, resamples: int = 1000) -> Interval:
  """Ours in one cell, over all runs that serve it; NaN with the reason in `note` where there is none."""
  parts: list[tuple[Finished, Statistic]] = []
  notes: dict[str, None] = {}
  serving = [run for run in runs if place.serves(run)]
  for run in serving:
    found = _counted(run, place, row, column)
    if isinstance(found, str):
      notes[found] = None
    else:
      parts.append((run, found))
  if not parts:
    reason = '; '.join(notes) if serving else f'no finished run of {describe(place)}'
    return Interval(math.nan, math.nan, math.nan, 0, 0, reason)
  return hierarchical(_by_sport(parts), resamples)


def difference(
  runs: Iterable[Finished], place: Place, first: str, second: str, column: Column, resamples: int = 1000
) -> Interval:
  """`first` minus `second`, rows of ours, over the runs that have both: the same seeds, sports and takes are drawn."""
  parts: tuple[list[tuple[Finished, Statistic]], list[tuple[Finished, Statistic]]] = ([], [])
  for run in runs:
    if place.serves(run):
      one, other = (_counted(run, place, row, column) for row in (first, second))
      if isinstance(one, Statistic) and isinstance(other, Statistic):
        both = one.counted & other.counted
        for part, statistic in zip(parts, (one, other), strict=True):
          part.append((run, statistic.keep(both)))
  if not parts[0]:
    return Interval(math.nan, math.nan, math.nan, 0, 0, 'no run has both rows')
  return hierarchical_difference(_by_sport(parts[0]), _by_sport(parts[1]), resamples)


def _counted(run: Finished, place: Place, row: str, column: Column) -> Statistic | str:
  """A row's statistic on the clips of a cell, or why there is none."""
  metrics = run.rows.get(row)
  if metrics is None:
    return 'this row was not run'
  found = next((metrics[name] for name in column.metrics if name in metrics), 'no such score')
  if isinstance(found, str):
    return found
  statistic = in_headline(found, column.metrics[0], run.references) if column.scope == 'headline' else found
  return statistic.keep(run.where(place.sport, place.skill))


def metric_of(runs: Iterable[Finished], column: Column) -> str:
  """The metric that stands in a column: the first of its names that a run has."""
  scored = [metrics for run in runs for metrics in run.rows.values()]
  return next((name for name in column.metrics if any(name in metrics for metrics in scored)), column.metrics[0])


def _by_sport(parts: Sequence[tuple[Finished, Statistic]]) -> list[Run]:
  """One `Run` for each seed and sport, of the clips that all its parts count together, such as skills held out in turn.

  Where there is one sport it has no name, since nothing is to be said of others.
  """
  sports = {
    r.sport for run, statistic in parts for r, kept in zip(run.references, statistic.counted, strict=True) if kept
  }
  found: dict[tuple[int, str], tuple[list[np.ndarray], list[str], Statistic]] = {}
  for run, statistic in parts:
    for number in np.flatnonzero(statistic.counted):
      reference = run.references[number]
      key = run.seed, reference.sport if len(sports) > 1 else ''
      sums, takes, _ = found.setdefault(key, ([], [], statistic))
      sums.append(statistic.sums[number])
      takes.append(reference.take)
  if not found:  # nothing is counted: the score of no clips
    run, statistic = parts[0]
    return [Run(run.seed, '', statistic, run.takes)]
  return [
    Run(seed, sport, dataclasses.replace(one, sums=np.array(sums), counted=np.ones(len(sums), bool)), takes)
    for (seed, sport), (sums, takes, one) in found.items()
  ]


def filled(panel: Panel, runs: Sequence[Finished], footnotes: Footnotes, others: Sequence[str] = OTHERS) -> Table:
  """The panel as a table: for every column what is published, and ours with its interval.

  Args:
    others: rows of ours that follow after those of the paper.
  """
  columns: list[str] = []
  cells_of: list[tuple[int, Column | None]] = []
  for number, name in enumerate(panel.columns):
    columns.append(f'{name} published')
    cells_of.append((number, None))
    for own in shown_columns(panel, number):
      metric = metric_of(runs, own)
      # It says so where ours is another variant, such as METEOR without synonyms, or a lexical similarity.
      named = panel.metrics[number]
      same = named.startswith(metric) or (metric.startswith(named) and '-es' not in metric)
      variant = '' if same else f' ({metric})'
      columns.append(f'{name} {own.name}{variant}')
      cells_of.append((number, own))
  truth = truth_column(panel)
  known = truth is not None and any(
    isinstance(metrics.get(truth.metrics[0]), Statistic) for run in runs for metrics in run.rows.values()
  )
  if truth is not None and known:
    columns.append(truth.name)
    cells_of.append((0, truth))
  rows = []
  for row in [*panel.rows, *(other for other in others if other not in panel.ours.values())]:
    ours = panel.ours.get(row, row)
    # Of several methods that answer to one row of ours, the first shows it, unless each has runs of its own.
    own_runs = panel.item in ('figure 5', 'table 4 left')
    first = own_runs or next((name for name in panel.rows if panel.ours[name] == ours), row) == row
    cells = []
    for number, column in cells_of:
      if column is None:
        figure = panel.published.get(row, [math.nan] * len(panel.columns))[number]
        cells.append(MISSING if math.isnan(figure) else f'{figure:.2f}'.removesuffix('0'))
      elif not ours:
        cells.append(MISSING + footnotes.mark(UNCHANGED if panel.item == 'table 4 left' else EXTERNAL))
      elif not first:
        cells.append('″')
      else:
        place = panel.places[row if row in panel.places else panel.rows[0]][number]
        cells.append(shown(value(runs, place, ours, column), footnotes))
    label = row if ours in (row, '') or own_runs else f'{row} (ours: {ours})'
    rows.append((label, cells))
  for rival in RIVALS if others and CROSSTRAINER in panel.rows else ():
    cells = []
    for number, column in cells_of:
      place = panel.places[CROSSTRAINER][number]
      less = None if column is None else difference(runs, place, CROSSTRAINER, rival, column)
      cells.append(MISSING if less is None else shown(less, footnotes, '+'))
    rows.append((f'{CROSSTRAINER} − {rival}', cells))
  return Table(panel.title, columns, rows)


def shown(interval: Interval, footnotes: Footnotes, sign: str = '') -> str:
  """`25.7 [24, 27]`, or – with the reason in a footnote; with the sign `+`, that of a difference."""
  if math.isnan(interval.value):
    return MISSING + footnotes.mark(interval.note)
  bounds = '' if math.isnan(interval.low) else f' [{interval.low:{sign}.0f}, {interval.high:{sign}.0f}]'
  return f'{interval.value:{sign}.1f}{bounds}{footnotes.mark(interval.note)}'
