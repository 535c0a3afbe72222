"""The comparison of rankings for a reader: a table, differences paired by take, and what stands behind them."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from crosstrainer_jax.evaluation.bootstrap import Interval
from crosstrainer_jax.evaluation.report import cell, without_nan
from crosstrainer_jax.evaluation.table import Footnotes, Page, Table, read_page, spread


@dataclasses.dataclass
class Report(Page):
  """Of one run.

  Attributes:
    rows: name -> column -> interval.
    differences: name of a pair -> column -> interval.
    lots: column -> what an order by lot comes to, worked out.
    facts: lines that say what stands behind the numbers.
  """

  rows: Mapping[str, Mapping[str, Interval]]
  differences: Mapping[str, Mapping[str, Interval]]
  lots: Mapping[str, float]
  facts: Sequence[str]

  def tables(self) -> tuple[list[Table], Footnotes]:
    footnotes = Footnotes()
    columns = list(next(iter(self.rows.values())))
    lots = [f'{self.lots[name]:.1f}' if name in self.lots else '' for name in columns]
    rows = [('by lot (exact)', lots)]
    rows += [(name, [cell(found[column], footnotes, 1) for column in columns]) for name, found in self.rows.items()]
    tables = [Table('The clip to watch, among those of the sport', columns, rows)]
    if self.differences:
      columns = list(next(iter(self.differences.values())))
      rows = [
        (name, [cell(found[column], footnotes, 1, '+') for column in columns])
        for name, found in self.differences.items()
      ]
      tables.append(Table('Differences, paired by take', columns, rows))
    return tables, footnotes

  def to_json(self) -> str:
    content = {
      'rows': {name: _plain(found) for name, found in self.rows.items()},
      'differences': {name: _plain(found) for name, found in self.differences.items()},
      'by lot': dict(self.lots),
      'facts': list(self.facts),
    }
    return json.dumps(without_nan(content), indent=1, ensure_ascii=False, allow_nan=False) + '\n'


def _plain(found: Mapping[str, Interval]) -> dict[str, dict[str, object]]:
  return {name: dataclasses.asdict(interval) for name, interval in found.items()}


def read(path: Path) -> dict[str, Any]:
  """What `Report.to_json` wrote. Raises FileNotFoundError, ValueError."""
  return read_page(path, ('rows', 'differences', 'by lot'), 'retrieve')


def summary(reports: Sequence[Mapping[str, Any]]) -> list[Table]:
  """Of runs of several seeds: means, and lowest and highest run, of rows and of differences.

  Raises:
    ValueError: runs with other rows.
  """
  first = reports[0]
  if any(list(report['rows']) != list(first['rows']) for report in reports):
    raise ValueError('--runs: they have other rows, and cannot be averaged')
  tables = []
  for title, part in (('The clip to watch, among those of the sport', 'rows'), ('Differences', 'differences')):
    if not first[part]:
      continue
    columns = list(next(iter(first[part].values())))
    rows = [
      (name, [spread([report[part][name][column]['value'] for report in reports]) for column in columns])
      for name in first[part]
    ]
    if part == 'rows':
      lots = [spread([report['by lot'].get(column) for report in reports]) for column in columns]
      rows.insert(0, ('by lot (exact)', lots))
    tables.append(Table(f'{title}, {len(reports)} seeds: mean (lowest–highest)', columns, rows))
  return tables
