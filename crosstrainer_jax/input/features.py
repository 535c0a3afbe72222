"""The cache of a frozen encoder's features: float16[V, S, D] a clip, in ArrayRecord, in the order of the dataset.

Written in parts, each renamed into place when it is whole, so that a kill costs one part and no more.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from array_record.python import array_record_module
from array_record.python.array_record_data_source import ArrayRecordDataSource

from crosstrainer_jax.input.files import replacing, write_atomically

PART = 512


class FeatureCache:
  """Features of every clip of one dataset by one encoder.

  Args:
    directory: `<dataset>/features-<encoder fingerprint>`, as `write` filled it.

  Raises:
    FileNotFoundError: the cache is not complete.
  """

  def __init__(self, directory: str | Path):
    self.directory = Path(directory)
    header = self.directory / 'header.json'
    if not header.is_file():
      raise FileNotFoundError(f'{self.directory}: features are not complete here; training makes them')
    content = json.loads(header.read_text())
    self.shape: tuple[int, int, int] = tuple(content['shape'])
    self.encoder: str = content['encoder']
    self._records = ArrayRecordDataSource([str(path) for path in _parts(self.directory, content['clips'])])

  def __len__(self) -> int:
    return len(self._records)

  def __getitem__(self, index: int) -> np.ndarray:
    """float16[V, S, D]."""
    return np.frombuffer(self._records[int(index)], np.float16).reshape(self.shape)

  def gather(self, indices: Sequence[int]) -> np.ndarray:
    """float16[N, V, S, D]."""
    return np.stack([self[index] for index in indices])


def write(
  directory: str | Path, clips: int, encoder: str, encode: Callable[[range], np.ndarray], report: Callable[[int], None]
) -> FeatureCache:
  """Fills the cache, going on after the last whole part.

  Args:
    clips: number of clips in the dataset.
    encoder: fingerprint of the encoder.
    encode: indices of a part -> float16[n, V, S, D].
    report: told how many clips were done (or found done).
  """
  directory = Path(directory)
  directory.mkdir(parents=True, exist_ok=True)
  shape: list[int] = []
  for start, path in zip(_starts(clips), _parts(directory, clips), strict=True):
    count = min(PART, clips - start)
    side = path.with_suffix('.json')
    if path.is_file():
      shape = json.loads(side.read_text())
    else:
      features = encode(range(start, start + count))
      shape = list(features.shape[1:])
      write_atomically(side, json.dumps(shape))
      with replacing(path) as fresh:
        writer = array_record_module.ArrayRecordWriter(str(fresh), 'group_size:1')
        for row in features:
          writer.write(np.ascontiguousarray(row, np.float16).tobytes())
        writer.close()
    report(count)
  write_atomically(directory / 'header.json', json.dumps({'shape': shape, 'encoder': encoder, 'clips': clips}))
  return FeatureCache(directory)


def _starts(clips: int) -> Iterator[int]:
  yield from range(0, clips, PART)


def _parts(directory: Path, clips: int) -> list[Path]:
  return [directory / f'part-{number:05d}.array_record' for number, _ in enumerate(_starts(clips))]
