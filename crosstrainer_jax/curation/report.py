"""What a curation did, for a reader: what each step kept and dropped and why, what is in the library, and the truth."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

from crosstrainer_jax.curation.manifest import Totals
from crosstrainer_jax.curation.truth import Truth
from crosstrainer_jax.curation.work import Counts
from crosstrainer_jax.evaluation.report import without_nan
from crosstrainer_jax.evaluation.table import Footnotes, Table, markdown, show, terminal


@dataclasses.dataclass
class Report:
  """Of one run.

  Attributes:
    steps: name -> what was counted.
    facts: settings and costs, one line each.
    totals: of the library; None where the run ended before its last step.
    truth: None for videos of which nothing is known.
  """

  steps: Mapping[str, Counts]
  facts: Sequence[str]
  totals: Totals | None = None
  truth: Truth | None = None

  @property
  def unanswered(self) -> int:
    return sum(counts.unanswered for counts in self.steps.values())

  def tables(self) -> tuple[list[Table], Footnotes]:
    rows = []
    for name, counts in self.steps.items():
      share = f'{100 * counts.kept / counts.segments:.1f} %' if counts.segments else ''
      rows.append((name, [str(counts.videos), str(counts.segments), str(counts.kept), share]))
    columns = ['videos in', 'segments in', 'segments kept', 'kept']
    found = [Table('Steps', columns, rows)]
    dropped = [
      (f'{name}: {why}', [str(count), what])
      for name, counts in self.steps.items()
      for (what, why), count in counts.reasons.most_common()
    ]
    if dropped:
      found.append(Table('What was dropped, and why', ['count', 'of'], dropped))
    if self.totals and self.totals.sports:
      found.append(Table('Library', ['clips'], [(sport, [str(n)]) for sport, n in self.totals.sports.items()]))
    footnotes = Footnotes()
    if self.truth:
      more, footnotes = self.truth.tables()
      found += more
    return found, footnotes

  def lines(self) -> list[str]:
    """What is no table."""
    lines = list(self.facts)
    if self.totals:
      lines.append(
        f'library: {self.totals.clips} clips, {self.totals.hours:.2f} hours, of {self.totals.videos} '
        f'videos by {self.totals.channels} channels'
      )
    if self.truth:
      lines.append('[95 % percentile bootstrap by video, 1,000 resamples]')
    return lines

  def to_markdown(self) -> str:
    tables, footnotes = self.tables()
    parts = ['# Curation', '', *(f'- {line}' for line in self.lines()), '']
    return '\n'.join([*parts, *(markdown(table) for table in tables), *footnotes.lines()]) + '\n'

  def to_json(self) -> str:
    truth: dict[str, Any] = {}
    if self.truth:
      for name, (precision, recall, count) in self.truth.scores().items():
        truth[name] = {
          'precision': dataclasses.asdict(precision), 'recall': dataclasses.asdict(recall), 'decisions': count,
        }  # fmt: skip
    content = {
      'facts': list(self.facts),
      'steps': {name: counts.to_json() for name, counts in self.steps.items()},
      'library': dataclasses.asdict(self.totals) if self.totals else None,
      'truth': truth,
    }
    return json.dumps(without_nan(content), indent=1, ensure_ascii=False, allow_nan=False) + '\n'

  def print(self, file: TextIO | None = None) -> None:
    console = terminal(file)
    tables, footnotes = self.tables()
    for table in tables:
      show(table, console)
    for line in [*footnotes.lines(), *self.lines()]:
      console.print(line, markup=False)
