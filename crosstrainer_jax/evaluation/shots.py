"""Scores over the number of labelled clips of a new sport: a table and a plot.

Three ways to use the clips: go on from a run that has seen other sports, begin from nothing, or fit a linear
classifier. With no clip at all, the first is that run itself (ZS-3), and there is nothing to begin the others with.
Over several runs the interval is Student's t over runs or held-out sports (see `aggregate`), of one run its bootstrap
by take.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TextIO

from crosstrainer_jax.evaluation.aggregate import aggregate
from crosstrainer_jax.evaluation.dials import need_matplotlib
from crosstrainer_jax.evaluation.report import Report, without_nan
from crosstrainer_jax.evaluation.table import MISSING, Table, markdown, show, terminal

SCORES = ('attribute F1', 'feedback F1')
TRANSFER, SCRATCH = 'transfer', 'scratch'
ROW, CLASSIFIER = 'CrossTrainer', 'linear classifier on v'
# Name in table and plot → which runs, and which of their rows.
WAYS = {
  'from the other sports': (TRANSFER, ROW),
  'from nothing': (SCRATCH, ROW),
  CLASSIFIER: (SCRATCH, CLASSIFIER),
}

# start → number of clips → the runs there
Runs = Mapping[str, Mapping[int, Sequence[Report]]]


@dataclasses.dataclass(frozen=True)
class Point:
  """One score of one way with so many clips, on clips with a fault; interval NaN where undefined; `runs` by run."""

  way: str
  shots: int
  score: str
  value: float
  low: float
  high: float
  runs: tuple[float, ...]

  def text(self) -> str:
    if math.isnan(self.value):
      return MISSING
    interval = '' if math.isnan(self.low) else f' [{self.low:z.1f}, {self.high:z.1f}]'
    return f'{self.value:z.1f}{interval}'


def points(runs: Runs) -> list[Point]:
  """Every score of every way, in the order of the number of clips."""
  found = []
  for way, (start, row) in WAYS.items():
    for shots, reports in sorted(runs[start].items()):
      if row == ROW or shots:
        found += [_point(way, row, shots, score, reports) for score in SCORES]
  return found


def _point(way: str, row: str, shots: int, score: str, reports: Sequence[Report]) -> Point:
  key = f'headline/{score}'
  single = [report.rows[row][key] for report in reports]
  values = tuple(interval.value for interval in single)
  if len(single) == 1:
    return Point(way, shots, score, single[0].value, single[0].low, single[0].high, values)
  spread = aggregate(reports).rows[row][key]
  return Point(way, shots, score, spread.mean, spread.low, spread.high, values)


def table(found: Sequence[Point]) -> Table:
  """A row for each number of clips, a column for each score of each way."""
  cells = {(point.shots, point.score, point.way): point.text() for point in found}
  columns = [(score, way) for score in SCORES for way in WAYS]
  rows = [
    (f'{shots:,} clips', [cells.get((shots, *column), MISSING) for column in columns])
    for shots in sorted({point.shots for point in found})
  ]
  return Table('Clips with a fault, by labelled clips of the new sport', [f'{s}, {way}' for s, way in columns], rows)


def enough(found: Sequence[Point], score: str = SCORES[0]) -> list[str]:
  """How many clips it takes to be as good as without any, and as the classifier, one line each, by the means."""
  value = {(p.way, p.shots): p.value for p in found if p.score == score}
  ours, nothing, _ = WAYS
  numbers = sorted(shots for way, shots in value if way == nothing)
  zero = value.get((ours, 0), math.nan)
  first = next((k for k in numbers if value[nothing, k] >= zero), None)
  ahead = [k for k in numbers if value[ours, k] > value[nothing, k]]
  return [
    f'{score} from nothing reaches what the other sports give without a clip ({zero:.1f}) '
    + (f'with {first:,} clips.' if first is not None else f'nowhere up to {numbers[-1]:,} clips.'),
    f'Starting from the other sports is ahead of starting from nothing with '
    f'{", ".join(f"{k:,}" for k in ahead) or "no number of"} clips.',
  ]


def interval_note(runs: Runs) -> str:
  """What the intervals are of."""
  reports = [report for by_shots in runs.values() for several in by_shots.values() for report in several]
  if max(len(several) for by_shots in runs.values() for several in by_shots.values()) == 1:
    return '95 % percentile bootstrap by take of one run, which leaves out the chance in training and in the draw'
  over = 'held-out sports' if len({report.held_out for report in reports}) > 1 else 'runs, each with a draw of its own'
  return f"95 % of Student's t over {over}"


def to_markdown(runs: Runs, facts: Sequence[str], pictures: Sequence[str]) -> str:
  """The page's part: facts, pictures by their path from the page, table, and how many clips are enough."""
  found = points(runs)
  parts = [
    *(f'{line}\n' for line in facts),
    f'F1 in points of 100; [{interval_note(runs)}].\n',
    *(f'![F1 over the number of labelled clips]({path})\n' for path in pictures),
    markdown(table(found)),
    *(f'- {line}' for score in SCORES for line in enough(found, score)),
  ]
  return '\n'.join(parts) + '\n'


def to_json(found: Sequence[Point]) -> str:
  values = [dataclasses.asdict(point) for point in found]
  return json.dumps(without_nan(values), indent=1, ensure_ascii=False, allow_nan=False) + '\n'


def print_table(runs: Runs, file: TextIO | None = None) -> None:
  """Prints the table and how many clips are enough."""
  found, console = points(runs), terminal(file)
  show(table(found), console)
  for line in [f'Intervals: {interval_note(runs)}.', *(line for score in SCORES for line in enough(found, score))]:
    console.print(line, markup=False)


def plot(found: Sequence[Point], subtitle: str, path: Path) -> None:
  """Draws a panel for each score as PNG, with intervals, and single runs where there are several."""
  need_matplotlib()
  from matplotlib.figure import Figure
  from matplotlib.ticker import NullFormatter

  figure = Figure(figsize=(8.4, 4.0), layout='constrained')
  panels = figure.subplots(1, len(SCORES), sharey=True)
  numbers = sorted({point.shots for point in found})
  for axes, score in zip(panels, SCORES, strict=True):
    for number, (way, colour, marker) in enumerate(
      zip(WAYS, ('tab:blue', 'tab:orange', 'tab:gray'), 'os^', strict=True)
    ):
      chosen = [point for point in found if point.way == way and point.score == score]
      # beside each other, or the intervals would hide one another
      places = [point.shots * 1.06 ** (number - 1) if point.shots else 0.35 * (number - 1) for point in chosen]
      label = way if score == SCORES[0] else None
      axes.vlines(places, [p.low for p in chosen], [p.high for p in chosen], color=colour, linewidth=1.5)
      axes.plot(places, [p.value for p in chosen], color=colour, marker=marker, label=label)
      for place, point in zip(places, chosen, strict=True):
        if len(point.runs) > 1:
          axes.plot([place] * len(point.runs), point.runs, linestyle='', marker='_', color=colour, alpha=0.5)
    # 0 has a place on it as well
    axes.set_xscale('symlog', linthresh=min(k for k in numbers if k), linscale=0.5)
    axes.set_xticks(numbers, [f'{k:,}' for k in numbers])
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set(xlabel='labelled clips of the new sport', title=score)
  panels[0].set_ylabel('F1')
  figure.suptitle(subtitle, fontsize=9)
  figure.legend(fontsize=8, loc='outside lower center', ncols=len(WAYS))
  path.parent.mkdir(parents=True, exist_ok=True)
  figure.savefig(path, dpi=120, metadata={'Software': None})
