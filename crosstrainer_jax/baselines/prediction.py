"""What a row of the table says of a clip (`Prediction`), and what is known of the clip (`Reference`).

They lie here, and not in `evaluation/`, because rooms import in one direction only and the baselines make predictions.
`evaluation.predictions` hands them on, and reads and writes them.
"""

from __future__ import annotations

import dataclasses

from crosstrainer_jax.input.record import Clip
from crosstrainer_jax.input.source import ClipInfo


@dataclasses.dataclass(frozen=True)
class Prediction:
  """One row's answer for one clip.

  A field is None when the row does not say it. Where other clips of the same row have the field, None means that the
  output could not be read, and counts as wrong.
  """

  clip_id: str
  take: str
  sport: str
  skill: str
  attributes: list[str] | None = None  # what is done incorrectly
  feedback: str | None = None
  level: int | None = None  # index into record.LEVELS
  scores: dict[str, float] | None = None  # a probability for each attribute, where the row has one


@dataclasses.dataclass(frozen=True)
class Reference:
  """What is known of one clip."""

  clip_id: str
  take: str
  sport: str
  skill: str
  participant: str
  attributes: list[str]  # incorrect ones, discovered in the commentary
  faults: list[str] | None  # truly present; None where nobody knows
  commentary: str  # "" where nobody spoke
  level: int = -1  # index into record.LEVELS, -1 when unknown
  prefix: str = ''  # fixed words that the dataset's own files put before the answer

  @classmethod
  def from_clip(cls, clip: Clip | ClipInfo) -> Reference:
    return cls(
      clip_id=clip.clip_id,
      take=clip.take,
      sport=clip.sport,
      skill=clip.skill,
      participant=clip.participant,
      attributes=list(clip.incorrect),
      faults=list(clip.faults) if clip.has_faults else None,
      commentary=clip.commentary,
      level=clip.proficiency,
      prefix=clip.prefix,
    )

  def answer(
    self,
    attributes: list[str] | None = None,
    feedback: str | None = None,
    level: int | None = None,
    scores: dict[str, float] | None = None,
  ) -> Prediction:
    """The prediction that says this of this clip."""
    return Prediction(self.clip_id, self.take, self.sport, self.skill, attributes, feedback, level, scores)
