"""Who should watch what, in the embedded worlds: the clip that is about the learner's very fault.

Graded [O]: 2 for a how-to clip of the same sport about a fault that the learner shows, in its direction; 1 for the same
fault in the other direction; 0 for all else. Recall counts what is graded 2.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from crosstrainer_jax.input.source import ClipInfo

BEST, RELATED = 2, 1


@dataclasses.dataclass(frozen=True)
class Topic:
  """What a clip is about: a sport, and faults with their directions."""

  sport: str
  faults: frozenset[tuple[str, str]]


def grades(learners: Sequence[Topic], candidates: Sequence[Topic]) -> np.ndarray:
  """float64[N, M]: 0, `RELATED` or `BEST`."""
  found = np.zeros((len(learners), len(candidates)))
  for row, learner in enumerate(learners):
    names = {name for name, _ in learner.faults}
    for column, candidate in enumerate(candidates):
      if learner.sport != candidate.sport:
        continue
      if learner.faults & candidate.faults:
        found[row, column] = BEST
      elif names & {name for name, _ in candidate.faults}:
        found[row, column] = RELATED
  return found


def topic_of_lesson(clip: ClipInfo, truth: Mapping[str, Mapping[str, Any]]) -> Topic:
  """Of a clip of the how-to world: the piece in whose time it mostly lies.

  Args:
    clip: its id is the video's and a number; `commentary_time` is when its sentence begins.
    truth: of `howto.folder.read_truth`.
  """
  pieces = truth[clip.take]['pieces']
  piece = min(pieces, key=lambda piece: abs(piece['start'] - clip.commentary_time))
  about = frozenset({(piece['fault'], piece['direction'])}) if piece['fault'] else frozenset()
  return Topic(clip.sport, about)
