"""Long sessions with live feedback → one take for each exercise, a comment for each feedback.

A session's `feedbacks` has one text for each frame of the video: silence is "", and a feedback stands for as long as it
is spoken. `spans` collapses that; `remarks` gives each span its time; `takes_of_session` cuts the session where the
coach announces the next exercise, as the paper does (section 4.1), and leaves out what comes before the first.

Traps of the files, each with a test:

- A span that runs to the last frame has no entry in `feedback_timestamps` and `is_transition`: it is kept, and timed by
  its first frame.
- Two equal feedbacks one right after the other are one span, with an entry for each: both are kept.
- Both in one session make the lists equally long and yet shifted, so spans and entries are matched by time, never by
  number.
- Frame times are integers of nanoseconds that lack 28,800 s, the eight hours between the two clocks; those of the
  competition are seconds from the video's start.
- They are when a frame was taken, which need not be when the video shows it: a time becomes that of the same frame in
  the video, counted from the first.
- The sessions 0000 to 0145 of either archive lie on their side (the dataset's own code turns them by 90° clockwise): a
  picture of theirs that is wider than high is turned.
"""

import pathlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from crosstrainer_jax.datasets.manifest.rows import resolve
from crosstrainer_jax.datasets.qevd.archives import beside
from crosstrainer_jax.datasets.qevd.exercises import place, renamed
from crosstrainer_jax.datasets.takes.take import Comment, Lose, Loss, Take
from crosstrainer_jax.input import video as videos

LICENCE = 'Qualcomm Data Research License'

# Reasons of losses.
NO_VIDEO_FIELD = 'a record without its video or feedbacks'
BAD_CLOCK = 'its frame times cannot be read'
TOO_MANY = 'more feedbacks than frame times'
ELSEWHERE = 'no feedback is spoken at its time'
OTHER_FRAMES = 'its video has another number of frames than its frame times'
OTHER_CLOCK = 'its feedback times are on another clock than its frames'
ANNOUNCEMENT = 'it announces an exercise'
TOO_EARLY = 'before the first announced exercise'
TOO_LATE = 'after the end of the session'
UNSORTED = 'its exercise is in none of the chosen sports'
NO_TIMES = 'exercises without their times'
NOTHING_SAID = 'an exercise without feedback'
UNPUBLISHED = 'its feedback is not published'

# Seconds between the clock of the feedback and that of the frames.
_CLOCK_SHIFT = 28_800.0
# Seconds that a feedback's time may lie beside the frames in which it is spoken.
_BESIDE = 0.25
_ANNOUNCED = re.compile(r'(?:first up (?:are|is)|moving (?:on )?to)\s+(?:the\s+)?(.+?)[!.\s]*', re.IGNORECASE)
_OVER = re.compile(r'that.?s the end\b.*', re.IGNORECASE)


# The last of the sessions that lie on their side.
_LAST_ON_ITS_SIDE = 145


class Span(NamedTuple):
  """A text and the frames, `first` to `last` included, in which it stands."""

  text: str
  first: int
  last: int


class Remark(NamedTuple):
  """What was said, and from when to when (seconds of the video)."""

  text: str
  time: float
  end: float
  transition: bool


class Exercise(NamedTuple):
  """The part of a session that is one exercise; `end` None where the recording's end is its own."""

  name: str
  start: float
  end: float | None
  remarks: list[tuple[int, Remark]]


def spans(feedbacks: Sequence[str]) -> list[Span]:
  """Runs of equal texts; silence is no run, and the last frame ends one as any other does."""
  found: list[Span] = []
  for frame, text in enumerate(feedbacks):
    if not text:
      continue
    if found and found[-1].text == text and found[-1].last == frame - 1:
      found[-1] = found[-1]._replace(last=frame)
    else:
      found.append(Span(text, frame, frame))
  return found


def read_frame_times(file: pathlib.Path) -> tuple[np.ndarray, float]:
  """float64[N], seconds from the first frame, and what to take off a feedback's time so that it is on that clock.

  Raises:
    ValueError: the file is no list of times that go forward.
    OSError: it cannot be opened.
  """
  # Mapped: a header that promises more than the file holds must not allocate it.
  values = np.load(file, mmap_mode='r', allow_pickle=False)
  if not isinstance(values, np.ndarray) or values.ndim != 1 or not len(values):
    raise ValueError('not one list of times')
  if np.issubdtype(values.dtype, np.integer):
    seconds = np.asarray(values, np.float64) / 1e9
    origin = float(seconds[0]) + _CLOCK_SHIFT
  elif np.issubdtype(values.dtype, np.floating):
    seconds = np.asarray(values, np.float64)
    origin = float(seconds[0])
  else:
    raise ValueError(f'times of type {values.dtype}')
  if not np.isfinite(seconds).all() or (np.diff(seconds) < 0).any():
    raise ValueError('times that do not go forward')
  return seconds - seconds[0], origin


def in_video(moments: np.ndarray, times: np.ndarray, shown: np.ndarray) -> np.ndarray:
  """Moments at which frames were taken → those at which the video shows them, float64[...] seconds.

  Args:
    times: when each frame was taken, float64[N] seconds from the first.
    shown: when the video shows it, float64[M] seconds; what lies after the last frame that both have, stays as far
      after it.
  """
  count = min(len(times), len(shown))
  after = np.maximum(moments - times[count - 1], 0.0)
  return np.asarray(np.interp(moments, times[:count], shown[:count]) + after)


def turn_of(name: str, file: pathlib.Path, competition: bool = False) -> int:
  """Quarter turns clockwise that bring a session upright.

  Raises:
    VideoError: its video cannot be opened.
  """
  info = videos.probe(file)
  on_its_side = name.isdigit() and int(name) <= _LAST_ON_ITS_SIDE and not competition
  return int(on_its_side and info.width > info.height)


def remarks(record: Mapping[str, Any], times: np.ndarray, origin: float, session: str, lose: Lose) -> list[Remark]:
  """Every feedback of a session with its time in the video, in order."""
  spoken = spans([renamed(text) if isinstance(text, str) else '' for text in record['feedbacks']])
  for span in spoken:
    if span.first >= len(times):
      lose(Loss('feedback', f'{session}/frame {span.first}', TOO_MANY, span.text))
  spoken = [span for span in spoken if span.first < len(times)]
  stamps = _numbers(record.get('feedback_timestamps')) - origin
  flags = record.get('is_transition')
  flags = flags if isinstance(flags, list) and len(flags) == len(stamps) else [False] * len(stamps)

  begins = np.array([times[span.first] for span in spoken])
  ends = np.array([times[min(span.last, len(times) - 1)] for span in spoken])
  matched = np.searchsorted(begins, stamps + _BESIDE, 'right') - 1
  # A time that is no number is beside all spans too.
  beside_all = np.array([k < 0 or not t <= ends[k] + _BESIDE for k, t in zip(matched, stamps, strict=True)], bool)
  if len(stamps) and beside_all.mean() > 0.5:
    lose(Loss('feedback times', session, OTHER_CLOCK, f'{beside_all.sum()} of {len(stamps)}; the frames’ are used'))
    if len(stamps) == len(spoken):  # the flags are still those of the spans
      return [_remark(s, b, e, f) for s, b, e, f in zip(spoken, begins, ends, flags, strict=True)]
    stamps, flags, matched, beside_all = stamps[:0], [], matched[:0], beside_all[:0]
  found: list[Remark] = []
  for k, span in enumerate(spoken):
    own = [n for n in range(len(stamps)) if matched[n] == k and not beside_all[n]]
    if not own:
      found.append(_remark(span, begins[k], ends[k], False))
      continue
    until = [stamps[n] for n in own[1:]] + [ends[k]]
    for n, end in zip(own, until, strict=True):
      found.append(_remark(span, max(0.0, stamps[n]), end, flags[n]))
  for n in np.flatnonzero(beside_all).tolist():
    lose(Loss('feedback time', f'{session}/{n}', ELSEWHERE, f'{stamps[n]:.2f} s'))
  return found


def _remark(span: Span, time: float, end: float, flag: Any) -> Remark:
  text = ' '.join(span.text.split())
  announced = bool(_ANNOUNCED.fullmatch(text) or _OVER.fullmatch(text))
  return Remark(text, round(float(time), 3), round(float(end), 3), bool(flag) or announced)


def exercises(said: Sequence[Remark], session: str, lose: Lose) -> list[Exercise]:
  """The session cut at its announcements; what lies in no exercise is lost."""
  found: list[Exercise] = []
  is_open = False
  for number, remark in enumerate(said):
    label = f'{session}/{number:03d}'
    if remark.transition:
      if is_open:
        found[-1] = found[-1]._replace(end=remark.time)
      announced = _ANNOUNCED.fullmatch(remark.text)
      is_open = not _OVER.fullmatch(remark.text)
      if is_open:
        found.append(Exercise(announced[1] if announced else remark.text.rstrip('!. '), remark.time, None, []))
      lose(Loss('feedback', label, ANNOUNCEMENT, remark.text))
    elif is_open:
      found[-1].remarks.append((number, remark))
    else:
      lose(Loss('feedback', label, TOO_LATE if found else TOO_EARLY, remark.text))
  return found


def _given_exercises(
  record: Mapping[str, Any],
  said: Sequence[Remark],
  times: np.ndarray,
  shown: np.ndarray,
  origin: float,
  session: str,
  lose: Lose,
) -> list[Exercise]:
  """The exercises of a record that names them with their times."""
  names = [name for name in record['exercises'] if isinstance(name, str)]
  starts, ends = (
    in_video(_numbers(record.get(f'exercise_{name}_timestamps')) - origin, times, shown) for name in ('start', 'end')
  )
  found = [
    Exercise(name, start, end, [])
    for name, start, end in zip(names, starts.tolist(), ends.tolist(), strict=False)
    if start < end
  ]
  if len(found) < len(names):
    lose(Loss('exercise', session, NO_TIMES, f'{len(names)} names, {len(found)} with a start and an end'))
  for number, remark in enumerate(said):
    label = f'{session}/{number:03d}'
    holder = next((e for e in found if e.start - _BESIDE <= remark.time < (e.end or 0.0)), None)
    if remark.transition:
      lose(Loss('feedback', label, ANNOUNCEMENT, remark.text))
    elif holder:
      holder.remarks.append((number, remark))
    else:
      before = bool(found) and remark.time < found[0].start
      lose(Loss('feedback', label, TOO_EARLY if before else TOO_LATE, remark.text))
  return found


def takes_of_session(
  record: Any, root: pathlib.Path, folder: str, archive: str, split: str, sports: Sequence[str], lose: Lose
) -> Iterator[Take]:
  """The exercises of one session of `sports`, each a take with its feedback.

  Who is seen is not told by the files, so that a participant is a session: the archives share none of their people.

  Args:
    record: an element of feedbacks_long_range.json.
    folder: of the archive, relative to the root.
    archive: its short name.
  """
  video = record.get('long_range_video_file') if isinstance(record, dict) else None
  if not isinstance(video, str) or not video:
    lose(Loss('session', f'{archive}/?', NO_VIDEO_FIELD))
    return
  session = f'{archive}/{pathlib.PurePosixPath(video).stem}'
  clock = record.get('video_timestamps')
  try:
    times, origin = read_frame_times(resolve(root, beside(folder, str(clock))))
  except (OSError, ValueError, EOFError) as error:
    lose(Loss('session', session, BAD_CLOCK, f'{clock}: {error}'))
    return
  named = isinstance(record.get('exercises'), list)
  if not isinstance(record.get('feedbacks'), list):
    lose(Loss('session', session, UNPUBLISHED if named else NO_VIDEO_FIELD))
    return
  said = remarks(record, times, origin, session, lose)
  turn, shown = 0, times
  try:
    file = resolve(root, beside(folder, video))
    turn = turn_of(file.stem, file, named)
    shown = videos.frame_times(file)
    shown = shown if len(shown) else times
  except ValueError:  # of the path or the video: whoever cuts the clips will say so
    pass
  if len(shown) != len(times):
    lose(Loss('frame times', session, OTHER_FRAMES, f'{len(shown)} and {len(times)}; counted from the first'))
  if said:
    moments = in_video(np.array([[remark.time, remark.end] for remark in said]), times, shown).round(3).tolist()
    said = [remark._replace(time=time, end=end) for remark, (time, end) in zip(said, moments, strict=True)]
  parts = (
    _given_exercises(record, said, times, shown, origin, session, lose) if named else exercises(said, session, lose)
  )
  for number, part in enumerate(parts):
    sport, skill = place(part.name)
    if sport not in sports:
      for n, remark in part.remarks:
        lose(Loss('feedback', f'{session}/{n:03d}', UNSORTED, f'{part.name}: {remark.text}'))
    elif not part.remarks:
      lose(Loss('exercise', f'{session}/{number}', NOTHING_SAID, part.name))
    else:
      yield Take(
        name=f'{session}/{number}',
        sport=sport,
        skill=skill,
        participant=session,
        split=split,
        views=('main',),
        videos=(beside(folder, video),),
        comments=tuple(
          Comment(f'{n:03d}', remark.text, remark.time, extra={'spoken': [remark.time, remark.end]})
          for n, remark in part.remarks
        ),
        start=part.start,
        end=part.end,
        licence=LICENCE,
        turn=turn,
      )


def _numbers(values: Any) -> np.ndarray:
  """float64[N]; what is no number is NaN, which matches nothing."""
  if not isinstance(values, list):
    return np.zeros(0)
  good = [float(v) if isinstance(v, int | float) and not isinstance(v, bool) else np.nan for v in values]
  return np.array(good, np.float64)
