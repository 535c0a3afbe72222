"""The comparison of rankings for a reader: a table, differences paired by take, and what stands behind them."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import TextIO

from crosstrainer_jax.evaluation.bootstrap import Interval
from crosstrainer_jax.evaluation.report import cell, without_nan
from crosstrainer_jax.evaluation.table import Footnotes, Table, markdown, show, terminal


@dataclasses.dataclass
class Report:
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

  def to_markdown(self) -> str:
    tables, footnotes = self.tables()
    parts = [markdown(table) for table in tables]
    return '\n'.join([*parts, *footnotes.lines(), '', *(f'- {fact}' for fact in self.facts)]) + '\n'

  def to_json(self) -> str:
    content = {
      'rows': {name: _plain(found) for name, found in self.rows.items()},
      'differences': {name: _plain(found) for name, found in self.differences.items()},
      'by lot': dict(self.lots),
      'facts': list(self.facts),
    }
    return json.dumps(without_nan(content), indent=1, ensure_ascii=False, allow_nan=False) + '\n'

  def print(self, file: TextIO | None = None) -> None:
    console = terminal(file)
    tables, footnotes = self.tables()
    for table in tables:
      show(table, console)
    for line in [*footnotes.lines(), *self.facts]:
      console.print(line, markup=False)


def _plain(found: Mapping[str, Interval]) -> dict[str, dict[str, object]]:
  return {name: dataclasses.asdict(interval) for name, interval in found.items()}
