import numpy as np
import pytest

from crosstrainer_jax.retrieval import scoring


def test_candidates_of_another_sport_come_last():
  found = scoring.masked(np.ones((2, 3)), ['judo', 'golf'], ['golf', 'judo', 'golf'])
  np.testing.assert_array_equal(np.isfinite(found), [[False, True, False], [True, False, True]])


def test_scores_are_of_what_is_relevant_and_graded():
  gains = np.array([[2, 1, 0, 0], [0, 0, 2, 0], [0, 1, 0, 0]], float)
  takes = ['a', 'b', 'c']
  perfect = scoring.score(gains, gains, 2, takes, 20)
  assert perfect['R@1'].value == 100.0
  assert perfect['R@1'].n_clips == 2  # the third has none that is relevant
  assert perfect[scoring.NDCG].value == 100.0
  assert perfect[scoring.NDCG].n_clips == 3
  worst = scoring.score(-gains, gains, 2, takes, 20)
  assert worst['R@1'].value == 0.0
  assert worst['median rank'].value == 4.0


def test_chance_is_worked_out():
  gains = np.zeros((1, 10))
  gains[0, :2] = 2
  found = scoring.chance(gains, np.ones((1, 10), bool), 2)
  assert found['R@1'] == pytest.approx(20.0)
  assert found['R@5'] == pytest.approx(100 * (1 - (8 * 7 * 6 * 5 * 4) / (10 * 9 * 8 * 7 * 6)))
  assert found['R@50'] == pytest.approx(100.0)
  drawn = np.random.default_rng(0).random((4000, 10)).argsort(1)[:, :5]
  assert found['R@5'] == pytest.approx(100 * (drawn < 2).any(1).mean(), abs=3)
