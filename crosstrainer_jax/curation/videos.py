"""What curation knows of a video and of every sentence in it: one line of JSON, which each step hands on to the next.

A step adds what it has found. What it drops stays in the line, with the step and a reason, so that the manifest tells
of every sentence that was ever read why it is in the library or not.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from typing import Any, Literal

Execution = Literal['', 'correct', 'incorrect', 'none']


@dataclasses.dataclass
class Verdict:
  """What a gate says of a segment.

  Attributes:
    answer: None where it could not be read.
    reason: in its words, or why there is no answer.
    by: fingerprint of the gate: rules, or a model with its prompt.
  """

  answer: bool | None
  reason: str
  by: str


@dataclasses.dataclass
class Segment:
  """A sentence and the window around it; times in seconds of the video.

  Attributes:
    number: of the sentence in its video.
    spoken: when it is said.
    confidence: of the recogniser, from 0 to 1; None where unknown.
    window: what the clip shows.
    execution: how the skill is shown: '' before the gate, 'none' where it is not shown.
    hashes: perceptual hashes of frames of the window, evenly drawn; '' for a frame without any pattern.
    motion: how much moves in the window, once the shake of the camera is taken away (`look.motion`); None: not looked.
    duplicate_of: clip id of the nearest earlier one, which may duplicate another in its turn.
    dropped: the step that dropped it, '' for none; `reason` says why, in words to count by, `detail` more exactly.
  """

  number: int
  narration: str
  spoken: tuple[float, float]
  confidence: float | None = None
  window: tuple[float, float] | None = None
  actionable: Verdict | None = None
  demonstrated: Verdict | None = None
  execution: Execution = ''
  hashes: list[str] = dataclasses.field(default_factory=list)
  motion: float | None = None
  duplicate_of: str = ''
  dropped: str = ''
  reason: str = ''
  detail: str = ''

  def drop(self, step: str, reason: str, detail: str = '') -> None:
    self.dropped, self.reason, self.detail = step, reason, detail

  @property
  def kept(self) -> bool:
    return not self.dropped


@dataclasses.dataclass
class Video:
  """A video of the folder, or one that should be there.

  Attributes:
    id: the site's; unique.
    path: of its video file, relative to the root; '' without one.
    files: what else belongs to it: 'stem', 'info' and 'whisper' (paths, '' for none), 'captions' ([path, language]).
    stamp: size and time of change of its files: when it is another, the video is worked on anew.
    query: the search that found it; '' where unknown.
    availability: as the site said, for example `public` or `private`; '' where unknown.
    last_seen: ISO date on which its files were written or its address answered.
    spoken_by: the captions that its sentences are from.
    dropped, reason, detail: as of a segment, for a video without any.
    unanswered: questions of this step that nobody answered: the next run asks them again.
  """

  id: str
  path: str
  files: dict[str, Any]
  stamp: str
  url: str = ''
  title: str = ''
  channel: str = ''
  sport: str = ''
  skill: str = ''
  query: str = ''
  licence: str = ''
  availability: str = ''
  last_seen: str = ''
  language: str = ''
  duration: float | None = None
  spoken_by: str = ''
  segments: list[Segment] = dataclasses.field(default_factory=list)
  dropped: str = ''
  reason: str = ''
  detail: str = ''
  unanswered: int = 0

  def drop(self, step: str, reason: str, detail: str = '') -> None:
    self.dropped, self.reason, self.detail = step, reason, detail

  def alive(self) -> list[Segment]:
    """The segments that no step has dropped."""
    return [] if self.dropped else [segment for segment in self.segments if segment.kept]

  def clip_id(self, segment: Segment) -> str:
    return f'{self.id}/{segment.number:04d}'

  def to_json(self) -> str:
    return json.dumps(dataclasses.asdict(self), ensure_ascii=False, sort_keys=True)

  @classmethod
  def from_json(cls, line: str) -> Video:
    """Inverse of `to_json`."""
    content = json.loads(line)
    segments = [_segment(values) for values in content.pop('segments')]
    return cls(**content, segments=segments)


def _segment(values: dict[str, Any]) -> Segment:
  for gate in ('actionable', 'demonstrated'):
    values[gate] = values[gate] and Verdict(**values[gate])
  values['spoken'] = tuple(values['spoken'])
  values['window'] = values['window'] and tuple(values['window'])
  return Segment(**values)


def read(lines: Iterator[str]) -> Iterator[Video]:
  """Videos of lines that `to_json` wrote."""
  return (Video.from_json(line) for line in lines if line.strip())
