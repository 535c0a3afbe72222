"""Submissions to Ego-Exo4D's benchmark of demonstrator proficiency, in both of its forms, and its own accuracy.

The logits form is {"videos", "ego_model_predictions", "exo_model_predictions"}: a take's name, 4 logits of the
egocentric view, and 4 × 4 of the four exocentric views. The label form, {"videos", "predictions"}, has one label for
each take. The server asks for the takes of its own test list in its own order, so that list belongs to a submission.

The benchmark's classes are `CLASSES`, in an order of its own; the project's are `record.LEVELS`. Columns are put into
the benchmark's order here, and nowhere else.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from crosstrainer_jax.input.buckets import as_path
from crosstrainer_jax.input.files import write_atomically
from crosstrainer_jax.input.record import LEVELS

CLASSES = ('Novice', 'Early Expert', 'Intermediate Expert', 'Late Expert')
# The project's name of a level → the benchmark's.
CLASS_OF = dict(zip(('novice', 'early expert', 'intermediate', 'late expert'), CLASSES, strict=True))
# For each class of the benchmark, its place in LEVELS.
PLACES = tuple(map(LEVELS.index, CLASS_OF))
EXO_VIEWS = 4


def logits_form(
  ego: Mapping[str, np.ndarray], exo: Mapping[str, np.ndarray], takes: Sequence[str]
) -> dict[str, list[Any]]:
  """The submission with logits.

  Args:
    ego: take → float[4], columns in the order of LEVELS.
    exo: take → float[4 views, 4], columns likewise.
    takes: names of the benchmark's test list, in its order.

  Raises:
    ValueError: a take is missing or unknown, or its logits have another shape or are not finite; all problems at once.
  """
  problems = _takes_that_do_not_fit(takes, {'ego': ego, 'exo': exo})
  shapes = {'ego': (len(LEVELS),), 'exo': (EXO_VIEWS, len(LEVELS))}
  for view, logits in (('ego', ego), ('exo', exo)):
    wrong = [take for take in takes if take in logits and np.shape(logits[take]) != shapes[view]]
    if wrong:
      shape = np.shape(logits[wrong[0]])
      problems.append(
        f'{len(wrong)} takes have {view} logits of another shape than {shapes[view]}, {wrong[0]!r} {shape}'
      )
    broken = [take for take in takes if take in logits and not np.isfinite(np.asarray(logits[take], float)).all()]
    if broken:
      problems.append(f'{len(broken)} takes have {view} logits that are not finite, first {broken[0]!r}')
  _raise(problems)
  place = list(PLACES)
  return {
    'videos': list(takes),
    'ego_model_predictions': [np.asarray(ego[take], float)[place].tolist() for take in takes],
    'exo_model_predictions': [np.asarray(exo[take], float)[:, place].tolist() for take in takes],
  }


def label_form(levels: Mapping[str, int], takes: Sequence[str]) -> dict[str, list[Any]]:
  """The submission with the name of one class for each take.

  Args:
    levels: take → index into LEVELS.
    takes: names of the benchmark's test list, in its order.

  Raises:
    ValueError: a take is missing or unknown, or its level is none.
  """
  problems = _takes_that_do_not_fit(takes, {'level': levels})
  if wrong := [take for take in takes if take in levels and levels[take] not in range(len(LEVELS))]:
    problems.append(f'{len(wrong)} takes have no level of 0 … {len(LEVELS) - 1}, {wrong[0]!r} has {levels[wrong[0]]}')
  _raise(problems)
  return {'videos': list(takes), 'predictions': [CLASSES[PLACES.index(levels[take])] for take in takes]}


def average_views(logits: np.ndarray) -> np.ndarray:
  """float64[N, 4], the benchmark's way to join views: the mean of their softmax; logits float[N, views, 4]."""
  logits = np.asarray(logits, float)
  raised = np.exp(logits - logits.max(axis=-1, keepdims=True))
  return (raised / raised.sum(axis=-1, keepdims=True)).mean(axis=-2)


def official_accuracy(submission: Mapping[str, Sequence[Any]], truth: Mapping[str, str]) -> dict[str, float]:
  """Top-1 accuracy × 100 of the logits form as the server computes it: `ego`, `exo` and `combined`.

  Args:
    submission: from `logits_form`.
    truth: take → name of its class, for example of the validation split.

  Raises:
    ValueError: a take without a known class.
  """
  names = submission['videos']
  if unknown := [take for take in names if truth.get(take) not in CLASSES]:
    raise ValueError(f'{len(unknown)} takes have no class of {", ".join(CLASSES)}, first {unknown[0]!r}')
  labels = np.array([CLASSES.index(truth[take]) for take in names])
  ego = np.asarray(submission['ego_model_predictions'], float)
  exo = np.asarray(submission['exo_model_predictions'], float)
  chosen = {
    'ego': ego.argmax(-1),
    'exo': average_views(exo).argmax(-1),
    'combined': average_views(np.concatenate([ego[:, None], exo], axis=1)).argmax(-1),
  }
  return {name: 100 * float((classes == labels).mean()) for name, classes in chosen.items()}


def write_submission(path: str | os.PathLike[str], submission: Mapping[str, Sequence[Any]]) -> Path:
  """Writes the file to upload, and returns its path."""
  write_atomically(path, json.dumps(submission, allow_nan=False) + '\n')
  return as_path(path)


def _takes_that_do_not_fit(takes: Sequence[str], answers: Mapping[str, Mapping[str, Any]]) -> list[str]:
  problems = [] if takes else ['the test list has no takes']
  if repeated := len(takes) - len(set(takes)):
    problems.append(f'{repeated} takes stand in the test list twice')
  for name, found in answers.items():
    if missing := [take for take in takes if take not in found]:
      problems.append(f'{len(missing)} of {len(takes)} takes have no {name} answer, first {missing[0]!r}')
    if strangers := sorted(found.keys() - set(takes)):
      problems.append(f'{len(strangers)} takes with {name} answers are not in the test list, first {strangers[0]!r}')
  return problems


def _raise(problems: Sequence[str]) -> None:
  if problems:
    raise ValueError(f'This is no submission to demonstrator proficiency: {"; ".join(problems)}.')
