"""v' = f_v(V) of windows that slide over video files, one after another: a long video takes no more memory than a short
one, and where a feature depends on its own second alone no second is encoded twice.
"""

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from crosstrainer_jax.inference.encoding import make_encode
from crosstrainer_jax.inference.trained import Trained
from crosstrainer_jax.input import examples
from crosstrainer_jax.input.video import Window
from crosstrainer_jax.input.video_stream import stream_windows
from crosstrainer_jax.models.encoders import Encoder


class SeenWindow(NamedTuple):
  """One window as L is given it.

  Attributes:
    features: float16[V, S, D], zero where nothing is seen.
    valid: bool[V, S], False for views that were not given and seconds without a frame.
    missing: the file promises frames of this window that it does not hold.
  """

  features: np.ndarray
  valid: np.ndarray
  missing: bool


class WindowEncoder:
  """The f_v of a finished run, for videos that are new.

  Args:
    encoder: f_v as the model of the run sees with it.
  """

  def __init__(self, trained: Trained, encoder: Encoder):
    self._trained, self._encoder = trained, encoder
    self._encode: Callable[[np.ndarray, np.ndarray], np.ndarray] = make_encode(encoder, trained.mesh)

  def read(
    self, paths: Sequence[Path], spans: Sequence[tuple[float, float]], timing: dict[str, float]
  ) -> Iterator[SeenWindow]:
    """The windows `spans` (begin, end in seconds, in order) of the views `paths`.

    Args:
      timing: seconds spent are added to its 'decode' and 'encode'.
    """
    card, fps = self._trained.card, self._encoder.config.fps
    length = self._encoder.config.frames_per_token if self._encoder.by_second else card.frames
    pieces, rows = _cut(spans, card.frames, fps, length)
    most = self._trained.config.encoder.batch_size if self._encoder.by_second else None
    batch = self._trained.batch_size(len(pieces), most)
    views = [stream_windows(path, pieces, self._trained.frame_size, card.fit) for path in paths]
    decoded = zip(*views, strict=True)
    ready: dict[int, SeenWindow] = {}
    for row in rows:
      while row[-1] not in ready:
        begin = time.monotonic()
        some = list(itertools.islice(decoded, batch))
        frames, times, missing = _stacked(some, (batch, len(paths), length), self._trained.frame_size)
        timing['decode'] += time.monotonic() - begin
        begin, first = time.monotonic(), max(ready, default=-1) + 1
        features = self._encode(frames, times)
        timing['encode'] += time.monotonic() - begin
        for number in range(len(some)):
          seen = examples.valid_tokens(times[number], features.shape[2] // self._encoder.each, self._encoder.each)
          ready[first + number] = SeenWindow(features[number], seen, missing[number])
      yield self._joined([ready[piece] for piece in row])
      # Windows begin in order, so that no later one needs what lies before this one.
      for piece in [piece for piece in ready if piece < row[0]]:
        del ready[piece]

  def _joined(self, pieces: Sequence[SeenWindow]) -> SeenWindow:
    """Pieces that follow each other as one window of all the views and seconds that the model takes."""
    card = self._trained.card
    seen = np.concatenate([piece.valid for piece in pieces], 1)
    valid = np.zeros((card.views, card.seconds * self._encoder.each), bool)
    valid[: len(seen), : seen.shape[1]] = seen
    features = np.zeros((*valid.shape, self._encoder.config.feature_dim), np.float16)
    features[valid] = np.concatenate([piece.features for piece in pieces], 1)[seen]
    return SeenWindow(features, valid, any(piece.missing for piece in pieces))


def _cut(
  spans: Sequence[tuple[float, float]], count: int, fps: int, length: int
) -> tuple[list[list[float]], list[list[int]]]:
  """What is encoded at once: times of the frames of each piece, each piece once; and the pieces of each window.

  Args:
    count: frames of a window.
    length: frames of a piece.
  """
  times: dict[tuple[int, int], list[float]] = {}
  rows = []
  for begin, end in spans:
    wanted = [begin + i / fps for i in range(count) if i == 0 or begin + i / fps < end]
    parts = [wanted[start : start + length] for start in range(0, len(wanted), length)]
    # To the millisecond; the last second of a short video has fewer frames than others.
    rows.append([(round(1000 * part[0]), len(part)) for part in parts])
    for key, part in zip(rows[-1], parts, strict=True):
      times.setdefault(key, part)
  order = {key: number for number, key in enumerate(sorted(times))}
  return [times[key] for key in order], [[order[key] for key in row] for row in rows]


def _stacked(
  pieces: Sequence[tuple[Window, ...]], shape: tuple[int, int, int], size: int
) -> tuple[np.ndarray, np.ndarray, list[bool]]:
  """uint8[N, V, T, H, W, 3] and float32[N, V, T] of pieces [n <= N][V], filled up, and whether one lacks frames."""
  frames, times = np.zeros((*shape, size, size, 3), np.uint8), np.full(shape, np.nan, np.float32)
  for number, views in enumerate(pieces):
    for view, window in enumerate(views):
      shown = len(window.times)
      frames[number, view, :shown], times[number, view, :shown] = window.frames, window.times
  return frames, times, [any(window.missing for window in views) for views in pieces]
