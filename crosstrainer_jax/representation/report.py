"""The comparison for a reader: a table over all sports, one of R@10 by sport, and bars as a picture."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from crosstrainer_jax.evaluation.bootstrap import Interval
from crosstrainer_jax.evaluation.dials import need_matplotlib
from crosstrainer_jax.evaluation.report import cell, without_nan
from crosstrainer_jax.evaluation.table import Footnotes, Page, Table, read_page, spread
from crosstrainer_jax.representation.scoring import Scores, chance

RANDOM = 'random'


@dataclasses.dataclass
class Report(Page):
  """Of one run.

  Attributes:
    rows: name -> scores.
    pool: candidates of a query.
    facts: lines that say what stands behind the numbers.
  """

  rows: Mapping[str, Scores]
  pool: int
  facts: Sequence[str]

  def sports(self) -> list[str]:
    return [sport for sport in next(iter(self.rows.values())).by_sport if sport]

  def column(self) -> str:
    """By which rows are compared by sport: R@10, or what a small pool has."""
    names = [name for name in chance(self.pool) if name.startswith('R@')]
    return names[-1]

  def tables(self) -> tuple[list[Table], Footnotes]:
    footnotes = Footnotes()
    lots = chance(self.pool)
    columns = list(lots)
    rows = [(RANDOM, [f'{lots[name]:.1f}' for name in columns])]
    rows += [
      (name, [cell(scores.by_sport[''][column], footnotes, 1) for column in columns])
      for name, scores in self.rows.items()
    ]
    column = self.column()
    by_sport = [(RANDOM, [f'{lots[column]:.1f}'] * len(self.sports()))]
    by_sport += [
      (name, [cell(scores.by_sport[sport][column], footnotes, 0) for sport in self.sports()])
      for name, scores in self.rows.items()
    ]
    found = [
      Table(f'Clips and narrations, pools of {self.pool} within a sport: means over sports', columns, rows),
      Table(f'{column} by sport', self.sports(), by_sport),
    ]
    if kinds := list(next(iter(self.rows.values())).by_execution):
      by_kind = [(RANDOM, [f'{lots[column]:.1f}'] * len(kinds))]
      by_kind += [
        (name, [cell(scores.by_execution[kind][column], footnotes, 0) for kind in kinds])
        for name, scores in self.rows.items()
      ]
      found.append(Table(f'{column} by how the skill is shown', kinds, by_kind))
    return found, footnotes

  def to_json(self) -> str:
    rows = {
      name: {
        sport or 'all': {column: dataclasses.asdict(interval) for column, interval in columns.items()}
        for sport, columns in [*scores.by_sport.items(), *scores.by_execution.items()]
      }
      for name, scores in self.rows.items()
    }
    content = {'pool': self.pool, 'random': chance(self.pool), 'rows': rows, 'facts': list(self.facts)}
    return json.dumps(without_nan(content), indent=1, ensure_ascii=False, allow_nan=False) + '\n'


def plot(report: Report, path: Path) -> Path:
  """Bars of each row for each sport, with intervals and the level of chance, as a PNG."""
  need_matplotlib()
  from matplotlib.figure import Figure

  sports, column = report.sports(), report.column()
  figure = Figure(figsize=(1.6 * len(sports) + 2, 3.2), layout='constrained')
  axis = figure.subplots()
  width = 0.8 / len(report.rows)
  for number, (name, scores) in enumerate(report.rows.items()):
    found: list[Interval] = [scores.by_sport[sport][column] for sport in sports]
    places = [place + (number - (len(report.rows) - 1) / 2) * width for place in range(len(sports))]
    errors = [[max(0.0, i.value - i.low) for i in found], [max(0.0, i.high - i.value) for i in found]]
    axis.bar(places, [i.value for i in found], 0.9 * width, label=name)
    if not any(error != error for side in errors for error in side):  # too few videos for an interval
      axis.errorbar(places, [i.value for i in found], errors, fmt='none', ecolor='black', elinewidth=0.8, capsize=2)
  axis.axhline(chance(report.pool)[column], color='grey', linestyle=':', label=RANDOM)
  axis.set_xticks(range(len(sports)), sports)
  axis.set_ylabel(f'{column} of {report.pool}, %')
  axis.spines[['top', 'right']].set_visible(False)
  axis.legend(frameon=False, fontsize=8, loc='lower center', bbox_to_anchor=(0.5, 1.0), ncols=4)
  figure.savefig(path, dpi=150)
  return path


def read(path: Path) -> dict[str, Any]:
  """What `Report.to_json` wrote. Raises FileNotFoundError, ValueError."""
  return read_page(path, ('rows', 'random', 'pool'), 'represent')


def summary(reports: Sequence[Mapping[str, Any]]) -> list[Table]:
  """Of runs of several seeds: means, and lowest and highest run; over all sports, and R@10 for each of the others.

  Raises:
    ValueError: runs with other rows, sports or pools.
  """
  first = reports[0]
  shapes = [
    {name: sorted(groups) for name, groups in report['rows'].items()} | {'': report['pool']} for report in reports
  ]
  if any(shape != shapes[0] for shape in shapes):
    raise ValueError('--runs: they have other rows, sports or pools, and cannot be averaged')
  columns = list(first['random'])
  column = [name for name in columns if name.startswith('R@')][-1]
  groups = [group for group in next(iter(first['rows'].values())) if group != 'all']

  def over_runs(row: str, group: str, name: str) -> str:
    return spread([report['rows'][row][group][name]['value'] for report in reports])

  whole = [(RANDOM, [f'{first["random"][name]:.1f}' for name in columns])]
  whole += [(row, [over_runs(row, 'all', name) for name in columns]) for row in first['rows']]
  parts = [(RANDOM, [f'{first["random"][column]:.1f}'] * len(groups))]
  parts += [(row, [over_runs(row, group, column) for group in groups]) for row in first['rows']]
  title = f'Pools of {first["pool"]} within a sport, {len(reports)} seeds: mean (lowest–highest)'
  return [Table(title, columns, whole), Table(f'{column} of parts', groups, parts)]
