"""Feedback that chooses its own times, of other systems, beside rows that were given the expert's (`eval --timed`).

QEVD's evaluation matches comments in time first (`evaluation.temporal`). CrossTrainer is asked at the expert's own
times, and so are the floors: their T-F says nothing, and stands there to be seen; what they say is comparable.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import ml_collections

from crosstrainer_jax.evaluation import temporal
from crosstrainer_jax.evaluation.bootstrap import Interval, bootstrap
from crosstrainer_jax.evaluation.predictions import read_predictions, read_references
from crosstrainer_jax.evaluation.report import cell, without_nan
from crosstrainer_jax.evaluation.table import Footnotes, Table, markdown, show, terminal
from crosstrainer_jax.evaluation.temporal import Comment, Session
from crosstrainer_jax.extraction import reading_of
from crosstrainer_jax.input.buckets import as_path
from crosstrainer_jax.input.files import write_atomically
from crosstrainer_jax.input.source import ClipSource

GIVEN = ('CrossTrainer', 'nearest neighbour', 'random')
GIVEN_TIMES = 'asked at the expert’s times: its T-F says nothing'


@dataclasses.dataclass(frozen=True)
class Timed:
  """Scores by row and column, and what must be known of them."""

  rows: dict[str, dict[str, Interval]]
  notes: list[str]

  def table(self) -> tuple[Table, Footnotes]:
    footnotes = Footnotes()
    columns = list(dict.fromkeys(name for scores in self.rows.values() for name in scores))
    rows = [(name, [cell(scores.get(c), footnotes, 1) for c in columns]) for name, scores in self.rows.items()]
    return Table('Matched in time', columns, rows), footnotes

  def write(self, workdir: Path) -> None:
    """timed.md and timed.json."""
    table, footnotes = self.table()
    lines = [*footnotes.lines(), *(f'- {note}' for note in self.notes)]
    write_atomically(workdir / 'timed.md', markdown(table) + '\n' + '\n\n'.join(lines) + '\n')
    values = {'rows': {n: {c: dataclasses.asdict(i) for c, i in s.items()} for n, s in self.rows.items()}}
    content = without_nan(values | {'notes': self.notes})
    write_atomically(workdir / 'timed.json', json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + '\n')

  def print(self) -> None:
    table, footnotes = self.table()
    console = terminal()
    show(table, console)
    for line in [*footnotes.lines(), *self.notes]:
      console.print(line, markup=False, style='dim')


def evaluate(workdir: Path, dataset: Path, config: ml_collections.ConfigDict, systems: Mapping[str, str]) -> Timed:
  """Scores the files of other systems, and our rows as the last evaluation wrote them, on the run's test clips.

  Args:
    dataset: directory of the run's dataset, which knows when the expert spoke.
    systems: name → JSONL file of lines {"take", "seconds", "feedback"}, seconds from the start of the recording.

  Raises:
    FileNotFoundError, ValueError: files that are missing, broken, or of takes that are not tested.
  """
  references = read_references(workdir / 'predictions' / 'references.jsonl')
  times = {clip.clip_id: clip.commentary_time for clip in ClipSource(dataset).infos()}
  spoken = [r for r in references if r.commentary.strip() and math.isfinite(times.get(r.clip_id, math.nan))]
  if not spoken:
    raise ValueError(f'{workdir}: no test clip has a comment with a time, so nothing can be matched in time')
  takes = list(dict.fromkeys(r.take for r in spoken))
  expert = {take: [Comment(times[r.clip_id], r.commentary) for r in spoken if r.take == take] for take in takes}
  said: dict[str, dict[str, list[Comment]]] = {}
  for name in GIVEN:
    path = workdir / 'predictions' / f'{name.replace(" ", "_")}.jsonl'
    if path.is_file():
      by_clip = {p.clip_id: p.feedback or '' for p in read_predictions(path)}
      said[name] = {
        take: [Comment(times[r.clip_id], by_clip[r.clip_id]) for r in spoken if r.take == take] for take in takes
      }
  given = set(said)
  for name, file in systems.items():
    said[name] = read_timed(file, takes)
  bert = reading_of(config, references).bert
  rows, notes = {}, []
  for name, by_take in said.items():
    sessions = [Session(take, expert[take], by_take.get(take, [])) for take in takes]
    statistics = temporal.temporal_statistics(sessions, bert)
    if name in given:
      statistics['T-F'] = dataclasses.replace(statistics['T-F'], note=GIVEN_TIMES)
    rows[name] = {c: bootstrap(s, takes, config.eval.resamples, config.seed) for c, s in statistics.items()}
    notes.append(f'{name}: {temporal.notes(sessions)}.')
  return Timed(rows, notes)


def read_timed(path: str | Path, takes: Sequence[str]) -> dict[str, list[Comment]]:
  """Comments by take.

  Raises:
    FileNotFoundError, ValueError: no such file, a line that cannot be read, or a take that is not tested.
  """
  path = as_path(path)
  if not path.is_file():
    raise FileNotFoundError(f'{path}: no such file of timed feedback')
  known = set(takes)
  found: dict[str, list[Comment]] = {}
  for number, line in enumerate(path.read_text(encoding='utf-8').splitlines(), start=1):
    if not line.strip():
      continue
    try:
      values = json.loads(line)
      take, seconds, text = values['take'], float(values['seconds']), values['feedback']
      if not (isinstance(take, str) and isinstance(text, str) and math.isfinite(seconds)):
        raise ValueError(line)
    except (ValueError, TypeError, KeyError):
      raise ValueError(
        f'{path}, line {number}: expected {{"take": "…", "seconds": 12.5, "feedback": "…"}}, not {line[:80]!r}'
      ) from None
    if take not in known:
      raise ValueError(f'{path}, line {number}: {take!r} is no take of the test clips, such as {takes[0]!r}')
    found.setdefault(take, []).append(Comment(seconds, text))
  return found
