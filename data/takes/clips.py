"""One take → its clips: windows around what was said, cut to the recording, and what is seen in them.

Nothing but the take, the settings and the files below the root is needed, so that a take can be worked on anywhere:
in a thread here, or on another machine.
"""

import dataclasses
import json
import math
import os
import pathlib
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from crosstrainer_jax.datasets.manifest import decoding
from crosstrainer_jax.datasets.manifest.rows import resolve
from crosstrainer_jax.datasets.manifest.windows import MARGIN, Sampling
from crosstrainer_jax.datasets.takes.feature_files import FeatureFile, FeatureFileError
from crosstrainer_jax.datasets.takes.take import Comment, Lose, Loss, Take
from crosstrainer_jax.input import record, video

# Reasons of losses, besides those of video.VideoError and FeatureFileError.
ESCAPES = 'a path that leaves the root'
NO_VIEW = 'no view of the take can be read'
OUTSIDE = 'outside the recording'
NO_TIME = 'neither a time nor a window'
TWICE = 'the same name twice in a take'
NOTHING_SEEN = 'no view shows the window whole'


@dataclasses.dataclass(frozen=True)
class Settings:
  """What decides the records beside the takes: `dataset` is their name for it, `frames` False leaves out pictures."""

  dataset: str
  root: str
  sampling: Sampling
  frames: bool = True


@dataclasses.dataclass(frozen=True)
class View:
  """A view of a take that opens: `path` as the take names it, `file` on disk, `duration` in seconds."""

  name: str
  path: str
  file: pathlib.Path
  duration: float
  features: FeatureFile | None = None


@dataclasses.dataclass(frozen=True)
class Window:
  """The part [start, end] of a recording, in seconds, that a comment is about."""

  comment: Comment
  start: float
  end: float


def key_files(take: Take, root: str) -> list[tuple[int, int] | None]:
  """Size and time of change of each file of a take, None where there is none below the root."""
  found: list[tuple[int, int] | None] = []
  for path in take.features or take.videos:
    try:
      stat = resolve(root, path).stat()
      found.append((stat.st_size, stat.st_mtime_ns))
    except (ValueError, OSError):
      found.append(None)
  return found


def open_views(take: Take, root: str, lose: Lose) -> list[View]:
  """The views that open; those that do not are lost."""
  views = []
  for name, path in zip(take.views, take.features or take.videos, strict=True):
    label = f'{take.name}/{name}'
    try:
      file = resolve(root, path)
    except ValueError as error:
      lose(Loss('view', label, ESCAPES, str(error)))
      continue
    try:
      if take.features:
        found = FeatureFile(file, take.encoder)
        views.append(View(name, path, file, found.duration, found))
      else:
        views.append(View(name, path, file, video.probe(file).duration))
    except (video.VideoError, FeatureFileError) as error:
      lose(Loss('view', label, error.reason, f'{path}: {error.detail}' if error.detail else path))
  return views


def cut(take: Take, duration: float, sampling: Sampling, lose: Lose) -> list[Window]:
  """The windows of a take whose longest view lasts `duration`; comments without one are lost."""
  first = max(0.0, take.start or 0.0)
  last = duration if take.end is None else min(duration, take.end)
  windows, names = [], set()
  for comment in take.comments:
    label = f'{take.name}/{comment.name}'
    if comment.name in names:
      lose(Loss('comment', label, TWICE))
      continue
    names.add(comment.name)
    if comment.time is None and comment.start is not None and comment.end is None:
      comment = dataclasses.replace(comment, end=last)
    bounds = _bounds(comment, sampling)
    if bounds is None:
      lose(Loss('comment', label, NO_TIME))
      continue
    start, end = bounds
    late = comment.time is not None and not first - MARGIN <= comment.time <= last + MARGIN
    if late or min(last, end) - max(first, start) <= MARGIN:
      lose(Loss('comment', label, OUTSIDE, f'{start:.2f}–{end:.2f} s of {first:.2f}–{last:.2f} s'))
      continue
    start, end = max(first, start), min(last, end)
    if sampling.whole_seconds:
      start = math.floor(start + MARGIN)
      end = min(last, start + sampling.length)
    windows.append(Window(comment, start, end))
  return windows


def _bounds(comment: Comment, sampling: Sampling) -> tuple[float, float] | None:
  """Start and end as the comment has them, not yet cut to the recording."""
  time, start, end = comment.time, comment.start, comment.end
  if any(number is not None and not math.isfinite(number) for number in (time, start, end)):
    return None
  if start is None or end is None or end <= start:
    return None if time is None else (time - sampling.mu1, time + sampling.mu2)
  if end - start > sampling.length + MARGIN:
    middle = (start + end) / 2
    return middle - sampling.length / 2, middle + sampling.length / 2
  return start, end


def survey(take: Take, settings: Settings, lose: Lose) -> tuple[list[View], list[Window]]:
  """What opens of a take, and its windows; every comment that has none is lost."""
  views = open_views(take, settings.root, lose)
  if not views:
    for comment in take.comments:
      lose(Loss('comment', f'{take.name}/{comment.name}', NO_VIEW))
    return [], []
  return views, cut(take, max(view.duration for view in views), settings.sampling, lose)


def clips_of(
  take: Take,
  settings: Settings,
  scratch: str | os.PathLike[str],
  lose: Lose,
  advance: Callable[[], None] = lambda: None,
) -> Iterator[record.Clip]:
  """The clips of a take, one at a time; frames wait for theirs in the folder `scratch`, which is then of no more use.

  Args:
    advance: called after every frame; may raise to stop.

  Raises:
    OSError: the scratch cannot be written.
  """
  views, windows = survey(take, settings, lose)
  if not windows:
    return
  if take.features:
    yield from _with_features(take, settings, views, windows, lose)
    return
  times = tuple(tuple(settings.sampling.times(window.start, window.end)) for window in windows)
  seen, kept = [], []
  for view in views:
    job = decoding.Job(view.file, times)
    try:
      if settings.frames:
        decoding.decode(job, settings.sampling, pathlib.Path(scratch), advance)
        seen.append(decoding.load(job, settings.sampling, pathlib.Path(scratch)))
      else:
        seen.append(decoding.check(job, settings.sampling, view.duration))
        advance()
      kept.append(view)
    except video.VideoError as error:
      lose(Loss('view', f'{take.name}/{view.name}', error.reason, f'{view.path}: {error.detail}'))
  for number, window in enumerate(windows):
    clip = _clip(take, settings, kept, window)
    # A view that breaks off in the window is not shown at all: what is padding must be so in truth.
    whole = [not view.missing[number] and bool(np.isfinite(view.times[number]).any()) for view in seen]
    if not any(whole):
      lose(Loss('comment', clip.clip_id, NOTHING_SEEN, f'{window.start:.2f}–{window.end:.2f} s'))
      continue
    for view, shown in zip(kept, whole, strict=True):
      if not shown:
        lose(Loss('view of a clip', f'{clip.clip_id}: {view.name}', NOTHING_SEEN))
    clip.frame_times = np.stack([_if(ok, view.times[number], np.nan) for view, ok in zip(seen, whole, strict=True)])
    if settings.frames:
      seen_frames = np.stack([_if(ok, view.frames[number], 0) for view, ok in zip(seen, whole, strict=True)])
      clip.frames = np.rot90(seen_frames, -take.turn, axes=(2, 3))
    yield clip


def _if(shown: bool, values: np.ndarray, padding: float) -> np.ndarray:
  return values if shown else np.full_like(values, padding)


def _with_features(
  take: Take, settings: Settings, views: Sequence[View], windows: Sequence[Window], lose: Lose
) -> Iterator[record.Clip]:
  """Clips of features by second; their `frame_times` name those seconds, one a token."""
  most = max(1, round(settings.sampling.length))
  for window in windows:
    clip = _clip(take, settings, views, window)
    starts = [window.start + s for s in range(most) if s == 0 or window.start + s + 0.5 < window.end]
    times = np.full((len(views), most), np.nan, np.float32)
    features: list[np.ndarray] = []
    try:
      for place, view in enumerate(views):
        assert view.features is not None
        inside = [start for start in starts if start < view.duration]
        rows = view.features.seconds(inside or starts[:1])
        features.append(np.pad(rows, ((0, most - len(rows)), (0, 0))))
        times[place, : len(inside)] = inside
    except FeatureFileError as error:
      lose(Loss('comment', clip.clip_id, error.reason, str(error)))
      continue
    if len({rows.shape for rows in features}) > 1:
      lose(Loss('comment', clip.clip_id, 'features of several widths', str([rows.shape[-1] for rows in features])))
      continue
    clip.features, clip.frame_times, clip.encoder = np.stack(features), times, take.encoder
    yield clip


def _clip(take: Take, settings: Settings, views: Sequence[View], window: Window) -> record.Clip:
  """The record without what is seen."""
  comment = window.comment
  time = (window.start + window.end) / 2 if comment.time is None else comment.time
  return record.Clip(
    clip_id=f'{take.name}/{comment.name}',
    dataset=settings.dataset,
    sport=take.sport,
    skill=take.skill,
    participant=take.participant,
    take=take.name,
    views=[view.name for view in views],
    commentary=comment.text,
    expert=comment.expert,
    prefix=comment.prefix,
    commentary_time=time if comment.text else math.nan,
    window=np.array([window.start, window.end], np.float32),
    faults=list(comment.faults or ()),
    has_faults=comment.faults is not None,
    proficiency=take.proficiency if comment.proficiency < 0 else comment.proficiency,
    provenance=';'.join(view.path for view in views),
    licence=take.licence,
    extra=json.dumps(comment.extra, ensure_ascii=False, sort_keys=True) if comment.extra else '',
  )
