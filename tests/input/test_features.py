import json
import re
import types

import numpy as np
import pytest
from array_record.python import array_record_module

from crosstrainer_jax.input import features
from tests.clock import Clock

SHAPE = (2, 3, 4)


@pytest.fixture
def clock(monkeypatch):
  clock = Clock()
  monkeypatch.setattr(features, 'time', clock)
  return clock


def values(indices: range) -> np.ndarray:
  return np.stack(
    [np.full(SHAPE, i, np.float16) + np.arange(24, dtype=np.float16).reshape(SHAPE) / 32 for i in indices]
  )


class Encode:
  """Encodes ten clips in pairs, each a minute's work; counts what it was asked for, and fails at one clip."""

  def __init__(self, clock: Clock, fails_at: int = -1):
    self.clock = clock
    self.asked: list[int] = []
    self.fails_at = fails_at

  def __call__(self, first: int):
    for start in range(first, 10, 2):
      if start == self.fails_at:
        raise KeyboardInterrupt
      self.asked.append(start)
      self.clock.now += 31
      yield values(range(start, start + 2))


def test_what_is_written_is_read(tmp_path, clock):
  cache = features.write(tmp_path / 'cache', 10, 'abc', Encode(clock))
  # what a minute brought is a part, and so is the rest
  sizes = [json.loads(path.read_text())[0] for path in sorted((tmp_path / 'cache').glob('part-*.json'))]
  assert sizes == [4, 4, 2]
  for read in (cache, features.FeatureCache(tmp_path / 'cache')):
    assert (len(read), read.shape, read.encoder) == (10, SHAPE, 'abc')
    assert read[np.int64(7)].dtype == np.float16
    np.testing.assert_array_equal(np.stack([read[i] for i in range(10)]), values(range(10)))
    np.testing.assert_array_equal(read.gather([9, 0, 9]), values(range(10))[[9, 0, 9]])


def test_a_kill_costs_a_minute(tmp_path, clock):
  with pytest.raises(KeyboardInterrupt):
    features.write(tmp_path, 10, 'abc', Encode(clock, fails_at=6))
  with pytest.raises(FileNotFoundError, match='not complete'):
    features.FeatureCache(tmp_path)
  resumed = Encode(clock)
  cache = features.write(tmp_path, 10, 'abc', resumed)
  assert resumed.asked == [4, 6, 8]
  np.testing.assert_array_equal(cache.gather(range(10)), values(range(10)))


@pytest.mark.parametrize(('seconds', 'most', 'sizes'), [(0.1, 8, [8] * 12 + [4]), (40, 10**6, [4] * 25)])
def test_a_part_is_of_a_minute_or_of_so_many_rows(clock, seconds, most, sizes):
  def pieces():
    for _ in range(50):
      clock.now += seconds
      yield np.zeros((2, 1))

  assert [sum(map(len, part)) for part in features.in_parts(pieces(), most)] == sizes


def test_days_of_work_are_few_files(clock):
  def pieces():
    for _ in range(4 * 24 * 60):
      clock.now += 60
      yield np.zeros((1, 1))

  assert sum(1 for _ in features.in_parts(pieces(), 10**6)) < 400


def test_a_half_written_part_is_written_again(tmp_path, clock, monkeypatch):
  def dies(*_: object) -> None:
    raise KeyboardInterrupt

  with monkeypatch.context() as patch:
    patch.setattr(features, 'write_records', dies)
    with pytest.raises(KeyboardInterrupt):
      features.write(tmp_path, 10, 'abc', Encode(clock))
  assert [path.suffix for path in tmp_path.iterdir()] == ['.json']
  cache = features.write(tmp_path, 10, 'abc', Encode(clock))
  np.testing.assert_array_equal(cache.gather(range(10)), values(range(10)))


def test_a_finished_cache_is_not_encoded_again(tmp_path, clock):
  features.write(tmp_path, 10, 'abc', Encode(clock))
  again = Encode(clock)
  assert features.write(tmp_path, 10, 'abc', again).shape == SHAPE
  assert again.asked == []


def test_a_cache_of_the_former_version_is_read(tmp_path):
  features.write_records(tmp_path / 'part-00000.array_record', values(range(3)).reshape(3, -1))
  (tmp_path / 'header.json').write_text(json.dumps({'shape': SHAPE, 'encoder': 'abc', 'clips': 3}))
  np.testing.assert_array_equal(features.FeatureCache(tmp_path).gather(range(3)), values(range(3)))


def test_a_full_disk_names_the_file(tmp_path, monkeypatch):
  real = array_record_module.ArrayRecordWriter
  full = types.SimpleNamespace(ArrayRecordWriter=lambda _, options: real('/dev/full', options))
  monkeypatch.setattr(features, 'array_record_module', full)
  with pytest.raises(OSError, match=r'part\.array_record: it cannot be written; is the disk full'):
    features.write_records(tmp_path / 'part.array_record', values(range(3)))
  assert list(tmp_path.iterdir()) == []


class Recorded:
  """Stands for a source whose clips have features of these shapes, each by an encoder."""

  directory = 'somewhere'

  def __init__(self, *clips):
    self.clips = [
      types.SimpleNamespace(clip_id=str(i), encoder=name, features=np.full(shape, i + 1, np.float16))
      for i, (name, shape) in enumerate(clips)
    ]

  def __len__(self):
    return len(self.clips)

  def __getitem__(self, index):
    return self.clips[index]


def test_features_of_records_are_padded_to_one_shape():
  recorded = features.RecordFeatures(Recorded(('e', (2, 3, 4)), ('e', (1, 5, 4))), (2, 5))
  assert (len(recorded), recorded.encoder, recorded.width) == (2, 'e', 4)
  found = recorded.gather([1, 0])
  assert found.shape == (2, 2, 5, 4)
  assert found.any((3,)).tolist() == [[[True] * 5, [False] * 5], [[True] * 3 + [False] * 2] * 2]


@pytest.mark.parametrize('other', [('f', (2, 3, 4)), ('e', (2, 3, 5))])
def test_features_of_records_are_of_one_encoder(other):
  recorded = features.RecordFeatures(Recorded(('e', (2, 3, 4)), other), (2, 3))
  with pytest.raises(ValueError, match=re.escape(f"1: {other[1][-1]} numbers a second of '{other[0]}', but 4 of 'e'")):
    recorded.gather([0, 1])
  with pytest.raises(ValueError, match='records of somewhere hold no features: prepare them with --features'):
    features.RecordFeatures(Recorded(('', (0, 0, 0))))
