"""A folder of downloaded videos as takes: every sentence of the narration is a comment at the time it begins."""

import argparse
import csv
import dataclasses
import hashlib
import json
import os
import pathlib
from collections.abc import Iterable, Iterator
from typing import Any

from crosstrainer_jax.datasets.takes.take import Comment, Lose, Loss, Take
from crosstrainer_jax.datasets.youtube.folder import Download, downloads, read_info, text
from crosstrainer_jax.datasets.youtube.transcript import Limits, transcript

# Reasons of losses.
PLAYLIST = 'a playlist and no video'
BAD_NAME = 'a name that is no UTF-8'
NO_VIDEO = 'no video file'
HALF = 'a download that has not ended'
BAD_INFO = 'its info.json cannot be read'
NOT_IN_TABLE = 'not in the table of sports'

PLAYLISTS = ('playlist', 'multi_video')
_COLUMNS = ('id', 'sport', 'skill')
# Told where a video of the site names none.
STANDARD_LICENCE = 'YouTube standard licence'
UNSORTED = 'unsorted'


@dataclasses.dataclass(frozen=True)
class YouTube:
  """Videos below `root`.

  Attributes:
    sport, skill: of all videos that the table does not name.
    table: a .csv or .jsonl with `id`, `sport` and, if wished, `skill` of videos; a path of its own, '' for none.
    languages, min_confidence, max_drift: see `transcript`.
    test_fraction, seed: which channels are the test split; the site has no splits.
  """

  root: str
  sport: str = ''
  skill: str = ''
  table: str = ''
  languages: tuple[str, ...] = ('en',)
  min_confidence: float = 0.4
  max_drift: float = 2.0
  test_fraction: float = 0.2
  seed: int = 0
  name: str = dataclasses.field(default='youtube', init=False)

  def __post_init__(self) -> None:
    self.limits  # noqa: B018  (raises on bad values)
    if not 0 <= self.test_fraction < 1:
      raise ValueError(f'test_fraction {self.test_fraction} must be from 0 to below 1')
    if not (self.sport or self.table):
      raise ValueError('nothing tells the sport: give --sport, or --table with the sport of each video')

  @property
  def limits(self) -> Limits:
    """What captions must keep to."""
    return Limits(self.languages, self.min_confidence, self.max_drift)

  def content(self) -> dict[str, Any]:
    settings = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)[1:]}
    digest, count = hashlib.sha256(), 0
    for download in downloads(self.root):
      files = [download.info, *download.videos, *(file.path for file in download.captions), download.whisper]
      for path in filter(None, files):
        count += 1
        digest.update(f'{path}\n{stamp(pathlib.Path(self.root) / path)}\n'.encode(errors='surrogateescape'))
    table = stamp(pathlib.Path(self.table)) if self.table else ''
    return settings | {'languages': list(self.languages), 'files': [count, digest.hexdigest()[:16]], 'table of': table}

  def takes(self, lose: Lose) -> Iterator[Take]:
    """Videos in order of their paths.

    Raises:
      FileNotFoundError: there is no such folder or table.
      ValueError: the table cannot be read.
    """
    if not pathlib.Path(self.root).is_dir():
      raise FileNotFoundError(
        f'{self.root}: no such folder; python -m crosstrainer_jax.doctor youtube says how to fill it'
      )
    sports = read_table(self.table) if self.table else {}
    for download in downloads(self.root, lambda path: lose(Loss('file', path, BAD_NAME, 'rename it'))):
      take = self._take(download, sports, lose)
      if take is not None:
        yield take

  def _take(self, download: Download, sports: dict[str, tuple[str, str]], lose: Lose) -> Take | None:
    info: dict[str, Any] = {}
    if download.info:
      try:
        info = read_info(self.root, download.info)
      except (ValueError, OSError) as error:
        lose(Loss('info', download.info, BAD_INFO, str(error)))
    name = text(info, 'id') or download.bracketed_id
    if info.get('_type') in PLAYLISTS:
      lose(Loss('playlist', str(download.info), PLAYLIST))
      return None
    if not download.videos:
      lose(Loss('video', name, HALF if download.half else NO_VIDEO, ', '.join(download.half) or download.stem))
      return None
    sport, skill = sports.get(name, (self.sport, self.skill))
    if not sport:
      lose(Loss('video', name, NOT_IN_TABLE, download.stem))
      return None
    said = transcript(download, info, name, self.root, self.limits, lose)
    if said is None:
      return None
    participant = text(info, 'channel_id', 'uploader_id', 'channel', 'uploader') or name
    url = text(info, 'webpage_url')
    comments = []
    for number, sentence in enumerate(said.sentences):
      extra: dict[str, Any] = {'spoken': [round(sentence.start, 3), round(sentence.end, 3)], 'captions': said.path}
      if sentence.confidence is not None:
        extra['confidence'] = round(sentence.confidence, 3)
      if url:
        extra['url'] = url
      comments.append(
        Comment(f'{number:04d}', sentence.text, sentence.start, expert=text(info, 'channel', 'uploader'), extra=extra)
      )
    return Take(
      name=name,
      sport=sport,
      skill=skill or self.skill or UNSORTED,
      participant=participant,
      split='test' if self._is_tested(participant) else 'train',
      views=('main',),
      videos=download.videos[:1],
      comments=tuple(comments),
      licence=text(info, 'license') or STANDARD_LICENCE,
    )

  def _is_tested(self, participant: str) -> bool:
    """By a hash, so that a channel stays in its split whatever else lies in the folder."""
    digest = hashlib.sha256(f'{self.seed}/{participant}'.encode(errors='surrogateescape')).digest()
    return int.from_bytes(digest[:8], 'big') / 2**64 < self.test_fraction


def add_options(parser: argparse.ArgumentParser) -> None:
  """Of `prepare`, for this dataset."""
  add, limits = parser.add_argument, Limits()
  add('--root', required=True, help='folder that yt-dlp has downloaded to')
  add('--sport', default='', help='sport of the videos that the table does not name')
  add('--skill', default='', help=f'skill of those videos (default: {UNSORTED})')
  add('--table', default='', help='.csv or .jsonl with id, sport and skill of videos')
  add('--languages', default=','.join(limits.languages), help='of captions, by commas (default: %(default)s)')
  add(
    '--min_confidence',
    type=float,
    default=limits.min_confidence,
    help='of recognised sentences, from 0 to 1; those without a confidence stay (default: %(default)s)',
  )
  add(
    '--max_drift',
    type=float,
    default=limits.max_drift,
    help='seconds between captions and Whisper, or captions and the end of the video (default: %(default)s)',
  )
  add('--test_fraction', type=float, default=0.2, help='part of the channels for the test split (default: %(default)s)')
  add('--seed', type=int, default=0, help='decides which channels those are (default: %(default)s)')


def from_options(options: argparse.Namespace) -> YouTube:
  """The source that the options of `prepare` ask for."""
  return YouTube(
    options.root,
    options.sport.strip().lower(),
    options.skill.strip().lower(),
    options.table,
    tuple(part.strip().lower() for part in options.languages.split(',') if part.strip()),
    options.min_confidence,
    options.max_drift,
    options.test_fraction,
    options.seed,
  )


def read_table(path: str | os.PathLike[str]) -> dict[str, tuple[str, str]]:
  """Video id → (sport, skill or '').

  Raises:
    FileNotFoundError: there is no such file.
    ValueError: a row cannot be read; the message names the line and the fix.
  """
  file = pathlib.Path(path)
  if file.suffix.lower() not in ('.csv', '.jsonl'):
    raise ValueError(f'{file}: a table of sports is a .csv or .jsonl file with id, sport and skill')
  if not file.is_file():
    raise FileNotFoundError(f'{file}: no such table')
  found: dict[str, tuple[str, str]] = {}
  with file.open(encoding='utf-8-sig', newline='') as lines:
    for number, row in _rows(lines) if file.suffix.lower() == '.csv' else _jsonl(lines):
      values = {n: ' '.join(v.split()) for n in _COLUMNS if isinstance(v := row.get(n), str)}
      where = f'{file} line {number}'
      if not values.get('id') or not values.get('sport'):
        raise ValueError(f'{where}: id and sport are needed; write id,sport,skill')
      if values['id'] in found:
        raise ValueError(f'{where}: the video {values["id"]!r} is there twice; remove one of the rows')
      found[values['id']] = (values['sport'], values.get('skill', ''))
  return found


def _rows(lines: Iterable[str]) -> Iterator[tuple[int, dict[str, Any]]]:
  reader = csv.DictReader(lines)
  try:
    for row in reader:
      yield reader.line_num, row
  except csv.Error:
    yield reader.line_num, {}


def _jsonl(lines: Iterable[str]) -> Iterator[tuple[int, dict[str, Any]]]:
  for number, line in enumerate(lines, 1):
    try:
      content = json.loads(line) if line.strip() else None
    except json.JSONDecodeError:
      content = {}
    if content is not None:
      yield number, content if isinstance(content, dict) else {}


def stamp(file: pathlib.Path) -> str:
  """Size and time of change, by which a changed file is known; `missing` where there is none."""
  try:
    stat = file.stat()
  except OSError:
    return 'missing'
  return f'{stat.st_size} {stat.st_mtime_ns}'
