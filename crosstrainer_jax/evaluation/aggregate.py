"""Many runs in one table: means over seeds and held-out sports, from their report.json.

The unit is the held-out sport: seeds are averaged within a sport first, since they share its test clips, and the
interval is Student's t over the sports' means. With one sport (or in-domain) the unit is the run. One unit has no
interval. The range is over single runs.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TextIO

import numpy as np
from scipy.special import stdtrit

from crosstrainer_jax.evaluation.bootstrap import Interval
from crosstrainer_jax.evaluation.report import SCOPES, Report, ordered, without_nan
from crosstrainer_jax.evaluation.table import MISSING, Footnotes, Table, markdown, show, terminal


@dataclasses.dataclass(frozen=True)
class Spread:
  """A score over runs: mean of the units' means, its 95 % interval, and the range of the runs."""

  mean: float
  low: float
  high: float
  lowest: float
  highest: float
  n_runs: int
  n_units: int
  note: str = ''


@dataclasses.dataclass
class Summary:
  """Scores of all rows over all runs.

  Attributes:
    setting: split that all runs share.
    runs: "held out, seed", one for each run.
    columns: metric names in the order of the table.
    rows, differences: name → score name → spread.
    by_held_out: held-out sport → row → score name → spread over seeds.
    commands: what made the runs, without repetition; likewise `hardware` and `variants`.
  """

  setting: str
  runs: list[str]
  columns: list[str]
  rows: dict[str, dict[str, Spread]]
  differences: dict[str, dict[str, Spread]]
  by_held_out: dict[str, dict[str, dict[str, Spread]]]
  commands: list[str]
  hardware: list[str]
  variants: list[str]

  def to_markdown(self, columns: Sequence[str] | None = None) -> str:
    """All tables; or, for a README, the headline's in `columns`, without lowest and highest run and fine print. Then
    the first column for each held-out sport.
    """
    brief = bool(columns)
    scopes = {'headline': SCOPES['headline']} if brief else SCOPES
    tables, footnotes = self._tables(list(columns or self.columns), scopes, digits=0 if brief else 1, ranges=not brief)
    parts = [*(f'{line}\n' for line in self.facts(ranges=not brief, quote='`')), *(markdown(table) for table in tables)]
    lines = [f'{line}\n' for line in footnotes.lines()] + [f'- {line}' for line in self.variants if not brief]
    return '\n'.join(parts + lines) + '\n'

  def to_json(self) -> str:
    return json.dumps(without_nan(dataclasses.asdict(self)), indent=1, ensure_ascii=False, allow_nan=False) + '\n'

  def print(self, file: TextIO | None = None) -> None:
    """Prints to a terminal in at most 120 columns."""
    tables, footnotes = self._tables(self.columns, SCOPES, digits=0, ranges=False)
    console = terminal(file)
    for line in self.facts(ranges=False):
      console.print(line, markup=False, soft_wrap=True)  # a command is there to be copied
    for table in tables:
      show(table, console)
    for line in footnotes.lines() + self.variants:
      console.print(line, markup=False, style='dim')

  def facts(self, ranges: bool, quote: str = '') -> list[str]:
    """The lines above the tables; `quote` stands around a command."""
    units = 'held-out sports' if len(self.by_held_out) > 1 else 'runs'
    seeds: dict[str, list[str]] = {}
    for run in self.runs:
      held_out, _, seed = run.rpartition(', seed ')
      seeds.setdefault(held_out, []).append(seed)
    runs = ', '.join(f'{held_out} (seed {", ".join(numbers)})' for held_out, numbers in seeds.items())
    return [
      f'{self.setting} · {len(self.runs)} runs: {runs}',
      f"Scores are 0–100: mean [95 % interval, Student's t over {units}]{' (lowest–highest run)' if ranges else ''}.",
      f'Commands: {"; ".join(f"{quote}{command}{quote}" for command in self.commands)}',
      f'Hardware: {"; ".join(self.hardware)}',
    ]

  def _tables(
    self, columns: list[str], scopes: Mapping[str, str], digits: int, ranges: bool
  ) -> tuple[list[Table], Footnotes]:
    footnotes = Footnotes()

    def text(spread: Spread | None, sign: str = '') -> str:
      return cell(spread, len(self.runs), footnotes, digits, ranges, sign)

    tables = []
    for scope, title in scopes.items():
      keys = [f'{scope}/{column}' for column in columns]
      rows = [(name, [text(self.rows[name].get(key)) for key in keys]) for name in ordered(self.rows)]
      tables.append(Table(title, columns, rows))
      if self.differences:
        gaps = [(name, [text(scores.get(key), '+') for key in keys]) for name, scores in self.differences.items()]
        tables.append(Table(f'{title}: differences, paired by run', columns, gaps))
    if len(self.by_held_out) > 1:
      tables.append(self._held_out_table(columns[0], footnotes, digits))
    return tables, footnotes

  def _held_out_table(self, column: str, footnotes: Footnotes, digits: int) -> Table:
    key = f'headline/{column}'
    rows = []
    for name in ordered(self.rows):
      cells = []
      for scores in self.by_held_out.values():
        spread = scores.get(name, {}).get(key)
        cells.append(cell(spread, spread.n_runs if spread else 0, footnotes, digits, ranges=False))
      rows.append((name, cells))
    return Table(f'{SCOPES["headline"]}: {column} for each held-out sport', list(self.by_held_out), rows)


def aggregate(reports: Sequence[Report]) -> Summary:
  """Means, intervals and ranges over runs.

  Raises:
    ValueError: no reports, different settings or columns, or one run twice.
  """
  if not reports:
    raise ValueError('There are no reports to aggregate: give the report.json of at least one run.')
  settings = sorted({report.setting for report in reports})
  columns = sorted({', '.join(report.columns) for report in reports})
  for what, values in (('setting', settings), ('metric columns', columns)):
    if len(values) > 1:
      raise ValueError(f'Runs differ in their {what}, so a mean says nothing: {" | ".join(values)}.')
  runs = [f'{report.held_out or "in-domain"}, seed {report.seed}' for report in reports]
  if len(set(runs)) < len(runs):
    twice = next(run for run in runs if runs.count(run) > 1)
    raise ValueError(f'The run ({twice}) is given twice.')
  groups: dict[str, list[Report]] = {}
  for report in sorted(reports, key=lambda report: report.held_out):
    groups.setdefault(report.held_out or 'in-domain', []).append(report)
  every = list(groups.values())
  return Summary(
    setting=reports[0].setting,
    runs=runs,
    columns=reports[0].columns,
    rows=_spreads(every, lambda report: report.rows),
    differences=_spreads(every, lambda report: report.differences),
    by_held_out={name: _spreads([group], lambda report: report.rows) for name, group in groups.items()},
    commands=list(dict.fromkeys(report.command for report in reports)),
    hardware=list(dict.fromkeys(report.hardware for report in reports)),
    variants=list(dict.fromkeys(line for report in reports for line in report.variants)),
  )


def spread(groups: Sequence[Sequence[Interval]]) -> Spread:
  """Of the defined scores of runs, in groups by held-out sport; NaN where there are none."""
  notes = dict.fromkeys(interval.note for group in groups for interval in group if interval.note)
  defined = [[interval.value for interval in group if math.isfinite(interval.value)] for group in groups]
  defined = [group for group in defined if group]
  values = [value for group in defined for value in group]
  if not values:
    return Spread(math.nan, math.nan, math.nan, math.nan, math.nan, 0, 0, '; '.join(notes))
  units = np.array([np.mean(group) for group in defined] if len(defined) > 1 else values)
  mean, half = float(units.mean()), math.nan
  if len(units) > 1:
    half = float(stdtrit(len(units) - 1, 0.975) * units.std(ddof=1) / math.sqrt(len(units)))
  return Spread(mean, mean - half, mean + half, min(values), max(values), len(values), len(units), '; '.join(notes))


def cell(value: Spread | None, runs: int, footnotes: Footnotes, digits: int, ranges: bool, sign: str = '') -> str:
  """`46.2 [41.0, 51.3] (38.1–52.0)`, with marks of its notes and of runs that lack the score."""
  if value is None or value.n_runs == 0:
    return MISSING + footnotes.mark((value.note if value else '') or 'no run has this score')
  text = format(value.mean, f'{sign}z.1f')
  if math.isfinite(value.low):
    text += f' [{value.low:z.{digits}f}, {value.high:z.{digits}f}]'
  if ranges and value.n_runs > 1:
    text += f' ({value.lowest:z.1f}–{value.highest:z.1f})'
  lacking = f'from {value.n_runs} of {runs} runs' if value.n_runs < runs else ''
  return text + footnotes.mark('; '.join(note for note in (value.note, lacking) if note))


def _spreads(
  groups: Sequence[Sequence[Report]], part: Callable[[Report], dict[str, dict[str, Interval]]]
) -> dict[str, dict[str, Spread]]:
  """Row → score name → spread, over every row and score that any run has."""
  tables = [[part(report) for report in group] for group in groups]
  names = dict.fromkeys((row, name) for group in tables for table in group for row in table for name in table[row])
  spreads: dict[str, dict[str, Spread]] = {}
  for row, name in names:
    found = [[table[row][name] for table in group if name in table.get(row, {})] for group in tables]
    spreads.setdefault(row, {})[name] = spread(found)
  return spreads
