"""A trained model as a coach of real videos: `crosstrainer_jax.load(workdir).assess('my_jump.mp4')`."""

import dataclasses
import functools
import itertools
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import jax
import ml_collections
import numpy as np

from crosstrainer_jax.inference.assessment import Assessor
from crosstrainer_jax.inference.suggestion import Suggestion, lines_of
from crosstrainer_jax.inference.trained import FOLDER, read_trained
from crosstrainer_jax.inference.window_features import SeenWindow, WindowEncoder
from crosstrainer_jax.input import prompts, splits, video
from crosstrainer_jax.input.buckets import on_this_machine
from crosstrainer_jax.input.record import LEVELS

# Of the attributes that the coach is not sure of, so many are shown.
SHOWN = 3


@dataclasses.dataclass
class Segment:
  """The coach's answer for `start` … `end` seconds of the video.

  Attributes:
    attributes: those that are sure, with their probability.
    doubtful: those below the threshold, with their probability.
    feedback: written given the attributes; None when the coach is not sure of any.
    level: the likeliest level and its probability; None for a model without a probe.
    watch: clips of a library to watch, best first, where one was asked.
  """

  start: float
  end: float
  attributes: dict[str, float]
  doubtful: dict[str, float]
  feedback: str | None
  level: tuple[str, float] | None
  watch: list[Suggestion] = dataclasses.field(default_factory=list)

  @property
  def missing(self) -> list[str] | None:
    """What is to be improved, as far as it is shown; None where the coach is sure that nothing stands out."""
    if self.sure:
      return list(self.attributes) or None
    return list(self.doubtful)[:SHOWN]

  @property
  def sure(self) -> bool:
    return self.feedback is not None


@dataclasses.dataclass
class Assessment:
  """All segments of one video.

  Attributes:
    warnings: what the reader should know before trusting this.
    timing: seconds spent to decode, encode and generate, compilation included where it happened.
  """

  videos: list[str]
  sport: str
  segments: list[Segment]
  warnings: list[str]
  timing: dict[str, float]

  def to_json(self) -> str:
    values = dataclasses.asdict(self)
    for row, segment in zip(values['segments'], self.segments, strict=True):
      row['sure'] = segment.sure
      row['level'] = dict(zip(('name', 'probability'), segment.level, strict=True)) if segment.level else None
    return json.dumps(values, indent=1, ensure_ascii=False)

  def describe(self) -> str:
    """The assessment as a coach would hand it over, as text."""
    lines = [f'{", ".join(self.videos)} · {self.sport}']
    for segment in self.segments:
      lines.append(f'\n{segment.start:6.1f}–{segment.end:.1f} s')
      if segment.level:
        lines.append(f'  level      {segment.level[0]} ({segment.level[1]:.0%})')
      if segment.sure:
        named = ', '.join(f'{name} ({p:.0%})' for name, p in segment.attributes.items()) or 'nothing stands out'
        lines += [f'  improve    {named}', f'  feedback   {segment.feedback}']
      else:
        named = ', '.join(f'{name} ({p:.0%})' for name, p in list(segment.doubtful.items())[:SHOWN])
        lines.append(f'  not sure   {named}')
      lines += lines_of(segment.watch)
    lines += ['', *(f'Note: {warning}' for warning in self.warnings)]
    lines.append('Seconds: ' + ', '.join(f'{name} {seconds:.1f}' for name, seconds in self.timing.items()))
    return '\n'.join(lines)


class Coach:
  """A trained model and all that it needs to look at a video file.

  Args:
    workdir: of a finished run.
    config: another config than the one recorded there.
    folder: which stage's parameters.
    encoder_weights, decoder_weights: where the weights lie now that the run was trained from, if elsewhere.

  Raises:
    FileNotFoundError, ValueError: something is missing there or does not fit; the message says what.
  """

  def __init__(
    self,
    workdir: str | Path,
    config: ml_collections.ConfigDict | None = None,
    folder: str = FOLDER,
    encoder_weights: str = '',
    decoder_weights: str = '',
  ):
    self._model = model = read_trained(workdir, config, encoder_weights, decoder_weights)
    self.card, self.config = model.card, model.config
    if tuple(self.config.data.window) != (0.0, 0.0) or self.config.data.views:
      raise ValueError(
        f'{workdir}: this run looks at less than was prepared (config.data.window, config.data.views), which serves '
        'studies: for videos, prepare the data with that --mu1 and --mu2, or those views, and train on them'
      )
    self._blueprint, self._params = model.load(folder)
    self._windows = WindowEncoder(model, model.trained_encoder(self._params))
    # Each size is compiled once.
    self.assessor = functools.cache(self._make_assessor)
    self._probe = model.probe

  def _make_assessor(self, batch_size: int) -> Assessor:
    return Assessor(self._blueprint, self._params, self._model.text, self._model.mesh, batch_size)

  @property
  def window(self) -> float:
    """Seconds of one window."""
    return self.card.frames / float(self._model.encoder.config.fps)

  def assess(
    self,
    path: str | Path | Sequence[str | Path],
    sport: str = '',
    stride: float = 0.0,
    progress: Callable[[int, int], None] | None = None,
  ) -> Assessment:
    """Slides the window over a video and answers for each segment, a few at a time: its length costs time alone.

    Args:
      path: a video file, or one per view of the same take.
      sport: as the prompt should name it; "" for "a sport".
      stride: seconds from window to window; 0 sets them end to end.
      progress: told how many segments more are done, and how many there are.

    Raises:
      ValueError: a file that is no video, or more views than the model knows.
    """
    paths = [on_this_machine(p, 'video') for p in ([path] if isinstance(path, str | Path) else path)]
    if len(paths) > self.card.views:
      raise ValueError(f'{len(paths)} views were given, but this model was trained with {self.card.views}')
    sport = sport or 'a sport'
    spans = self._spans(paths, stride)
    timing = {'decode': 0.0, 'encode': 0.0, 'generate': 0.0}
    batch_size = self._model.batch_size(len(spans))
    assessor = self.assessor(batch_size)
    assessor.cut = 0
    windows = self._windows.read(paths, spans, timing)
    segments: list[Segment] = []
    missing, shown = [], []
    for number in range(0, len(spans), batch_size):
      some = list(itertools.islice(windows, batch_size))
      missing += [window.missing for window in some]
      shown += [bool(window.valid.any()) for window in some]
      seen = [pair for pair in zip(spans[number:], some, strict=False) if pair[1].valid.any()]
      begin = time.monotonic()
      if seen:
        segments += self._answer(assessor, sport, seen, self.config.seed + number)
      timing['generate'] += time.monotonic() - begin
      if progress is not None:
        progress(len(some), len(spans))
    warnings = self._warnings(sport)
    if any(missing):
      warnings.insert(0, _broken(spans, np.array(missing), np.array(shown)))
    if assessor.cut:
      warnings.append(f'{assessor.cut} of {len(segments)} texts were cut: raise config.eval.max_feedback_tokens')
    return Assessment([str(p) for p in paths], sport, segments, warnings, timing)

  def answer_at(
    self, paths: Sequence[Path], spans: Sequence[tuple[float, float]], sport: str
  ) -> list[tuple[list[str], str]]:
    """Both passes, greedy, for windows (begin, end in seconds, in order) of a video's views: attributes and feedback.

    Raises:
      VideoError: the video cannot be read.
    """
    if not spans:
      return []
    windows = list(self._windows.read(paths, spans, {'decode': 0.0, 'encode': 0.0}))
    seen = {'features': np.stack([window.features for window in windows])}
    valid = np.stack([window.valid for window in windows])
    limits = self.config.eval.max_attribute_tokens, self.config.eval.max_feedback_tokens
    assessor = self.assessor(self._model.batch_size(len(spans)))
    named, texts = assessor.two_passes(
      [sport] * len(spans), lambda part: {name: value[part] for name, value in seen.items()}, valid, *limits
    )
    return list(zip(named, texts, strict=True))

  def _spans(self, paths: Sequence[Path], stride: float) -> list[tuple[float, float]]:
    duration = min(video.probe(path).duration for path in paths)
    return video.sliding_windows(duration, self.window, stride or self.window)

  def _answer(
    self, assessor: Assessor, sport: str, windows: Sequence[tuple[tuple[float, float], SeenWindow]], seed: int
  ) -> list[Segment]:
    options, limits, sports = self.config.assess, self.config.eval, [sport] * len(windows)
    seen = {'features': np.stack([window.features for _, window in windows])}
    valid = np.stack([window.valid for _, window in windows])
    looks = assessor.look(sports, seen, valid)
    chances = assessor.probabilities(
      sports, seen, valid, limits.max_attribute_tokens, options.samples, options.temperature, seed, looks
    )
    nothing = [row.pop(prompts.EMPTY, 0.0) for row in chances]
    sure = [{name: p for name, p in row.items() if p >= self.card.threshold} for row in chances]
    texts = assessor.feedback(sports, [list(row) for row in sure], seen, valid, limits.max_feedback_tokens, looks)
    levels: list[tuple[str, float] | None] = [None] * len(windows)
    if self._probe is not None:
      odds = np.asarray(jax.nn.softmax(self._probe.logits(assessor.pooled(seen, valid)), -1))
      levels = [(LEVELS[int(row.argmax())], float(row.max())) for row in odds]
    return [
      Segment(
        begin,
        end,
        named,
        {name: p for name, p in chance.items() if name not in named},
        # Nothing to improve is an answer too, when the model is as sure of it as it must be of an attribute.
        text if named or clean >= self.card.threshold else None,
        level,
      )
      for ((begin, end), _), named, chance, clean, text, level in zip(
        windows, sure, chances, nothing, texts, levels, strict=True
      )
    ]

  def _warnings(self, sport: str) -> list[str]:
    warnings = []
    if self.card.simulated:
      warnings.append(
        'this model was trained on simulated athletes alone; on real video its words show the mechanics, not advice'
      )
    if self.config.split.setting == splits.FIT:
      warnings.append(
        f'this model was tested on the very clips that trained it (setting {splits.FIT}): '
        'neither its scores nor its confidence hold for other videos'
      )
    if sport not in self.card.sports:
      warnings.append(f'{sport!r} was not among its training sports ({", ".join(self.card.sports)})')
    if not self.card.validation_clips:
      warnings.append('it had too few people to validate on, so it does not know when to be sure, and never is')
    elif self.card.threshold > 1:
      warnings.append('on validation no attribute was right often enough, so it is never sure')
    return warnings


def _broken(spans: Sequence[tuple[float, float]], gaps: np.ndarray, seen: np.ndarray) -> str:
  first = spans[int(np.argmax(gaps))][0]
  left_out = f', {int((~seen).sum())} of which show nothing and are left out' if not seen.all() else ''
  return (
    f'the file is damaged or breaks off: frames are missing in {int(gaps.sum())} of {len(spans)} segments, '
    f'from {first:.1f} s on{left_out}'
  )


def load(workdir: str | Path, encoder_weights: str = '', decoder_weights: str = '') -> Coach:
  """The coach of a finished run; arguments as `Coach` has them."""
  return Coach(workdir, encoder_weights=encoder_weights, decoder_weights=decoder_weights)
