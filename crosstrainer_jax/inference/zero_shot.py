"""The two prompts asked of a vision-language model that was never trained here: attributes and feedback on day one.

The model is any that a server offers with images; it is shown frames as JPEG, then the words of F_a, and again with the
words of F_t, which hold what it answered first (paper, section 3.3). It gets no other instruction than these.
"""

from __future__ import annotations

import base64
import dataclasses
import functools
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from crosstrainer_jax.discovery.asking import Asker
from crosstrainer_jax.discovery.language_model import REFUSED, Answer, Question, Unreadable
from crosstrainer_jax.inference.suggestion import Suggestion, lines_of
from crosstrainer_jax.input import prompts, video
from crosstrainer_jax.input.buckets import on_this_machine
from crosstrainer_jax.input.recordings import IMPORT_FILE, Recordings
from crosstrainer_jax.input.source import ClipSource
from crosstrainer_jax.input.video_stream import stream_windows

# Purposes of the questions, by which a store knows what they cost.
ATTRIBUTES, FEEDBACK = 'zero-shot attributes', 'zero-shot feedback'
_REMINDERS = {
  ATTRIBUTES: 'Answer with the concept areas only: a few short phrases, separated by commas, or the word none.',
  FEEDBACK: 'Write the feedback.',
}
JPEG_QUALITY = 90
# A phrase of more words is a sentence.
MOST_WORDS = 8
_THOUGHTS = re.compile(r'<(think|thinking|reasoning)>.*?(</\1>|$)', re.DOTALL | re.IGNORECASE)


@dataclasses.dataclass(frozen=True)
class Eyes:
  """What the model is shown of a clip.

  Attributes:
    frames: at most, of each view; more are thinned out evenly.
    fps: frames of a second.
    pixels: height and width at most; frames are never enlarged.
    views: at most, the first ones of the clip.
    seconds: of a window, where a whole video is assessed.
  """

  frames: int = 8
  fps: float = 1.0
  pixels: int = 448
  views: int = 1
  seconds: float = 10.0

  def __post_init__(self) -> None:
    for name, value in dataclasses.asdict(self).items():
      if not value > 0:
        raise ValueError(f'--{name} must be above 0, not {value:g}')

  def __str__(self) -> str:
    return f'at most {self.frames} frames a view at {self.fps:g} a second, {self.views} view(s), {self.pixels} pixels'


class Seen(NamedTuple):
  """What the model says of a clip; None where its answer could not be read, for the `reason`."""

  attributes: list[str] | None
  feedback: str | None
  reason: str = ''


class ZeroShot:
  """A vision-language model with the two prompts.

  Args:
    asker: of the model.
    k: attributes that F_a asks for at most.
  """

  def __init__(self, asker: Asker, eyes: Eyes | None = None, k: int = prompts.DEFAULT_K):
    self.asker, self.eyes, self.k = asker, eyes or Eyes(), k

  def see(self, sport: str, images: Sequence[str], anyway: bool = False) -> Seen:
    """F_a, then F_t with its answer, of one clip.

    Args:
      images: URLs of its frames, in order.
      anyway: ask for feedback also where there are no attributes to put into the prompt, for an estimate.
    """
    if not images:
      return Seen(None, None, 'no frame can be seen')
    (named,) = self.asker.ask([_question(prompts.attribute_prompt(sport, self.k), images, ATTRIBUTES)], read_attributes)
    if isinstance(named, Unreadable) and not anyway:
      return Seen(None, None, f'attributes: {named}')
    listed = [] if isinstance(named, Unreadable) else named
    (text,) = self.asker.ask([_question(prompts.feedback_prompt(sport, listed), images, FEEDBACK)], read_feedback)
    if isinstance(text, Unreadable):
      return Seen(listed, None, f'feedback: {text}')
    return Seen(listed, text)

  def see_each(
    self, clips: Iterable[tuple[str, Callable[[], Sequence[str]]]], anyway: bool = False
  ) -> Iterator[tuple[int, Seen]]:
    """Number of each clip (sport, reader of its images), and what was said of it, as the answers come.

    Images are read when their clip is asked about, and are not kept.
    """

    def look(sport: str, images: Callable[[], Sequence[str]]) -> Seen:
      try:
        shown = images()
      except video.VideoError as error:
        return Seen(None, None, str(error))
      return self.see(sport, shown, anyway)

    def work(group: list[tuple[int, tuple[str, Callable[[], Sequence[str]]]]]) -> list[tuple[int, Seen]]:
      return [(number, look(*clip)) for number, clip in group]

    for answered in self.asker.each(work, enumerate(clips)):
      yield from answered

  def tally(self, paths: Sequence[Path], spans: Sequence[tuple[float, float]]) -> Tally:
    """Of the views of a take in windows (begin, end in seconds); what lies between two of them is not shown either.

    Raises:
      VideoError: a file is no video.
    """
    seconds = min(video.probe(path).duration for path in paths)
    windows = [begin + np.arange(_count(begin, end, self.eyes.fps)) / self.eyes.fps for begin, end in spans]
    # Windows may overlap: a moment counts once.
    within = {round(1000 * time) for times in windows for time in times}
    shown = {round(1000 * time) for times in windows for time in times[_thinned(len(times), self.eyes.frames)]}
    each = max(len(within), _count(0.0, seconds, self.eyes.fps))
    hidden = max(0, len(paths) - self.eyes.views)
    return Tally(seconds, each * len(paths), len(shown) * (len(paths) - hidden), each * hidden)

  def see_dataset(
    self, source: ClipSource, indices: Sequence[int], sports: Sequence[str], anyway: bool = False
  ) -> Iterator[tuple[int, Seen]]:
    """The place in `indices` of each clip of a prepared dataset, and what was said of it, as the answers come.

    Frames are those of the records, or of the videos where records have none.

    Raises:
      FileNotFoundError, ValueError: records without frames whose videos are not known, or gone.
    """
    recordings = Recordings(source.directory.parent / IMPORT_FILE)

    def images(index: int) -> list[str]:
      clip = source[index]
      views = range(min(self.eyes.views, len(clip.frame_times)))
      shown = [choose(clip.frame_times[view], self.eyes) for view in views]
      if clip.frames.size:
        return [jpeg(clip.frames[view, i], self.eyes.pixels) for view in views for i in shown[view]]
      try:
        known = recordings.of(clip.clip_id, clip.take)
      except KeyError:
        raise ValueError(
          f'{source.directory}: clip {clip.clip_id} has no frames, and no videos are known for it'
        ) from None
      found = []
      for view in views:
        if view < len(known) and known[view] and len(shown[view]):
          times = [float(time) for time in clip.frame_times[view, shown[view]]]
          window = video.read_windows(recordings.file(known[view]), [times], self.eyes.pixels, source.fit)[0]
          found += [jpeg(frame, self.eyes.pixels) for frame in window.frames[np.isfinite(window.times)]]
      return found

    yield from self.see_each(
      ((sport, functools.partial(images, index)) for index, sport in zip(indices, sports, strict=True)), anyway
    )

  def see_videos(
    self, paths: Sequence[Path], spans: Sequence[tuple[float, float]], sport: str, anyway: bool = False
  ) -> Iterator[tuple[int, Seen]]:
    """The number of each window (begin, end in seconds, in order) of the views of one take, and what was said of it."""
    times = [[begin + i / self.eyes.fps for i in range(_count(begin, end, self.eyes.fps))] for begin, end in spans]
    times = [[row[i] for i in _thinned(len(row), self.eyes.frames)] for row in times]
    streams = [stream_windows(path, times, self.eyes.pixels) for path in paths[: self.eyes.views]]

    def windows() -> Iterator[tuple[str, Callable[[], Sequence[str]]]]:
      for views in zip(*streams, strict=True):
        frames = [frame for window in views for frame in window.frames[np.isfinite(window.times)]]
        yield sport, functools.partial(list, [jpeg(frame, self.eyes.pixels) for frame in frames])

    yield from self.see_each(windows(), anyway)


@dataclasses.dataclass
class Segment:
  """What was said of `start` … `end` seconds; None where an answer could not be read.

  Attributes:
    watch: clips of a library to watch, best first, where one was asked.
  """

  start: float
  end: float
  attributes: list[str] | None
  feedback: str | None
  reason: str = ''
  watch: list[Suggestion] = dataclasses.field(default_factory=list)

  @property
  def missing(self) -> list[str] | None:
    """What is to be improved, as far as it is known; None where nothing stands out."""
    return [] if self.attributes is None else self.attributes or None


@dataclasses.dataclass
class Assessment:
  """All segments of one video by a model that was not trained here."""

  videos: list[str]
  sport: str
  model: str
  shown: str
  segments: list[Segment]
  warnings: list[str] = dataclasses.field(default_factory=list)

  @property
  def unread(self) -> int:
    return sum(segment.feedback is None for segment in self.segments)

  def to_json(self) -> str:
    return json.dumps(dataclasses.asdict(self), indent=1, ensure_ascii=False)

  def describe(self) -> str:
    """The assessment as text."""
    lines = [f'{", ".join(self.videos)} · {self.sport}']
    for segment in self.segments:
      lines.append(f'\n{segment.start:6.1f}–{segment.end:.1f} s')
      if segment.attributes is not None:
        lines.append(f'  improve    {", ".join(segment.attributes) or "nothing stands out"}')
      lines.append(f'  feedback   {segment.feedback}' if segment.feedback else f'  no answer  {segment.reason}')
      lines += lines_of(segment.watch)
    lines += ['', f'Note: by {self.model}, zero-shot: not trained on feedback of experts, and no level is known']
    lines.append(f'Note: it was shown {self.shown}')
    lines += [f'Note: {warning}' for warning in self.warnings]
    if self.unread:
      lines.append(f'Note: {self.unread} of {len(self.segments)} segments have no readable answer')
    return '\n'.join(lines)


def open_videos(
  paths: Sequence[str | Path], eyes: Eyes, stride: float = 0.0
) -> tuple[list[Path], list[tuple[float, float]]]:
  """The files of one take, and the windows that slide over it. Raises ValueError for a file that is no video."""
  files = [on_this_machine(path, 'video') for path in paths]
  duration = min(video.probe(file).duration for file in files)
  return files, video.sliding_windows(duration, eyes.seconds, stride or eyes.seconds)


@dataclasses.dataclass
class Tally:
  """Seconds and frames of some clips, and how many of the frames, at the eyes' rate, are shown.

  Attributes:
    hidden: frames of views that are not shown.
  """

  seconds: float = 0.0
  frames: int = 0
  shown: int = 0
  hidden: int = 0

  def add(self, views: Sequence[np.ndarray], eyes: Eyes) -> None:
    """Counts a clip by the times of its views' frames, float[T] each."""
    for number, times in enumerate(views):
      real = times[np.isfinite(times)]
      if not len(real):
        continue
      count = len(choose(times, dataclasses.replace(eyes, frames=len(real))))
      shown = min(count, eyes.frames) if number < eyes.views else 0
      self.frames += count
      self.shown += shown
      self.hidden += count if number >= eyes.views else 0
    spans = [float(np.nanmax(times) - np.nanmin(times)) for times in views if np.isfinite(times).any()]
    self.seconds += max(spans, default=0.0)

  @property
  def dropped(self) -> int:
    return self.frames - self.shown

  @property
  def remedy(self) -> str:
    """What shows more of them."""
    thinned = ['raise --frames, shorten --window or --stride'] if self.dropped > self.hidden else []
    return ', or '.join([*thinned, *(['give more --views'] if self.hidden else [])])

  def __str__(self) -> str:
    hidden = f', {self.hidden} of them in views that are not shown' if self.hidden else ''
    rest = f'{self.dropped} are dropped{hidden}' if self.dropped else 'none is dropped'
    return f'{self.shown} of {self.frames} frames of {self.seconds:.0f} s are shown, {rest}'


def choose(times: np.ndarray, eyes: Eyes) -> np.ndarray:
  """Which of the frames at `times` (float[T], NaN for padding) are shown: int[N], in order, none twice."""
  real = np.flatnonzero(np.isfinite(times))
  if not len(real):
    return real
  begin, end = times[real[0]], times[real[-1]]
  # half a millisecond: times are float32
  wanted = begin + np.arange(math.floor((end - begin) * eyes.fps + 5e-4) + 1) / eyes.fps
  nearest = np.unique(np.abs(times[real][:, None] - wanted).argmin(0))
  return real[nearest[_thinned(len(nearest), eyes.frames)]]


def jpeg(frame: np.ndarray, pixels: int) -> str:
  """uint8[H, W, 3], RGB, as the URL of a JPEG of at most `pixels` in height and width."""
  scale = pixels / max(frame.shape[:2])
  if scale < 1:
    height, width = (max(1, round(scale * size)) for size in frame.shape[:2])
    frame = cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA)
  image = cv2.cvtColor(np.ascontiguousarray(frame), cv2.COLOR_RGB2BGR)
  done, data = cv2.imencode('.jpg', image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
  if not done:
    raise ValueError(f'a frame of {frame.shape} cannot be written as JPEG')
  return f'data:image/jpeg;base64,{base64.b64encode(data.tobytes()).decode()}'


def read_attributes(answer: Answer) -> list[str]:
  """The list in an answer to F_a. Raises Unreadable, for sentences too."""
  text = re.sub(r'[*_`#]', '', _THOUGHTS.sub('', answer.whole()))
  # "Here are the key areas:" above the list
  text = re.sub(r'^[^\n,]*:[ \t]*\n', '', text.strip())
  if not text.strip():
    raise Unreadable('an empty answer')
  named = prompts.parse_attributes(text)
  longest = max(named, key=lambda phrase: len(phrase.split()), default='')
  if len(longest.split()) > MOST_WORDS:
    raise Unreadable(f'a sentence in the place of a phrase: “{longest[:80]}”')
  return named


def read_feedback(answer: Answer) -> str:
  """The text of an answer to F_t, as far as it was written. Raises Unreadable."""
  if answer.finish == REFUSED:
    answer.whole()
  text = ' '.join(_THOUGHTS.sub('', answer.text).split())
  if not text:
    raise Unreadable('an empty answer')
  return text


def _question(prompt: str, images: Sequence[str], purpose: str) -> Question:
  """A prompt with images in the place of `<video>`."""
  before, after = (part.strip() for part in prompt.split(prompts.VIDEO))
  parts = [
    *([{'type': 'text', 'text': before}] if before else []),
    *({'type': 'image_url', 'image_url': {'url': url}} for url in images),
    {'type': 'text', 'text': after},
  ]
  return Question(({'role': 'user', 'content': parts},), purpose, _REMINDERS[purpose])


def _count(begin: float, end: float, fps: float) -> int:
  """Frames from `begin` on that lie before `end`, at least one."""
  return max(1, math.ceil((end - begin) * fps - 1e-6))


def _thinned(count: int, most: int) -> np.ndarray:
  """At most `most` of `count` places, evenly, with the first and the last."""
  return np.arange(count) if count <= most else np.linspace(0, count - 1, most).round().astype(int)
