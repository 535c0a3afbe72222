import dataclasses
import errno
import os
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest

from crosstrainer_jax.input.record import Clip
from crosstrainer_jax.input.source import ClipInfo, ClipSource


def clip(number: int, commentary: str = 'Nice balance.', views: int = 2) -> Clip:
  random = np.random.default_rng(number)
  frames = random.integers(0, 256, (views, 2, 4, 4, 3), np.uint8)
  names, times = [f'view{v}' for v in range(views)], np.array([[0, np.nan]] * views, np.float32)
  return Clip(
    f'clip-{number}', 'tiny', 'soccer', 'pass', f'p{number // 2}', f't{number}', names, frames, times,
    commentary=commentary, correct=['balance'], incorrect=['a', 'b'][: number % 3], faults=['timing'] * (number % 2),
    has_faults=number % 2 == 1, proficiency=number % 4,
  )  # fmt: skip


POOLS = {'validation': [clip(0), clip(1, views=1)], 'test': [clip(2)], 'train': [clip(3, 'Übung,\nzwei'), clip(4, '')]}
# The pools in the order of their names.
ORDER = [('test', 2), ('train', 3), ('train', 4), ('validation', 0), ('validation', 1)]


@pytest.fixture(scope='module')
def directory(write_dataset, tmp_path_factory):
  return write_dataset(tmp_path_factory.mktemp('data'), POOLS)


def test_clips_are_numbered_through_all_pools(directory):
  source = ClipSource(directory)
  assert len(source) == 5
  assert [source[i].clip_id for i in range(5)] == [f'clip-{number}' for _, number in ORDER]
  np.testing.assert_array_equal(source[1].frames, POOLS['train'][0].frames)
  for index in (-1, 5):
    with pytest.raises(IndexError, match='of 5'):
      source[index]


def test_the_size_of_frames(directory, write_dataset, tmp_path):
  assert ClipSource(directory).frame_size == 4
  bare = dataclasses.replace(clip(0), frames=Clip('', '', '', '', '', '').frames)
  assert ClipSource(write_dataset(tmp_path, {'train': [bare]})).frame_size == 0


def test_infos_equal_the_full_records(directory):
  source = ClipSource(directory)
  infos = source.infos()
  assert [info.pool for info in infos] == [pool for pool, _ in ORDER]
  for info, whole in zip(infos, source, strict=True):
    for field in dataclasses.fields(ClipInfo):
      if field.name == 'pool':
        continue
      a, b = getattr(info, field.name), getattr(whole, field.name)
      assert type(a) is type(b), field.name
      np.testing.assert_array_equal(a, b, err_msg=field.name)


def test_licences_are_counted(write_dataset, tmp_path):
  clips = [dataclasses.replace(clip(i), licence=name) for i, name in enumerate(['', 'MIT', 'CC-BY-4.0', 'CC-BY-4.0'])]
  source = ClipSource(write_dataset(tmp_path, {'train': clips[:2], 'test': clips[2:]}))
  assert source.licences() == {'CC-BY-4.0': 2, '': 1, 'MIT': 1}
  assert next(iter(source.licences())) == 'CC-BY-4.0'


def test_a_missing_dataset_says_how_to_make_one(tmp_path):
  with pytest.raises(FileNotFoundError, match=r'nowhere: no prepared dataset.*crosstrainer_jax\.prepare'):
    ClipSource(tmp_path / 'nowhere')


def test_fingerprint_follows_the_content_not_the_place(directory, write_dataset, tmp_path):
  fingerprint = ClipSource(directory).fingerprint
  again = write_dataset(tmp_path / 'again', POOLS)
  moved = tmp_path / 'moved' / directory.name
  moved.parent.mkdir()
  shutil.copytree(directory, moved)
  assert ClipSource(moved).fingerprint == ClipSource(again).fingerprint == fingerprint

  # one letter, and the size stays the same
  changed = write_dataset(tmp_path / 'changed', {**POOLS, 'test': [clip(2, 'Nice valance.')]})
  frames = dataclasses.replace(POOLS['test'][0], frames=POOLS['test'][0].frames ^ 1)
  retouched = write_dataset(tmp_path / 'retouched', {**POOLS, 'test': [frames]})
  fewer = write_dataset(tmp_path / 'fewer', {**POOLS, 'train': POOLS['train'][:1]})
  renamed = write_dataset(
    tmp_path / 'renamed', {**{k: v for k, v in POOLS.items() if k != 'test'}, 'exam': POOLS['test']}
  )
  different = [ClipSource(path).fingerprint for path in (changed, retouched, fewer, renamed)]
  assert len({fingerprint, *different}) == 5


MAKE = """
import sys
from crosstrainer_jax.datasets.skillsim import builder
print(builder.prepare(sys.argv[1], workers=0, train_clips=2, test_clips=1).data_dir)
"""


def test_fingerprint_is_the_same_when_another_process_makes_the_data(tmp_path):
  made = []
  for seed in '12':
    command = [sys.executable, '-c', MAKE, str(tmp_path / seed)]
    done = subprocess.run(command, env=os.environ | {'PYTHONHASHSEED': seed}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    made.append(ClipSource(done.stdout.splitlines()[-1]).fingerprint)
  assert made[0] == made[1]


def test_fingerprint_is_kept_until_a_file_changes(directory, write_dataset, tmp_path, monkeypatch):
  copy = tmp_path / directory.name
  shutil.copytree(directory, copy, ignore=shutil.ignore_patterns('fingerprint.json'))
  first = ClipSource(copy).fingerprint
  hashed = []
  original = ClipSource._hash
  monkeypatch.setattr(ClipSource, '_hash', lambda source: hashed.append(1) or original(source))
  assert ClipSource(copy).fingerprint == first
  assert not hashed

  # of the same names and sizes, as after an import with --overwrite
  other = write_dataset(tmp_path / 'other', {**POOLS, 'test': [clip(2, 'Nice valance.')]})
  for path in other.glob('*.array_record*'):
    shutil.copyfile(path, copy / path.name)
  assert ClipSource(copy).fingerprint == ClipSource(other).fingerprint != first
  assert len(hashed) == 2


def test_fingerprint_needs_no_right_to_write(directory, tmp_path, monkeypatch):
  copy = tmp_path / directory.name
  shutil.copytree(directory, copy, ignore=shutil.ignore_patterns('fingerprint.json'))

  def refuse(path, text, **_):
    raise OSError(errno.EROFS, 'Read-only file system', str(path))

  monkeypatch.setattr(pathlib.Path, 'write_text', refuse)
  assert ClipSource(copy).fingerprint == ClipSource(directory).fingerprint
  assert not (copy / 'fingerprint.json').exists()


def test_what_lies_beside_the_records_does_not_count(directory, tmp_path):
  copy = tmp_path / directory.name
  shutil.copytree(directory, copy)
  (copy / 'features-abc').mkdir()
  (copy / 'import.json').write_text('{}')
  assert ClipSource(copy).fingerprint == ClipSource(directory).fingerprint
