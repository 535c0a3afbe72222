"""From cached features of many clips to the one matrix float32[N, D] that the baselines read."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from crosstrainer_jax.baselines.prediction import Reference


def mean_pool(features: np.ndarray, valid: np.ndarray) -> np.ndarray:
  """float[N, V, S, D] → float32[N, D], the mean over the tokens that are real, `valid` bool[N, V, S]; 0 without any."""
  weight = valid[..., None].astype(np.float32)
  return (features * weight).sum((1, 2), dtype=np.float32) / np.maximum(weight.sum((1, 2)), 1)


def concatenate(features: np.ndarray, valid: np.ndarray) -> np.ndarray:
  """float[N, V, S, D] → float32[N, V·S·D], which keeps the order in time; what is not `valid` is 0."""
  return (features * valid[..., None]).astype(np.float32).reshape(len(features), -1)


def checked(features: np.ndarray, references: Sequence[Reference]) -> np.ndarray:
  """`features` as float32[N, D], after a look at count and values; raises ValueError naming the clip."""
  features = np.asarray(features, np.float32)
  if features.ndim != 2 or len(features) != len(references):
    raise ValueError(f'Features are {features.shape}, but {len(references)} clips need ({len(references)}, D).')
  if not features.size:
    raise ValueError('There are no features: cache them first, or give at least one clip.')
  broken = ~np.isfinite(features).all(axis=1)
  if broken.any():
    first = references[int(np.argmax(broken))].clip_id
    raise ValueError(f'Features of {broken.sum()} clips hold NaN or infinity, first {first!r}: encode them again.')
  return features


def needs_clips(train: Sequence[Reference], name: str) -> None:
  if not train:
    raise ValueError(f'{name} has no training clips: check the split and its filters.')
