"""The gates: `actionable` reads a sentence [P], `demonstrated` looks at eight frames as well [P; their number is ours].

A gate is offline rules (`rules.py`) or a language model, behind a server or on this machine; what a model has answered
is kept by hash of model, prompt, words and frames, so that nothing is asked twice.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from crosstrainer_jax.curation import look, prompts, rules
from crosstrainer_jax.curation.videos import Execution, Segment, Verdict, Video
from crosstrainer_jax.datasets.manifest.rows import resolve
from crosstrainer_jax.discovery.asking import Asker
from crosstrainer_jax.discovery.language_model import Answer, Unreadable
from crosstrainer_jax.inference.zero_shot import jpeg
from crosstrainer_jax.input import video

ACTIONABLE, DEMONSTRATED = 'actionable', 'demonstrated'
# What the second of them says beside its verdict.
EXECUTION = 'execution'
# What people can be asked to judge.
JUDGED = (ACTIONABLE, DEMONSTRATED, EXECUTION)
NOT_ACTIONABLE, NOT_SHOWN = 'not actionable', 'not demonstrated'
UNANSWERED = 'the gate has no answer that can be read'
_EXECUTIONS: tuple[Execution, ...] = ('correct', 'incorrect', 'none')


def fingerprint(asker: Asker | None, prompt: str) -> str:
  """Whose verdicts they are."""
  return f'{asker.model.name}:{prompts.load(prompt).sha}' if asker else rules.BY


def identity_of(asker: Asker | None, prompt: str) -> dict[str, Any]:
  """What decides the verdicts beside the video."""
  sampling = dataclasses.asdict(asker.model.sampling) if asker else {}
  return {'by': fingerprint(asker, prompt), **sampling}


@dataclasses.dataclass
class Actionable:
  """The step that drops sentences from which nobody learns.

  Attributes:
    asker: of the language model; None for the rules.
  """

  asker: Asker | None = None
  name: str = ACTIONABLE

  @property
  def workers(self) -> int:
    return self.asker.model.concurrency if self.asker else 0

  def identity(self) -> dict[str, Any]:
    return identity_of(self.asker, self.name)

  def apply(self, item: Video) -> Video:
    """The video with a verdict on each segment that is alive."""
    segments = item.alive()
    for segment, verdict in zip(segments, self._verdicts(item, segments), strict=True):
      segment.actionable = verdict
      _conclude(item, segment, verdict, self.name, NOT_ACTIONABLE)
    return item

  def _verdicts(self, item: Video, segments: Sequence[Segment]) -> list[Verdict]:
    if self.asker is None:
      return [rules.actionable(segment.narration) for segment in segments]
    prompt, by = prompts.load(self.name), fingerprint(self.asker, self.name)
    questions = [prompt.filled(narration=segment.narration, sport=item.sport, skill=item.skill) for segment in segments]
    size = max(1, self.asker.model.group)
    verdicts = []
    for begin in range(0, len(questions), size):
      for answer in self.asker.ask(questions[begin : begin + size], read_actionable):
        verdicts.append(_unread(item, answer, by) if isinstance(answer, Unreadable) else Verdict(*answer, by))
    return verdicts


@dataclasses.dataclass
class Demonstrated:
  """The step that drops what is not shown, and tells whether it is shown right or wrong.

  Attributes:
    asker: of a model that sees images; None for the rules.
    pixels: height and width of the frames, at most.
  """

  root: str
  asker: Asker | None = None
  pixels: int = 336
  name: str = DEMONSTRATED

  @property
  def workers(self) -> int:
    return self.asker.model.concurrency if self.asker else 0

  def identity(self) -> dict[str, Any]:
    by = identity_of(self.asker, self.name)
    return by | {'root': self.root, 'pixels': self.pixels, 'frames': look.FRAMES} if self.asker else by

  def apply(self, item: Video) -> Video:
    """The video with a verdict and an execution for each segment that is alive."""
    segments = item.alive()
    if self.asker is None:
      verdicts = [rules.demonstrated(segment) for segment in segments]
    else:
      verdicts = self._ask(item, segments)
    for segment, (verdict, execution) in zip(segments, verdicts, strict=True):
      segment.demonstrated, segment.execution = verdict, execution
      _conclude(item, segment, verdict, self.name, NOT_SHOWN)
    return item

  def _ask(self, item: Video, segments: Sequence[Segment]) -> list[tuple[Verdict, Execution]]:
    assert self.asker is not None
    prompt, by = prompts.load(self.name), fingerprint(self.asker, self.name)
    found: list[tuple[Verdict, Execution]] = []
    # A few at a time, so that a long video's pictures are not all in memory.
    size = max(1, self.asker.model.group)
    for begin in range(0, len(segments), size):
      group = segments[begin : begin + size]
      try:
        shown = video.read_windows(
          resolve(self.root, item.path), [look.times_of(segment) for segment in group], self.pixels, threads=1
        )
      except (video.VideoError, ValueError) as error:
        found += [(Verdict(None, str(error), by), '') for _ in group]
        continue
      questions = [
        prompt.filled(
          [jpeg(frame, self.pixels) for frame in window.frames[np.isfinite(window.times)]],
          narration=segment.narration, sport=item.sport, skill=item.skill,
        ) for segment, window in zip(group, shown, strict=True)
      ]  # fmt: skip
      for answer in self.asker.ask(questions, read_demonstrated):
        if isinstance(answer, Unreadable):
          found.append((_unread(item, answer, by), ''))
        else:
          shown_, execution, why = answer
          found.append((Verdict(shown_, why, by), execution))
    return found


def read_actionable(answer: Answer) -> tuple[bool, str]:
  """Verdict and reason of an answer. Raises Unreadable."""
  text = prompts.plain(answer)
  return prompts.field(text, 'actionable', ('yes', 'no')) == 'yes', prompts.reason(text)


def read_demonstrated(answer: Answer) -> tuple[bool, Execution, str]:
  """Verdict, execution and reason of an answer; what is not shown has no execution. Raises Unreadable."""
  text = prompts.plain(answer)
  if prompts.field(text, 'demonstrated', ('yes', 'no')) == 'no':
    return False, 'none', prompts.reason(text)
  execution = prompts.field(text, 'execution', _EXECUTIONS)
  if execution == 'none':
    raise Unreadable('it is demonstrated, and neither correct nor incorrect')
  return True, execution, prompts.reason(text)  # type: ignore[return-value]


def _unread(item: Video, answer: Unreadable, by: str) -> Verdict:
  """No verdict; the next run asks again, but for an answer that is there and cannot be read."""
  item.unanswered += not answer.answered
  return Verdict(None, str(answer), by)


def _conclude(item: Video, segment: Segment, verdict: Verdict, step: str, reason: str) -> None:
  if verdict.answer is None:
    segment.drop(step, UNANSWERED, verdict.reason)
  elif not verdict.answer:
    segment.drop(step, reason, verdict.reason)
