"""How good each gate is where the truth is known: precision and recall on the how-to world, with intervals by video.

A sentence is compared with the piece of the lesson in whose time it mostly lies. Recall of a gate is over what reached
it, so that the gates can be told apart; the last row is the library as a whole.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from crosstrainer_jax.curation import duplicates
from crosstrainer_jax.curation.videos import Segment, Video
from crosstrainer_jax.evaluation.bootstrap import Interval, Statistic, bootstrap, ratio
from crosstrainer_jax.evaluation.report import cell
from crosstrainer_jax.evaluation.table import Footnotes, Table

# Share of time that a sentence and a piece have in common, of all that they cover, to count as the same.
_SAME = 0.5
ROWS = (
  'sentences', 'actionable', 'demonstrated', 'execution: correct', 'execution: incorrect', 'duplicates', 'library',
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Judged:
  """One decision: of which video, what was said, what is true."""

  video: str
  said: bool
  true: bool


class Truth:
  """Collects decisions from videos after the last step; holds numbers alone.

  Args:
    truth: of `howto.folder.read_truth`.
  """

  def __init__(self, truth: Mapping[str, Mapping[str, Any]]):
    self._truth = truth
    self._judged: dict[str, list[Judged]] = {name: [] for name in ROWS}
    # (first lesson, piece) -> clips of it that reached the step `duplicates`: id, kept, what it is said to duplicate
    self._copies: dict[tuple[str, int], list[tuple[str, bool, str]]] = collections.defaultdict(list)
    self._fates: collections.Counter[tuple[str, str]] = collections.Counter()

  def see(self, video: Video) -> None:
    """Counts a video; one that the truth does not know is passed over."""
    about = self._truth.get(video.id)
    if about is None:
      return
    self._fates[about['fate'], video.reason or ('sentences' if video.segments else 'no sentence')] += 1
    if video.dropped or not video.segments:
      return
    pieces = about['pieces']
    matched: set[int] = set()
    for segment in video.segments:
      if segment.spoken[1] <= segment.spoken[0]:
        continue
      piece, shared = _nearest(segment, pieces)
      own = shared >= _SAME and piece['number'] not in matched
      if own:
        matched.add(piece['number'])
      self._add('sentences', video, True, own)
      if shared:
        self._gates(video, segment, piece)
      if own and (segment.kept or segment.dropped == duplicates.NAME):
        first = (about['copy_of'] or video.id, piece['number'])
        self._copies[first].append((video.clip_id(segment), segment.kept, segment.duplicate_of))
    for piece in pieces:
      if piece['number'] not in matched:
        self._add('sentences', video, False, True)

  def _gates(self, video: Video, segment: Segment, piece: Mapping[str, Any]) -> None:
    if segment.actionable and segment.actionable.answer is not None:
      self._add('actionable', video, segment.actionable.answer, piece['actionable'])
    if segment.demonstrated and segment.demonstrated.answer is not None:
      self._add('demonstrated', video, segment.demonstrated.answer, piece['demonstrated'])
      if segment.demonstrated.answer and piece['demonstrated']:
        for kind in ('correct', 'incorrect'):
          self._add(f'execution: {kind}', video, segment.execution == kind, piece['execution'] == kind)
    good = piece['demonstrated'] and piece['actionable']
    said = segment.kept and segment.execution == piece['execution']
    # A copy in its place is as good.
    if segment.dropped != duplicates.NAME:
      self._add('library', video, segment.kept, bool(good and (said or not segment.kept)))
      if good and segment.kept and not said:
        self._add('library', video, False, True)  # shown as what it is not: a clip too many, and one too few

  def _add(self, row: str, video: Video, said: bool, true: bool) -> None:
    self._judged[row].append(Judged(video.id, bool(said), bool(true)))

  def _duplicates(self) -> list[Judged]:
    """Of every group of copies all but one are to be dropped."""
    groups = {clip: first for first, clips in self._copies.items() for clip, _, _ in clips}
    found = []
    for first, clips in self._copies.items():
      due = len(clips) - 1
      for clip, kept, other in sorted(clips):
        right = not kept and groups.get(other) == first
        if not kept:
          found.append(Judged(clip.rpartition('/')[0], True, right))
          due -= right
      found += [Judged(first[0], False, True)] * max(due, 0)
    return found

  def scores(self) -> dict[str, tuple[Interval, Interval, int]]:
    """Row -> precision and recall in %, and how many decisions they are of."""
    self._judged['duplicates'] = self._duplicates()
    found = {}
    for name, judged in self._judged.items():
      videos = [decision.video for decision in judged]
      said = np.array([decision.said for decision in judged], float)
      true = np.array([decision.true for decision in judged], float)
      counted = np.ones(len(judged), bool)
      both = said * true
      precision, recall = (
        bootstrap(Statistic(np.stack([both, whole], 1).reshape(-1, 2), counted, _percent), videos)
        for whole in (said, true)
      )
      found[name] = precision, recall, len(judged)
    return found

  def tables(self) -> tuple[list[Table], Footnotes]:
    """Precision and recall of the gates, and what became of videos by their fate."""
    footnotes = Footnotes()
    rows = [
      (name, [cell(precision, footnotes, 1), cell(recall, footnotes, 1), str(count)])
      for name, (precision, recall, count) in self.scores().items()
    ]
    fates = [
      (f'{fate}: {reason}', [str(count)])
      for (fate, reason), count in sorted(self._fates.items(), key=lambda entry: (entry[0][0] != 'whole', entry[0]))
    ]
    return [
      Table('Against the truth, in %', ['precision', 'recall', 'decisions'], rows),
      Table('What videos are, and what became of them', ['videos'], fates),
    ], footnotes


def of(videos: Iterable[Video], truth: Mapping[str, Mapping[str, Any]]) -> Truth:
  """The scores of videos after the last step."""
  found = Truth(truth)
  for video in videos:
    found.see(video)
  return found


def _percent(sums: np.ndarray) -> np.ndarray:
  return 100 * ratio(sums[..., 0], sums[..., 1])


def _nearest(segment: Segment, pieces: Sequence[Mapping[str, Any]]) -> tuple[Mapping[str, Any], float]:
  """The piece that shares the most time with a sentence, and intersection over union of both."""
  start, end = segment.spoken

  def common(piece: Mapping[str, Any]) -> float:
    return max(0.0, min(end, piece['end']) - max(start, piece['start']))

  piece = max(pieces, key=common)
  return piece, common(piece) / (max(end, piece['end']) - min(start, piece['start']))
