"""Rows that never look at the video: what any method has to beat before its score means something."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Self

import numpy as np

from crosstrainer_jax.baselines.pooling import needs_clips
from crosstrainer_jax.baselines.prediction import Prediction, Reference


class AlwaysNone:
  """Names no attribute, and says nothing else."""

  def fit(self, train: Sequence[Reference], features: np.ndarray) -> Self:
    return self

  def predict(self, features: np.ndarray, references: Sequence[Reference]) -> list[Prediction]:
    return [reference.answer(attributes=[]) for reference in references]


class RandomClip:
  """Attributes, commentary and level of a training clip drawn at random, from a seed."""

  def __init__(self, seed: int = 0):
    self.seed = seed
    self.train: Sequence[Reference] = ()

  def fit(self, train: Sequence[Reference], features: np.ndarray) -> Self:
    needs_clips(train, 'random')
    self.train = train
    return self

  def predict(self, features: np.ndarray, references: Sequence[Reference]) -> list[Prediction]:
    drawn = np.random.default_rng(self.seed).integers(len(self.train), size=len(references))
    return [copied(self.train[i], reference) for i, reference in zip(drawn, references, strict=True)]


class Majority:
  """The most frequent attribute set, its most common commentary, and the most frequent level.

  Faultless clips are left out of the count of sets, since the empty set is already the row *always none*. Ties go to
  what comes first in the training clips.
  """

  def __init__(self) -> None:
    self.attributes: list[str] = []
    self.feedback: str | None = None
    self.level: int | None = None

  def fit(self, train: Sequence[Reference], features: np.ndarray) -> Self:
    needs_clips(train, 'majority')
    sets = Counter(frozenset(clip.attributes) for clip in train if clip.attributes)
    most = sets.most_common(1)[0][0] if sets else frozenset[str]()
    said = [clip.commentary for clip in train if clip.commentary and frozenset(clip.attributes) == most]
    said = said or [clip.commentary for clip in train if clip.commentary]
    levels = Counter(clip.level for clip in train if clip.level >= 0)
    self.attributes = sorted(most)
    self.feedback = Counter(said).most_common(1)[0][0] if said else None
    self.level = levels.most_common(1)[0][0] if levels else None
    return self

  def predict(self, features: np.ndarray, references: Sequence[Reference]) -> list[Prediction]:
    return [reference.answer(list(self.attributes), self.feedback, self.level) for reference in references]


def copied(source: Reference, target: Reference) -> Prediction:
  """What is known of `source`, said of `target`."""
  level = source.level if source.level >= 0 else None
  return target.answer(list(source.attributes), source.commentary or None, level)
