"""ExpertAF's training and test lists as takes: windows of Ego-Exo4D's takes with comments that were condensed.

The lists have LLaVA's form. What ExpertAF's loader reads of an entry is read here: `id`, `video1` (the take),
`video1_range` (its window in frames, a list written as a string), `video2` and `video2_range` (an expert's take that
shows it well), and `conversations`, a question and the answer. `README.md` says what is known of the files.
"""

import argparse
import ast
import dataclasses
import json
import pathlib
import re
import sqlite3
import tempfile
from collections.abc import Iterator
from typing import Any

from crosstrainer_jax.datasets.egoexo4d import streams, taxonomy
from crosstrainer_jax.datasets.egoexo4d.index import NO_TAKE, Index
from crosstrainer_jax.datasets.egoexo4d.source import EgoExo4D
from crosstrainer_jax.datasets.takes.feature_files import FAMILIES
from crosstrainer_jax.datasets.takes.take import Comment, Lose, Loss, Take

# Words before every answer of the lists, which are no feedback; scorers that leave them in count them as hits.
PREFIX = 'Here is the feedback based on the given pose sequence and the expert correct sequence:'
# Poses, whose frames the ranges count, are those of the videos.
RANGE_FPS = 30.0
_BRACKETED = re.compile(r'\s*[\[(][\d\s.,eE+-]{1,80}[\])]\s*')
BAD_RANGE = 'a range that is no pair of numbers'
NO_ANSWER = 'no answer in words'
ALSO_TESTED = 'its take is in the test list too'


@dataclasses.dataclass(frozen=True)
class ExpertAF:
  """The source.

  Args:
    root: of Ego-Exo4D, whose takes.json and videos are needed.
    train, test: the lists; one of them may be ''.
    range_fps: frames of a second in the ranges.
    features: as for Ego-Exo4D.

  Raises:
    FileNotFoundError, ValueError: a file that is not there, or no list at all.
  """

  root: str
  train: str = ''
  test: str = ''
  range_fps: float = RANGE_FPS
  features: str = ''
  name: str = 'expertaf'

  def __post_init__(self) -> None:
    if not (self.train or self.test):
      raise ValueError('--train and --test: name at least one of the lists that ExpertAF has released')
    for option, path in self._lists():
      if not pathlib.Path(path).is_file():
        raise FileNotFoundError(f'--{option} {path}: no such file; data/expertaf/README.md says where it is from')
    if not self.range_fps > 0:
      raise ValueError(f'--range_fps {self.range_fps} must be positive')
    self._videos  # noqa: B018  (raises on a bad root)

  def _lists(self) -> list[tuple[str, str]]:
    return [(split, path) for split, path in (('test', self.test), ('train', self.train)) if path]

  @property
  def _videos(self) -> EgoExo4D:
    return EgoExo4D(self.root, tuple(taxonomy.SCENARIOS.values()), all_drills=True, features=self.features)

  def content(self) -> dict[str, Any]:
    files = [pathlib.Path(self.root) / 'takes.json', *(pathlib.Path(path) for _, path in self._lists())]
    return {
      'range_fps': self.range_fps,
      'features': self.features,
      'files': {file.name: [file.stat().st_size, file.stat().st_mtime_ns] for file in files if file.is_file()},
    }

  def takes(self, lose: Lose) -> Iterator[Take]:
    """See `Source.takes`."""
    return (take for _, take in self.joined(lose))

  def joined(self, lose: Lose) -> Iterator[tuple[str, Take]]:
    """Takes, each with the uid that Ego-Exo4D has for it."""
    videos = self._videos
    with tempfile.TemporaryDirectory() as folder:
      index = Index(pathlib.Path(self.root), pathlib.Path(folder) / 'index.sqlite', videos.sports, videos.all_drills)
      lists = self._sorted(pathlib.Path(folder) / 'lists.sqlite', index)
      try:
        for split, video in lists.execute('SELECT split, video FROM entries GROUP BY split, video ORDER BY min(place)'):
          entries = lists.execute(
            'SELECT entry FROM entries WHERE video = ? AND split = ? ORDER BY place', [video, split]
          )
          tested = split == 'train' and lists.execute(
            "SELECT 1 FROM entries WHERE video = ? AND split = 'test'", [video]
          ).fetchone()  # fmt: skip
          found = index.find(video)
          reason = ALSO_TESTED if tested else NO_TAKE if found is None else '' if found[0] == 'yes' else found[0]
          said = list(self._comments(video, split, (json.loads(text) for (text,) in entries), reason, lose))
          if not said or found is None:
            continue
          uid = str(found[1].get('take_uid') or '')
          take = videos.take(found[1], said, split, videos.level(video, index.level(uid), lose), lose)
          if take is not None:
            yield uid, take
      finally:
        lists.close()
        index.close()

  def _sorted(self, path: pathlib.Path, index: Index) -> sqlite3.Connection:
    """The entries of the lists on disk, where those of a take are found, by its name."""
    base = sqlite3.connect(path)
    base.execute('PRAGMA synchronous = OFF')
    base.execute('CREATE TABLE entries(place INTEGER PRIMARY KEY, split TEXT, video TEXT, entry TEXT)')
    for split, name in self._lists():
      for entry in streams.entries(pathlib.Path(name)):
        video = str(entry.get('video1') or '')
        found = index.find(video)
        row = [split, str(found[1].get('take_name') or video) if found else video, json.dumps(entry)]
        base.execute('INSERT INTO entries(split, video, entry) VALUES (?, ?, ?)', row)
    base.execute('CREATE INDEX by_video ON entries(video, split)')
    return base

  def _comments(
    self, video: str, split: str, entries: Iterator[dict[str, Any]], reason: str, lose: Lose
  ) -> Iterator[Comment]:
    """What is said of a take; with a `reason` all of it is lost."""
    names: set[str] = set()
    for number, entry in enumerate(entries):
      name = f'{split}-{entry.get("id", number)}'
      if name in names:
        name = f'{name}#{number}'
      names.add(name)
      label = f'{video}/{name}'
      if reason:
        lose(Loss('comment', label, reason))
        continue
      window = parse_range(entry.get('video1_range'))
      if window is None:
        lose(Loss('comment', label, BAD_RANGE, repr(entry.get('video1_range'))[:80]))
        continue
      question, prefix, text = parse_answer(entry.get('conversations'))
      if not text:
        lose(Loss('comment', label, NO_ANSWER))
        continue
      extra: dict[str, Any] = {'question': question}
      if (shown := parse_range(entry.get('video2_range'))) is not None:
        extra['shown_well'] = {
          'take': str(entry.get('video2') or ''), 'start': shown[0] / self.range_fps, 'end': shown[1] / self.range_fps
        }  # fmt: skip
      start, end = (frame / self.range_fps for frame in window)
      yield Comment(name, text, (start + end) / 2, start, end, prefix=prefix, extra=extra)


def parse_range(value: Any) -> tuple[float, float] | None:
  """A pair of frames, first and after the last, from a list or from one that is written as a string; None for else.

  ExpertAF evaluates the strings; here nothing but a literal is understood.
  """
  if isinstance(value, str):
    # Even the parser of literals is for numbers in one pair of brackets alone: nested ones take its stack.
    if not _BRACKETED.fullmatch(value):
      return None
    try:
      value = ast.literal_eval(value.strip())
    except (ValueError, SyntaxError):
      return None
  if not isinstance(value, list | tuple) or len(value) != 2:
    return None
  if not all(isinstance(number, int | float) and not isinstance(number, bool) for number in value):
    return None
  first, after = float(value[0]), float(value[1])
  return (first, after) if 0 <= first < after < 1e9 else None


def parse_answer(conversations: Any) -> tuple[str, str, str]:
  """(question, prefix, answer without it) of an entry; '' for what is not there, or is a pose rather than words."""
  said = {'human': '', 'gpt': ''}
  for turn in conversations if isinstance(conversations, list) else []:
    if isinstance(turn, dict) and turn.get('from') in said and not said[turn['from']]:
      said[turn['from']] = ' '.join(str(turn.get('value') or '').split())
  answer, prefix = said['gpt'], ''
  if answer.lower().startswith(PREFIX.lower()):
    prefix, answer = answer[: len(PREFIX)], answer[len(PREFIX) :].strip()
  if re.search(r'<pose\d*>|<CUSTOM_POSE', answer):
    answer = ''
  return said['human'], prefix, answer


def add_options(parser: argparse.ArgumentParser) -> None:
  """Of `prepare`, for this dataset."""
  parser.add_argument('--root', required=True, help='folder of Ego-Exo4D, with its takes.json and videos')
  parser.add_argument('--train', default='', help="ExpertAF's training list, a .json file")
  parser.add_argument('--test', default='', help="ExpertAF's test list")
  parser.add_argument(
    '--range_fps', type=float, default=RANGE_FPS, help='frames of a second in its ranges (default: %(default)s)'
  )
  parser.add_argument(
    '--features', choices=sorted(FAMILIES), default='', help="Ego-Exo4D's own features instead of videos"
  )


def from_options(options: argparse.Namespace) -> ExpertAF:
  """The source that the options of `prepare` ask for."""
  return ExpertAF(options.root, options.train, options.test, options.range_fps, options.features)
