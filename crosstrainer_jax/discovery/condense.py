"""What a coach said in one sentence, by a language model (the summarised form of feedback): `discover --condense`.

A line for each clip: `clip_id`, `text_sha` (of the commentary), `backend` (a fingerprint) and `condensed`.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from crosstrainer_jax.discovery.asking import Asker
from crosstrainer_jax.discovery.instructions import CONDENSE, load
from crosstrainer_jax.discovery.journal import (
  Journal,
  Line,
  Unread,
  describe_unread,
  need_texts,
  read_lines,
  text_sha,
  write_unread,
)
from crosstrainer_jax.discovery.language_model import Answer, Unreadable
from crosstrainer_jax.input.buckets import as_path
from crosstrainer_jax.input.progress import Progress
from crosstrainer_jax.input.source import ClipInfo, ClipSource

# The prompt asks for 30.
MOST_WORDS = 60
_THOUGHTS = re.compile(r'<(think|thinking|reasoning)>.*?(</\1>|$)', re.DOTALL | re.IGNORECASE)
_PREAMBLE = re.compile(
  r'^(?:(?:sure|certainly|okay)\b[^:]*:|here(?: is|’s|\'s)[^:]*:|(?:feedback|sentence|summary):)\s*', re.I
)
_FURTHER_SENTENCE = re.compile(r'[.!?]["”’\']?\s+["“‘\']?[A-Z]')


class Condensed(NamedTuple):
  """The sentence, and the hash of the commentary that it was made from (`journal.text_sha`)."""

  text: str
  text_sha: str


@dataclasses.dataclass
class Report:
  """What a run over a dataset did."""

  output: Path
  clips: int = 0
  silent: int = 0
  kept: int = 0
  broken: int = 0
  words_before: int = 0
  words_after: int = 0
  unread: list[Unread] = dataclasses.field(default_factory=list)

  def describe(self) -> str:
    spoken = self.clips - self.silent - len(self.unread)
    before, after = (words / max(spoken, 1) for words in (self.words_before, self.words_after))
    lines = [
      f'{self.clips} clips: {self.silent} without commentary skipped, {self.kept} kept from an earlier run, '
      f'{spoken - self.kept} condensed now; {before:.1f} words a comment before, {after:.1f} after'
    ]
    lines += describe_unread(self.output, self.unread)
    if self.broken:
      lines.append(f'{self.broken} unreadable lines of an earlier run were dropped')
    return '\n'.join([*lines, f'written: {self.output}'])


def condense_dataset(
  directory: str | Path, output: str | Path, asker: Asker, limit: int | None = None, progress: bool = True
) -> Report:
  """Condenses every comment of the dataset in `directory` and writes the sentences to `output` (JSON Lines).

  Args, and errors: as `dataset.discover_dataset`.
  """
  infos, fingerprint = ClipSource(directory).infos()[:limit], _fingerprint(asker)
  journal = Journal(output, _check)
  report = Report(journal.output, clips=len(infos), broken=journal.broken)
  todo: dict[tuple[str, str], list[ClipInfo]] = {}
  for info in infos:
    if not info.commentary.strip():
      report.silent += 1
      journal.lines.pop(info.clip_id, None)
    elif _key(info, fingerprint).items() <= journal.lines.get(info.clip_id, {}).items():
      report.kept += 1
    else:
      todo.setdefault((info.commentary, info.sport), []).append(info)
      journal.lines.pop(info.clip_id, None)
  count = sum(map(len, todo.values()))
  with journal, Progress('condense', count, 'clips', progress) as bar:
    for comment, said in condense_each(asker, todo):
      for info in todo[comment]:
        if isinstance(said, Unreadable):
          report.unread.append(Unread(info.clip_id, **_key(info, fingerprint), reason=str(said)))
        else:
          journal.write({'clip_id': info.clip_id, **_key(info, fingerprint), 'condensed': said})
        bar.advance()
  journal.finish([info.clip_id for info in infos])
  write_unread(journal.output, report.unread)
  for info in infos:
    if line := journal.lines.get(info.clip_id):
      report.words_before += len(info.commentary.split())
      report.words_after += len(line['condensed'].split())
  return report


def condense_each(
  asker: Asker, comments: Iterable[tuple[str, str]]
) -> Iterator[tuple[tuple[str, str], str | Unreadable]]:
  """Each comment (text, sport) with its sentence, or why there is none, as the answers come."""
  instruction = load(CONDENSE)

  def work(group: Sequence[tuple[str, str]]) -> list[tuple[tuple[str, str], str | Unreadable]]:
    questions = [instruction.question(text, sport) for text, sport in group]
    return list(zip(group, asker.ask(questions, read_sentence), strict=True))

  for answered in asker.each(work, comments):
    yield from answered


def pending(directory: str | Path, output: str | Path, asker: Asker, limit: int | None = None) -> set[tuple[str, str]]:
  """The comments (text, sport) that `condense_dataset` would ask about now; nothing is asked or written."""
  lines = {line['clip_id']: line for line in read_lines(as_path(output), _check) if line is not None}
  key = functools.partial(_key, fingerprint=_fingerprint(asker))
  return {
    (info.commentary, info.sport)
    for info in ClipSource(directory).infos()[:limit]
    if info.commentary.strip() and not key(info).items() <= lines.get(info.clip_id, {}).items()
  }


def read_condensed(path: str | Path) -> dict[str, Condensed]:
  """The sentence of each clip id in a file of `condense_dataset`.

  Whoever uses them compares `text_sha` with that of the clip's commentary: the sentence may be of an earlier one.

  Raises:
    FileNotFoundError: no such file.
    ValueError: lines that cannot be read.
  """
  path = as_path(path)
  if not path.is_file():
    raise FileNotFoundError(
      f'{path}: no condensed commentary here. Make it: python -m crosstrainer_jax.discover --condense'
    )
  lines = list(read_lines(path, _check))
  if broken := sum(line is None for line in lines):
    raise ValueError(f'{path}: {broken} unreadable lines. Delete the file and run discover --condense again')
  return {line['clip_id']: Condensed(line['condensed'], line['text_sha']) for line in lines if line is not None}


def read_sentence(answer: Answer) -> str:
  """The one sentence of an answer. Raises Unreadable."""
  text = ' '.join(_THOUGHTS.sub('', answer.whole()).split())
  text = _PREAMBLE.sub('', text).strip(' "“”*`')
  if not text:
    raise Unreadable('an empty answer')
  if len(text.split()) > MOST_WORDS:
    raise Unreadable(f'{len(text.split())} words in the place of a sentence')
  if _FURTHER_SENTENCE.search(text):
    raise Unreadable(f'more than one sentence: {text[:80]}')
  return text


def _fingerprint(asker: Asker) -> str:
  sampling = asker.model.sampling
  return f'{asker.model.name}:{CONDENSE}-{load(CONDENSE).sha}:t{sampling.temperature:g}s{sampling.seed}'


def _key(info: ClipInfo, fingerprint: str) -> dict[str, str]:
  return {'text_sha': text_sha(info.commentary), 'backend': fingerprint}


def _check(line: Line) -> None:
  need_texts(line, 'clip_id', 'text_sha', 'backend', 'condensed')
