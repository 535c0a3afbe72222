"""Percentile bootstrap by take; over several runs by seed, sport and take.

Clips of one take share a person, a place and often a sentence, so the take is what is drawn, not the clip. Every
metric is kept as sums over clips and a function of the summed columns; a resample is then a weighted sum of the takes'
sums, and 1,000 of them are one matrix product.

Several runs (`hierarchical`) vary by the seed of training, by the sport and by its takes: each resample draws seeds,
then sports, then takes within each drawn sport. All runs of a sport are tested on the same takes, so the takes are
drawn once for all seeds, not anew for each, which would count the same take as several.

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
  low, high = _percentiles(statistic.score(paired_draws(len(clusters), resamples, seed) @ clusters), len(clusters))
  return Interval(value, low, high, int(statistic.counted.sum()), len(clusters), statistic.note)


def paired_difference(
  first: Statistic, second: Statistic, takes: Sequence[str], resamples: int = 1000, seed: int = 0
) -> Interval:
  """`first` minus `second` on the clips that both count, with the same takes drawn for both."""
  one, two = paired_clusters(first, second, takes)
  value = float(first.score(one.sum(axis=0)) - second.score(two.sum(axis=0)))
  draws = paired_draws(len(one), resamples, seed)
  low, high = _percentiles(first.score(draws @ one) - second.score(draws @ two), len(one))
  notes = dict.fromkeys(note for note in (first.note, second.note) if note)
  counted = int((first.counted & second.counted).sum())
  return Interval(value, low, high, counted, len(one), '; '.join(notes))


@dataclasses.dataclass(frozen=True)
class Run:
  """What one trained model scores on the clips of one sport.

  Attributes:
    seed: of training.
    sport: that the clips are of; where a test set is not split by sport, any one name for all.
    statistic: of these clips.
    takes: a name for each clip.
  """

  seed: int
  sport: str
  statistic: Statistic
  takes: Sequence[str]


def hierarchical(runs: Sequence[Run], resamples: int = 1000, seed: int = 0) -> Interval:
  """The mean over sports of the mean over seeds, with a 95 % interval over drawn seeds, sports and takes.

  A run whose score is undefined is left out of the means. With one seed, or one sport, the interval says nothing of how
  others would come out, and the note says so; of two or three seeds it says little.

  Raises:
    ValueError: two runs of one seed and one sport.
  """
  return _hierarchical(runs, None, resamples, seed)


def hierarchical_difference(
  first: Sequence[Run], second: Sequence[Run], resamples: int = 1000, seed: int = 0
) -> Interval:
  """`first` minus `second`, paired: the same seeds, sports and takes are drawn for both, on clips that both count.

  Raises:
    ValueError: the two have not the same seeds and sports.
  """
  return _hierarchical(first, second, resamples, seed)


def _hierarchical(runs: Sequence[Run], others: Sequence[Run] | None, resamples: int, seed: int) -> Interval:
  grid, rivals = _by_seed_and_sport(runs), None if others is None else _by_seed_and_sport(others)
  if rivals is not None and rivals.keys() != grid.keys():
    raise ValueError(f'runs to compare differ in their seeds and sports: {sorted(grid.keys() ^ rivals.keys())}')
  seeds, sports = sorted({number for number, _ in grid}), sorted({name for _, name in grid})
  rng = np.random.default_rng(seed)
  seed_draws = rng.multinomial(len(seeds), np.full(len(seeds), 1 / len(seeds)), size=resamples).astype(float)
  sport_draws = rng.integers(len(sports), size=(resamples, len(sports)))
  values, scores = [], np.full(sport_draws.shape, math.nan)
  n_clips = n_takes = 0
  for number, sport in enumerate(sports):
    names = sorted({take for (_, of), run in grid.items() if of == sport for take in map(str, run.takes)})
    own = [name for name in seeds if (name, sport) in grid]
    pairs = [(grid[name, sport], None if rivals is None else rivals[name, sport]) for name in own]
    whole = np.array([_score_of(run, rival, np.ones((1, len(names))), names)[0] for run, rival in pairs])
    values.append(_nan_mean(whole[None])[0])
    counted = [run.statistic.counted if rival is None else run.statistic.counted & rival.statistic.counted
               for run, rival in pairs]  # fmt: skip
    n_clips += max(int(mask.sum()) for mask in counted)
    n_takes += max(len(set(np.asarray(run.takes, str)[mask])) for (run, _), mask in zip(pairs, counted, strict=True))
    # The takes of this sport are drawn anew for each time that it was drawn.
    rows, slots = np.nonzero(sport_draws == number)
    draws = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=len(rows)).astype(float)
    each = np.stack([_score_of(run, rival, draws, names) for run, rival in pairs], axis=-1)
    weights = seed_draws[rows][:, [seeds.index(name) for name in own]]
    scores[rows, slots] = _nan_mean(each, weights)
  low, high = _percentiles(_nan_mean(scores), n_takes)
  notes = [run.statistic.note for run in runs]
  if len(seeds) == 1:
    notes.append('one seed: the interval says nothing of training again')
  if len(sports) == 1 and sports[0]:
    notes.append('one sport: the interval says nothing of others')
  unique = '; '.join(note for note in dict.fromkeys(notes) if note)
  return Interval(float(_nan_mean(np.array([values]))[0]), low, high, n_clips, n_takes, unique)


def _by_seed_and_sport(runs: Sequence[Run]) -> dict[tuple[int, str], Run]:
  grid = {(run.seed, run.sport): run for run in runs}
  if len(grid) < len(runs) or not runs:
    raise ValueError(f'{len(runs)} runs of {len(grid)} pairs of seed and sport: give one run for each, at least one')
  return grid


def _score_of(run: Run, rival: Run | None, draws: np.ndarray, names: Sequence[str]) -> np.ndarray:
  """Scores, or differences, float64[R] under draws float64[R, T] of the takes of `names`."""
  counted = run.statistic.counted if rival is None else run.statistic.counted & rival.statistic.counted
  place = {name: number for number, name in enumerate(names)}

  def score(of: Run) -> np.ndarray:
    clusters = np.zeros((len(names), of.statistic.sums.shape[1]))
    where = np.array([place[str(take)] for take in of.takes], int)
    np.add.at(clusters, where[counted], of.statistic.sums[counted])
    return of.statistic.score(draws @ clusters)

  return score(run) if rival is None else score(run) - score(rival)


def _nan_mean(values: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
  """Σ(w·x) / Σw over the last axis, without the undefined x; NaN where no weight is left."""
  defined = np.isfinite(values)
  weights = np.where(defined, 1.0 if weights is None else weights, 0.0)
  return ratio((weights * np.where(defined, values, 0)).sum(-1), weights.sum(-1))


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


def paired_clusters(first: Statistic, second: Statistic, takes: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
  """Sums of both by take, float64[C, K] each, over the clips that both count."""
  counted = first.counted & second.counted
  return _sums_by_take(first.sums, counted, takes), _sums_by_take(second.sums, counted, takes)


def _sums_by_take(sums: np.ndarray, counted: np.ndarray, takes: Sequence[str]) -> np.ndarray:
  """float64[C, K], one row for each take that has a counted clip."""
  if not len(takes) == len(sums) == len(counted):
    raise ValueError(f'{len(sums)} clips have statistics, but {len(takes)} have a take.')
  names, cluster = np.unique(np.asarray(takes, dtype=str)[counted], return_inverse=True)
  clusters = np.zeros((len(names), sums.shape[1]))
  np.add.at(clusters, cluster, sums[counted])
  return clusters


@functools.lru_cache(maxsize=8)
def paired_draws(clusters: int, resamples: int, seed: int) -> np.ndarray:
  """float64[R, C]: how often each take is drawn. The same for every metric and row, hence the pairing."""
  if clusters == 0:
    return np.zeros((resamples, 0))
  rng = np.random.default_rng(seed)
  return rng.multinomial(clusters, np.full(clusters, 1 / clusters), size=resamples).astype(float)


def _percentiles(scores: np.ndarray, clusters: int) -> tuple[float, float]:
  defined = scores[np.isfinite(scores)]
  if clusters < 2 or len(defined) < len(scores) / 2:
    return math.nan, math.nan
  low, high = np.percentile(defined, [2.5, 97.5])
  return float(low), float(high)
