"""Retrieval: recall at k and the median rank of what belongs to a query, and nDCG against graded ratings.

The rank of a candidate is 1 + the number of candidates that score at least as high: among equals it comes last, so that
a model that gives all the same score is not first but last everywhere. Where several candidates belong to a query, the
best of them counts.

What is chosen from decides how hard that is: `representation/scoring.py` draws the candidates of every query from its
own sport, since to tell sports apart is easy, and always as many, since with more to choose from every recall falls.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from crosstrainer_jax.evaluation.bootstrap import Statistic, mean_statistic

RECALLS = (1, 5, 10, 50)


def ranks(scores: np.ndarray, relevant: Sequence[Collection[int]]) -> np.ndarray:
  """float64[N], the rank of the best candidate that belongs to each query; NaN where none does.

  Args:
    scores: float[N, M] of candidates for each query, higher is better. A NaN ranks behind all others.
    relevant: for each query the candidates that belong to it.

  Raises:
    ValueError: shapes that do not fit.
  """
  scores = np.asarray(scores, float)
  if scores.ndim != 2 or len(scores) != len(relevant):
    raise ValueError(f'scores of shape {scores.shape} for {len(relevant)} queries: one row for each query is needed')
  scores = np.where(np.isnan(scores), -np.inf, scores)
  found = np.full(len(scores), np.nan)
  for row, mine in enumerate(relevant):
    own = np.array(sorted(set(mine)), int)
    if len(own) and not (own[0] >= 0 and own[-1] < scores.shape[1]):
      raise ValueError(f'query {row}: candidates {own.tolist()} of {scores.shape[1]}')
    if len(own):
      others = np.delete(scores[row], own)
      # of those that belong to it, any will do, so they do not stand in each other's way
      found[row] = 1 + (others >= scores[row, own].max()).sum()
  return found


def retrieval_statistics(
  scores: np.ndarray, relevant: Sequence[Collection[int]], note: str = ''
) -> dict[str, Statistic]:
  """`R@k`, × 100, and `median rank` by column name, on queries to which a candidate belongs."""
  found = ranks(scores, relevant)
  counted = np.isfinite(found)
  candidates = np.shape(scores)[1]
  statistics = {
    f'R@{k}': mean_statistic((found <= k).astype(float).tolist(), counted, note) for k in RECALLS if k < candidates
  }
  # a histogram of ranks, since a median is no sum
  sums = np.zeros((len(found), candidates))
  sums[np.flatnonzero(counted), found[counted].astype(int) - 1] = 1
  return statistics | {'median rank': Statistic(sums, counted, median_rank, note)}


def median_rank(sums: np.ndarray) -> np.ndarray:
  """The median of ranks 1 … M from how often each occurs, float64[..., M]; of an even count the middle two's mean."""
  total = sums.sum(-1)
  below = np.cumsum(sums, -1)
  middle = [(below <= np.floor((total - odd) / 2)[..., None]).sum(-1) + 1 for odd in (1, 0)]
  return np.where(total > 0, (middle[0] + middle[1]) / 2, np.nan)


def ndcg(scores: np.ndarray, gains: np.ndarray, k: int | None = None) -> np.ndarray:
  """float64[N], the normalised discounted cumulative gain of each query (Järvelin & Kekäläinen 2002).

  A rating g at rank r gives g / log2(1 + r); the sum is divided by that of the best order. Among equal scores the lower
  rating comes first, so that a model that gives all the same score gains nothing by the order of the candidates.

  Args:
    scores: float[N, M] of candidates for each query, higher is better. A NaN ranks behind all others.
    gains: float[N, M], ratings of the candidates, 0 for what is of no use; NaN is what nobody rated, which is left out.
    k: only the first k ranks count; None for all.

  Returns:
    NaN for a query to which no candidate is of use.

  Raises:
    ValueError: shapes that do not fit, or ratings below 0.
  """
  scores, gains = np.asarray(scores, float), np.asarray(gains, float)
  if scores.shape != gains.shape or scores.ndim != 2:
    raise ValueError(f'scores of shape {scores.shape} for ratings of shape {gains.shape}: one for each pair is needed')
  if (gains < 0).any():
    raise ValueError('ratings below 0: 0 is what is of no use')
  rated = ~np.isnan(gains)
  # What is not rated goes to the end, where it gains nothing.
  known = np.where(rated, gains, 0.0)
  order = np.lexsort((known, np.where(np.isnan(scores), np.inf, -scores), ~rated))
  discounts = 1 / np.log2(2 + np.arange(scores.shape[1]))
  if k is not None:
    discounts[k:] = 0
  gained = (np.take_along_axis(known, order, 1) * discounts).sum(1)
  best = (-np.sort(-known, axis=1) * discounts).sum(1)
  with np.errstate(invalid='ignore'):
    return np.where(best > 0, gained / best, np.nan)
