"""What is searched for: sports and their skills, and the searches that connecting words make of them.

[P] marks what the abstract and the figures of "SportSkills" say, [O] what is our choice. A language model lists sports
and skills [P], or a file does [O]; `sport × skill` and connecting words such as "tutorial" and "drills" [P] make the
searches. What is done with them is not our business: a list and the contract of a folder come out [O].
"""

from __future__ import annotations

import csv
import dataclasses
import functools
import hashlib
import io
import json
import pathlib
import re
from collections.abc import Mapping, Sequence

from crosstrainer_jax.curation import prompts
from crosstrainer_jax.discovery.asking import Asker
from crosstrainer_jax.discovery.language_model import Answer, Unreadable

# The first two are named in the paper, the others are ours.
CONNECTING_WORDS = ('tutorial', 'drills', 'how to', 'technique', 'common mistakes', 'for beginners')
# These stand before what is searched for.
_BEFORE = ('how to',)
_COLUMNS = ('id', 'sport', 'skill', 'query')
_MARK = re.compile(r'^\s*(?:[-*•–]|\(?\d+[.):])?\s*[*_`"“]*(?P<name>[^*_`"”:;(–—]+)')
_MOST_WORDS = 6


@dataclasses.dataclass(frozen=True)
class Query:
  """A search; `id` is the folder for what it finds."""

  id: str
  sport: str
  skill: str
  text: str


def ask_sports(asker: Asker, count: int) -> list[str]:
  """Sports that a language model lists.

  Raises:
    ValueError: its answer cannot be read.
  """
  return _listed(asker, 'sports', count=str(count))[:count]


def ask_skills(asker: Asker, sport: str, count: int) -> list[str]:
  """Skills of a sport that a language model lists. Raises ValueError."""
  return _listed(asker, 'skills', count=str(count), sport=sport)[:count]


def _listed(asker: Asker, prompt: str, **slots: str) -> list[str]:
  read = functools.partial(read_list, fewest=min(2, int(slots['count'])))
  (answer,) = asker.ask([prompts.load(prompt).filled(**slots)], read)
  if isinstance(answer, Unreadable):
    raise ValueError(f'{asker.model.name} gives no list of {prompt}: {answer}')
  return answer


def read_list(answer: Answer, fewest: int = 2) -> list[str]:
  """The entries of a list, one a line, in lower case, none twice. Raises Unreadable."""
  found: dict[str, None] = {}
  for line in prompts.plain(answer).splitlines():
    mark = _MARK.match(line)
    name = ' '.join(mark['name'].split()).strip(' .,').lower() if mark else ''
    if name and len(name.split()) <= _MOST_WORDS and not line.rstrip().endswith(':'):
      found[name] = None
  if len(found) < fewest:
    raise Unreadable('no list with an entry on each line')
  return list(found)


def read_sports(path: str | pathlib.Path) -> dict[str, list[str]]:
  """Sport → skills, from a .csv or .jsonl with `sport` and `skill` on each line.

  Raises:
    FileNotFoundError, ValueError: no such file, or a line without them.
  """
  found: dict[str, list[str]] = {}
  for where, row in _rows(pathlib.Path(path)):
    sport, skill = (' '.join(str(row.get(name) or '').split()).lower() for name in ('sport', 'skill'))
    if not sport or not skill:
      raise ValueError(f'{where}: sport and skill are needed; write sport,skill')
    skills = found.setdefault(sport, [])
    if skill not in skills:
      skills.append(skill)
  if not found:
    raise ValueError(f'{path}: no sport in it')
  return found


def write_sports(sports: Mapping[str, Sequence[str]]) -> str:
  """The content of a .csv that `read_sports` reads."""
  return _csv(('sport', 'skill'), [(sport, skill) for sport, skills in sports.items() for skill in skills])


def queries(sports: Mapping[str, Sequence[str]], words: Sequence[str] = CONNECTING_WORDS) -> list[Query]:
  """All searches: each skill of each sport with each of the connecting words. Raises ValueError for no words."""
  if not words:
    raise ValueError('--words: at least one connecting word is needed')
  found: list[Query] = []
  for sport, skills in sports.items():
    for skill in skills:
      for word in words:
        parts = (word, sport, skill) if word in _BEFORE else (sport, skill, word)
        text = ' '.join(parts)
        # By its words, so that the folders of a list stay right when another one is made.
        name = hashlib.sha256(f'{sport}/{skill}/{text}'.encode()).hexdigest()[:8]
        found.append(Query(f'q{name}', sport, skill, text))
  return found


def write_queries(found: Sequence[Query]) -> str:
  """The content of a .csv that `read_queries` reads."""
  return _csv(_COLUMNS, [(q.id, q.sport, q.skill, q.text) for q in found])


def read_queries(path: str | pathlib.Path) -> dict[str, Query]:
  """Folder → search. Raises FileNotFoundError, ValueError."""
  found: dict[str, Query] = {}
  for where, row in _rows(pathlib.Path(path)):
    values = [' '.join(str(row.get(name) or '').split()) for name in _COLUMNS]
    if not all(values):
      raise ValueError(f'{where}: {", ".join(_COLUMNS)} are needed; curate queries writes them')
    if values[0] in found:
      raise ValueError(f'{where}: the id {values[0]!r} is there twice')
    found[values[0]] = Query(*values)
  return found


def _rows(file: pathlib.Path) -> list[tuple[str, dict[str, object]]]:
  if file.suffix.lower() not in ('.csv', '.jsonl'):
    raise ValueError(f'{file}: a list is a .csv or .jsonl file')
  if not file.is_file():
    raise FileNotFoundError(f'{file}: no such list')
  content = file.read_text(encoding='utf-8-sig')
  if file.suffix.lower() == '.csv':
    reader = csv.DictReader(io.StringIO(content, newline=''))
    try:
      return [(f'{file} line {reader.line_num}', dict(row)) for row in reader]
    except csv.Error as error:
      raise ValueError(f'{file} line {reader.line_num}: no CSV ({error})') from error
  rows = []
  for number, line in enumerate(content.splitlines(), 1):
    if line.strip():
      try:
        row = json.loads(line)
      except json.JSONDecodeError as error:
        raise ValueError(f'{file} line {number}: not JSON ({error.msg})') from error
      rows.append((f'{file} line {number}', row if isinstance(row, dict) else {}))
  return rows


def _csv(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
  stream = io.StringIO(newline='')
  writer = csv.writer(stream, lineterminator='\n')
  writer.writerow(columns)
  writer.writerows(rows)
  return stream.getvalue()
