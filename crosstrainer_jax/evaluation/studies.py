"""What the paper leaves open, tried: one condition changed at a time, beside the runs in which none is.

A difference is taken run by run, of the same held-out sport and seed. Its interval is Student's t over held-out sports,
or over seeds where there is one sport (see `aggregate`); of a single run there is none.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from typing import TextIO

from crosstrainer_jax.evaluation.aggregate import Spread, spread
from crosstrainer_jax.evaluation.bootstrap import Interval
from crosstrainer_jax.evaluation.report import Report, without_nan
from crosstrainer_jax.evaluation.table import MISSING, Table, markdown, show, terminal

ROW, BY_ATTRIBUTES = 'CrossTrainer', 'level from v and attributes'
# Heading → row of the report and score.
SCORES = {
  'attribute F1': (ROW, 'headline/attribute F1'),
  'feedback F1': (ROW, 'headline/feedback F1'),
  'IoU@1.0': (ROW, 'headline/IoU@1.0'),
  'level, by v': (ROW, 'all/level accuracy'),
  'level, by v and attributes': (BY_ATTRIBUTES, 'all/level accuracy'),
}

# condition → its runs
Runs = Mapping[str, Sequence[Report]]


@dataclasses.dataclass(frozen=True)
class Finding:
  """One score under one condition, and how it differs from that without; NaN where a run has no such score."""

  condition: str
  score: str
  value: Spread
  difference: Spread


def findings(runs: Runs, base: str) -> list[Finding]:
  """Every score of every condition.

  Raises:
    ValueError: a run has no partner among those of `base`.
  """
  partners = {(report.held_out, report.seed): report for report in runs[base]}
  found = []
  for condition, reports in runs.items():
    alone = [r for r in reports if (r.held_out, r.seed) not in partners]
    if alone:
      raise ValueError(
        f'{condition!r}: the run of {alone[0].held_out}, seed {alone[0].seed}, has no partner in {base!r}'
      )
    for score in SCORES:
      values: dict[str, list[Interval]] = {}
      gaps: dict[str, list[Interval]] = {}
      for report in reports:
        own, other = (_value(one, score) for one in (report, partners[report.held_out, report.seed]))
        values.setdefault(report.held_out, []).append(_alone(own))
        gaps.setdefault(report.held_out, []).append(_alone(own - other))
      found.append(Finding(condition, score, spread(list(values.values())), spread(list(gaps.values()))))
  return found


def table(found: Sequence[Finding], base: str) -> Table:
  """A row for each condition; of those that change something, the difference in brackets of its interval."""
  rows = []
  for condition in dict.fromkeys(finding.condition for finding in found):
    own = {finding.score: finding for finding in found if finding.condition == condition}
    rows.append((condition, [_cell(own[score], condition == base) for score in SCORES]))
  return Table(f'Points of 100; differences from “{base}” with their 95 % interval', list(SCORES), rows)


def to_markdown(runs: Runs, base: str, facts: Sequence[str]) -> str:
  """The page's part: facts, then the table."""
  return '\n'.join([*(f'{line}\n' for line in facts), markdown(table(findings(runs, base), base))])


def to_json(found: Sequence[Finding]) -> str:
  values = [dataclasses.asdict(finding) for finding in found]
  return json.dumps(without_nan(values), indent=1, ensure_ascii=False, allow_nan=False) + '\n'


def print_table(runs: Runs, base: str, file: TextIO | None = None) -> None:
  show(table(findings(runs, base), base), terminal(file))


def _value(report: Report, score: str) -> float:
  row, name = SCORES[score]
  interval = report.rows.get(row, {}).get(name)
  return interval.value if interval else math.nan


def _alone(value: float) -> Interval:
  return Interval(value, math.nan, math.nan, 0, 0)


def _cell(finding: Finding, is_base: bool) -> str:
  if not finding.value.n_runs:
    return MISSING
  value = f'{finding.value.mean:.1f}'
  if is_base:
    return value
  gap = finding.difference
  interval = '' if math.isnan(gap.low) else f' [{gap.low:+.1f}, {gap.high:+.1f}]'
  return f'{value} ({gap.mean:+z.1f}{interval})'
