"""What human judges see of a clip: all its views in motion, and a strip of frames beside it."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from crosstrainer_jax.input import video
from crosstrainer_jax.input.source import ClipSource

# Pixels of the height of a picture, and frames of a strip.
HEIGHT, STRIP = 160, 8
# Of a video: frames shown in a second, and pixels of its longer side.
FPS, PIXELS = 8.0, 320


@dataclasses.dataclass(frozen=True)
class Picture:
  """Frames uint8[V, T, H, W, 3] of all views, and the milliseconds that each is shown."""

  frames: np.ndarray
  milliseconds: int

  def moving(self) -> bytes:
    """An animated WebP, views side by side."""
    pictures = [_sized(np.concatenate(list(self.frames[:, t]), axis=1)) for t in range(self.frames.shape[1])]
    stream = io.BytesIO()
    pictures[0].save(
      stream, 'WEBP', save_all=True, append_images=pictures[1:], duration=self.milliseconds, loop=0, quality=70
    )
    return stream.getvalue()

  def strip(self) -> bytes:
    """A JPEG of frames of the first view, evenly drawn, from left to right."""
    view = self.frames[0]
    chosen = np.unique(np.linspace(0, len(view) - 1, min(STRIP, len(view))).round().astype(int))
    stream = io.BytesIO()
    _sized(np.concatenate([view[t] for t in chosen], axis=1), HEIGHT * 3 // 4).save(stream, 'JPEG', quality=80)
    return stream.getvalue()

  def encoded(self) -> Encoded:
    """What people see of it, without its frames, of which hundreds do not fit into memory."""
    return Encoded(self.moving(), self.strip())


@dataclasses.dataclass(frozen=True)
class Encoded:
  """A picture as the bytes of its files."""

  webp: bytes
  jpeg: bytes

  def moving(self) -> bytes:
    """An animated WebP, views side by side."""
    return self.webp

  def strip(self) -> bytes:
    """A JPEG of frames of the first view, evenly drawn, from left to right."""
    return self.jpeg


class ClipPictures(Mapping[str, Picture]):
  """Id → picture of the clips of a dataset, each read when it is asked for."""

  def __init__(self, source: ClipSource):
    self._source = source
    self._places = {info.clip_id: place for place, info in enumerate(source.infos())}

  def __getitem__(self, clip_id: str) -> Picture:
    """Raises ValueError where the dataset keeps no frames."""
    clip, directory = self._source[self._places[clip_id]], self._source.directory
    if not clip.frames.size:
      raise ValueError(f'{directory} keeps no frames, only features: there is nothing for people to look at')
    real = np.isfinite(clip.frame_times)
    views = np.flatnonzero(real.any(1))
    if not len(views):
      raise ValueError(f'{directory}: the clip {clip.clip_id!r} has no frame')
    shown = int(real[views].sum(1).max())  # what pads a view comes last
    steps = np.diff(clip.frame_times[views[0]][real[views[0]]])
    milliseconds = max(20, round(1000 * float(np.median(steps)))) if len(steps) else 250
    return Picture(clip.frames[views, :shown], milliseconds)

  def __iter__(self) -> Iterator[str]:
    return iter(self._places)

  def __len__(self) -> int:
    return len(self._places)


@dataclasses.dataclass(frozen=True)
class Window:
  """A piece of a video file, from `begin` to `end` in seconds."""

  path: Path
  begin: float
  end: float


class VideoPictures(Mapping[str, Picture]):
  """Id → picture of windows of video files, each decoded when it is asked for."""

  def __init__(self, windows: Mapping[str, Window]):
    self._windows = windows

  def __getitem__(self, clip_id: str) -> Picture:
    """Raises VideoError: the file cannot be read, or not so far."""
    window = self._windows[clip_id]
    info = video.probe(window.path)
    times = np.arange(window.begin, min(window.end, info.duration), 1 / FPS)
    if not len(times):
      raise video.VideoError(window.path, video.TRUNCATED, f'it ends at {info.duration:.1f} s')
    frames = video.read_frames(window.path, times.tolist(), PIXELS)
    # without the bars that make it square
    height, width = (max(1, round(PIXELS * side / max(info.height, info.width))) for side in (info.height, info.width))
    top, left = (PIXELS - height) // 2, (PIXELS - width) // 2
    return Picture(frames[None, :, top : top + height, left : left + width], round(1000 / FPS))

  def __iter__(self) -> Iterator[str]:
    return iter(self._windows)

  def __len__(self) -> int:
    return len(self._windows)


def _sized(pixels: np.ndarray, height: int = HEIGHT) -> Image.Image:
  """A picture of that height: small ones are enlarged, large ones made smaller."""
  image = Image.fromarray(pixels)
  size = round(image.width * height / image.height), height
  return image.resize(size, Image.Resampling.BICUBIC)
