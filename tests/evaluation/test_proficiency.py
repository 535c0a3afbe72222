"""Level accuracy beside the majority rate."""

import math

import numpy as np
import pytest
from sklearn.metrics import f1_score

from crosstrainer_jax.evaluation.proficiency import (
  accuracy_statistic,
  macro_f1_statistic,
  majority_levels,
  majority_line,
)


def value(statistic):
  return float(statistic.score(statistic.sums[statistic.counted].sum(axis=0)))


def test_accuracy_leaves_out_unknown_levels_and_counts_none_as_wrong(reference):
  truth = [reference(i, level=level) for i, level in enumerate([0, 1, -1, 3])]
  answers = [r.answer(level=level) for r, level in zip(truth, [0, 2, 3, None], strict=True)]
  accuracy = accuracy_statistic(answers, truth)
  assert accuracy.counted.tolist() == [True, True, False, True]
  assert math.isclose(value(accuracy), 100 / 3)


@pytest.mark.parametrize('levels', [4, 2])
def test_macro_f1_is_that_of_scikit_learn(reference, levels):
  rng = np.random.default_rng(levels)
  true, said = rng.integers(levels, size=(2, 60))
  truth = [reference(i, level=int(level)) for i, level in enumerate(true)]
  answers = [r.answer(level=int(level)) for r, level in zip(truth, said, strict=True)]
  assert value(macro_f1_statistic(answers, truth)) == pytest.approx(100 * f1_score(true, said, average='macro'))
  # an answer that cannot be read, and a level that nobody knows
  unread = macro_f1_statistic([truth[0].answer(), *answers[1:]], [*truth[:-1], reference(59, level=-1)])
  expected = f1_score(true[:-1], [9, *said[1:-1]], average='macro', labels=sorted({*true[:-1], *said[1:-1]}))
  assert value(unread) == pytest.approx(100 * expected)


def test_majority_of_each_sport(reference):
  levels = [
    ('soccer', 0),
    ('soccer', 0),
    ('soccer', 3),
    ('soccer', -1),
    ('climbing', 2),
    ('climbing', 1),
    ('tennis', -1),
  ]
  truth = [reference(i, sport=sport, level=level) for i, (sport, level) in enumerate(levels)]
  rates = majority_levels(truth)
  assert rates == {'climbing': ('intermediate', 0.5, 2), 'soccer': ('novice', 2 / 3, 3)}
  assert 'climbing 50.0 (intermediate, 2 clips), soccer 66.7 (novice, 3 clips)' in majority_line(truth)


def test_unknown_levels(reference):
  assert majority_levels([reference(0, level=-1)]) == {}
  assert majority_line([]) == 'Levels of these clips are unknown.'
