"""Random access to the prepared records of one dataset, over all its TFDS splits, without TensorFlow."""

import contextlib
import dataclasses
import functools
import hashlib
import json
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.proto import tf_example_pb2

from crosstrainer_jax.input import video
from crosstrainer_jax.input.buckets import as_path, size_and_time
from crosstrainer_jax.input.files import write_atomically
from crosstrainer_jax.input.record import LATER_FIELDS, Clip

_LIGHT_FIELDS = (
  'clip_id', 'sport', 'skill', 'participant', 'take', 'views', 'commentary', 'frame_times', 'correct', 'incorrect',
  'faults', 'has_faults', 'proficiency', 'expert', 'prefix', 'commentary_time', 'extra',
)  # fmt: skip


@dataclasses.dataclass
class ClipInfo:
  """A record without its frames: what splits, prompts, targets and scores are made from."""

  clip_id: str
  sport: str
  skill: str
  participant: str
  take: str
  pool: str
  views: list[str]
  commentary: str
  frame_times: np.ndarray
  correct: list[str]
  incorrect: list[str]
  faults: list[str]
  has_faults: bool
  proficiency: int
  expert: str = ''
  prefix: str = ''
  commentary_time: float = math.nan
  extra: str = ''


class ClipSource:
  """The clips of a prepared dataset, numbered through its splits in the order of their names.

  Args:
    directory: a TFDS dataset directory (it holds `dataset_info.json`).

  Raises:
    FileNotFoundError: nothing is prepared there.
  """

  def __init__(self, directory: str | Path):
    self.directory = as_path(directory)
    if not (self.directory / 'dataset_info.json').is_file():
      raise FileNotFoundError(
        f'{self.directory}: no prepared dataset here (no dataset_info.json). '
        'Prepare one: python -m crosstrainer_jax.prepare --help'
      )
    self._builder = tfds.builder_from_directory(str(self.directory))
    self._pools = sorted(self._builder.info.splits)
    sizes = [self._builder.info.splits[pool].num_examples for pool in self._pools]
    self._starts = np.concatenate([[0], np.cumsum(sizes)]).astype(int)

  def __len__(self) -> int:
    return int(self._starts[-1])

  @property
  def fit(self) -> video.Fit:
    """How a frame became a square."""
    fit: video.Fit = (self._builder.info.metadata or {}).get('fit', 'letterbox')
    return fit

  @functools.cached_property
  def frame_size(self) -> int:
    """Height and width of a frame, by the first record; 0 for a dataset that was prepared without frames."""
    frames = self[0].frames if len(self) else np.zeros(0)
    return int(frames.shape[2]) if frames.size else 0

  def __getitem__(self, index: int) -> Clip:
    """The whole record of clip `index`, frames included."""
    pool, row = self._locate(index)
    return Clip.from_example(self._open(pool, True)[row])

  def infos(self) -> list[ClipInfo]:
    """Every record without its frames, in order."""
    infos = []
    for pool in self._pools:
      for example in self._open(pool, False):
        fields = (name for name in _LIGHT_FIELDS if name in example or name not in LATER_FIELDS)
        infos.append(ClipInfo(**{name: _plain(example[name]) for name in fields}, pool=pool))
    return infos

  def licences(self) -> dict[str, int]:
    """How many clips stand under each licence, the most frequent first; '' where a record names none."""
    records = (example for pool in self._pools for example in self._open(pool, False))
    return dict(Counter(str(_plain(example['licence'])) for example in records).most_common())

  @functools.cached_property
  def fingerprint(self) -> str:
    """Names the content: a hash of the dataset's name, its splits and every record.

    It stays the same when the folder moves or the same data are made again. It is kept in `fingerprint.json` beside the
    records, which are read again (2 to 5 s a GB) only when a file's name, size or time of change is another.
    """
    kept = self.directory / 'fingerprint.json'
    files = {path.name: size_and_time(path) for path in sorted(self.directory.glob('*.array_record*'))}
    if kept.is_file() and (known := json.loads(kept.read_text()))['files'] == files:
      return str(known['fingerprint'])
    fingerprint = self._hash()
    with contextlib.suppress(OSError):  # where nothing can be written, it is made every time
      write_atomically(kept, json.dumps({'fingerprint': fingerprint, 'files': files}, indent=1) + '\n')
    return fingerprint

  def _hash(self) -> str:
    digest = hashlib.sha256(self._builder.info.full_name.encode())
    for pool in self._pools:
      records = self._builder.as_data_source(pool, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES)
      digest.update(f'\n{pool} {len(records)}\n'.encode())
      for record in records:
        # A record is a protobuf map, whose bytes come in another order from every process that writes it.
        example = tf_example_pb2.Example.FromString(record).SerializeToString(deterministic=True)
        digest.update(hashlib.sha256(example).digest())
    return digest.hexdigest()[:16]

  def _locate(self, index: int) -> tuple[str, int]:
    if not 0 <= index < len(self):
      raise IndexError(f'clip {index} of {len(self)} in {self.directory}')
    pool = int(np.searchsorted(self._starts, index, side='right')) - 1
    return self._pools[pool], int(index - self._starts[pool])

  def _open(self, pool: str, frames: bool) -> Sequence[Any]:
    return self._sources[(pool, frames)]

  @functools.cached_property
  def _sources(self) -> dict[tuple[str, bool], Sequence[Any]]:
    # Frames stay compressed: inflating them is nearly all the cost of reading a record.
    light = {name: tfds.decode.SkipDecoding() for name in ('frames', 'features')}
    sources = {(pool, True): self._builder.as_data_source(pool) for pool in self._pools}
    return sources | {(pool, False): self._builder.as_data_source(pool, decoders=light) for pool in self._pools}


def _plain(value: Any) -> Any:
  if isinstance(value, bytes):
    return value.decode('utf-8')
  if isinstance(value, np.ndarray) and value.dtype == object:
    return [_plain(v) for v in value]
  if isinstance(value, list):
    return [_plain(v) for v in value]
  return value.item() if isinstance(value, np.generic) else value
