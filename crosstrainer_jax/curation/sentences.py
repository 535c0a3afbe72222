"""The step `sentences`: what is said in a video, sentence by sentence, with its times."""

from __future__ import annotations

import dataclasses
from typing import Any

from crosstrainer_jax.curation import prompts, punctuation
from crosstrainer_jax.curation.scan import download_of
from crosstrainer_jax.curation.videos import Segment, Video
from crosstrainer_jax.datasets.manifest.rows import resolve
from crosstrainer_jax.datasets.takes.take import Loss
from crosstrainer_jax.datasets.youtube import transcript
from crosstrainer_jax.datasets.youtube.folder import read_info
from crosstrainer_jax.discovery.asking import Asker
from crosstrainer_jax.input import captions, video
from crosstrainer_jax.input.cues import Cue

NAME = 'sentences'
# Words below which nothing is said that a clip could be found by.
FEWEST_WORDS = 3
TOO_SHORT = 'fewer than three words'
MUSIC = 'nothing but music or sounds'
# What a video without a usable caption is lost for, most telling reason first.
_REASONS = (
  transcript.OVERRUN, transcript.DRIFT, transcript.OTHER_WORDS, transcript.TRANSLATED, transcript.OTHER_LANGUAGE,
  transcript.UNREADABLE, transcript.SILENT, transcript.NO_CAPTIONS, transcript.UNUSABLE,
)  # fmt: skip


@dataclasses.dataclass
class Sentences:
  """The step.

  Attributes:
    limits: what captions must keep to.
    asker: of the language model that puts in full stops; None for rules.
  """

  root: str
  limits: transcript.Limits
  asker: Asker | None = None
  name: str = NAME

  @property
  def workers(self) -> int:
    """Videos at a time; 0: as many as there are cores."""
    return self.asker.model.concurrency if self.asker else 0

  def identity(self) -> dict[str, Any]:
    by = f'{self.asker.model.name}:{prompts.load("punctuate").sha}' if self.asker else punctuation.BY
    sampling = dataclasses.asdict(self.asker.model.sampling) if self.asker else {}
    return {**dataclasses.asdict(self.limits), 'root': self.root, 'punctuation': by, **sampling}

  def apply(self, item: Video) -> Video:
    """The video with its segments, or dropped with a reason."""
    if item.dropped:
      return item
    lost: list[Loss] = []
    download = download_of(item)
    try:
      length = video.probe(resolve(self.root, item.path)).duration
    except (video.VideoError, ValueError, OSError) as error:
      item.drop(self.name, getattr(error, 'reason', 'its files cannot be read'), str(error))
      return item
    try:
      info = read_info(self.root, download.info) if download.info else {}
    except (ValueError, OSError):  # the scan has noted it, and what can be known without it is enough
      info = {}
    # The file is what will be cut, whatever the site says of it.
    item.duration = length
    # What is too unsure is dropped here, where it stays in the account.
    limits = dataclasses.replace(self.limits, min_confidence=0.0)
    said = transcript.transcript(
      download,
      {**info, 'duration': length},
      item.id,
      self.root,
      limits,
      lost.append,
      lambda c: self._split(item, c),
    )
    if said is None:
      reasons = {loss.reason for loss in lost}
      reason = next((reason for reason in _REASONS if reason in reasons), transcript.UNUSABLE)
      music = reason == transcript.SILENT and transcript.SOUND in reasons
      item.drop(self.name, MUSIC if music else reason)
      return item
    item.spoken_by = said.path
    for number, cue in enumerate(said.sentences):
      segment = Segment(number, cue.text, (round(cue.start, 3), round(cue.end, 3)), _rounded(cue.confidence))
      if cue.confidence is not None and cue.confidence < self.limits.min_confidence:
        segment.drop(self.name, transcript.UNSURE, f'{cue.confidence:.2f}')
      elif len(cue.text.split()) < FEWEST_WORDS:
        segment.drop(self.name, TOO_SHORT)
      item.segments.append(segment)
    return item

  def _split(self, item: Video, cues: list[Cue]) -> list[Cue]:
    if punctuation.has_full_stops(cues):
      return captions.sentences(cues)
    if self.asker is None:
      return punctuation.restore(cues)
    found, unread = punctuation.restore_by_model(cues, self.asker)
    item.unanswered += bool(unread)
    return found


def _rounded(confidence: float | None) -> float | None:
  return None if confidence is None else round(confidence, 3)
