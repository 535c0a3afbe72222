"""Intervals over several runs: seeds are drawn, within a seed its sports, within a sport its takes.

A bootstrap of takes alone leaves out the chance in training, and clips of one sport share more than a take. At a level
with a single member nothing varies. The score of a resample is that of the summed statistics, as in `bootstrap`.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from crosstrainer_jax.evaluation.bootstrap import Interval, Statistic, percentiles

T = TypeVar('T')


@dataclasses.dataclass(frozen=True)
class Part:
  """One run's share: a statistic over its clips, and the sport and take of each clip."""

  seed: int
  sports: Sequence[str]
  takes: Sequence[str]
  statistic: Statistic


def hierarchical(parts: Sequence[Part], resamples: int = 1000, seed: int = 0) -> Interval:
  """The score of all parts together with its 95 % interval.

  Args:
    parts: at least one; of the same metric. Runs of one seed, such as those that hold out different skills, are drawn
      together.
    seed: of the draws.
  """
  totals: dict[tuple[int, str, str], np.ndarray] = {}
  n_clips = 0
  for part in parts:
    counted = part.statistic.counted
    n_clips += int(counted.sum())
    for number in np.flatnonzero(counted):
      key = part.seed, part.sports[number], part.takes[number]
      totals[key] = totals.get(key, 0) + part.statistic.sums[number]
  keys = sorted(totals)
  first = parts[0].statistic
  sums = np.array([totals[key] for key in keys]).reshape(len(keys), first.sums.shape[1])
  value = float(first.score(sums.sum(axis=0)))
  low, high = percentiles(first.score(_draws(tuple(key[:2] for key in keys), resamples, seed) @ sums), len(keys))
  return Interval(value, low, high, n_clips, len({key[1:] for key in keys}), first.note)


@functools.lru_cache(maxsize=64)
def _draws(groups: tuple[tuple[int, str], ...], resamples: int, seed: int) -> np.ndarray:
  """float64[R, C]: how often each take, of a seed and sport, is drawn; the same for every metric of the same clips."""
  random = np.random.default_rng(seed)
  places: dict[int, dict[str, list[int]]] = {}
  for number, (run, sport) in enumerate(groups):
    places.setdefault(run, {}).setdefault(sport, []).append(number)
  weights = np.zeros((resamples, len(groups)))
  for row in weights:
    for run in _drawn(random, list(places)):
      for sport in _drawn(random, list(places[run])):
        takes = places[run][sport]
        row[takes] += np.bincount(random.integers(len(takes), size=len(takes)), minlength=len(takes))
  return weights


def _drawn(random: np.random.Generator, members: list[T]) -> list[T]:
  return [members[i] for i in random.integers(len(members), size=len(members))]
