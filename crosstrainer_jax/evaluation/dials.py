"""Two-stage minus end-to-end over the dials of the embedded world: a table, and a plot for each dial.

A point is one value of one dial with the others at their defaults. One run's interval is its bootstrap by take, which
knows the chance in the clips alone; over several runs it is Student's t over runs or held-out sports (see
`aggregate`), which knows that of training too.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TextIO

from crosstrainer_jax.evaluation.aggregate import aggregate
from crosstrainer_jax.evaluation.report import Report, without_nan
from crosstrainer_jax.evaluation.table import MISSING, Table, markdown, show, terminal

DIFFERENCE = 'CrossTrainer − end to end without attributes'
SCORES = ('attribute F1', 'feedback F1')
AHEAD, BEHIND, OPEN = 'ahead', 'behind', 'undecided'

# dial → value → the runs there
Grid = Mapping[str, Mapping[float, Sequence[Report]]]


@dataclasses.dataclass(frozen=True)
class Gap:
  """The difference in one score at one value of a dial, on clips with a fault, in points of 100.

  Attributes:
    value, low, high: mean and 95 % interval; NaN where undefined.
    runs: the difference of each run.
  """

  dial: str
  setting: float
  score: str
  value: float
  low: float
  high: float
  runs: tuple[float, ...]

  @property
  def verdict(self) -> str:
    """Whether the whole interval is on one side of 0."""
    if self.low > 0:
      return AHEAD
    return BEHIND if self.high < 0 else OPEN

  def text(self) -> str:
    if math.isnan(self.value):
      return MISSING
    interval = '' if math.isnan(self.low) else f' [{self.low:z.1f}, {self.high:z.1f}]'
    return f'{self.value:+z.1f}{interval}'


def gaps(grid: Grid) -> list[Gap]:
  """All differences, in the order of the grid.

  Raises:
    ValueError: a run lacks the difference, or runs of one point cannot be averaged.
  """
  return [
    _gap(dial, setting, score, reports)
    for dial, points in grid.items()
    for setting, reports in sorted(points.items())
    for score in SCORES
  ]


def _gap(dial: str, setting: float, score: str, reports: Sequence[Report]) -> Gap:
  key = f'headline/{score}'
  for report in reports:
    if key not in report.differences.get(DIFFERENCE, {}):
      raise ValueError(f'the run ({report.command}) has no {score} of “{DIFFERENCE}”: its table must have both rows')
  single = [report.differences[DIFFERENCE][key] for report in reports]
  runs = tuple(interval.value for interval in single)
  if len(single) == 1:
    return Gap(dial, setting, score, single[0].value, single[0].low, single[0].high, runs)
  spread = aggregate(reports).differences[DIFFERENCE][key]
  return Gap(dial, setting, score, spread.mean, spread.low, spread.high, runs)


def table(found: Sequence[Gap]) -> Table:
  """A row for each value of each dial."""
  points = dict.fromkeys((gap.dial, gap.setting) for gap in found)
  cells = {(gap.dial, gap.setting, gap.score): gap.text() for gap in found}
  rows = [(f'{dial} {setting:g}', [cells[dial, setting, score] for score in SCORES]) for dial, setting in points]
  return Table(f'Clips with a fault: {DIFFERENCE}', list(SCORES), rows)


def verdicts(found: Sequence[Gap]) -> list[str]:
  """Where the two-stage model is ahead, behind, and where the runs do not tell, one line each."""
  meanings = {
    AHEAD: 'Ahead (the whole interval is above 0)',
    BEHIND: 'Behind (the whole interval is below 0)',
    OPEN: 'Undecided',
  }
  lines = []
  for verdict, meaning in meanings.items():
    where = [f'{gap.score} at {gap.dial} {gap.setting:g}' for gap in found if gap.verdict == verdict]
    lines.append(f'{meaning}: {", ".join(where) or "nowhere"}.')
  return lines


def interval_note(grid: Grid) -> str:
  """What the intervals are of."""
  runs = max(len(reports) for points in grid.values() for reports in points.values())
  sports = {report.held_out for points in grid.values() for reports in points.values() for report in reports}
  if runs == 1:
    return '95 % percentile bootstrap by take of one run, which leaves out the chance in training'
  return f"95 % of Student's t over {'held-out sports' if len(sports) > 1 else 'runs'}"


def to_markdown(grid: Grid, facts: Sequence[str], pictures: Sequence[str]) -> str:
  """The page's part: facts, pictures by their path from the page, table, verdicts."""
  found = gaps(grid)
  parts = [
    *(f'{line}\n' for line in facts),
    f'F1 in points of 100; other dials at their defaults; [{interval_note(grid)}].\n',
    *(f'![{DIFFERENCE}, over {Path(path).stem}]({path})\n' for path in pictures),
    markdown(table(found)),
    *(f'- {line}' for line in verdicts(found)),
  ]
  return '\n'.join(parts) + '\n'


def to_json(found: Sequence[Gap]) -> str:
  values = [{**dataclasses.asdict(gap), 'verdict': gap.verdict} for gap in found]
  return json.dumps(without_nan(values), indent=1, ensure_ascii=False, allow_nan=False) + '\n'


def print_table(grid: Grid, file: TextIO | None = None) -> None:
  """Prints table and verdicts."""
  found, console = gaps(grid), terminal(file)
  show(table(found), console)
  for line in [f'Intervals: {interval_note(grid)}.', *verdicts(found)]:
    console.print(line, markup=False)


def need_matplotlib() -> None:
  """Raises ValueError with the remedy where there is no matplotlib."""
  try:
    import matplotlib  # noqa: F401
  except ImportError:
    raise ValueError("the plots need matplotlib: pip install 'crosstrainer_jax[plot]'") from None


def plot(dial: str, found: Sequence[Gap], subtitle: str, path: Path) -> None:
  """Draws the differences over one dial as PNG, with intervals, and single runs where there are several."""
  need_matplotlib()
  from matplotlib.figure import Figure

  figure = Figure(figsize=(5.6, 3.8), layout='constrained')
  axes = figure.subplots()
  axes.axhline(0, color='0.5', linewidth=1)
  for number, (score, colour, marker) in enumerate(zip(SCORES, ('tab:blue', 'tab:orange'), 'os', strict=True)):
    points = [gap for gap in found if gap.dial == dial and gap.score == score]
    # beside each other, or the intervals would hide one another
    width = max(gap.setting for gap in points) - min(gap.setting for gap in points)
    places = [gap.setting + (number - 0.5) * 0.02 * width for gap in points]
    axes.vlines(places, [gap.low for gap in points], [gap.high for gap in points], color=colour, linewidth=1.5)
    axes.plot(places, [gap.value for gap in points], color=colour, marker=marker, label=score)
    for place, gap in zip(places, points, strict=True):
      if len(gap.runs) > 1:
        axes.plot([place] * len(gap.runs), gap.runs, linestyle='', marker='_', color=colour, alpha=0.5)
  axes.set_xticks([gap.setting for gap in points])
  axes.set(xlabel=dial.replace('_', ' '), ylabel='difference, points of F1')
  axes.set_title(f'{DIFFERENCE}\n{subtitle}', fontsize=9)
  figure.legend(fontsize=8, loc='outside lower center', ncols=2)
  path.parent.mkdir(parents=True, exist_ok=True)
  figure.savefig(path, dpi=120, metadata={'Software': None})
