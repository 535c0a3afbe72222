"""What a representation is worth: a clip's own narration among others of its sport, and the other way round.

Every query chooses from a pool of one size, drawn from its own sport, since to tell sports apart is easy. Candidates of
the query's own video are in no pool but as its answer, and neither are candidates with the very same words: they may be
as right. Scores are means over queries of both directions, with an interval by video.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence

import numpy as np

from crosstrainer_jax.evaluation.bootstrap import Interval, Statistic, bootstrap
from crosstrainer_jax.evaluation.retrieval import median_rank, ranks
from crosstrainer_jax.input.source import ClipInfo

RECALLS = (1, 5, 10)


@dataclasses.dataclass(frozen=True)
class Pools:
  """Of each query, by place among the clips: int[size] candidates, its own first.

  Attributes:
    queries: places of clips that have a pool; others are of a sport with too few.
    candidates: int[Q, size].
  """

  queries: np.ndarray
  candidates: np.ndarray

  @property
  def size(self) -> int:
    return int(self.candidates.shape[1])


def draw_pools(clips: Sequence[ClipInfo], size: int, seed: int = 0) -> Pools:
  """The pools of clips among each other.

  Raises:
    ValueError: a pool of fewer than two, or no sport with enough clips.
  """
  if size < 2:
    raise ValueError(f'config.represent.pool={size}: there is something to choose from 2 on')
  names = [np.unique(column, return_inverse=True)[1] for column in zip(*map(_names, clips), strict=True)]
  sports, videos, words = names
  of_sport = {sport: np.flatnonzero(sports == sport) for sport in np.unique(sports)}
  queries, candidates = [], []
  for place in range(len(clips)):
    # Of its own for each query, so that another query more or less changes no pool.
    random = np.random.default_rng([seed, place])
    same = of_sport[sports[place]]
    others = same[(videos[same] != videos[place]) & (words[same] != words[place])]
    if len(others) >= size - 1:
      queries.append(place)
      candidates.append([place, *random.choice(others, size - 1, replace=False)])
  if not queries:
    raise ValueError(
      f'config.represent.pool={size}: no sport has so many test clips of several videos; make it smaller'
    )
  return Pools(np.array(queries), np.array(candidates))


def _names(clip: ClipInfo) -> tuple[str, str, str]:
  return clip.sport, clip.take, clip.commentary


def ranks_of(clips: np.ndarray, texts: np.ndarray, pools: Pools, block: int = 1024) -> np.ndarray:
  """float64[Q, 2]: the rank of what belongs to each query, from clip to text and from text to clip.

  Args:
    clips, texts: float[N, E] unit vectors; those with one number belong together.
    block: queries at a time, so that no more than their pools is in memory.
  """
  found = []
  for begin in range(0, len(pools.queries), block):
    queries, candidates = (part[begin : begin + block] for part in (pools.queries, pools.candidates))
    own = [[0]] * len(queries)
    pairs = ((clips, texts), (texts, clips))
    both = [np.einsum('qe,qpe->qp', ours[queries], theirs[candidates]) for ours, theirs in pairs]
    found.append(np.stack([ranks(scores, own) for scores in both], 1))
  return np.concatenate(found)


@dataclasses.dataclass(frozen=True)
class Scores:
  """Of one row.

  Attributes:
    by_sport: column -> interval, over all sports (`''`) and for each of them.
    by_execution: the same over all sports, for clips that show a skill as it should be (`correct`) and as it should not
      (`incorrect`), where the library knows.
  """

  by_sport: Mapping[str, Mapping[str, Interval]]
  by_execution: Mapping[str, Mapping[str, Interval]]


def score(found: np.ndarray, clips: Sequence[ClipInfo], pools: Pools, resamples: int) -> Scores:
  """Recall at 1, 5 and 10 in %, and the median rank, of ranks float[Q, 2].

  Over all sports the recall is the mean over sports, so that large ones do not count for more.
  """
  sports = [clips[place].sport for place in pools.queries]
  videos = [clips[place].take for place in pools.queries]
  names = sorted(set(sports))
  executions = [execution(clips[place]) for place in pools.queries]

  def intervals(mask: np.ndarray, names: Sequence[str]) -> dict[str, Interval]:
    statistics = _statistics(found, sports, names, pools.size)
    return {name: bootstrap(statistic.keep(mask), videos, resamples) for name, statistic in statistics.items()}

  by_sport = {
    sport: intervals(np.array([sport in ('', other) for other in sports]), [sport] if sport else names)
    for sport in ['', *names]
  }
  by_execution: dict[str, dict[str, Interval]] = {
    kind: intervals(np.array([other == kind for other in executions]), names)
    for kind in ('correct', 'incorrect')
    if kind in executions
  }
  return Scores(by_sport, by_execution)


def execution(clip: ClipInfo) -> str:
  """How a skill is shown: `correct` or `incorrect`; '' where nobody knows."""
  found = json.loads(clip.extra) if clip.extra else {}
  return str(found.get('execution', '')) if isinstance(found, dict) else ''


def _statistics(found: np.ndarray, sports: Sequence[str], names: Sequence[str], size: int) -> dict[str, Statistic]:
  """Hits and counts in columns of their own for each sport, so that the mean over sports is one of the sums."""
  member = np.array([[sport == name for name in names] for sport in sports], float)
  counted = np.ones(len(found), bool)
  statistics = {}
  for k in RECALLS:
    if k < size:
      hits = (found <= k).mean(1)
      statistics[f'R@{k}'] = Statistic(np.concatenate([member * hits[:, None], member], 1), counted, _mean_of_sports)
  histogram = np.zeros((len(found), size))
  for direction in range(found.shape[1]):
    histogram[np.arange(len(found)), found[:, direction].astype(int) - 1] += 1
  statistics['median rank'] = Statistic(histogram, counted, median_rank)
  return statistics


def _mean_of_sports(sums: np.ndarray) -> np.ndarray:
  hits, counts = np.split(sums, 2, -1)
  with np.errstate(invalid='ignore', divide='ignore'):
    # A sport without such clips has no say.
    shares, there = np.where(counts > 0, hits / counts, 0.0), (counts > 0).sum(-1)
    return 100 * np.where(there > 0, shares.sum(-1) / there, math.nan)


def chance(size: int) -> dict[str, float]:
  """What drawing lots comes to."""
  return {**{f'R@{k}': 100 * k / size for k in RECALLS if k < size}, 'median rank': (size + 1) / 2}
