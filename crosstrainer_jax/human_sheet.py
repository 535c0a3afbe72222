"""Sheets for human judges: one self-contained HTML page, blinded, with its key and an empty form beside it.

    sheet.html   for the judges: clips, and what the systems say of each under letters A, B, C …; it needs no network
    form.csv     the same form for a spreadsheet
    key.json     which system and clip every item is of; stays with whoever evaluates

For each clip the systems come in an order of its own, drawn from the seed.
"""

from __future__ import annotations

import base64
import csv
import dataclasses
import hashlib
import html
import io
import json
import string
from collections.abc import Container, Mapping, Sequence
from pathlib import Path

import numpy as np

from crosstrainer_jax.baselines.prediction import Prediction, Reference
from crosstrainer_jax.evaluation.human import COLUMNS, Item, Key
from crosstrainer_jax.evaluation.scores import headline_mask
from crosstrainer_jax.input.files import write_atomically
from crosstrainer_jax.pictures import Encoded, Picture

EXPERT = 'expert’s comment'
NO_ANSWER = '(no answer)'
FEEDBACK, RETRIEVAL = 'feedback', 'retrieval'
# Of an audit of the gates of a curation (`curation/audit.py`).
ACTIONABLE, DEMONSTRATED, EXECUTION = 'actionable', 'demonstrated', 'execution'
QUESTIONS = {
  ACTIONABLE: 'Does the sentence tell a learner how to perform, or what goes wrong, so that one could act on it?',
  DEMONSTRATED: 'Do the pictures show what the sentence speaks of, so that a learner could see it?',
  EXECUTION: 'Is the performance that is shown an example to follow (yes), rather than a mistake to avoid (no)?',
  FEEDBACK: 'Is this feedback correct for this clip, and does it tell the person what to do about it?',
  RETRIEVAL: 'Does the second clip show how to correct this?',
}
_ONE_SENTENCE = 'Each clip of an instructional video is followed by what is said in it.'
INTRODUCTIONS = {
  ACTIONABLE: _ONE_SENTENCE,
  DEMONSTRATED: _ONE_SENTENCE,
  EXECUTION: _ONE_SENTENCE,
  FEEDBACK: 'Each clip is followed by what several authors say of it. Judge each on its own; two may say the same.',
  RETRIEVAL: 'Each clip is followed by what an expert said of it, and by clips to learn from. Judge each on its own.',
}


@dataclasses.dataclass(frozen=True)
class Answer:
  """What one system says of a case: a text, or a picture."""

  system: str
  text: str = ''
  picture: Picture | Encoded | None = None


@dataclasses.dataclass(frozen=True)
class Case:
  """What is judged together: a clip, what else belongs to the question (`text`), and every system's answer."""

  clip_id: str
  take: str
  sport: str
  picture: Picture | Encoded
  answers: Sequence[Answer]
  text: str = ''


def write_sheet(folder: Path, cases: Sequence[Case], kind: str, seed: int = 0) -> Key:
  """Writes sheet.html, form.csv and key.json.

  Args:
    kind: of `QUESTIONS`: which one is asked.

  Raises:
    ValueError: no case, or more systems than letters.
  """
  if not cases:
    raise ValueError('there is no clip to judge')
  most = max(len(case.answers) for case in cases)
  if most > len(string.ascii_uppercase):
    raise ValueError(f'{most} systems are more than there are letters: name fewer of them')
  items, parts = [], []
  for number, case in enumerate(cases, start=1):
    order = np.random.default_rng([seed, number]).permutation(len(case.answers))
    shuffled = [case.answers[place] for place in order]
    names = [f'{number:03d}-{letter}' for letter in string.ascii_uppercase[: len(shuffled)]]
    pairs = list(zip(names, shuffled, strict=True))
    items += [Item(name, case.clip_id, case.take, answer.system) for name, answer in pairs]
    parts.append(_case(number, case, pairs))
  body = '\n'.join(parts)
  # An answer belongs to this sheet and no other.
  sheet = hashlib.sha256(f'{kind} {seed} {body}'.encode()).hexdigest()[:12]
  template = string.Template(Path(__file__).with_name('human_sheet.html').read_text(encoding='utf-8'))
  page = template.substitute(
    title=f'{len(cases)} clips to judge',
    introduction=html.escape(INTRODUCTIONS[kind]),
    question=html.escape(QUESTIONS[kind]),
    cases=body,
    sheet=sheet,
    columns=','.join(COLUMNS),
  )
  key = Key(sheet, kind, QUESTIONS[kind], seed, items)
  write_atomically(folder / 'key.json', key.to_json())
  write_atomically(folder / 'form.csv', _form(sheet, items))
  write_atomically(folder / 'sheet.html', page)
  return key


def feedback_cases(
  pictures: Mapping[str, Picture],
  references: Sequence[Reference],
  rows: Mapping[str, Sequence[Prediction]],
  count: int,
  seed: int,
) -> list[Case]:
  """`count` clips with what every row says of them, and what the expert said.

  Clips are drawn by seed among those with a fault and a comment, since the question is how to do better; takes come
  once, as long as there are others.

  Args:
    pictures: id of a clip → what people see of it.
    rows: name → predictions, one for each reference.
  """
  by_row = {name: {p.clip_id: p for p in predictions} for name, predictions in rows.items()}
  spoken = np.array([bool(r.commentary.strip()) for r in references], bool)
  cases = []
  for place in _drawn(references, headline_mask(references) & spoken, count, seed):
    reference = references[place]
    answers = [Answer(name, said[reference.clip_id].feedback or NO_ANSWER) for name, said in by_row.items()]
    answers.append(Answer(EXPERT, reference.commentary))
    cases.append(Case(reference.clip_id, reference.take, reference.sport, pictures[reference.clip_id], answers))
  return cases


def retrieval_cases(
  pictures: Mapping[str, Picture],
  references: Sequence[Reference],
  rows: Mapping[str, Mapping[str, str]],
  count: int,
  seed: int,
) -> list[Case]:
  """`count` clips with the expert's comment, and the clip that every row would show to correct it.

  Args:
    pictures: id of a clip → what people see of it.
    rows: name → the id of a learner's clip → the id of the clip that is retrieved for it.
  """
  asked = np.array([bool(r.commentary.strip()) and all(r.clip_id in row for row in rows.values()) for r in references])
  cases = []
  for place in _drawn(references, asked, count, seed):
    reference = references[place]
    answers = [Answer(name, picture=pictures[found[reference.clip_id]]) for name, found in rows.items()]
    picture = pictures[reference.clip_id]
    cases.append(Case(reference.clip_id, reference.take, reference.sport, picture, answers, reference.commentary))
  return cases


def read_candidates(path: Path, known: Container[str]) -> dict[str, str]:
  """What a system retrieved: JSONL of `clip_id`, of the learner's clip, and `candidate`, both known clips.

  Raises:
    FileNotFoundError, ValueError: no such file; a line is wrong, or names a clip that is not there.
  """
  if not path.is_file():
    raise FileNotFoundError(f'--candidates: there is no file {path}')
  found = {}
  for number, line in enumerate(path.read_text(encoding='utf-8').splitlines(), start=1):
    if not line.strip():
      continue
    try:
      values = json.loads(line)
      clip, candidate = values['clip_id'], values['candidate']
    except (json.JSONDecodeError, KeyError, TypeError):
      raise ValueError(f'{path}, line {number}: expected {{"clip_id": "…", "candidate": "…"}}') from None
    for name in (clip, candidate):
      if name not in known:
        raise ValueError(f'{path}, line {number}: the dataset has no clip {name!r}')
    found[clip] = candidate
  return found


def _drawn(references: Sequence[Reference], mask: np.ndarray, count: int, seed: int) -> list[int]:
  """Places of at most `count` references of the mask, in the order of the draw."""
  order = [int(i) for i in np.random.default_rng(seed).permutation(len(references)) if mask[i]]
  of_take: dict[str, int] = {}
  for place in order:
    of_take.setdefault(references[place].take, place)
  first = set(of_take.values())
  return [*of_take.values(), *(place for place in order if place not in first)][:count]


def _case(number: int, case: Case, answers: Sequence[tuple[str, Answer]]) -> str:
  parts = [f'<section>\n<h2>Clip {number}: {html.escape(case.sport)}</h2>', _figure(case.picture, 'the clip')]
  if case.text:
    parts.append(f'<blockquote>{html.escape(case.text)}</blockquote>')
  for name, answer in answers:
    said = f'<blockquote>{html.escape(answer.text)}</blockquote>' if answer.text else ''
    shown = _figure(answer.picture, 'the second clip') if answer.picture is not None else ''
    buttons = ''.join(
      f'<label><input type="radio" name="{name}" value="{value}"> {value}</label>' for value in ('yes', 'no')
    )
    parts.append(
      f'<fieldset data-item="{name}"><legend>{name[-1]}</legend>{said}{shown}{buttons}'
      f'<input type="text" class="comment" placeholder="comment, if any"></fieldset>'
    )
  return '\n'.join([*parts, '</section>'])


def _figure(picture: Picture | Encoded, caption: str) -> str:
  images = ''.join(
    f'<img alt="{caption}" src="data:image/{kind};base64,{base64.b64encode(content).decode()}">'
    for kind, content in (('webp', picture.moving()), ('jpeg', picture.strip()))
  )
  return f'<figure>{images}<figcaption>{caption}: moving, and frames from left to right</figcaption></figure>'


def _form(sheet: str, items: Sequence[Item]) -> str:
  stream = io.StringIO()
  writer = csv.writer(stream)
  writer.writerow(COLUMNS)
  writer.writerows([sheet, item.item, '', '', ''] for item in items)
  return stream.getvalue()
