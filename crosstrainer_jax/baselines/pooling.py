"""From cached features of many clips to the one matrix float32[N, D] that the baselines read."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from crosstrainer_jax.baselines.prediction import Reference


def mean_pool(features: Sequence[np.ndarray] | np.ndarray) -> np.ndarray:
  """float[V, S, D] of each clip → float32[N, D], the mean over views and seconds. Clips may differ in V and S."""
  return np.stack([np.mean(clip, axis=(0, 1), dtype=np.float32) for clip in features])


def concatenate(features: Sequence[np.ndarray] | np.ndarray) -> np.ndarray:
  """float[V, S, D] of each clip → float32[N, V·S·D], which keeps the order in time. All clips need the same shape."""
  shapes = {clip.shape for clip in features}
  if len(shapes) > 1:
    raise ValueError(f'Clips differ in views or seconds ({sorted(shapes)[:3]}…): pool them with mean_pool instead.')
  return np.stack([clip.astype(np.float32).ravel() for clip in features])


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
