"""The store of a frozen encoder's features by second: float16[D] for each (recording, view, start), in ArrayRecord.

Where a second is several tokens, D is that of all of them.

It only grows, in parts that are renamed into place when they are whole: a kill costs one part, several hosts write
parts of their own, and clips that overlap, or that are cut otherwise another time, share what is there. Beside each
part lies what it holds, as runs of seconds that follow each other.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from array_record.python.array_record_data_source import ArrayRecordDataSource

from crosstrainer_jax.input.buckets import as_path
from crosstrainer_jax.input.features import in_parts, write_records
from crosstrainer_jax.input.files import write_atomically

# A part lies in memory until it is written.
MOST_SECONDS = 4096
SECOND = 1000


class Second(NamedTuple):
  """A second of one view of one recording.

  Attributes:
    recording: names the recording and its content.
    start: in milliseconds.
  """

  recording: str
  view: str
  start: int


class SecondStore:
  """What a folder holds of one encoder's features.

  Args:
    directory: named after the encoder's fingerprint; it need not exist yet.

  Raises:
    ValueError: a part of it is broken.
  """

  def __init__(self, directory: str | Path):
    self.directory = as_path(directory)
    self._places: dict[Second, int] = {}
    self._paths: list[str] = []
    self._sizes: list[int] = []
    for side in sorted(self.directory.glob('part-*.json')):
      path = side.with_suffix('.array_record')
      if not path.is_file():
        raise ValueError(f'{path} is missing, but {side.name} speaks of it: delete that file, and it is made again')
      first, count = sum(self._sizes), 0
      for recording, view, start, seconds in json.loads(side.read_text()):
        for number in range(seconds):
          self._places.setdefault(Second(recording, view, start + number * SECOND), first + count)
          count += 1
      self._paths.append(str(path))
      self._sizes.append(count)
    self._records: Any = ArrayRecordDataSource(self._paths) if self._paths else None

  def __len__(self) -> int:
    return len(self._places)

  def __contains__(self, second: Second) -> bool:
    return second in self._places

  def place(self, second: Second) -> int:
    """Number of its record.

    Raises:
      KeyError: it is not there.
    """
    return self._places[second]

  def read(self, places: Sequence[int]) -> np.ndarray:
    """float16[N, D] of records by their numbers."""
    found = self._records.__getitems__([int(place) for place in places])
    return np.stack([np.frombuffer(value, np.float16) for value in found])


def write(directory: str | Path, seconds: Sequence[Second], features: Iterable[np.ndarray]) -> None:
  """Adds the features of `seconds`, part by part, each of about a minute.

  Args:
    features: float16[n, D] of the first n seconds, then of those that follow, as they are made.

  Raises:
    OSError: nothing can be written there.
  """
  directory = as_path(directory)
  directory.mkdir(parents=True, exist_ok=True)
  done = 0
  for found in in_parts(features, MOST_SECONDS):
    rows = np.concatenate(found)
    part = seconds[done : done + len(rows)]
    # Named after what it holds, so that hosts need not agree on numbers.
    name = hashlib.sha256(repr(part).encode()).hexdigest()[:24]
    path = directory / f'part-{name}.array_record'
    write_records(path, rows)
    write_atomically(path.with_suffix('.json'), json.dumps(list(_runs(part))))
    done += len(rows)


def _runs(seconds: Sequence[Second]) -> Iterator[tuple[str, str, int, int]]:
  """(recording, view, first start, count) of seconds that follow each other."""
  first, count = seconds[0], 1
  for second in seconds[1:]:
    if second == first._replace(start=first.start + count * SECOND):
      count += 1
    else:
      yield (*first, count)
      first, count = second, 1
  yield (*first, count)


class ClipFeatures:
  """Windows of clips, cut out of a store when they are read; has the face of a `FeatureCache`.

  Args:
    places: int64[clips, V, seconds], numbers of records; -1 where a second of a view has no frame, whose features are
      zero.
    each: tokens of a second, which its record holds one after another: S = seconds * each.
  """

  def __init__(self, store: SecondStore, places: np.ndarray, each: int = 1):
    self._store, self._places, self._each = store, places, each

  def __len__(self) -> int:
    return len(self._places)

  def __getitem__(self, index: int) -> np.ndarray:
    """float16[V, S, D]."""
    places = self._places[int(index)]
    seen = places >= 0
    if not seen.any():
      raise ValueError(f'clip {index} has no frame in any view')
    read = self._store.read(places[seen])
    features = np.zeros((*places.shape, read.shape[-1]), np.float16)
    features[seen] = read
    views, seconds, width = features.shape
    return features.reshape(views, seconds * self._each, width // self._each)

  def gather(self, indices: Sequence[int]) -> np.ndarray:
    """float16[N, V, S, D]."""
    return np.stack([self[index] for index in indices])
