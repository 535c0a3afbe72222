"""Proficiency: top-1 accuracy over the four levels (paper section 5), beside the majority rate of each sport.

With few clips a sport's accuracy often equals its majority rate: read one only beside the other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from crosstrainer_jax.baselines.prediction import Prediction, Reference
from crosstrainer_jax.evaluation.bootstrap import Statistic, mean_statistic
from crosstrainer_jax.input.record import LEVELS


def accuracy_statistic(predictions: Sequence[Prediction], references: Sequence[Reference]) -> Statistic:
  """Share of right levels, × 100, on clips whose level is known; None counts as wrong."""
  right = [float(p.level == r.level) for p, r in zip(predictions, references, strict=True)]
  return mean_statistic(right, np.array([reference.level >= 0 for reference in references], bool))


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
