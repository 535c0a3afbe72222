"""The store of features by second: it grows in whole parts, goes on after a kill, and windows are cut when read."""

import itertools
import types

import numpy as np
import pytest

from crosstrainer_jax.input import features, second_features
from crosstrainer_jax.input.second_features import ClipFeatures, Second, SecondStore, write

DIM = 3


def value(second: Second) -> np.ndarray:
  return np.array([len(second.recording), len(second.view), second.start / 1000], np.float16)


def encode(seconds):
  return np.stack([value(second) for second in seconds])


def run(recording, view, first, count):
  return [Second(recording, view, first + 1000 * i) for i in range(count)]


def pieces(seconds):
  """Features as an encoder makes them: two seconds at a time."""
  for start in range(0, len(seconds), 2):
    yield encode(seconds[start : start + 2])


@pytest.fixture
def small_parts(monkeypatch):
  monkeypatch.setattr(second_features, 'MOST_SECONDS', 4)


SECONDS = [*run('a', 'left', 0, 6), *run('a', 'right!', 500, 2), *run('take2', 'left', 3000, 3)]


def test_what_is_written_is_read(tmp_path, small_parts):
  write(tmp_path / 'store', SECONDS, pieces(SECONDS))
  assert len(list((tmp_path / 'store').glob('part-*.json'))) == 3
  store = SecondStore(tmp_path / 'store')
  assert len(store) == len(SECONDS)
  for second in SECONDS:
    assert second in store
    np.testing.assert_array_equal(store.read([store.place(second)])[0], value(second))
  assert Second('a', 'left', 6000) not in store
  with pytest.raises(KeyError):
    store.place(Second('b', 'left', 0))


def test_an_empty_store_has_nothing(tmp_path):
  assert len(SecondStore(tmp_path / 'none')) == 0


def test_a_kill_costs_a_minute(tmp_path, monkeypatch):
  """A part is whole after a minute, however few seconds of video that were."""
  clock = [0.0]
  monkeypatch.setattr(features, 'time', types.SimpleNamespace(monotonic=lambda: clock[0]))

  def killed():
    for piece in itertools.islice(pieces(SECONDS), 3):
      clock[0] += 31
      yield piece
    raise KeyboardInterrupt

  with pytest.raises(KeyboardInterrupt):
    write(tmp_path, SECONDS, killed())
  store = SecondStore(tmp_path)
  assert len(store) == 4
  missing = [second for second in SECONDS if second not in store]
  assert missing == SECONDS[4:]
  write(tmp_path, missing, pieces(missing))
  store = SecondStore(tmp_path)
  np.testing.assert_array_equal(store.read([store.place(s) for s in SECONDS]), encode(SECONDS))


def test_it_grows_by_what_is_new(tmp_path, small_parts):
  write(tmp_path, SECONDS[:5], pieces(SECONDS[:5]))
  before = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob('part-*')}
  write(tmp_path, SECONDS[5:], pieces(SECONDS[5:]))
  assert len(SecondStore(tmp_path)) == len(SECONDS)
  assert all((tmp_path / name).stat().st_mtime_ns == time for name, time in before.items())


def test_half_a_part_is_a_clear_error(tmp_path):
  write(tmp_path, SECONDS[:3], pieces(SECONDS[:3]))
  next(tmp_path.glob('*.array_record')).unlink()
  with pytest.raises(ValueError, match=r'part-\w+\.array_record is missing.*delete that file'):
    SecondStore(tmp_path)


def test_windows_are_cut_when_read(tmp_path, small_parts):
  write(tmp_path, SECONDS, pieces(SECONDS))
  store = SecondStore(tmp_path)
  windows = [
    [run('a', 'left', 1000, 3), [*run('a', 'right!', 500, 2), None]],
    [run('a', 'left', 2000, 3), [None] * 3],
  ]
  places = np.array([[[-1 if s is None else store.place(s) for s in view] for view in clip] for clip in windows])
  clips = ClipFeatures(store, places)
  assert len(clips) == 2
  first, second = clips.gather([0, 1])
  np.testing.assert_array_equal(first[0], encode(run('a', 'left', 1000, 3)))
  np.testing.assert_array_equal(first[1, :2], encode(run('a', 'right!', 500, 2)))
  # what two windows share is one record
  np.testing.assert_array_equal(first[0, 1:], second[0, :2])
  assert not first[1, 2].any()
  assert not second[1].any()
  assert first.dtype == np.float16
  with pytest.raises(ValueError, match='no frame in any view'):
    ClipFeatures(store, np.full((1, 2, 3), -1))[0]
