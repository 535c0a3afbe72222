"""What people judged: the forms of several raters become a majority vote, Fleiss' κ and an interval for each system.

A form is a CSV with the columns `sheet`, `item`, `rater`, `answer` (yes, no, or empty for no answer) and `comment`; the
key, which raters never see, says which system and clip an item is of.
"""

from __future__ import annotations

import csv
import dataclasses
import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from crosstrainer_jax.evaluation.bootstrap import Interval, bootstrap, mean_statistic
from crosstrainer_jax.evaluation.report import cell, without_nan
from crosstrainer_jax.evaluation.table import MISSING, Footnotes, Table, markdown, show, terminal

COLUMNS = ('sheet', 'item', 'rater', 'answer', 'comment')
ANSWERS = {'yes': True, 'no': False}


@dataclasses.dataclass(frozen=True)
class Item:
  """One answer of one system to one clip, as the key knows it."""

  item: str
  clip_id: str
  take: str
  system: str


@dataclasses.dataclass(frozen=True)
class Key:
  """Of a sheet: its fingerprint, the question that was asked, and its items."""

  sheet: str
  kind: str
  question: str
  seed: int
  items: list[Item]

  def to_json(self) -> str:
    return json.dumps(dataclasses.asdict(self), indent=1, ensure_ascii=False) + '\n'


@dataclasses.dataclass
class Judged:
  """What raters made of a sheet.

  Attributes:
    raters: names.
    systems: system → share of its items that most raters said yes to, with an interval by take.
    kappa: Fleiss' κ over the items that every rater answered, NaN where it is undefined; `rated` is their number.
    by_rater: system → rater → share of yes.
    ties: items with as many yes as no, which count as no; `unanswered`: those that nobody answered, which are left out.
  """

  key: Key
  raters: list[str]
  systems: dict[str, Interval]
  kappa: float
  rated: int
  by_rater: dict[str, dict[str, float]]
  ties: int
  unanswered: int
  resamples: int

  def table(self) -> tuple[Table, Footnotes]:
    footnotes = Footnotes()
    columns = ['yes, majority', 'clips', *self.raters]
    rows = []
    for system, interval in self.systems.items():
      shares = [self.by_rater[system][rater] for rater in self.raters]
      single = [MISSING if math.isnan(share) else f'{share:.0f}' for share in shares]
      rows.append((system, [cell(interval, footnotes, 0), str(interval.n_clips), *single]))
    return Table(f'“{self.key.question}” in % of clips', columns, rows), footnotes

  def facts(self) -> list[str]:
    kappa = 'undefined' if math.isnan(self.kappa) else f'{self.kappa:.2f}'
    return [
      f'Raters: {len(self.raters)}; items: {len(self.key.items)}; sheet {self.key.sheet}.',
      f"Fleiss' κ {kappa} over the {self.rated} items that every rater answered.",
      f'{self.ties} items tied, which counts as no; {self.unanswered} items without any answer are left out.',
      f'[95 % percentile bootstrap by take, {self.resamples} resamples].',
    ]

  def to_markdown(self) -> str:
    table, footnotes = self.table()
    return '\n'.join([markdown(table), *footnotes.lines(), *(f'- {fact}' for fact in self.facts())]) + '\n'

  def to_json(self) -> str:
    return json.dumps(without_nan(dataclasses.asdict(self)), indent=1, ensure_ascii=False, allow_nan=False) + '\n'

  def print(self, file: TextIO | None = None) -> None:
    console = terminal(file)
    table, footnotes = self.table()
    show(table, console)
    for line in footnotes.lines() + self.facts():
      console.print(line, markup=False)


def read_key(path: str | os.PathLike[str]) -> Key:
  """What `Key.to_json` wrote.

  Raises:
    FileNotFoundError, ValueError: there is none, or it is something else.
  """
  path = Path(path)
  if not path.is_file():
    raise FileNotFoundError(f'--key: there is no file {path}; it lies beside the sheet, as key.json')
  try:
    values = json.loads(path.read_text(encoding='utf-8'))
    return Key(**{**values, 'items': [Item(**item) for item in values['items']]})
  except (json.JSONDecodeError, KeyError, TypeError) as error:
    raise ValueError(f'{path} is not the key of a sheet ({error})') from None


def read_answers(paths: Sequence[str | os.PathLike[str]], key: Key) -> tuple[list[str], np.ndarray]:
  """Raters, and float[items, raters]: 1 for yes, 0 for no, NaN for no answer.

  A rater may have answered in several files, but no item twice.

  Raises:
    FileNotFoundError: a file is not there.
    ValueError: with file and line: another sheet, an unknown item or answer, an item twice, or no rater.
  """
  places = {item.item: number for number, item in enumerate(key.items)}
  by_rater: dict[str, dict[int, float]] = {}
  for path in map(Path, paths):
    if not path.is_file():
      raise FileNotFoundError(f'--judged: there is no file {path}')
    for number, row in enumerate(_rows(path), start=2):
      place = f'{path}, line {number}'
      if row['sheet'] != key.sheet:
        raise ValueError(f'{place}: this is an answer to the sheet {row["sheet"]!r}, the key is of {key.sheet!r}')
      if row['item'] not in places:
        raise ValueError(f'{place}: the sheet has no item {row["item"]!r}')
      answer = row['answer'].strip().lower()
      if not answer:
        continue
      if answer not in ANSWERS:
        raise ValueError(f'{place}: the answer must be yes, no or empty, not {row["answer"]!r}')
      rater = row['rater'].strip()
      if not rater:
        raise ValueError(f'{place}: the rater has no name; write one into the column rater')
      given = by_rater.setdefault(rater, {})
      if places[row['item']] in given:
        raise ValueError(f'{place}: {rater!r} answers {row["item"]!r} a second time')
      given[places[row['item']]] = float(ANSWERS[answer])
  if not by_rater:
    raise ValueError(f'--judged: no answer in {", ".join(map(str, paths))}')
  answers = np.full((len(key.items), len(by_rater)), math.nan)
  for column, given in enumerate(by_rater.values()):
    answers[list(given), column] = list(given.values())
  return list(by_rater), answers


def _rows(path: Path) -> list[dict[str, str]]:
  try:
    # a spreadsheet may have put a mark before the first column
    with path.open(encoding='utf-8-sig', newline='') as file:
      sample = file.readline()
      file.seek(0)
      reader = csv.DictReader(file, delimiter=';' if sample.count(';') > sample.count(',') else ',')
      missing = [name for name in COLUMNS[:4] if name not in (reader.fieldnames or ())]
      if missing:
        raise ValueError(f'{path}: the columns {", ".join(missing)} are missing; is it the form of a sheet?')
      return [{name: row.get(name) or '' for name in COLUMNS} for row in reader]
  except UnicodeDecodeError:
    raise ValueError(f'{path}: not UTF-8; save the form as “CSV UTF-8”') from None


def judge(key: Key, raters: Sequence[str], answers: np.ndarray, resamples: int = 1000) -> Judged:
  """Majority, agreement and intervals from answers float[items, raters]."""
  given = np.isfinite(answers)
  yes, count = np.nansum(answers, 1), given.sum(1)
  majority, answered = 2 * yes > count, count > 0
  systems, by_rater = {}, {}
  for system in dict.fromkeys(item.system for item in key.items):
    own = np.array([item.system == system for item in key.items])
    chosen = [item for item in key.items if item.system == system]
    statistic = mean_statistic(majority[own].astype(float), answered[own])
    systems[system] = bootstrap(statistic, [item.take for item in chosen], resamples, key.seed)
    by_rater[system] = {
      rater: 100 * float(np.nanmean(answers[own, column])) if given[own, column].any() else math.nan
      for column, rater in enumerate(raters)
    }
  complete = given.all(1)
  counts = np.stack([answers[complete].sum(1), (1 - answers[complete]).sum(1)], 1)
  return Judged(
    key, list(raters), systems, fleiss_kappa(counts), int(complete.sum()), by_rater,
    int((answered & (2 * yes == count)).sum()), int((~answered).sum()), resamples,
  )  # fmt: skip


def fleiss_kappa(counts: Any) -> float:
  """Agreement of raters beyond chance (Fleiss 1971, eq. 1 to 7), 1 at most.

  Args:
    counts: int[N, C], how many raters put item i into category j; as many raters for every item.

  Returns:
    NaN with fewer than two raters or without items, and where every answer is the same, so that chance agrees too.

  Raises:
    ValueError: items have different numbers of raters.
  """
  counts = np.asarray(counts, float)
  if not len(counts):
    return math.nan
  raters = counts.sum(1)
  if (raters != raters[0]).any():
    raise ValueError(f'every item needs as many raters: there are from {raters.min():.0f} to {raters.max():.0f}')
  n = raters[0]
  if n < 2:
    return math.nan
  observed = ((np.square(counts).sum(1) - n) / (n * (n - 1))).mean()
  chance = np.square(counts.sum(0) / counts.sum()).sum()
  return float((observed - chance) / (1 - chance)) if chance < 1 else math.nan
