"""The step `window`: which seconds a clip shows, and what can be said of its frames without understanding them.

[O] The window is the sentence with some seconds before and after it. Of eight frames, evenly drawn, a perceptual hash
each (Zauner 2010: signs of the low frequencies of a cosine transform) serves to find duplicates, and the motion, once
the shake of the camera is taken away, tells a demonstration from a card with words.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import cv2
import numpy as np
import scipy.fft

from crosstrainer_jax.curation.videos import Segment, Video
from crosstrainer_jax.datasets.manifest.rows import resolve
from crosstrainer_jax.input import video

NAME = 'window'
FRAMES = 8
OUTSIDE = 'outside of the video'
UNSEEN = 'its frames cannot be decoded'
_PIXELS, _LOW = 64, 8
# Grey levels of spread below which a frame is blank.
_BLANK = 4.0


@dataclasses.dataclass(frozen=True)
class Windows:
  """Seconds before and after a sentence; a window is never longer than `longest`, nor shorter than `shortest`."""

  before: float = 0.5
  after: float = 1.0
  longest: float = 10.0
  shortest: float = 2.0

  def __post_init__(self) -> None:
    if min(self.before, self.after) < 0 or not 0 < self.shortest <= self.longest:
      raise ValueError(
        f'--before {self.before:g} and --after {self.after:g} are seconds from 0 on, and --longest {self.longest:g} is '
        f'at least --shortest {self.shortest:g}, which is above 0'
      )

  def around(self, spoken: tuple[float, float], duration: float) -> tuple[float, float] | None:
    """[start, end] in the video; None where the sentence lies outside."""
    start, end = spoken[0] - self.before, spoken[1] + self.after
    if end - start > self.longest:
      end = start + self.longest
    if end - start < self.shortest:
      start, end = (start + end - self.shortest) / 2, (start + end + self.shortest) / 2
    # What the ends of the video cut off is added at the other side.
    end = min(max(end, end - start), duration) if start < 0 else min(end, duration)
    start = max(0.0, min(start, duration - self.shortest))
    return (round(start, 3), round(end, 3)) if spoken[0] < duration and end - start > 0.25 else None


@dataclasses.dataclass
class Look:
  """The step."""

  root: str
  windows: Windows
  name: str = NAME
  workers: int = 0

  def identity(self) -> dict[str, Any]:
    return {**dataclasses.asdict(self.windows), 'root': self.root, 'frames': FRAMES, 'version': 1}

  def apply(self, item: Video) -> Video:
    """Windows, hashes and motion of the segments that are alive."""
    seen: list[Segment] = []
    for segment in item.alive():
      segment.window = self.windows.around(segment.spoken, item.duration or 0.0)
      if segment.window is None:
        segment.drop(self.name, OUTSIDE)
      else:
        seen.append(segment)
    if not seen:
      return item
    times = [times_of(segment) for segment in seen]
    try:
      shown = video.read_windows(resolve(self.root, item.path), times, _PIXELS, threads=1)
    except (video.VideoError, ValueError) as error:
      for segment in seen:
        segment.drop(self.name, getattr(error, 'reason', UNSEEN), str(error))
      return item
    for segment, window in zip(seen, shown, strict=True):
      there = np.isfinite(window.times)
      if window.missing or there.sum() < FRAMES // 2:
        segment.drop(self.name, UNSEEN, f'{there.sum()} of {FRAMES} frames')
        continue
      grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in window.frames[there]]
      segment.hashes = [perceptual_hash(frame) for frame in grey]
      segment.motion = round(motion(grey), 2)
    return item


def times_of(segment: Segment) -> list[float]:
  """Times of the frames by which a segment is judged, in seconds: the middles of as many equal parts of its window."""
  assert segment.window is not None
  start, end = segment.window
  return [start + (end - start) * (place + 0.5) / FRAMES for place in range(FRAMES)]


def perceptual_hash(grey: np.ndarray) -> str:
  """64 bits as 16 hexadecimal digits of a picture uint8[H, W]; '' for one that is nearly blank."""
  if grey.std() < _BLANK:
    return ''
  small = cv2.resize(grey, (32, 32), interpolation=cv2.INTER_AREA).astype(np.float32)
  low = scipy.fft.dctn(small)[:_LOW, :_LOW].ravel()
  bits = low > np.median(low[1:])
  return np.packbits(bits).tobytes().hex()


def motion(frames: list[np.ndarray]) -> float:
  """Mean change of grey between following frames uint8[H, W], after the shift that fits them best is undone."""
  changes = []
  for first, second in zip(frames[:-1], frames[1:], strict=True):
    one, other = first.astype(np.float32), second.astype(np.float32)
    (x, y), _ = cv2.phaseCorrelate(one, other)
    if max(abs(x), abs(y)) > 4:  # a cut or a wild guess, and no shake
      x = y = 0.0
    shift = np.array([[1, 0, -x], [0, 1, -y]], np.float32)
    moved = cv2.warpAffine(other, shift, other.shape[::-1], flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    changes.append(min(float(np.abs(moved - one).mean()), float(np.abs(other - one).mean())))
  return float(np.mean(changes)) if changes else 0.0
