"""Discovery over a prepared dataset: one JSON line for each clip that has commentary.

A line holds `clip_id`, `take`, `sport`, `text_sha` (of the commentary), `backend` (its fingerprint), `correct` and
`incorrect`. A killed run loses nothing (`journal`); a later one keeps the lines whose text and backend are the same.
A clip whose answer could not be read has no line: it is not one without faults.
"""

from __future__ import annotations

import collections
import dataclasses
from pathlib import Path

from crosstrainer_jax.discovery.agreement import Agreement, agreement, table
from crosstrainer_jax.discovery.backend import Attributes, Discoverer, discover_each
from crosstrainer_jax.discovery.journal import (
  Journal,
  Line,
  Unread,
  describe_unread,
  need_texts,
  read_lines,
  read_unread,
  text_sha,
  write_unread,
)
from crosstrainer_jax.discovery.language_model import Unreadable
from crosstrainer_jax.discovery.lexicon import LexiconDiscoverer
from crosstrainer_jax.input.buckets import as_path
from crosstrainer_jax.input.progress import Progress
from crosstrainer_jax.input.source import ClipInfo, ClipSource

_TOP = 8


@dataclasses.dataclass
class Report:
  """What a run over a dataset did and found."""

  output: Path
  clips: int = 0
  silent: int = 0  # clips without commentary
  kept: int = 0  # lines taken over from an earlier run
  broken: int = 0  # lines of an earlier run that could not be read
  faulty: int = 0  # clips with at least one incorrect attribute
  unread: list[Unread] = dataclasses.field(default_factory=list)  # clips without an answer that can be used
  phrases: dict[str, collections.Counter[str]] = dataclasses.field(default_factory=dict)  # incorrect ones, by sport
  agreement: dict[str, Agreement] = dataclasses.field(default_factory=dict)  # empty where no truth is known

  def describe(self) -> str:
    """The report as text."""
    spoken = self.clips - self.silent
    lines = [
      f'{self.clips} clips: {self.silent} without commentary skipped, {self.kept} kept from an earlier run, '
      f'{spoken - self.kept - len(self.unread)} read now; {self.faulty} of {spoken - len(self.unread)} with at least '
      'one incorrect attribute'
    ]
    lines += describe_unread(self.output, self.unread)
    if self.broken:
      lines.append(f'{self.broken} unreadable lines of an earlier run were dropped')
    for sport, counter in sorted(self.phrases.items()):
      top = ', '.join(f'{phrase} ({n})' for phrase, n in counter.most_common(_TOP))
      lines.append(f'{sport}: {top or "nothing incorrect"}')
    if self.agreement:
      lines += ['against the true faults, which the commentary may leave out:', table(self.agreement)]
    lines.append(f'written: {self.output}')
    return '\n'.join(lines)


def discover_dataset(
  directory: str | Path,
  output: str | Path,
  discoverer: Discoverer | None = None,
  limit: int | None = None,
  progress: bool = True,
  again: bool = True,
) -> Report:
  """Discovers the attributes of every clip of the dataset in `directory` and writes them to `output` (JSON Lines).

  Args:
    directory: a prepared dataset (the folder that holds `dataset_info.json`).
    output: the file to write; lines of it that are still valid are kept.
    discoverer: the backend; None for the lexicon.
    limit: read the first so many clips only; lines of other clips stay as they are.
    progress: show how far it is.
    again: ask again about clips that are listed as unread. A run that has begun does not: its clips must stay the same.

  Raises:
    FileNotFoundError: no dataset in `directory`.
    ServerError: a language model cannot be asked further; what was answered is kept.
  """
  discoverer = discoverer or LexiconDiscoverer()
  infos = ClipSource(directory).infos()[:limit]
  journal = Journal(output, _check)
  report = Report(journal.output, clips=len(infos), broken=journal.broken)
  listed = {} if again else read_unread(journal.output)
  todo = []
  for info in infos:
    if not info.commentary.strip():
      report.silent += 1
      journal.lines.pop(info.clip_id, None)
      continue
    key = _key(info, discoverer)
    known = listed.get(info.clip_id)
    if known is not None and (known.text_sha, known.backend) == (key['text_sha'], key['backend']):
      report.unread.append(known)
      journal.lines.pop(info.clip_id, None)
    elif key.items() <= journal.lines.get(info.clip_id, {}).items():
      report.kept += 1
      # files of earlier versions have neither
      journal.lines[info.clip_id] |= {'take': info.take, 'sport': info.sport}
    else:
      todo.append(info)
      journal.lines.pop(info.clip_id, None)
  with journal, Progress('discover', len(todo), 'clips', progress) as bar:
    for number, found in discover_each(discoverer, [(info.commentary, info.sport) for info in todo]):
      info = todo[number]
      if isinstance(found, Unreadable):
        report.unread.append(Unread(info.clip_id, **_key(info, discoverer), reason=str(found)))
      else:
        place = {'clip_id': info.clip_id, 'take': info.take, 'sport': info.sport}
        journal.write(place | _key(info, discoverer) | {'correct': found.correct, 'incorrect': found.incorrect})
      bar.advance()
  journal.finish([info.clip_id for info in infos])
  write_unread(journal.output, report.unread)
  pairs = []
  for info in infos:
    counter = report.phrases.setdefault(info.sport, collections.Counter())
    if line := journal.lines.get(info.clip_id):
      report.faulty += bool(line['incorrect'])
      counter.update(line['incorrect'])
      if info.has_faults:
        pairs.append((info.faults, line['incorrect']))
  report.agreement = agreement(pairs)
  return report


def pending(
  directory: str | Path, output: str | Path, discoverer: Discoverer, limit: int | None = None
) -> list[tuple[str, str]]:
  """The comments (text, sport) that `discover_dataset` would read now; nothing is read or written."""
  lines = {line['clip_id']: line for line in read_lines(as_path(output), _check) if line is not None}
  return [
    (info.commentary, info.sport)
    for info in ClipSource(directory).infos()[:limit]
    if info.commentary.strip() and not _key(info, discoverer).items() <= lines.get(info.clip_id, {}).items()
  ]


def read_attributes(path: str | Path) -> dict[str, Attributes]:
  """The attributes of each clip id in a file of `discover_dataset`."""
  return {line['clip_id']: Attributes(line['correct'], line['incorrect']) for line in read_attribute_lines(path)}


def read_attribute_lines(path: str | Path) -> list[Line]:
  """The lines of a file of `discover_dataset`.

  Raises:
    FileNotFoundError: no such file.
    ValueError: lines that cannot be read.
  """
  path = as_path(path)
  if not path.is_file():
    raise FileNotFoundError(f'{path}: no attributes here. Make them: python -m crosstrainer_jax.discover --help')
  lines = list(read_lines(path, _check))
  if broken := sum(line is None for line in lines):
    raise ValueError(f'{path}: {broken} unreadable lines. Delete the file and run discover again')
  return [line for line in lines if line is not None]


def _key(info: ClipInfo, discoverer: Discoverer) -> dict[str, str]:
  return {'text_sha': text_sha(info.commentary), 'backend': discoverer.fingerprint}


def _check(line: Line) -> None:
  need_texts(line, 'clip_id', 'text_sha', 'backend')
  for name in ('correct', 'incorrect'):
    if not isinstance(line[name], list) or not all(isinstance(phrase, str) for phrase in line[name]):
      raise TypeError(name)
