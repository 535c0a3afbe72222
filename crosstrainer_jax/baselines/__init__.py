"""The rows to beat. A new one is one file with one class, one test and one line in `BASELINES`."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from typing import Protocol, Self

import numpy as np

from crosstrainer_jax.baselines import attribute_retrieval, fine_tuned_retrieval
from crosstrainer_jax.baselines.floors import AlwaysNone, Majority, RandomClip
from crosstrainer_jax.baselines.linear import LinearClassifier
from crosstrainer_jax.baselines.nearest_neighbour import NearestNeighbour
from crosstrainer_jax.baselines.prediction import Prediction, Reference


class Baseline(Protocol):
  """A row that is fitted to the training clips and answers for others.

  Features are float32[N, D], one row for each clip in the same order (see `pooling`); the floors do not look at them.
  """

  def fit(self, train: Sequence[Reference], features: np.ndarray) -> Self: ...

  def predict(self, features: np.ndarray, references: Sequence[Reference]) -> list[Prediction]:
    """Answers from features alone: of `references`, only identity (clip, take, sport, skill) may be read."""
    ...


# Name in the table → how to make it from a seed.
BASELINES: dict[str, Callable[[int], Baseline]] = {
  'always none': lambda seed: AlwaysNone(),
  'random': lambda seed: RandomClip(seed),
  'majority': lambda seed: Majority(),
  'nearest neighbour': lambda seed: NearestNeighbour(),
  'linear classifier on v': lambda seed: LinearClassifier(seed),
}


# Rows that are trained on the mesh, with checkpoints: name in the table → module with `train` and `predict`.
RETRIEVAL = {module.NAME: module for module in (fine_tuned_retrieval, attribute_retrieval)}


def build(name: str, seed: int = 0) -> Baseline:
  """The unfitted baseline of that name; raises ValueError with the nearest valid name."""
  if name not in BASELINES:
    near = difflib.get_close_matches(name, BASELINES, n=1)
    hint = f'; did you mean {near[0]!r}?' if near else ''
    raise ValueError(f'No baseline is called {name!r}{hint} Known: {", ".join(BASELINES)}.')
  return BASELINES[name](seed)
