"""Predictions and references as JSONL: one clip a line, so that any row can be scored again without the model."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from crosstrainer_jax.baselines.prediction import Prediction, Reference
from crosstrainer_jax.input.buckets import as_path
from crosstrainer_jax.input.files import write_atomically
from crosstrainer_jax.input.record import LEVELS

__all__ = [
  'Prediction',
  'Reference',
  'align',
  'read_predictions',
  'read_references',
  'write_predictions',
  'write_references',
]

Answer = TypeVar('Answer', Prediction, Reference)


def write_predictions(path: str | os.PathLike[str], predictions: Iterable[Prediction]) -> None:
  _write(path, predictions)


def write_references(path: str | os.PathLike[str], references: Iterable[Reference]) -> None:
  _write(path, references)


def read_predictions(path: str | os.PathLike[str]) -> list[Prediction]:
  """Raises FileNotFoundError, or ValueError naming the file, the line and what is wrong with it."""
  return _read(path, Prediction)


def read_references(path: str | os.PathLike[str]) -> list[Reference]:
  """Raises FileNotFoundError, or ValueError naming the file, the line and what is wrong with it."""
  return _read(path, Reference)


def align(predictions: Sequence[Prediction], references: Sequence[Reference]) -> list[Prediction]:
  """The predictions in the order of the references; every clip needs exactly one, or ValueError says which does not."""
  by_clip = {prediction.clip_id: prediction for prediction in predictions}
  clips = [reference.clip_id for reference in references]
  missing = [clip for clip in clips if clip not in by_clip]
  strangers = sorted(by_clip.keys() - set(clips))
  problems = []
  if len(by_clip) < len(predictions):
    problems.append(f'{len(predictions) - len(by_clip)} clips are predicted twice')
  if len(set(clips)) < len(clips):
    problems.append(f'{len(clips) - len(set(clips))} references repeat a clip')
  if missing:
    problems.append(f'{len(missing)} of {len(clips)} clips have no prediction, first {missing[0]!r}')
  if strangers:
    problems.append(f'{len(strangers)} predictions are of clips that are not evaluated, first {strangers[0]!r}')
  if problems:
    raise ValueError(f'Predictions and references do not fit: {"; ".join(problems)}. Were they made on one split?')
  return [by_clip[clip] for clip in clips]


def _write(path: str | os.PathLike[str], answers: Iterable[Prediction] | Iterable[Reference]) -> None:
  lines = [json.dumps(dataclasses.asdict(answer), ensure_ascii=False, allow_nan=False) + '\n' for answer in answers]
  write_atomically(path, ''.join(lines))


def _read(path: str | os.PathLike[str], kind: type[Answer]) -> list[Answer]:
  path = as_path(path)
  if not path.is_file():
    raise FileNotFoundError(f'{path} does not exist: run the evaluation that writes it, or name another file.')
  answers: list[Answer] = []
  seen: dict[str, int] = {}
  with path.open(encoding='utf-8') as file:
    for number, line in enumerate(file, start=1):
      if not line.strip():
        continue
      answer = parse_line(line, kind, f'{path}, line {number}')
      if answer.clip_id in seen:
        raise ValueError(f'{path}, line {number}: clip {answer.clip_id!r} is already in line {seen[answer.clip_id]}.')
      seen[answer.clip_id] = number
      answers.append(answer)
  return answers


def parse_line(line: str, kind: type[Answer], place: str) -> Answer:
  """The answer on a line of JSON; raises ValueError that begins with `place`."""
  try:
    values = json.loads(line)
  except json.JSONDecodeError as error:
    raise ValueError(f'{place}: not JSON ({error.msg}, column {error.colno}).') from None
  if not isinstance(values, dict):
    raise ValueError(f'{place}: expected an object with the fields of {kind.__name__}.')
  fields = {field.name: field for field in dataclasses.fields(kind)}
  unknown = sorted(values.keys() - fields.keys())
  required = [name for name, field in fields.items() if field.default is dataclasses.MISSING]
  missing = [name for name in required if name not in values]
  if unknown or missing:
    raise ValueError(f'{place}: missing fields {missing}, unknown fields {unknown}.')
  for name, value in values.items():
    expected = str(fields[name].type)
    if not _FITS[expected](value):
      raise ValueError(f'{place}: field {name!r} must be {expected}, not {value!r}.')
  answer = kind(**values)
  lowest = -1 if kind is Reference else 0
  if answer.level is not None and not lowest <= answer.level < len(LEVELS):
    raise ValueError(f'{place}: level {answer.level} is outside {lowest} … {len(LEVELS) - 1}.')
  return answer


def _is_text(value: Any) -> bool:
  return isinstance(value, str)


def _is_texts(value: Any) -> bool:
  return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _is_integer(value: Any) -> bool:
  return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
  return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_numbers(value: Any) -> bool:
  return isinstance(value, dict) and all(isinstance(k, str) and _is_number(v) for k, v in value.items())


# Annotations of the two dataclasses as they are written → what JSON value fits.
_FITS: dict[str, Callable[[Any], bool]] = {
  'str': _is_text,
  'str | None': lambda value: value is None or _is_text(value),
  'list[str]': _is_texts,
  'list[str] | None': lambda value: value is None or _is_texts(value),
  'int': _is_integer,
  'int | None': lambda value: value is None or _is_integer(value),
  'dict[str, float] | None': lambda value: value is None or _is_numbers(value),
}
