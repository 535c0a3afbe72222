"""Recall at k and median rank by hand and against NumPy."""

import numpy as np
import pytest
from sklearn.metrics import ndcg_score

from crosstrainer_jax.evaluation.bootstrap import bootstrap
from crosstrainer_jax.evaluation.retrieval import median_rank, ndcg, ranks, retrieval_statistics


def value(statistic):
  return float(statistic.score(statistic.sums[statistic.counted].sum(axis=0)))


def test_ranks_by_hand():
  scores = [[0.9, 0.5, 0.1], [0.5, 0.5, 0.5], [0.1, 0.2, 0.3], [0.1, 0.2, 0.3], [np.nan, 0.0, -1.0]]
  assert ranks(scores, [{0}, {0}, {0, 1}, set(), {0}]).tolist()[:3] == [1, 3, 2]
  found = ranks(scores, [{1}, {0, 1, 2}, {2}, set(), {0}])
  assert found.tolist()[:3] == [2, 1, 1]
  assert np.isnan(found[3])
  assert found[4] == 3


def test_against_sorting():
  rng = np.random.default_rng(0)
  scores = rng.normal(size=(200, 60))
  relevant = [set(rng.choice(60, rng.integers(0, 4), replace=False).tolist()) for _ in range(200)]
  expected = [
    next(i for i, c in enumerate(np.argsort(-row)) if c in mine) + 1 if mine else None
    for row, mine in zip(scores, relevant, strict=True)
  ]
  found = ranks(scores, relevant)
  assert [None if np.isnan(rank) else int(rank) for rank in found] == expected
  statistics = retrieval_statistics(scores, relevant)
  known = np.array([rank for rank in expected if rank])
  assert list(statistics) == ['R@1', 'R@5', 'R@10', 'R@50', 'median rank']
  assert value(statistics['R@10']) == pytest.approx(100 * (known <= 10).mean())
  assert value(statistics['median rank']) == np.median(known)
  interval = bootstrap(statistics['median rank'], [str(i // 4) for i in range(200)], 200)
  assert interval.low < interval.value < interval.high
  assert interval.n_clips == len(known)


@pytest.mark.parametrize('count', [1, 2, 5, 8])
def test_median_of_any_resample(count):
  drawn = np.random.default_rng(count).integers(1, 10, size=(300, count))
  histogram = np.stack([(drawn == rank).sum(1) for rank in range(1, 10)], -1)
  assert median_rank(histogram.astype(float)).tolist() == np.median(drawn, axis=1).tolist()
  assert np.isnan(median_rank(np.zeros(9)))


def test_a_constant_model_is_last():
  statistics = retrieval_statistics(np.zeros((10, 10)), [{i} for i in range(10)])
  assert list(statistics) == ['R@1', 'R@5', 'median rank']
  assert value(statistics['R@5']) == 0
  assert value(statistics['median rank']) == 10


def test_what_does_not_fit_is_an_error():
  with pytest.raises(ValueError, match=r'shape \(2, 3\) for 1 queries'):
    ranks(np.zeros((2, 3)), [{0}])
  with pytest.raises(ValueError, match=r'query 0: candidates \[3\] of 3'):
    ranks(np.zeros((1, 3)), [{3}])


def test_gain_by_hand():
  # Ratings 3, 0, 2 in that order: 3 / log2(2) + 2 / log2(4) = 4, of 3 + 2 / log2(3) at best.
  found = ndcg([[3.0, 2.0, 1.0], [0.0, 0.0, 0.0]], [[3, 0, 2], [0, 0, 0]])
  assert found[0] == pytest.approx(4 / (3 + 2 / np.log2(3)))
  assert np.isnan(found[1])
  # Equal scores: the lower rating first.
  assert ndcg([[0.0, 0.0, 0.0]], [[3, 0, 2]])[0] == pytest.approx(ndcg([[1.0, 3.0, 2.0]], [[3, 0, 2]])[0])
  # What nobody rated is left out, wherever it ranks; a NaN ranks last.
  assert ndcg([[3.0, 9.0, 2.0, 1.0]], [[3, np.nan, 0, 2]])[0] == pytest.approx(found[0])
  assert ndcg([[np.nan, 2.0, 3.0]], [[3, 0, 2]])[0] == pytest.approx(ndcg([[0.0, 2.0, 3.0]], [[3, 0, 2]])[0])


@pytest.mark.parametrize('k', [None, 5])
def test_gain_against_scikit_learn(k):
  rng = np.random.default_rng(0)
  scores, gains = rng.normal(size=(50, 20)), rng.integers(0, 4, (50, 20))
  expected = [ndcg_score([g], [s], k=k) for g, s in zip(gains, scores, strict=True)]
  np.testing.assert_allclose(ndcg(scores, gains, k), expected, atol=1e-12)


def test_gains_that_do_not_fit_are_an_error():
  with pytest.raises(ValueError, match='one for each pair'):
    ndcg(np.zeros((2, 3)), np.zeros((2, 2)))
  with pytest.raises(ValueError, match='ratings below 0'):
    ndcg(np.zeros((1, 2)), [[1, -1]])
