"""The report of one run: rows × scores and all that one needs to read them, as terminal text, Markdown and JSON."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TextIO

from crosstrainer_jax.evaluation.bootstrap import Interval
from crosstrainer_jax.evaluation.table import MISSING, Footnotes, Table, markdown, show, terminal
from crosstrainer_jax.input.buckets import as_path
from crosstrainer_jax.input.files import write_atomically

# The rows in the order of the table; others follow after them.
ROWS = (
  'always none',
  'random',
  'majority',
  'nearest neighbour',
  'linear classifier on v',
  'fine-tuned retrieval',
  'attribute retrieval',
  'zero-shot VLM',
  'video zeroed',
  'end to end without attributes',
  'CrossTrainer',
  'CrossTrainer with true attributes',
  'level from v and attributes',
  'sport-blind ceiling',
)
SCOPES = {'headline': 'Clips with a fault', 'all': 'All clips'}


@dataclasses.dataclass
class Report:
  """Scores of all rows on the same clips.

  Attributes:
    title: of the table, for example the name of the config.
    setting: split, for example `ZS-3`; `held_out` is its sport or skill, "" for in-domain.
    seed: of training; the bootstrap's is `bootstrap_seed`.
    command: the line that made the report again; `hardware` it ran on.
    n_clips, n_takes, n_headline: what was scored.
    columns: metric names in the order of the table.
    rows: row name → score name (`headline/…`, `all/…`) → interval, as from `scores.score`.
    differences: "first − second" → the same, as from `scores.compare`.
    not_run: row name → why it was not run.
    variants: which variant of each metric was computed, one line each.
    notes: further lines, for example majority rates.
    details: lines that only the Markdown report has, for example tests of differences.
    made_of: row name → what stands behind it by heading: frames, decoder, prompts, checkpoint, text.
  """

  title: str
  setting: str
  held_out: str
  seed: int
  command: str
  hardware: str
  n_clips: int
  n_takes: int
  n_headline: int
  columns: list[str]
  rows: dict[str, dict[str, Interval]]
  differences: dict[str, dict[str, Interval]] = dataclasses.field(default_factory=dict)
  not_run: dict[str, str] = dataclasses.field(default_factory=dict)
  variants: list[str] = dataclasses.field(default_factory=list)
  notes: list[str] = dataclasses.field(default_factory=list)
  resamples: int = 1000
  bootstrap_seed: int = 0
  details: list[str] = dataclasses.field(default_factory=list)
  made_of: dict[str, dict[str, str]] = dataclasses.field(default_factory=dict)

  def to_markdown(self) -> str:
    tables, footnotes = tables_of(self, details=True)
    if self.made_of:
      headings = list(dict.fromkeys(heading for facts in self.made_of.values() for heading in facts))
      rows = [(row, [self.made_of[row].get(h, MISSING) for h in headings]) for row in ordered(self.made_of)]
      tables.append(Table('What stands behind each row', headings, rows))
    parts = [f'# {self.title}\n', *(line + '\n' for line in self.facts()), *(markdown(table) for table in tables)]
    lines = footnotes.lines() + [f'- {line}' for line in self.variants + self.notes + self.details]
    return '\n'.join(parts) + '\n' + '\n'.join(_spaced(lines)) + '\n'

  def to_json(self) -> str:
    """JSON in which an undefined number is null."""
    return json.dumps(without_nan(dataclasses.asdict(self)), indent=1, ensure_ascii=False, allow_nan=False) + '\n'

  def print(self, file: TextIO | None = None) -> None:
    """Prints to a terminal in at most 120 columns, headline first; plain text where there is no terminal."""
    tables, footnotes = tables_of(self, details=False)
    console = terminal(file)
    for line in self.facts():
      console.print(line, markup=False, soft_wrap=True)  # a command is there to be copied
    for table in tables:
      show(table, console)
    more = [
      'Further scores, tests of differences, and what stands behind each row are in the Markdown and JSON reports.'
    ]
    for line in footnotes.lines() + self.variants + self.notes + more:
      console.print(line, markup=False, style='dim')

  def facts(self) -> list[str]:
    """The lines above the table."""
    where = f'{self.setting}, held out: {self.held_out}' if self.held_out else self.setting
    return [
      f'{where} · {self.n_clips} clips, {self.n_headline} with a fault, in {self.n_takes} takes · seed {self.seed}',
      f'Scores are 0–100, [95 % percentile bootstrap by take, {self.resamples} resamples, seed {self.bootstrap_seed}].',
      f'Command: {self.command}',
      f'Hardware: {self.hardware}',
    ]

  def write(self, workdir: str | os.PathLike[str]) -> tuple[Path, Path]:
    """Writes report.md and report.json into the workdir, and returns their paths."""
    paths = as_path(workdir) / 'report.md', as_path(workdir) / 'report.json'
    for path, text in zip(paths, (self.to_markdown(), self.to_json()), strict=True):
      write_atomically(path, text)
    return paths


def read_report(path: str | os.PathLike[str]) -> Report:
  """Inverse of `to_json`; raises FileNotFoundError or ValueError naming the file."""
  path = as_path(path)
  if not path.is_file():
    raise FileNotFoundError(f'{path} does not exist: run `python -m crosstrainer_jax.eval` for that workdir first.')
  try:
    values = json.loads(path.read_text(encoding='utf-8'))
    for part in ('rows', 'differences'):
      values[part] = {name: _intervals(scores) for name, scores in values[part].items()}
    return Report(**values)
  except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
    raise ValueError(f'{path} is not a report of this version ({error}): evaluate the run again.') from None


def ordered(names: Iterable[str]) -> list[str]:
  """Row names in the order of `ROWS`, others after them in their own order."""
  names = list(names)
  return [name for name in ROWS if name in names] + [name for name in names if name not in ROWS]


def tables_of(report: Report, details: bool) -> tuple[list[Table], Footnotes]:
  """Rows and differences of each scope, and the footnotes of all.

  `details` adds a table of the scores that `columns` does not list, and writes bounds with a decimal.
  """
  footnotes = Footnotes()
  tables = []
  for scope, title in SCOPES.items():
    tables += _pair(report, scope, title, report.columns, footnotes, int(details))
    if details and (more := further_columns(report, scope)):
      tables += _pair(report, scope, f'{title}, details', more, footnotes, 1)
  return tables, footnotes


def _pair(report: Report, scope: str, title: str, columns: list[str], footnotes: Footnotes, digits: int) -> list[Table]:
  """The table of rows, and that of differences when there are any."""
  rows = []
  for name in ordered(dict.fromkeys([*ROWS, *report.rows, *report.not_run])):
    if name in report.rows:
      scores = report.rows[name]
      cells = [cell(scores.get(f'{scope}/{column}'), footnotes, digits) for column in columns]
    else:
      why = report.not_run.get(name)
      cells = [MISSING + footnotes.mark(f'not run: {why}' if why else 'not run')] * len(columns)
    rows.append((name, cells))
  differences = [
    (name, [cell(scores.get(f'{scope}/{column}'), footnotes, digits, sign='+') for column in columns])
    for name, scores in report.differences.items()
  ]
  tables = [Table(title, columns, rows)]
  return [*tables, Table(f'{title}: differences, paired by take', columns, differences)] if differences else tables


def further_columns(report: Report, scope: str) -> list[str]:
  """Scores of this scope that `columns` does not list, such as macro F1 or the accuracy of each sport."""
  prefix = f'{scope}/'
  found = [key.removeprefix(prefix) for scores in report.rows.values() for key in scores if key.startswith(prefix)]
  return [column for column in dict.fromkeys(found) if column not in report.columns]


def cell(interval: Interval | None, footnotes: Footnotes, digits: int, sign: str = '') -> str:
  """`46.2 [41, 51]`, or – where there is no score, each with the mark of its footnote."""
  if interval is None:
    return MISSING + footnotes.mark('one of the rows lacks this score')
  mark = footnotes.mark(interval.note)
  if math.isnan(interval.value):
    return MISSING + mark
  number = format(interval.value, f'{sign}z.1f')
  if math.isnan(interval.low):
    return number + (mark or footnotes.mark('no interval: too few takes'))
  low, high = (format(bound, f'z.{digits}f') for bound in (interval.low, interval.high))
  return f'{number} [{low}, {high}]{mark}'


def _intervals(scores: dict[str, Any]) -> dict[str, Interval]:
  return {name: _interval(fields) for name, fields in scores.items()}


def _interval(fields: dict[str, Any]) -> Interval:
  bounds = {key: math.nan if fields[key] is None else float(fields[key]) for key in ('value', 'low', 'high')}
  return Interval(**bounds, n_clips=fields['n_clips'], n_takes=fields['n_takes'], note=fields['note'])


def without_nan(value: Any) -> Any:
  """`value` with null, which JSON knows, in the place of NaN, which it does not."""
  if isinstance(value, dict):
    return {key: without_nan(item) for key, item in value.items()}
  if isinstance(value, list | tuple):
    return [without_nan(item) for item in value]
  return None if isinstance(value, float) and math.isnan(value) else value


def _spaced(lines: Sequence[str]) -> list[str]:
  """An empty line after each footnote, or Markdown would run them together; list items need none."""
  return [line if line.startswith('- ') else f'{line}\n' for line in lines]
