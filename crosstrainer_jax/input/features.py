"""The cache of a frozen encoder's features: float16[V, S, D] a clip, in ArrayRecord, in the order of the dataset.

Written in parts, each renamed into place when it is whole, so that a kill costs one part and no more.
"""

import json
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from array_record.python import array_record_module
from array_record.python.array_record_data_source import ArrayRecordDataSource

from crosstrainer_jax.input.buckets import as_path
from crosstrainer_jax.input.files import replacing, write_atomically
from crosstrainer_jax.input.source import ClipSource

# A part is what a minute brings, or a fiftieth of the time so far: few files also after days.
SECONDS_OF_A_PART = 60.0
SHARE_OF_A_PART = 0.02
# It lies in memory until it is written.
MOST_CLIPS = 512
# Caches of a former version say nothing of their parts, which were all of this size.
_FORMER_PART = 512


class FeatureCache:
  """Features of every clip of one dataset by one encoder.

  Args:
    directory: `<dataset>/features-<encoder fingerprint>`, as `write` filled it.

  Raises:
    FileNotFoundError: the cache is not complete.
  """

  def __init__(self, directory: str | Path):
    self.directory = as_path(directory)
    header = self.directory / 'header.json'
    if not header.is_file():
      raise FileNotFoundError(f'{self.directory}: features are not complete here; training makes them')
    content = json.loads(header.read_text())
    self.shape: tuple[int, int, int] = tuple(content['shape'])
    self.encoder: str = content['encoder']
    former = [f'part-{number:05d}.array_record' for number in range(math.ceil(content['clips'] / _FORMER_PART))]
    self._records = ArrayRecordDataSource([str(self.directory / name) for name in content.get('parts', former)])

  def __len__(self) -> int:
    return len(self._records)

  def __getitem__(self, index: int) -> np.ndarray:
    """float16[V, S, D]."""
    return np.frombuffer(self._records[int(index)], np.float16).reshape(self.shape)

  def gather(self, indices: Sequence[int]) -> np.ndarray:
    """float16[N, V, S, D]."""
    return np.stack([self[index] for index in indices])


class RecordFeatures:
  """Features that a dataset came with, out of its records; has the face of a `FeatureCache`.

  Args:
    shape: views and seconds (V, S) that hold every clip; what a clip has less of is zeros.

  Attributes:
    encoder: names what made them.
    width: D, by the first record.

  Raises:
    ValueError: the records hold none.
  """

  def __init__(self, source: ClipSource, shape: tuple[int, int] = (0, 0)):
    self._source, self._shape = source, shape
    first = source[0]
    if not first.features.size:
      raise ValueError(
        f'config.encoder.weights=records, but the records of {source.directory} hold no features: prepare them with '
        '--features, or name an encoder'
      )
    self.encoder, self.width = first.encoder, first.features.shape[-1]

  def __len__(self) -> int:
    return len(self._source)

  def __getitem__(self, index: int) -> np.ndarray:
    """float16[V, S, D]."""
    clip = self._source[int(index)]
    if (clip.encoder, clip.features.shape[-1]) != (self.encoder, self.width):
      found = f'{clip.features.shape[-1]} numbers a second of {clip.encoder!r}'
      raise ValueError(f'{clip.clip_id}: {found}, but {self.width} of {self.encoder!r} in other clips')
    views, seconds = self._shape
    missing = (0, views - clip.features.shape[0]), (0, seconds - clip.features.shape[1]), (0, 0)
    return np.pad(clip.features, missing)

  def gather(self, indices: Sequence[int]) -> np.ndarray:
    """float16[N, V, S, D]."""
    return np.stack([self[index] for index in indices])


def write(
  directory: str | Path, clips: int, encoder: str, encode: Callable[[int], Iterable[np.ndarray]]
) -> FeatureCache:
  """Fills the cache, going on after the last whole part.

  Args:
    clips: number of clips in the dataset.
    encoder: fingerprint of the encoder.
    encode: first clip -> float16[n, V, S, D] of n clips, and of those that follow, from that one to the last.

  Raises:
    OSError: nothing can be written there.
  """
  directory = as_path(directory)
  directory.mkdir(parents=True, exist_ok=True)
  done, shape, parts = 0, [], []
  while (path := _part(directory, done)).is_file():
    count, *shape = json.loads(path.with_suffix('.json').read_text())
    parts.append(path.name)
    done += count
  if done < clips:
    for found in in_parts(encode(done), MOST_CLIPS):
      features = np.concatenate(found)
      path, shape = _part(directory, done), list(features.shape[1:])
      write_atomically(path.with_suffix('.json'), json.dumps([len(features), *shape]))
      write_records(path, features)
      parts.append(path.name)
      done += len(features)
  header = {'shape': shape, 'encoder': encoder, 'clips': clips, 'parts': parts}
  write_atomically(directory / 'header.json', json.dumps(header))
  return FeatureCache(directory)


def _part(directory: Path, first: int) -> Path:
  return directory / f'part-from-{first:07d}.array_record'


def in_parts(pieces: Iterable[np.ndarray], most: int) -> Iterator[list[np.ndarray]]:
  """Gathers arrays, as they come, into parts: each what about a minute brings, or `most` rows if those come first."""
  begun = last = time.monotonic()
  part: list[np.ndarray] = []
  for piece in pieces:
    part.append(piece)
    now = time.monotonic()
    if now - last >= max(SECONDS_OF_A_PART, SHARE_OF_A_PART * (now - begun)) or sum(map(len, part)) >= most:
      yield part
      part, last = [], now
  if part:
    yield part


def write_records(path: Path, rows: np.ndarray) -> None:
  """Writes an ArrayRecord, a record of float16 for each row, and renames it into place.

  Raises:
    OSError: it cannot be written, for example since the disk is full.
  """
  with replacing(path) as fresh:
    try:
      # numbers of half precision do not compress, and are read faster as they are
      writer = array_record_module.ArrayRecordWriter(str(fresh), 'group_size:1,uncompressed')
      for row in rows:
        writer.write(np.ascontiguousarray(row, np.float16).tobytes())
      writer.close()
    except RuntimeError as error:
      raise OSError(f'{path}: it cannot be written; is the disk full? ({error})') from error
