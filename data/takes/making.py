"""Takes are made into records that wait on disk: a plan of all takes first, then those that are left, by threads.

PyAV and zlib release the GIL, so threads do; a thread has a take of its own.
"""

import collections
import concurrent.futures
import contextlib
import dataclasses
import hashlib
import json
import os
import pathlib
import struct
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import tensorflow_datasets as tfds

from crosstrainer_jax.datasets.manifest.rows import resolve
from crosstrainer_jax.datasets.takes.clips import Settings, clips_of, key_files
from crosstrainer_jax.datasets.takes.journal import Journal
from crosstrainer_jax.datasets.takes.take import Loss, Source, Take
from crosstrainer_jax.input import record, recordings
from crosstrainer_jax.input.progress import Progress

# Part of every key: raise it when records come out differently.
_FORMAT = 1
TWICE = 'a take of this name came before'
_LENGTH = struct.Struct('<Q')


def plan(source: Source, settings: Settings, journal: Journal) -> str:
  """Fills the journal with the takes of a source; returns a mark that is another where the records would be.

  Raises what `Source.takes` does.
  """
  journal.begin()
  digest = hashlib.sha256(json.dumps([source.content(), settings.dataset], sort_keys=True).encode())
  with Progress(f'reading {source.name}', None, 'takes') as progress:
    for take in source.takes(journal.lose):
      key = _key(take, settings)
      if journal.add(take, key):
        digest.update(key.encode())
      else:
        journal.lose(Loss('take', take.name, TWICE))
        for comment in take.comments:
          journal.lose(Loss('comment', f'{take.name}/{comment.name}', TWICE))
      progress.advance()
  journal.commit()
  return digest.hexdigest()[:16]


def _key(take: Take, settings: Settings) -> str:
  """Names the records of a take: other files, windows, rates, sizes or words make another."""
  sampling = dataclasses.asdict(settings.sampling)
  identity = [_FORMAT, settings.dataset, settings.root, settings.frames, sampling, key_files(take, settings.root)]
  return hashlib.sha256(json.dumps([*identity, take.to_json()]).encode()).hexdigest()[:24]


@dataclasses.dataclass(frozen=True)
class Made:
  """What became of a take: `recording` says where features find its videos, None where they need none."""

  key: str
  clips: int
  bytes: int
  recording: dict[str, Any] | None
  losses: list[Loss]


def make_all(journal: Journal, settings: Settings, folder: pathlib.Path, workers: int) -> None:
  """Makes the records of every take that is not finished; prints how many were.

  Raises:
    OSError: the disk is full, or what it says.
  """
  total, done = journal.count()
  if done:
    print(f'{done} of {total} takes are finished already (resumed)')
  stopped = threading.Event()

  def advance() -> None:
    if stopped.is_set():
      raise KeyboardInterrupt

  with (
    Progress('takes', total - done, 'takes') as progress,
    concurrent.futures.ThreadPoolExecutor(workers) as pool,
  ):
    left = journal.left()
    running: collections.deque[concurrent.futures.Future[Made]] = collections.deque()
    try:
      for key, take in left:
        running.append(pool.submit(make, key, take, settings, folder, advance))
        # A few wait, so that no thread does; the journal has the others.
        if len(running) >= 2 * workers:
          _finish(journal, running.popleft().result())
          progress.advance()
      while running:
        _finish(journal, running.popleft().result())
        progress.advance()
    except BaseException:
      stopped.set()
      pool.shutdown(wait=False, cancel_futures=True)
      raise


def _finish(journal: Journal, made: Made) -> None:
  journal.finish(made.key, made.clips, made.bytes, made.recording, made.losses)


def make(
  key: str, take: Take, settings: Settings, folder: pathlib.Path, advance: Callable[[], None] = lambda: None
) -> Made:
  """Writes the records of a take to the file `key` in `folder`."""
  losses: list[Loss] = []
  clips = size = 0
  views: list[str] = []
  serialise = serialiser()
  # Nobody else writes here, so a name beside it is enough.
  partial = folder / f'{key}.partial'
  decodes = settings.frames and not take.features
  with (
    tempfile.TemporaryDirectory(dir=folder, prefix='frames-') if decodes else contextlib.nullcontext('') as scratch,
    partial.open('wb') as file,
  ):
    for clip in clips_of(take, settings, scratch, losses.append, advance):
      content = serialise(clip)
      file.write(_LENGTH.pack(len(content)))
      file.write(content)
      clips, size, views = clips + 1, size + len(content), clip.views
  os.replace(partial, folder / key)
  recording = None
  if clips and not settings.frames and not take.features:
    recording = locate(take, settings.root, views)
  return Made(key, clips, size, recording, losses)


def locate(take: Take, root: str, views: Iterable[str]) -> dict[str, Any]:
  """A take's videos for `recordings.Recordings`: where they lie, and what they hold."""
  files = [os.fspath(resolve(root, path)) for name, path in zip(take.views, take.videos, strict=True) if name in views]
  found = {'take': take.name, 'files': files, 'identities': [recordings.identify(file) for file in files]}
  return found | ({'turn': take.turn} if take.turn else {})


def read(path: pathlib.Path) -> Iterator[bytes]:
  """The records of a finished take."""
  with path.open('rb') as file:
    while head := file.read(_LENGTH.size):
      yield file.read(_LENGTH.unpack(head)[0])


def serialiser() -> Callable[[record.Clip], bytes]:
  """Clip → the bytes of its record."""
  features = record.features_dict()
  inner = tfds.core.example_serializer.ExampleSerializer(features.get_serialized_info())

  def serialise(clip: record.Clip) -> bytes:
    content: bytes = inner.serialize_example(features.encode_example(clip.to_example()))
    return content

  return serialise
