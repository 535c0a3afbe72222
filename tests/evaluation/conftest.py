"""Clips for the scores: fixtures that build references and predictions from few words."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from crosstrainer_jax.evaluation import meteor
from crosstrainer_jax.evaluation.meteor import NoSynonyms
from crosstrainer_jax.evaluation.predictions import Prediction, Reference
from tests.evaluation.tiny_wordnet import closed_readers

__all__ = ['closed_readers']

Build = Callable[..., Reference]


@pytest.fixture(autouse=True)
def without_wordnet(monkeypatch: pytest.MonkeyPatch) -> None:
  """The same scores on every machine, whether or not it has WordNet."""
  monkeypatch.setattr(meteor, 'synonyms', lambda: ('METEOR-es', NoSynonyms()))


def _reference(number: int, **known: object) -> Reference:
  values: dict = {
    'clip_id': f'clip{number}',
    'take': f'take{number // 2}',
    'sport': 'soccer',
    'skill': 'penalty kick',
    'participant': f'person{number // 4}',
    'attributes': [],
    'faults': [],
    'commentary': 'Keep the ball close.',
    'level': 0,
  }
  return Reference(**(values | known))


@pytest.fixture
def reference() -> Build:
  """Builds the reference of clip `number`; two clips make a take."""
  return _reference


@pytest.fixture
def references() -> list[Reference]:
  """Six clips in three takes: four with a fault."""
  faults = [['balance'], ['knee bend', 'timing'], [], ['timing'], [], ['balance', 'timing']]
  spoken = [' and '.join(found) or 'nothing' for found in faults]
  return [
    _reference(i, faults=found, attributes=found, commentary=f'The player lacks {said}.', level=i % 4)
    for i, (found, said) in enumerate(zip(faults, spoken, strict=True))
  ]


@pytest.fixture
def perfect(references: list[Reference]) -> list[Prediction]:
  return [r.answer(list(r.attributes), r.commentary, r.level) for r in references]
