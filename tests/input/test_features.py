import json

import numpy as np
import pytest

from crosstrainer_jax.input import features

SHAPE = (2, 3, 4)


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
  monkeypatch.setattr(features, 'PART', 4)


def values(indices: range) -> np.ndarray:
  return np.stack(
    [np.full(SHAPE, i, np.float16) + np.arange(24, dtype=np.float16).reshape(SHAPE) / 32 for i in indices]
  )


class Encode:
  """Encodes, counts what it was asked for, and fails at one clip."""

  def __init__(self, fails_at: int = -1):
    self.asked: list[range] = []
    self.fails_at = fails_at

  def __call__(self, indices: range) -> np.ndarray:
    self.asked.append(indices)
    if self.fails_at in indices:
      raise KeyboardInterrupt
    return values(indices)


def test_what_is_written_is_read(tmp_path):
  encode, reported = Encode(), []
  cache = features.write(tmp_path / 'cache', 10, 'abc', encode, reported.append)
  assert encode.asked == [range(4), range(4, 8), range(8, 10)]
  assert reported == [4, 4, 2]
  for read in (cache, features.FeatureCache(tmp_path / 'cache')):
    assert (len(read), read.shape, read.encoder) == (10, SHAPE, 'abc')
    assert read[np.int64(7)].dtype == np.float16
    np.testing.assert_array_equal(np.stack([read[i] for i in range(10)]), values(range(10)))
    np.testing.assert_array_equal(read.gather([9, 0, 9]), values(range(10))[[9, 0, 9]])


def test_a_kill_costs_one_part(tmp_path):
  killed, reported = Encode(fails_at=5), []
  with pytest.raises(KeyboardInterrupt):
    features.write(tmp_path, 10, 'abc', killed, reported.append)
  assert reported == [4]
  with pytest.raises(FileNotFoundError, match='not complete'):
    features.FeatureCache(tmp_path)
  resumed = Encode()
  cache = features.write(tmp_path, 10, 'abc', resumed, reported.append)
  assert resumed.asked == [range(4, 8), range(8, 10)]
  assert sum(reported) == 4 + 10
  np.testing.assert_array_equal(cache.gather(range(10)), values(range(10)))


def test_a_half_written_part_is_written_again(tmp_path, monkeypatch):
  def dies(content: object) -> str:
    raise KeyboardInterrupt

  with monkeypatch.context() as patch:
    patch.setattr(json, 'dumps', dies)
    with pytest.raises(KeyboardInterrupt):
      features.write(tmp_path, 4, 'abc', Encode(), lambda count: None)
  assert [path.suffix for path in tmp_path.iterdir()].count('.array_record') == 0
  cache = features.write(tmp_path, 4, 'abc', Encode(), lambda count: None)
  np.testing.assert_array_equal(cache.gather(range(4)), values(range(4)))


def test_a_finished_cache_is_not_encoded_again(tmp_path):
  features.write(tmp_path, 6, 'abc', Encode(), lambda count: None)
  again = Encode()
  assert features.write(tmp_path, 6, 'abc', again, lambda count: None).shape == SHAPE
  assert again.asked == []
