"""Proficiency: top-1 accuracy over the four levels (paper section 5) and macro F1, beside the majority of each sport.

With few clips a sport's accuracy often equals its majority rate: read one only beside the other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from crosstrainer_jax.baselines.prediction import Prediction, Reference
from crosstrainer_jax.evaluation.bootstrap import Statistic, mean_statistic, ratio
from crosstrainer_jax.input.record import LEVELS


def accuracy_statistic(predictions: Sequence[Prediction], references: Sequence[Reference]) -> Statistic:
  """Share of right levels, × 100, on clips whose level is known; None counts as wrong."""
  right = [float(p.level == r.level) for p, r in zip(predictions, references, strict=True)]
  return mean_statistic(right, np.array([reference.level >= 0 for reference in references], bool))


def macro_f1_statistic(predictions: Sequence[Prediction], references: Sequence[Reference]) -> Statistic:
  """Mean F1 of the levels that occur in truth or answers, × 100, on clips whose level is known; None is no level."""
  counted = np.array([reference.level >= 0 for reference in references], bool)
  sums = np.zeros((len(references), len(LEVELS), 3))  # true positives, false positives, false negatives
  for row, (prediction, reference) in enumerate(zip(predictions, references, strict=True)):
    if counted[row]:
      for level in range(len(LEVELS)):
        said, true = prediction.level == level, reference.level == level
        sums[row, level] = said and true, said and not true, true and not said
  return Statistic(sums.reshape(len(references), -1), counted, _macro_f1)


def _macro_f1(sums: np.ndarray) -> np.ndarray:
  hit, extra, missed = np.moveaxis(sums.reshape(*sums.shape[:-1], len(LEVELS), 3), -1, 0)
  each = ratio(2 * hit, 2 * hit + extra + missed)
  return 100 * ratio(np.nansum(each, axis=-1), np.isfinite(each).sum(axis=-1))


def majority_levels(references: Sequence[Reference]) -> dict[str, tuple[str, float, int]]:
  """For each sport: its most frequent level, that level's share (0 … 1), and the number of clips with a level."""
  rates = {}
  for sport in sorted({reference.sport for reference in references}):
    levels = Counter(r.level for r in references if r.sport == sport and r.level >= 0)
    if levels:
      level, count = min(levels.items(), key=lambda item: (-item[1], item[0]))
      rates[sport] = (LEVELS[level], count / levels.total(), levels.total())
  return rates


def majority_line(references: Sequence[Reference]) -> str:
  """The majority rates as one line for the report."""
  rates = majority_levels(references)
  if not rates:
    return 'Levels of these clips are unknown.'
  each = [f'{sport} {100 * share:.1f} ({level}, {count} clips)' for sport, (level, share, count) in rates.items()]
  return f'Level accuracy of one constant answer for each sport: {", ".join(each)}.'
