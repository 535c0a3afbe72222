"""Frames out of video files: by time, in one pass, upright, small.

Times are seconds since the start of the file as a player shows them (the container's start time is 0), so they agree
with the times of a voice-over of the same file. Frames are picked by presentation time stamp, so variable frame rates
need no special case.
"""

import bisect
import contextlib
import dataclasses
import math
import os
import pathlib
import re
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Any, Literal, NamedTuple, cast

import av
import numpy as np
from av.sidedata import sidedata
from av.video.reformatter import VideoReformatter

Fit = Literal['letterbox', 'crop']
Path = str | os.PathLike[str]

# Reasons of a VideoError: few and fixed, so that an importer can count by them.
MISSING = 'missing'
EMPTY = 'empty file'
NOT_A_VIDEO = 'not a video'
NO_VIDEO_STREAM = 'no video stream'
TRUNCATED = 'truncated'
UNDECODABLE = 'cannot be decoded'

# Playlists and concat scripts name other files, so only containers that hold their own data may be opened.
_CONTAINERS = 'mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegts,flv,asf,ogg,wav,mp3,flac,aac'
# Jumping flushes the decoder, which costs about as much as decoding this many frames (H.264, 640×480).
_JUMP_FRAMES = 8
# A stream may end this much before its header says so (audio outlasts video, rounding) and still be whole.
_END_SLACK = 0.5
# A header that promises more seconds than this is damaged; windows over them would fill the memory.
_LONGEST = 48 * 3600.0
_CLOCK = re.compile(r'(\d+):(\d+):(\d+(?:\.\d*)?)')


class VideoError(ValueError):
  """A file that cannot be used. `reason` is one of the module's constants, `detail` says more."""

  def __init__(self, path: Path, reason: str, detail: str = ''):
    super().__init__(f'{os.fspath(path)}: {reason}' + (f' ({detail})' if detail else ''))
    self.path = os.fspath(path)
    self.reason = reason
    self.detail = detail


@dataclasses.dataclass(frozen=True)
class VideoInfo:
  """What `probe` finds. `width` and `height` are as displayed: rotated, in square pixels; `duration` is in seconds."""

  duration: float
  fps: float
  width: int
  height: int
  rotation: int  # degrees counter-clockwise that the file asks for
  codec: str
  container: str
  has_audio: bool


class Window(NamedTuple):
  """Frames of one window: `frames` uint8[T, H, W, 3] and their true `times` float32[T] in seconds.

  Padding (outside the video) is zeros with time NaN. `missing` counts times that the file promises and cannot deliver.
  """

  frames: np.ndarray
  times: np.ndarray
  missing: int


def probe(path: Path) -> VideoInfo:
  """Reads the header and the first frame. Raises VideoError."""
  with _Video(path) as video:
    frame = video.first_frame()
    width, height = _display_size(frame, video.pixel_aspect)
    return VideoInfo(
      duration=video.duration,
      fps=video.fps,
      width=width,
      height=height,
      rotation=frame.rotation % 360,
      codec=video.stream.codec_context.name,
      container=video.container.format.name,
      has_audio=bool(video.container.streams.audio),
    )


def frame_times(path: Path) -> np.ndarray:
  """When each frame is shown, float64[N] seconds in order, as far as the file goes; nothing is decoded.

  Raises VideoError.
  """
  times: list[float] = []
  with _Video(path, threads=1) as video, contextlib.suppress(av.error.FFmpegError):
    for packet in video.container.demux(video.stream):
      if packet.pts is not None and packet.size and not packet.is_discard:
        times.append(video.seconds(packet.pts))
  return np.sort(np.array(times, np.float64))


def read_frames(path: Path, times: Sequence[float], size: int, fit: Fit = 'letterbox', threads: int = 0) -> np.ndarray:
  """The frames nearest to `times` (seconds), uint8[T, size, size, 3]; zeros for times outside the video.

  Raises VideoError, also where the file promises a frame that it does not hold.
  """
  window = read_windows(path, [times], size, fit, threads)[0]
  if window.missing:
    raise VideoError(path, TRUNCATED, f'{window.missing} of {len(times)} frames asked for are missing')
  return window.frames


def read_windows(
  path: Path, windows: Sequence[Sequence[float]], size: int, fit: Fit = 'letterbox', threads: int = 0
) -> list[Window]:
  """Several windows of one video, each a sequence of times in seconds, decoded in one pass. Raises VideoError."""
  results = [
    Window(np.zeros((len(times), size, size, 3), np.uint8), np.full(len(times), np.nan, np.float32), missing=0)
    for times in windows
  ]
  places = [(w, t) for w, times in enumerate(windows) for t in range(len(times))]
  for index, time, image in frames_at(path, [t for times in windows for t in times], size, fit, threads):
    w, t = places[index]
    if image is None:
      results[w] = results[w]._replace(missing=results[w].missing + 1)
    else:
      results[w].frames[t] = image
      results[w].times[t] = time
  return results


def frames_at(
  path: Path, times: Sequence[float], size: int, fit: Fit = 'letterbox', threads: int = 0
) -> Iterator[tuple[int, float, np.ndarray | None]]:
  """Yields (index into `times`, true time, uint8[size, size, 3]) in order of time; one image at a time is in memory.

  Times outside the video are passed over; a time inside for which no frame can be decoded yields (index, NaN, None).
  The decoder jumps to a later key frame where that skips enough frames, and sweeps otherwise. `threads` per video, 0
  for all cores. Raises VideoError.
  """
  wanted = np.asarray(times, np.float64)
  if not np.isfinite(wanted).all():
    raise ValueError(f'{os.fspath(path)}: times must be finite seconds')
  if fit not in ('letterbox', 'crop'):
    raise ValueError(f"fit must be 'letterbox' or 'crop', not {fit!r}")
  with _Video(path, threads) as video:
    half = 0.5 / video.fps
    cached: tuple[float, np.ndarray] | None = None
    found = False
    for index in np.argsort(wanted, kind='stable'):
      t = float(wanted[index])
      if not -half <= t <= video.duration + half:
        continue
      nearest = video.nearest(t)
      found = found or nearest is not None
      if nearest is None:
        yield int(index), math.nan, None
        continue
      time, frame = nearest
      if cached is None or cached[0] != time:
        cached = time, _to_square(frame, size, fit, video)
      yield int(index), time, cached[1]


def sliding_windows(duration: float, length: float, stride: float) -> list[tuple[float, float]]:
  """(start, end) in seconds: every `stride` from 0, and a last one flush with the end, so that nothing is left out.

  A video shorter than `length` gives the one window (0, duration).
  """
  if not (length > 0 and stride > 0):
    raise ValueError(f'length and stride must be positive seconds, not {length} and {stride}')
  if duration <= length:
    return [(0.0, duration)] if duration > 0 else []
  count = math.floor((duration - length) / stride + 1e-6) + 1
  windows = [(i * stride, i * stride + length) for i in range(count)]
  # A remainder below a tenth of a window is not worth a clip that repeats the rest.
  if duration - windows[-1][1] > 0.1 * length:
    windows.append((duration - length, duration))
  return windows


class _Video:
  """One open file, a position in it, and the two frames around that position."""

  _frames: Iterator[tuple[float, av.VideoFrame]]
  _before: tuple[float, av.VideoFrame] | None
  _after: tuple[float, av.VideoFrame] | None

  def __init__(self, path: Path, threads: int = 0):
    self.path = path
    self.container = _open(path)
    try:
      self.stream = _video_stream(self.container, path)
      self._read_header(threads)
    except av.error.FFmpegError as error:
      self.container.close()
      raise VideoError(path, UNDECODABLE, 'damaged; export it again') from error
    except BaseException:
      self.container.close()
      raise

  def _read_header(self, threads: int) -> None:
    self.stream.thread_type = 'AUTO'
    self.stream.codec_context.thread_count = threads
    self.time_base = self.stream.time_base or Fraction(1, av.time_base)
    self.origin = (self.container.start_time or 0) / av.time_base
    self.fps = float(self.stream.average_rate or self.stream.guessed_rate or 25)
    self.pixel_aspect = float(self.stream.sample_aspect_ratio or 1)
    self.scaler = VideoReformatter()  # one for all frames: a frame's own would set up its filters anew
    self.container.seek(0, stream=self.stream)  # Matroska reads its index on the first seek only
    self._keys = sorted(self.seconds(e.timestamp) for e in self.stream.index_entries if e.is_keyframe)
    self.duration = self._duration()
    if not 0 <= self.duration <= _LONGEST:
      raise VideoError(self.path, UNDECODABLE, f'a damaged header: it promises {self.duration:.0f} s; export it again')
    self._seek(0.0)

  def __enter__(self) -> '_Video':
    return self

  def __exit__(self, *_: object) -> None:
    # The generator of frames holds this object, which holds it: what is decoded must not wait for a collection.
    self._frames = iter(())
    self._before = self._after = None
    self.container.close()

  def first_frame(self) -> av.VideoFrame:
    self._advance()
    if self._after is None:
      raise VideoError(self.path, TRUNCATED, 'no frame can be decoded')
    return self._after[1]

  def nearest(self, t: float) -> tuple[float, av.VideoFrame] | None:
    """The frame nearest to `t`, not earlier than the last one asked for; None where the file breaks off before `t`."""
    self._approach(t)
    while not self._ended and (self._after is None or self._after[0] <= t):
      self._advance()
    before, after = self._before, self._after
    if after is not None and (before is None or after[0] - t < t - before[0]):
      return after
    if before is None:
      return None
    if after is None:
      end = before[0] + _frame_duration(before[1], self.fps)
      # A file that breaks off has nothing to show after its last frame; one that rounds its duration shows that frame.
      if t > end and self.duration - end > _END_SLACK:
        return None
    return before

  def _approach(self, t: float) -> None:
    """Jumps to the last key frame before `t` if that skips frames; goes further back where the index was inexact."""
    position = self._after[0] if self._after else (self._before[0] if self._before else -math.inf)
    known = bisect.bisect_right(self._keys, t)
    if known == 0 or self._keys[known - 1] <= max(position, 0) + _JUMP_FRAMES / self.fps:
      return
    for back in (0.0, 1.0, 8.0, math.inf):
      self._seek(max(t - back, 0.0))
      self._advance()
      if self._after is not None and self._after[0] <= t:
        return
    # Nothing decodable from here on to the end of the file: start over, and let the sweep find what there is.
    self._seek(0.0)

  def _seek(self, t: float) -> None:
    try:
      self.container.seek(math.floor((t + self.origin) / self.time_base), stream=self.stream)
    except av.error.FFmpegError:
      self.container.seek(0, stream=self.stream)
    self._restart()

  def _restart(self) -> None:
    self._frames = self._decode()
    self._before = self._after = None
    self._ended = False

  def _advance(self) -> None:
    """One frame on. At the end `_after` is None and `_before` the last frame."""
    following = next(self._frames, None)
    self._ended = following is None
    if self._after is not None:
      self._before = self._after
    self._after = following

  def _decode(self) -> Iterator[tuple[float, av.VideoFrame]]:
    """Frames in order of presentation. Damaged packets are passed over: `nearest` notices what is missing."""
    packets = self.container.demux(self.stream)
    while True:
      try:
        packet = next(packets)
      except (StopIteration, av.error.FFmpegError):
        return
      try:
        frames = packet.decode()
      except av.error.FFmpegError:
        continue
      for frame in frames:
        stamp = frame.pts if frame.pts is not None else frame.dts
        if stamp is not None and not frame.is_corrupt:
          yield self.seconds(stamp), frame

  def seconds(self, stamp: int) -> float:
    """A time stamp of the stream, counted from the start that a player shows."""
    return float(stamp * self.time_base) - self.origin

  def _duration(self) -> float:
    """End of the last frame in seconds: what the header says, or the packets where it says less or nothing."""
    if self.stream.duration is not None:
      end = self.seconds((self.stream.start_time or 0) + self.stream.duration)
    elif tag := _CLOCK.fullmatch(self.stream.metadata.get('DURATION', '')):  # Matroska's, counted from zero
      end = int(tag[1]) * 3600 + int(tag[2]) * 60 + float(tag[3]) - self.origin
    elif self.container.duration is not None:
      end = self.container.duration / av.time_base
    else:
      return self._last_packet(0.0)
    # With a variable frame rate some writers sum up decoding times, which end before the last frame is shown.
    return max(end, self._last_packet(self._keys[-1])) if self._keys else end

  def _last_packet(self, since: float) -> float:
    """End of the last packet, read from a key frame on, in seconds; 0 where there is none."""
    end = 0.0
    with contextlib.suppress(av.error.FFmpegError):
      self.container.seek(math.floor((since + self.origin) / self.time_base), stream=self.stream)
      for packet in self.container.demux(self.stream):
        if packet.pts is not None:
          end = max(end, self.seconds(packet.pts + (packet.duration or 0)))
    return end


def _open(path: Path) -> av.container.InputContainer:
  file = pathlib.Path(path)
  if not file.is_file():
    raise VideoError(path, MISSING, 'a folder' if file.is_dir() else 'no such file')
  if not os.access(file, os.R_OK):
    raise VideoError(path, MISSING, 'no permission to read it')
  if file.stat().st_size == 0:
    raise VideoError(path, EMPTY, '0 bytes')
  try:
    return av.open(str(file), options={'format_whitelist': _CONTAINERS}, metadata_errors='replace')
  except (av.error.FFmpegError, OSError) as error:
    with file.open('rb') as stream:
      head = stream.read(12)
    if head[4:8] == b'ftyp' or head[:4] in (b'RIFF', b'\x1aE\xdf\xa3'):
      raise VideoError(path, TRUNCATED, 'a container without its index or data; copy or export it again') from error
    raise VideoError(path, NOT_A_VIDEO, 'no mp4, mov, webm, mkv or avi') from error


def _video_stream(container: av.container.InputContainer, path: Path) -> av.VideoStream:
  for stream in container.streams.video:
    if not stream.disposition & av.stream.Disposition.attached_pic:  # the cover of an audio file is no video
      if stream.codec_context is None:
        raise VideoError(path, UNDECODABLE, 'a damaged header or an unknown codec; export it again as H.264')
      return stream
  raise VideoError(path, NO_VIDEO_STREAM, 'audio only' if container.streams.audio else '')


def _frame_duration(frame: av.VideoFrame, fps: float) -> float:
  return float(frame.duration * frame.time_base) if frame.duration and frame.time_base else 1 / fps


def _display_matrix(frame: av.VideoFrame) -> np.ndarray:
  """int[2, 2] with entries -1, 0, 1: [[a, b], [c, d]] sends pixel (x, y) to (a x + c y, b x + d y)."""
  # PyAV's stubs take the container for a mapping; iterating yields the entries.
  for data in cast(Iterator[Any], frame.side_data):
    if data.type == sidedata.Type.DISPLAYMATRIX:
      matrix = np.frombuffer(bytes(data), np.int32)[[0, 1, 3, 4]].reshape(2, 2)
      return np.sign(matrix) * (np.abs(matrix) == np.abs(matrix).max())
  return np.eye(2, dtype=np.int64)


def _display_size(frame: av.VideoFrame, pixel_aspect: float) -> tuple[int, int]:
  width = max(1, round(frame.width * pixel_aspect))
  return (width, frame.height) if _display_matrix(frame)[0, 0] else (frame.height, width)


def _to_square(frame: av.VideoFrame, size: int, fit: Fit, video: _Video) -> np.ndarray:
  """uint8[size, size, 3], upright, area-averaged; black bars with 'letterbox', the middle square with 'crop'."""
  width = frame.width * video.pixel_aspect
  scale = size / (max if fit == 'letterbox' else min)(width, frame.height)
  w, h = max(1, round(width * scale)), max(1, round(frame.height * scale))
  image = video.scaler.reformat(frame, w, h, 'rgb24', interpolation='AREA', threads=1).to_ndarray()
  image = _upright(image, _display_matrix(frame))
  h, w = image.shape[:2]
  if fit == 'crop':
    top, left = (h - size) // 2, (w - size) // 2
    return image[top : top + size, left : left + size]
  square = np.zeros((size, size, 3), np.uint8)
  top, left = (size - h) // 2, (size - w) // 2
  square[top : top + h, left : left + w] = image
  return square


def _upright(image: np.ndarray, matrix: np.ndarray) -> np.ndarray:
  """Turns and mirrors by the display matrix, in quarter turns."""
  (a, b), (c, d) = matrix
  if a == 0:  # a quarter turn: x' comes from y (c), y' from x (b)
    image, flip_x, flip_y = image.swapaxes(0, 1), c < 0, b < 0
  else:
    flip_x, flip_y = a < 0, d < 0
  return image[:: -1 if flip_y else 1, :: -1 if flip_x else 1]
