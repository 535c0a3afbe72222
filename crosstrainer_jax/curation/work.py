"""The work of a curation on this machine: a folder for each step, with videos as lines of JSON in shards.

    0-videos/00003.jsonl        what the scan found
    1-sentences/00003.jsonl     the same videos after the step, and what was counted: 00003.json
    …

A shard is the videos whose id falls to its number. A step works on a shard at a time and on several of its videos; a
finished shard stays until its videos, or the settings of the step, are others. So a killed run goes on with the shards
that are left, every step can be looked at, and memory holds a few videos however many there are.
"""

from __future__ import annotations

import collections
import concurrent.futures
import contextlib
import dataclasses
import hashlib
import json
import os
import pathlib
import sqlite3
import tempfile
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol

from crosstrainer_jax.curation import duplicates, scan
from crosstrainer_jax.curation.videos import Video, read
from crosstrainer_jax.input.files import write_atomically
from crosstrainer_jax.input.progress import Progress

# Videos of a shard, about; fewer shards than these are no use, and more are many files.
_VIDEOS, _MOST_SHARDS = 32, 512
SHARDS_FILE = 'shards.json'


class Step(Protocol):
  """One step; `apply` may be called from several threads, `identity` is what decides its outcome beside the video."""

  name: str

  @property
  def workers(self) -> int: ...

  def identity(self) -> dict[str, Any]: ...

  def apply(self, item: Video) -> Video: ...


@dataclasses.dataclass
class Counts:
  """What a step did with its videos.

  Attributes:
    videos, segments: that came in and had not been dropped.
    kept: segments that go on.
    unanswered: questions that nobody answered; the next run asks them again.
    reasons: (what was dropped: video or segment, why) -> how often.
  """

  videos: int = 0
  segments: int = 0
  kept: int = 0
  unanswered: int = 0
  reasons: collections.Counter[tuple[str, str]] = dataclasses.field(default_factory=collections.Counter)

  def add(self, other: Counts) -> None:
    self.videos += other.videos
    self.segments += other.segments
    self.kept += other.kept
    self.unanswered += other.unanswered
    self.reasons += other.reasons

  def see(self, step: str, video: Video) -> None:
    """Counts a video after the step."""
    if not video.dropped or video.dropped == step:
      self.videos += 1
    if video.dropped == step:
      self.reasons['video', video.reason] += 1
    for segment in video.segments:
      here = segment.dropped == step
      self.segments += here or segment.kept
      self.kept += segment.kept and not video.dropped
      if here:
        self.reasons['segment', segment.reason] += 1
    self.unanswered += video.unanswered

  def to_json(self) -> dict[str, Any]:
    reasons = [[what, why, count] for (what, why), count in sorted(self.reasons.items())]
    return {**dataclasses.asdict(self), 'reasons': reasons}

  @classmethod
  def from_json(cls, content: dict[str, Any]) -> Counts:
    reasons = collections.Counter({(what, why): count for what, why, count in content['reasons']})
    return cls(content['videos'], content['segments'], content['kept'], content['unanswered'], reasons)


class Work:
  """The folder, with as many shards as its first scan made."""

  def __init__(self, folder: str | os.PathLike[str]):
    self.folder = pathlib.Path(folder)

  def of(self, number: int, step: str) -> pathlib.Path:
    """The folder of a step."""
    return self.folder / f'{number}-{step}'

  def shards(self) -> int:
    return int(json.loads((self.folder / SHARDS_FILE).read_text())['shards'])

  def scan(self, folder: scan.Folder) -> Counts:
    """Writes what lies in the folder; shards that are as before stay as they are. Raises what `Folder.videos` does."""
    self.folder.mkdir(parents=True, exist_ok=True)
    counts = Counts()
    with tempfile.TemporaryDirectory(dir=self.folder, prefix='.scan-') as scratch:
      everything = pathlib.Path(scratch) / 'all.jsonl'
      with Progress('videos', None, 'videos') as bar, everything.open('w', encoding='utf-8') as file:
        for video in folder.videos():
          counts.see(scan.STEP, video)
          file.write(video.to_json() + '\n')
          bar.advance()
      count = counts.videos
      # Grown beyond a few times what shards were made for, a folder gets new ones, and its steps are done anew.
      if not (self.folder / SHARDS_FILE).is_file() or count > 4 * _VIDEOS * self.shards():
        shards = min(max(1, -(-count // _VIDEOS)), _MOST_SHARDS)
        write_atomically(self.folder / SHARDS_FILE, json.dumps({'shards': shards}))
      self._spread(everything, pathlib.Path(scratch))
    return counts

  def _spread(self, everything: pathlib.Path, scratch: pathlib.Path) -> None:
    target = self.of(0, scan.STEP)
    target.mkdir(exist_ok=True)
    shards = self.shards()
    with contextlib.ExitStack() as stack, everything.open(encoding='utf-8') as lines:
      # As few are open as the system allows at least.
      files = [stack.enter_context((scratch / f'{n:05d}.jsonl').open('w', encoding='utf-8')) for n in range(shards)]
      for line in lines:
        files[_shard(json.loads(line)['id'], shards)].write(line)
    for number in range(shards):
      fresh = scratch / f'{number:05d}.jsonl'
      if not fresh.stat().st_size:
        (target / fresh.name).unlink(missing_ok=True)
      elif _digest(fresh) != _digest(target / fresh.name):
        os.replace(fresh, target / fresh.name)

  def run(self, number: int, step: Step, before: str) -> Counts:
    """Applies the step with that number to what the step `before` has left; returns the counts of all shards."""
    source, target = self.of(number - 1, before), self.of(number, step.name)
    target.mkdir(exist_ok=True)
    names = sorted(path.name for path in source.glob('*.jsonl'))
    _forget(target, names)
    mark = json.dumps(step.identity(), sort_keys=True)
    total, left = Counts(), []
    for name in names:
      counts = _finished(source / name, target / name, mark)
      if counts is None:
        left.append(name)
      else:
        total.add(counts)
    waiting = sum(_lines(source / name) for name in left)
    if len(left) < len(names):
      print(f'{step.name}: {len(names) - len(left)} of {len(names)} shards are finished already (resumed)')
    workers = step.workers or os.cpu_count() or 1
    with Progress(step.name, waiting, 'videos') as bar, concurrent.futures.ThreadPoolExecutor(workers) as pool:
      for name in left:
        with (source / name).open(encoding='utf-8') as lines:
          done = in_order(pool, step.apply, (_reset(video) for video in read(lines)), 2 * workers)
          try:
            total.add(_write(target / name, step.name, _digest(source / name), mark, done, bar.advance))
          except BaseException:
            # Nobody wants further answers; those under way are kept.
            if asker := getattr(step, 'asker', None):
              asker.model.stop()
            raise
    return total

  def find_duplicates(self, number: int, before: str) -> Counts:
    """The step `duplicates`, which looks at all clips together; its table of signatures is on disk while it works."""
    source, target = self.of(number - 1, before), self.of(number, duplicates.NAME)
    target.mkdir(exist_ok=True)
    names = sorted(path.name for path in source.glob('*.jsonl'))
    _forget(target, names)
    # What one shard holds may decide about any other.
    state = hashlib.sha256(''.join(f'{name}{_digest(source / name)}' for name in names).encode()).hexdigest()
    mark = json.dumps(['duplicates', duplicates.NEAR, duplicates.LIKE, duplicates.EQUAL_WORDS, state])
    done = [_finished(source / name, target / name, mark) for name in names]
    total = Counts()
    if all(counts is not None for counts in done):
      for counts in done:
        total.add(counts or Counts())
      if names:
        print(f'{duplicates.NAME}: {len(names)} of {len(names)} shards are finished already (resumed)')
      return total
    with (
      tempfile.TemporaryDirectory(dir=self.folder, prefix='.duplicates-') as scratch,
      Progress(duplicates.NAME, 2 * sum(_lines(source / name) for name in names), 'videos') as bar,
    ):
      table = _Table(pathlib.Path(scratch) / 'signatures.sqlite')
      try:
        for name in names:
          with (source / name).open(encoding='utf-8') as lines:
            for video in read(lines):
              table.add(duplicates.Signature.of(video, segment) for segment in video.alive())
              bar.advance()
        table.compare()
        for name in names:
          with (source / name).open(encoding='utf-8') as lines:
            marked = (duplicates.mark(_reset(video), table.found(video)) for video in read(lines))
            total.add(_write(target / name, duplicates.NAME, _digest(source / name), mark, marked, bar.advance))
      finally:
        table.close()
    return total

  def videos(self, number: int, step: str) -> Iterator[Video]:
    """All videos after a step, in order of the shards.

    Raises:
      FileNotFoundError: the step has not been made.
    """
    folder = self.of(number, step)
    if not folder.is_dir():
      raise FileNotFoundError(f'{folder}: no such step; python -m crosstrainer_jax.curate run makes it')
    for path in sorted(folder.glob('*.jsonl')):
      with path.open(encoding='utf-8') as lines:
        yield from read(lines)


class _Table:
  """Signatures by their buckets, on disk: which clips meet is asked of the table, so that memory stays flat."""

  def __init__(self, path: pathlib.Path):
    self._base = sqlite3.connect(path)
    self._base.executescript("""
      PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;
      CREATE TABLE clips(number INTEGER PRIMARY KEY, content TEXT);
      CREATE TABLE buckets(name TEXT, number INTEGER);
      CREATE TABLE found(clip TEXT PRIMARY KEY, apart REAL, other TEXT, why TEXT);
    """)
    self._count = 0

  def add(self, signatures: Iterable[duplicates.Signature]) -> None:
    for signature in signatures:
      self._count += 1
      content = json.dumps([signature.key, signature.hashes, signature.words])
      self._base.execute('INSERT INTO clips VALUES (?, ?)', (self._count, content))
      rows = [(name, self._count) for name in set(signature.buckets())]
      self._base.executemany('INSERT INTO buckets VALUES (?, ?)', rows)

  def compare(self) -> None:
    """Finds the first duplicate of each clip, over all buckets."""
    self._base.execute('CREATE INDEX by_name ON buckets(name, number)')
    names = self._base.execute('SELECT name FROM buckets GROUP BY name HAVING count(*) > 1')
    for (name,) in names:
      rows = self._base.execute('SELECT content FROM buckets JOIN clips USING (number) WHERE name = ?', (name,))
      bucket = [duplicates.Signature(key, tuple(h), tuple(w)) for key, h, w in (json.loads(c) for (c,) in rows)]
      for clip, match in duplicates.within(bucket):
        self._base.execute(
          'INSERT INTO found VALUES (?, ?, ?, ?) ON CONFLICT (clip) DO UPDATE SET apart = excluded.apart, '
          'other = excluded.other, why = excluded.why WHERE (excluded.apart, excluded.other) < (apart, other)',
          (clip, *match),
        )

  def found(self, video: Video) -> dict[str, duplicates.Match]:
    entries = {}
    for clip in map(video.clip_id, video.alive()):
      row = self._base.execute('SELECT apart, other, why FROM found WHERE clip = ?', (clip,)).fetchone()
      if row:
        entries[clip] = duplicates.Match(*row)
    return entries

  def close(self) -> None:
    self._base.close()


def in_order(
  pool: concurrent.futures.Executor, work: Callable[[Video], Video], items: Iterator[Video], ahead: int
) -> Iterator[Video]:
  """What `work` makes of each item, in their order, with so many of them begun at most."""
  waiting: collections.deque[concurrent.futures.Future[Video]] = collections.deque()
  try:
    for item in items:
      waiting.append(pool.submit(work, item))
      if len(waiting) >= ahead:
        yield waiting.popleft().result()
    while waiting:
      yield waiting.popleft().result()
  except BaseException:
    pool.shutdown(wait=False, cancel_futures=True)
    raise


def _write(
  path: pathlib.Path, step: str, source: str, mark: str, videos: Iterable[Video], advance: Callable[[], None]
) -> Counts:
  """Writes a shard, then what was counted: a shard without that is not finished."""
  counts = Counts()
  partial = path.with_suffix('.partial')
  with partial.open('w', encoding='utf-8') as file:
    for video in videos:
      counts.see(step, video)
      file.write(video.to_json() + '\n')
      advance()
  path.with_suffix('.json').unlink(missing_ok=True)
  os.replace(partial, path)
  content = {'source': source, 'step': mark, 'counts': counts.to_json()}
  write_atomically(path.with_suffix('.json'), json.dumps(content))
  return counts


def _finished(source: pathlib.Path, target: pathlib.Path, mark: str) -> Counts | None:
  """The counts of a finished shard; None for one that is to be made, or in which a gate had no answer."""
  note = target.with_suffix('.json')
  if not (target.is_file() and note.is_file()):
    return None
  content = json.loads(note.read_text())
  counts = Counts.from_json(content['counts'])
  same = content['source'] == _digest(source) and content['step'] == mark
  return counts if same and not counts.unanswered else None


def _reset(video: Video) -> Video:
  """What earlier steps could not answer is counted there."""
  video.unanswered = 0
  return video


def _forget(target: pathlib.Path, names: list[str]) -> None:
  """Removes shards that are no more."""
  for path in target.glob('*.json*'):
    if f'{path.stem}.jsonl' not in names:
      path.unlink()


def _shard(name: str, shards: int) -> int:
  return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], 'big') % shards


def _digest(path: pathlib.Path) -> str:
  if not path.is_file():
    return ''
  with path.open('rb') as file:
    return hashlib.file_digest(file, 'sha256').hexdigest()[:16]


def _lines(path: pathlib.Path) -> int:
  with path.open('rb') as file:
    return sum(chunk.count(b'\n') for chunk in iter(lambda: file.read(2**20), b''))
