"""Paired tests between two rows on the same clips, by take, and Holm's correction over the rows compared.

- `permutation_test`: if two rows are alike, nothing tells which of them gave a take's answers. Labels are swapped take
  by take; p is the share of swaps whose difference is at least as large as the one found. Exact, over all 2^n swaps,
  for few takes.
- `bootstrap_test`: p is the share of resamples whose difference strays as far from the one found as that lies from 0.

Both are two-sided, and count the observation itself: p is never 0.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from collections.abc import Sequence

import numpy as np

from crosstrainer_jax.evaluation.bootstrap import Statistic, paired_clusters, paired_draws

# A difference that rounding alone makes must not count as another one.
SLACK = 1e-9


@dataclasses.dataclass(frozen=True)
class Tested:
  """One comparison of two rows by one score.

  Attributes:
    permutation, bootstrap: two-sided p of both tests; NaN where the difference is undefined.
    adjusted: the permutation's p after Holm's correction over `rows` rows.
    n_takes: takes that both rows have.
    rows: how many rows were compared.
  """

  permutation: float
  bootstrap: float
  adjusted: float
  n_takes: int
  rows: int


def permutation_test(
  first: Statistic, second: Statistic, takes: Sequence[str], resamples: int = 2000, seed: int = 0
) -> float:
  """Two-sided p that the two rows score alike; on the clips that both count. NaN for an undefined difference."""
  one, two = paired_clusters(first, second, takes)
  found = _difference(first, second, one.sum(0), two.sum(0))
  if not len(one) or math.isnan(found):
    return math.nan
  exact = 2 ** len(one) <= resamples
  moved = _swaps(len(one), resamples, seed) @ (two - one)
  differences = _difference(first, second, one.sum(0) + moved, two.sum(0) - moved)
  defined = differences[np.isfinite(differences)]
  extreme = (np.abs(defined) >= abs(found) - SLACK).sum()
  return float(extreme / len(defined) if exact else (extreme + 1) / (len(defined) + 1))


def bootstrap_test(
  first: Statistic, second: Statistic, takes: Sequence[str], resamples: int = 1000, seed: int = 0
) -> float:
  """Two-sided p that the two rows score alike, from the resamples of `bootstrap.paired_difference`."""
  one, two = paired_clusters(first, second, takes)
  found = _difference(first, second, one.sum(0), two.sum(0))
  if len(one) < 2 or math.isnan(found):
    return math.nan
  draws = paired_draws(len(one), resamples, seed)
  differences = _difference(first, second, draws @ one, draws @ two)
  defined = differences[np.isfinite(differences)]
  return float(((np.abs(defined - found) >= abs(found) - SLACK).sum() + 1) / (len(defined) + 1))


def holm(values: Sequence[float]) -> list[float]:
  """Adjusted p of each p (Holm 1979), in the same order; NaN stays NaN and is no comparison."""
  order = sorted((i for i, p in enumerate(values) if not math.isnan(p)), key=lambda i: values[i])
  adjusted, highest = [math.nan] * len(values), 0.0
  for rank, i in enumerate(order):
    highest = max(highest, min(1.0, (len(order) - rank) * values[i]))
    adjusted[i] = highest
  return adjusted


def compare(
  ours: Statistic, rivals: dict[str, Statistic], takes: Sequence[str], resamples: int = 1000, seed: int = 0
) -> dict[str, Tested]:
  """Both tests of one row against each of its rivals."""
  permuted = {name: permutation_test(ours, rival, takes, 2 * resamples, seed) for name, rival in rivals.items()}
  adjusted = dict(zip(permuted, holm(list(permuted.values())), strict=True))
  return {
    name: Tested(
      permuted[name],
      bootstrap_test(ours, rival, takes, resamples, seed),
      adjusted[name],
      len(paired_clusters(ours, rival, takes)[0]),
      sum(not math.isnan(p) for p in permuted.values()),
    )
    for name, rival in rivals.items()
  }


@functools.lru_cache(maxsize=8)
def _swaps(clusters: int, resamples: int, seed: int) -> np.ndarray:
  """float64[R, C] of 0 and 1: whether a take's labels are swapped; all 2^C ways where these are not more than R."""
  if 2**clusters <= resamples:
    return np.array(list(itertools.product((0, 1), repeat=clusters)), float)
  return np.random.default_rng(seed).integers(0, 2, (resamples, clusters)).astype(float)


def _difference(first: Statistic, second: Statistic, one: np.ndarray, two: np.ndarray) -> np.ndarray:
  return first.score(one) - second.score(two)
