"""A table of scores on a terminal and in Markdown, with numbered footnotes."""

from __future__ import annotations

import abc
import dataclasses
import json
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

WIDTH = 120
NAME, HEADING = 23, 12  # characters before a row's name or a column's heading goes to a second line
GAP = 2  # between columns
MISSING = '–'
_SUPERSCRIPTS = str.maketrans('0123456789', '⁰¹²³⁴⁵⁶⁷⁸⁹')


@dataclasses.dataclass
class Table:
  """Cells as text: one row name and one cell for each column."""

  title: str
  columns: list[str]
  rows: list[tuple[str, list[str]]]


class Footnotes:
  """Numbers notes in order of first use; the same words share a number."""

  def __init__(self) -> None:
    self.notes: dict[str, int] = {}

  def mark(self, note: str) -> str:
    """The superscript for a note, "" for an empty one."""
    if not note:
      return ''
    return str(self.notes.setdefault(note, len(self.notes) + 1)).translate(_SUPERSCRIPTS)

  def lines(self) -> list[str]:
    return [f'{self.mark(note)} {note}' for note in self.notes]


def markdown(table: Table) -> str:
  """A GitHub table under a bold title."""
  lines = [
    f'**{table.title}**',
    '',
    '| |' + ''.join(f' {_escape(column)} |' for column in table.columns),
    '|---|' + '---:|' * len(table.columns),
  ]
  lines += [f'| {_escape(name)} |' + ''.join(f' {_escape(cell)} |' for cell in cells) for name, cells in table.rows]
  return '\n'.join(lines) + '\n'


def terminal(file: TextIO | None = None) -> Console:
  """A console no wider than 120 columns: coloured on a terminal, plain text elsewhere."""
  stream = file or sys.stdout
  console = Console(file=stream, highlight=False)
  return Console(file=stream, highlight=False, width=min(WIDTH, console.width) if console.is_terminal else WIDTH)


def show(table: Table, console: Console) -> None:
  """Prints a table; columns that do not fit beside each other follow in further blocks."""
  for number, columns in enumerate(blocks(table, console.width)):
    console.print(table.title if number == 0 else f'{table.title}, continued', style='bold', markup=False)
    drawn = RichTable(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    drawn.add_column('', no_wrap=True)
    for index in columns:
      drawn.add_column(Text(_wrapped(table.columns[index], HEADING)), justify='right', no_wrap=True)
    for name, cells in table.rows:
      drawn.add_row(Text(_wrapped(name, NAME)), *(Text(cells[index]) for index in columns))
    console.print(drawn)
    console.print()


class Page(abc.ABC):
  """A report of tables and of facts that stand behind them, as Markdown and on a terminal; a subclass has both."""

  facts: Sequence[str]

  @abc.abstractmethod
  def tables(self) -> tuple[list[Table], Footnotes]: ...

  def to_markdown(self) -> str:
    tables, footnotes = self.tables()
    parts = [markdown(table) for table in tables]
    return '\n'.join([*parts, *footnotes.lines(), '', *(f'- {fact}' for fact in self.facts)]) + '\n'

  def print(self, file: TextIO | None = None) -> None:
    console = terminal(file)
    tables, footnotes = self.tables()
    for table in tables:
      show(table, console)
    for line in [*footnotes.lines(), *self.facts]:
      console.print(line, markup=False)


def read_page(path: Path, parts: Sequence[str], verb: str) -> dict[str, Any]:
  """What a report wrote as JSON.

  Args:
    parts: keys that it must have.
    verb: what writes it.

  Raises:
    FileNotFoundError, ValueError: there is none, or it is something else.
  """
  if not path.is_file():
    raise FileNotFoundError(f'{path}: no such report; python -m crosstrainer_jax.{verb} writes one into its workdir')
  try:
    content: dict[str, Any] = json.loads(path.read_text(encoding='utf-8'))
    missing = [part for part in parts if part not in content]
  except (json.JSONDecodeError, TypeError) as error:
    raise ValueError(f'{path}: no report of {verb} ({error})') from error
  if missing:
    raise ValueError(f'{path}: no report of {verb} (it has no {missing[0]!r})')
  return content


def spread(values: Sequence[float | None]) -> str:
  """Mean, lowest and highest of several runs; `MISSING` where one of them has no value."""
  known = [value for value in values if value is not None]
  if len(known) < len(values) or not known:
    return MISSING
  return f'{sum(known) / len(known):.1f} ({min(known):.1f}–{max(known):.1f})'


def blocks(table: Table, width: int) -> list[list[int]]:
  """Column indices in groups that fit into `width` beside the names; at least one column in a group."""
  names = max((_width(_wrapped(name, NAME)) for name, _ in table.rows), default=0) + GAP
  groups: list[list[int]] = []
  used = width
  for index, column in enumerate(table.columns):
    cells = [_wrapped(column, HEADING), *(cells[index] for _, cells in table.rows)]
    need = max(map(_width, cells)) + GAP
    if used + need > width:
      groups.append([])
      used = names
    groups[-1].append(index)
    used += need
  return groups


def _wrapped(text: str, width: int) -> str:
  """`text` on several lines, the further ones indented by one."""
  return '\n'.join(textwrap.wrap(text, width, subsequent_indent=' ', break_long_words=False, break_on_hyphens=False))


def _width(text: str) -> int:
  return max(map(cell_len, text.split('\n')))


def _escape(text: str) -> str:
  return text.replace('|', '\\|')
