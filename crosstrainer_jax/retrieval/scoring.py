"""How well candidates are ranked for learners' clips: recall, median rank and nDCG, with intervals by take.

Every query ranks the candidates of its own sport, since a coach knows it and to name it is easy; candidates that a
ranking ties come in the worst order.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from crosstrainer_jax.evaluation.bootstrap import Interval, bootstrap, mean_statistic
from crosstrainer_jax.evaluation.retrieval import RECALLS, ndcg, retrieval_statistics

NDCG = 'nDCG@10'


def masked(scores: np.ndarray, queries: Sequence[str], candidates: Sequence[str]) -> np.ndarray:
  """`scores` float[N, M] with -inf for candidates of another sport, which rank behind all others."""
  same = np.array(queries)[:, None] == np.array(candidates)[None]
  return np.where(same, scores, -np.inf)


def score(
  scores: np.ndarray, gains: np.ndarray, best: float, takes: Sequence[str], resamples: int = 1000
) -> dict[str, Interval]:
  """Column -> interval: `R@k` and nDCG in %, the median rank.

  Args:
    scores: float[N, M], higher is better.
    gains: float[N, M], grades of relevance; NaN where nobody knows.
    best: the grade from which a candidate counts as relevant for recall; queries without one count for nDCG alone.
    takes: of the queries.
  """
  relevant = [np.flatnonzero(row >= best).tolist() for row in gains]
  found = {
    name: bootstrap(statistic, takes, resamples) for name, statistic in retrieval_statistics(scores, relevant).items()
  }
  graded = ndcg(scores, gains, 10)
  known = np.isfinite(graded)
  found[NDCG] = bootstrap(mean_statistic(np.where(known, graded, 0.0).tolist(), known), takes, resamples)
  return found


def chance(gains: np.ndarray, possible: np.ndarray, best: float) -> dict[str, float]:
  """What an order by lot comes to, in the mean: recall of queries with a relevant candidate.

  Args:
    gains: float[N, M] grades.
    possible: bool[N, M], the candidates of each query.
  """
  found: dict[str, list[float]] = {f'R@{k}': [] for k in RECALLS}
  for row, mask in zip(gains, possible, strict=True):
    size, right = int(mask.sum()), int((row[mask] >= best).sum())
    if not right:
      continue
    for k in RECALLS:
      # none of the first k is right
      drawn = np.arange(min(k, size))
      missed = np.prod(np.maximum(size - right - drawn, 0) / (size - drawn))
      found[f'R@{k}'].append(100 * float(1 - missed))
  return {name: float(np.mean(values)) if values else float('nan') for name, values in found.items()}
