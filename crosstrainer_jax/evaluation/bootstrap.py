"""Percentile bootstrap by take.

Clips of one take share a person, a place and often a sentence, so the take is what is drawn, not the clip. Every
metric is kept as sums over clips and a function of the summed columns; a resample is then a weighted sum of the takes'
sums, and 1,000 of them are one matrix product.

Undefined scores: a score whose denominator is zero is NaN. Resamples with a NaN score are left out of the percentiles;
when fewer than half are left, or there are fewer than two takes, there is a value but no interval (NaN, NaN).
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence

import numpy as np


@dataclasses.dataclass(frozen=True)
class Statistic:
  """A metric before it is summed.

  Attributes:
    sums: float64[N, K], sufficient statistics of each clip.
    counted: bool[N]; a clip that the metric does not concern is False and has weight 0.
    score: maps summed statistics float64[..., K] to scores float64[...], NaN where undefined.
    note: what a reader of the table must know about this value.
  """

  sums: np.ndarray
  counted: np.ndarray
  score: Callable[[np.ndarray], np.ndarray]
  note: str = ''

  def keep(self, mask: np.ndarray) -> Statistic:
    """The same metric over fewer clips, bool[N]."""
    return dataclasses.replace(self, counted=self.counted & mask)


@dataclasses.dataclass(frozen=True)
class Interval:
  """A score with its 95 % bootstrap interval; NaN where undefined."""

  value: float
  low: float
  high: float
  n_clips: int
  n_takes: int
  note: str = ''


def bootstrap(statistic: Statistic, takes: Sequence[str], resamples: int = 1000, seed: int = 0) -> Interval:
  """95 % percentile interval of the score over resampled takes (one name per clip)."""
  clusters = _sums_by_take(statistic.sums, statistic.counted, takes)
  value = float(statistic.score(clusters.sum(axis=0)))
  low, high = percentiles(statistic.score(_draws(len(clusters), resamples, seed) @ clusters), len(clusters))
  return Interval(value, low, high, int(statistic.counted.sum()), len(clusters), statistic.note)


def paired_difference(
  first: Statistic, second: Statistic, takes: Sequence[str], resamples: int = 1000, seed: int = 0
) -> Interval:
  """`first` minus `second` on the clips that both count, with the same takes drawn for both."""
  counted = first.counted & second.counted
  one, two = (_sums_by_take(statistic.sums, counted, takes) for statistic in (first, second))
  value = float(first.score(one.sum(axis=0)) - second.score(two.sum(axis=0)))
  draws = _draws(len(one), resamples, seed)
  low, high = percentiles(first.score(draws @ one) - second.score(draws @ two), len(one))
  notes = dict.fromkeys(note for note in (first.note, second.note) if note)
  return Interval(value, low, high, int(counted.sum()), len(one), '; '.join(notes))


def ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
  """numerator / denominator, NaN where the denominator is zero."""
  numerator, denominator = np.broadcast_arrays(np.asarray(numerator, float), np.asarray(denominator, float))
  return np.divide(numerator, denominator, out=np.full(numerator.shape, math.nan), where=denominator != 0)


def mean_score(sums: np.ndarray) -> np.ndarray:
  """float64[..., 2], the sum of values and of weights → 100 × the mean."""
  return 100 * ratio(sums[..., 0], sums[..., 1])


def mean_statistic(values: Sequence[float], counted: np.ndarray, note: str = '') -> Statistic:
  """The mean of one value per clip (0 … 1, reported × 100) over the counted clips; others may hold NaN."""
  weights = np.asarray(counted, bool)
  sums = np.stack([np.where(weights, np.asarray(values, float), 0), weights.astype(float)], axis=-1)
  return Statistic(sums.reshape(-1, 2), weights, mean_score, note)


def _sums_by_take(sums: np.ndarray, counted: np.ndarray, takes: Sequence[str]) -> np.ndarray:
  """float64[C, K], one row for each take that has a counted clip."""
  if not len(takes) == len(sums) == len(counted):
    raise ValueError(f'{len(sums)} clips have statistics, but {len(takes)} have a take.')
  names, cluster = np.unique(np.asarray(takes, dtype=str)[counted], return_inverse=True)
  clusters = np.zeros((len(names), sums.shape[1]))
  np.add.at(clusters, cluster, sums[counted])
  return clusters


@functools.lru_cache(maxsize=8)
def _draws(clusters: int, resamples: int, seed: int) -> np.ndarray:
  """float64[R, C]: how often each take is drawn. The same for every metric and row, hence the pairing."""
  if clusters == 0:
    return np.zeros((resamples, 0))
  rng = np.random.default_rng(seed)
  return rng.multinomial(clusters, np.full(clusters, 1 / clusters), size=resamples).astype(float)


def percentiles(scores: np.ndarray, clusters: int) -> tuple[float, float]:
  """The 95 % interval of the scores of resamples of so many clusters; (NaN, NaN) where it would say nothing."""
  defined = scores[np.isfinite(scores)]
  if clusters < 2 or len(defined) < len(scores) / 2:
    return math.nan, math.nan
  low, high = np.percentile(defined, [2.5, 97.5])
  return float(low), float(high)
