"""Which clips a manifest makes: windows around comments, sliding windows where there are none, and the split of each.

A clip covers [t - mu1, t + mu2] around a comment's time t (the paper, section 4.1), cut to the video.
"""

import dataclasses
import hashlib
import math
import os
import pathlib
from collections import Counter
from collections.abc import Mapping, Sequence

from crosstrainer_jax.datasets.manifest import rows as manifest_rows
from crosstrainer_jax.datasets.manifest.rows import Row
from crosstrainer_jax.input import captions, video

OUTSIDE = 'comment outside the video'
SILENT = 'no comment in its captions'
# Seconds by which times of one moment may differ.
MARGIN = 1e-3


@dataclasses.dataclass(frozen=True)
class Sampling:
  """How clips are cut: seconds before and after the comment, frames per second, pixels, fit, stride of windows."""

  mu1: float = 5.0
  mu2: float = 5.0
  fps: float = 4.0
  size: int = 64
  fit: video.Fit = 'letterbox'
  stride: float = 0.0  # 0: the windows' length, so that they do not overlap
  whole_seconds: bool = False  # windows begin at whole seconds, so that they share the seconds that they share

  def __post_init__(self) -> None:
    if not (self.mu1 >= 0 and self.mu2 >= 0 and self.length > 0 and math.isfinite(self.length)):
      raise ValueError(f'mu1 {self.mu1} and mu2 {self.mu2} must be seconds from 0 on, and not both 0')
    if not (self.fps > 0 and self.frames >= 1):
      raise ValueError(f'fps {self.fps} gives no frame in {self.length:g} s; raise fps or mu1 + mu2')
    if self.size < 8:
      raise ValueError(f'size {self.size} must be at least 8 pixels')
    if self.fit not in ('letterbox', 'crop'):
      raise ValueError(f"fit {self.fit!r} must be 'letterbox' or 'crop'")
    if self.stride < 0:
      raise ValueError(f'stride {self.stride} must be seconds from 0 on')

  @property
  def length(self) -> float:
    """Seconds of a window."""
    return self.mu1 + self.mu2

  @property
  def frames(self) -> int:
    """T, the frames of a clip."""
    return round(self.length * self.fps)

  def times(self, start: float, end: float) -> list[float]:
    """The times of a window, at most T: one that the video's ends cut short has fewer, the rest is padding."""
    times = [start + i / self.fps for i in range(self.frames)]
    return [t for t in times if t < end - MARGIN] or times[:1]


@dataclasses.dataclass(frozen=True)
class Segment:
  """One clip to be: its window [start, end] and comment, in seconds of the recording."""

  clip_id: str
  row: Row
  start: float
  end: float
  commentary: str
  time: float  # NaN without commentary

  def times(self, sampling: Sampling) -> list[float]:
    """The times asked for."""
    return sampling.times(self.start, self.end)


@dataclasses.dataclass
class Skip:
  """Something that made no clip: where in the manifest, which file, the reason to count by, and detail."""

  line: int
  path: str
  reason: str
  detail: str = ''


def cut(
  rows: Sequence[Row], durations: Mapping[tuple[str, ...], float], sampling: Sampling, root: str | os.PathLike[str]
) -> tuple[list[Segment], list[Skip], Counter[str]]:
  """Segments of all rows whose recording has a duration (the longest view, seconds); skips; counts of notes to print.

  Raises ManifestError where a row does not fit the sampling, or its captions cannot be read.
  """
  segments: list[Segment] = []
  skips: list[Skip] = []
  notes: Counter[str] = Counter()
  problems: list[str] = []
  taken: Counter[str] = Counter()
  for row in rows:
    if row.videos not in durations:
      continue
    duration = durations[row.videos]
    try:
      comments = _comments(row, sampling, duration, root, notes)
    except (ValueError, FileNotFoundError) as error:
      problems.append(f'line {row.line}: {error}')
      continue
    if not comments:
      skips.append(Skip(row.line, row.videos[0], SILENT, row.captions))
    for start, end, text, time in comments:
      inside = min(duration, end) - max(0.0, start)
      if inside <= MARGIN or (math.isfinite(time) and time > duration + MARGIN):
        skips.append(Skip(row.line, row.videos[0], OUTSIDE, f'{start:.2f}–{end:.2f} s of {duration:.2f} s'))
        continue
      start, end = max(0.0, start), min(duration, end)
      if sampling.whole_seconds:
        start = math.floor(start + MARGIN)
        end = min(duration, start + sampling.length)
      name = f'{row.participant}/{row.take}/{start:.3f}'
      taken[name] += 1
      clip_id = name if taken[name] == 1 else f'{name}#{taken[name]}'
      segments.append(Segment(clip_id, row, start, end, text, time))
  if problems:
    raise manifest_rows.ManifestError('\n'.join(problems))
  return segments, skips, notes


def _comments(
  row: Row, sampling: Sampling, duration: float, root: str | os.PathLike[str], notes: Counter[str]
) -> list[tuple[float, float, str, float]]:
  """(start, end, commentary, time) of each clip of a row, not yet cut to the video."""
  if row.captions:
    spoken = captions.read_captions(manifest_rows.resolve(root, row.captions))
    notes['malformed captions dropped'] += spoken.malformed
    notes['repeated captions merged'] += spoken.repeated
    first, last = row.start or 0.0, math.inf if row.end is None else row.end
    said = [s for s in captions.sentences(spoken.cues) if first <= s.start <= last]
    return [(s.start - sampling.mu1, s.start + sampling.mu2, s.text, s.start) for s in said]
  if row.time is not None:
    time = row.time if row.commentary else math.nan
    return [(row.time - sampling.mu1, row.time + sampling.mu2, row.commentary, time)]
  start, end = row.start or 0.0, duration if row.end is None else row.end
  single = end - start <= sampling.length + MARGIN
  if row.commentary:
    if not single:
      fix = f'longer than mu1 + mu2 = {sampling.length:g} s; raise mu1 or mu2, or give time instead of start and end'
      raise ValueError(f"field 'end': the segment of {end - start:g} s is {fix}")
    return [(start, end, row.commentary, (start + end) / 2)]
  if row.faults is not None and not single:
    fix = f'give time, or start and end at most {sampling.length:g} s apart'
    raise ValueError(f"field 'faults': labels belong to one clip, and this row makes several; {fix}")
  stride = sampling.stride or sampling.length
  inner = video.sliding_windows(min(end, duration) - start, sampling.length, stride)
  return [(start + a, start + b, '', math.nan) for a, b in inner] or [(start, end, '', math.nan)]


def assign_splits(rows: Sequence[Row], test_fraction: float, seed: int) -> dict[str, str]:
  """Participant → split. The manifest's split stands; of the others, shuffled by `seed`, a `test_fraction` is 'test'.

  The rest is 'train', a single participant included; with two or more, at least one is tested. Participants who share
  a video stay together, since a split must not cut through a recording.
  """
  if not 0 <= test_fraction < 1:
    raise ValueError(f'test_fraction {test_fraction} must be from 0 to below 1')
  groups = _sharing_videos(rows)
  given = {row.participant: row.split for row in rows if row.split}
  splits: dict[str, str] = {}
  free = []
  for group in groups:
    named = next((given[name] for name in group if name in given), '')
    if named:
      splits |= dict.fromkeys(group, named)
    else:
      free.append(group)
  free.sort(key=lambda group: hashlib.sha256(f'{seed}/{group[0]}'.encode()).digest())
  tested = min(round(test_fraction * len(free)), len(free) - 1)
  if test_fraction and len(free) > 1:
    tested = max(tested, 1)
  for i, group in enumerate(free):
    splits |= dict.fromkeys(group, 'test' if i < tested else 'train')
  return splits


def _sharing_videos(rows: Sequence[Row]) -> list[list[str]]:
  """Participants in groups, sorted: two are in one group where a chain of common videos links them."""
  group_of: dict[str, set[str]] = {}
  holders: dict[str, str] = {}
  for row in rows:
    own = group_of.setdefault(row.participant, {row.participant})
    for path in row.videos:
      other = group_of[holders.setdefault(path, row.participant)]
      if other is not own:
        own |= other
        group_of |= dict.fromkeys(other, own)
  return sorted(sorted(group) for group in {id(group): group for group in group_of.values()}.values())


def provenance(row: Row) -> str:
  """What the record says of its source: the row's own words, or the paths."""
  return row.provenance or ';'.join(pathlib.PurePosixPath(v).as_posix() for v in row.videos)
