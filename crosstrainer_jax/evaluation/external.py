"""Answers of other systems: a JSONL file becomes a further row of the table.

A line is an object with `clip_id` and what the system says of the clip, any of

    {"clip_id": "…", "attributes": ["balance"], "feedback": "Keep …", "level": 2, "scores": {"balance": 0.8}}

as in the files under `predictions/` of a workdir, whose other fields may be there and must then be right.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
from collections.abc import Sequence

from crosstrainer_jax.baselines.prediction import Prediction, Reference
from crosstrainer_jax.evaluation.predictions import parse_line
from crosstrainer_jax.input.buckets import as_path

IDENTITY = ('take', 'sport', 'skill')
ANSWERS = ('attributes', 'feedback', 'level', 'scores')


@dataclasses.dataclass(frozen=True)
class External:
  """A row that was made elsewhere: its answers in the order of the references, and where they come from."""

  name: str
  predictions: list[Prediction]
  note: str


def parse(given: str) -> tuple[str, str]:
  """Name and path of `NAME=PATH`.

  Raises:
    ValueError: it is written in another way, or the name cannot name a file.
  """
  name, _, path = given.partition('=')
  if not name.strip() or not path:
    raise ValueError(f'--external={given}: write NAME=FILE.jsonl, for example --external=gemini=answers.jsonl')
  if not re.fullmatch(r'\w[\w .,()+-]*', name):
    raise ValueError(f'--external={given}: the name {name!r} names a file too: use letters, digits and . , ( ) + -')
  return name, path


def read_external(name: str, path: str | os.PathLike[str], references: Sequence[Reference]) -> External:
  """The answers in the file `path` to the clips that are evaluated.

  A clip that the file lacks is answered with nothing, which counts as wrong wherever other clips have an answer.

  Raises:
    FileNotFoundError: there is no such file.
    ValueError: with file and line: no JSON, an unknown field, an answer of the wrong type, a clip that is not
      evaluated, one that comes twice, an identity that is another; or a file without any answer.
  """
  path = as_path(path)
  if not path.is_file():
    raise FileNotFoundError(f'--external: there is no file {path}')
  known = {reference.clip_id: reference for reference in references}
  found: dict[str, Prediction] = {}
  content = path.read_bytes()
  for number, line in enumerate(content.decode('utf-8').splitlines(), start=1):
    if line.strip():
      answer = _answer(line, f'{path}, line {number}', known)
      if answer.clip_id in found:
        raise ValueError(f'{path}, line {number}: the clip {answer.clip_id!r} comes a second time')
      found[answer.clip_id] = answer
  if all(getattr(answer, field) is None for answer in found.values() for field in ANSWERS):
    raise ValueError(f'{path}: no line says anything of a clip; a line needs one of {", ".join(ANSWERS)}')
  missing = len(references) - len(found)
  note = f'{name}: from {path.name} (sha256 {hashlib.sha256(content).hexdigest()[:12]}), not made here'
  if missing:
    note += f'; {missing} of {len(references)} clips have no answer there and count as wrong'
  return External(name, [found.get(reference.clip_id) or reference.answer() for reference in references], note)


def _answer(line: str, place: str, known: dict[str, Reference]) -> Prediction:
  try:
    values = json.loads(line)
  except json.JSONDecodeError as error:
    raise ValueError(f'{place}: not JSON ({error.msg}, column {error.colno})') from None
  clip_id = values.get('clip_id') if isinstance(values, dict) else None
  if not isinstance(clip_id, str):
    raise ValueError(f'{place}: expected an object with the field clip_id, a text')
  if clip_id not in known:
    raise ValueError(
      f'{place}: the clip {clip_id!r} is not among the {len(known)} that are evaluated; their ids are in '
      'predictions/references.jsonl of the workdir'
    )
  for field in IDENTITY:
    right = getattr(known[clip_id], field)
    if values.setdefault(field, right) != right:
      raise ValueError(f'{place}: {field} of {clip_id!r} is {right!r}, not {values[field]!r}')
  return parse_line(json.dumps(values), Prediction, place)
