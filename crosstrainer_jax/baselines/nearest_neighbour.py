"""Nearest neighbour: the attributes, commentary and level of the most similar training clip (paper Table 1, -NN)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import numpy as np

from crosstrainer_jax.baselines.floors import copied
from crosstrainer_jax.baselines.pooling import checked, needs_clips
from crosstrainer_jax.baselines.prediction import Prediction, Reference


class NearestNeighbour:
  """Cosine similarity between centred features of a frozen encoder; ties go to the first training clip.

  Features are centred on the training mean: pooled features share a large constant part, which would otherwise make
  every cosine nearly one.
  """

  def __init__(self) -> None:
    self.train: Sequence[Reference] = ()
    self.mean = np.zeros(0, np.float32)
    self.directions = np.zeros((0, 0), np.float32)

  def fit(self, train: Sequence[Reference], features: np.ndarray) -> Self:
    needs_clips(train, 'nearest neighbour')
    features = checked(features, train)
    self.train = train
    self.mean = features.mean(axis=0)
    self.directions = unit(features - self.mean)
    return self

  def predict(self, features: np.ndarray, references: Sequence[Reference]) -> list[Prediction]:
    if not references:
      return []
    directions = unit(checked(features, references) - self.mean)
    nearest = np.argmax(directions @ self.directions.T, axis=1)
    return [copied(self.train[i], reference) for i, reference in zip(nearest, references, strict=True)]


def unit(vectors: np.ndarray) -> np.ndarray:
  """float32[N, D] scaled to length one; a zero vector stays zero, and so is similar to nothing."""
  lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
  return vectors / np.where(lengths > 0, lengths, 1)
