"""The builder: complete records, reuse, cleaning after a kill, and the same clips for any number of workers."""

import numpy as np
import pytest

from crosstrainer_jax.datasets.skillsim import builder
from crosstrainer_jax.datasets.skillsim.world import World
from crosstrainer_jax.input import record

SMALL = {'train_clips': 2, 'test_clips': 1}


def _clips(prepared, split):
  return [record.Clip.from_example(example) for example in prepared.as_data_source(split=split)]


def test_tfds_does_not_warn_of_our_own_configs(tmp_path, caplog):
  for _ in range(2):
    builder.prepare(tmp_path, workers=0, seed=7, **SMALL)
  assert not [line.message for line in caplog.records if line.levelname == 'WARNING']


def test_prepare_writes_the_world_and_reuses_it(tmp_path, capsys):
  prepared = builder.prepare(tmp_path, workers=0, **SMALL)
  clips = _clips(prepared, 'train')
  assert len(clips) == 8
  assert len(_clips(prepared, 'test')) == 4
  truth = World().clip('basketball', 'train', 1)
  same = next(clip for clip in clips if clip.clip_id == truth.clip_id)
  np.testing.assert_array_equal(same.frames, truth.frames)
  assert same.commentary == truth.commentary
  assert same.faults == truth.faults
  assert not any(clip.token_lengths.any() for clip in clips)  # no tokenizer exists yet
  assert 'clips in' in capsys.readouterr().out
  builder.prepare(tmp_path, workers=0, **SMALL)
  assert 'clips in' not in capsys.readouterr().out


def test_leftovers_of_a_kill_are_removed(tmp_path, capsys):
  config = builder.SkillsimConfig(seed=3, **SMALL)
  leftover = tmp_path / 'skillsim' / config.name / f'incomplete.ABC123_{builder.Skillsim.VERSION}'  # as TFDS names them
  leftover.mkdir(parents=True)
  builder.prepare(tmp_path, workers=0, seed=3, **SMALL)
  assert not leftover.exists()
  assert 'interrupted' in capsys.readouterr().out


def test_workers_do_not_change_the_clips(tmp_path):
  alone = _clips(builder.prepare(tmp_path / 'a', workers=0, **SMALL), 'test')
  pooled = _clips(builder.prepare(tmp_path / 'b', workers=1, **SMALL), 'test')
  assert [clip.clip_id for clip in alone] == [clip.clip_id for clip in pooled]
  for one, two in zip(alone, pooled, strict=True):
    np.testing.assert_array_equal(one.frames, two.frames)


def test_dials_name_the_config():
  names = {
    builder.SkillsimConfig(**dial).name for dial in ({}, {'entanglement': 0.5}, {'camera_shift': 1.0}, {'seed': 1})
  }
  assert len(names) == 4


def test_bad_settings_are_refused(tmp_path):
  with pytest.raises(ValueError, match='no setting clips'):
    builder.prepare(tmp_path, clips=3)
  with pytest.raises(ValueError, match='camera_shift is 3'):
    builder.prepare(tmp_path, camera_shift=3)
  with pytest.raises(ValueError, match='train_clips is 0'):
    builder.prepare(tmp_path, train_clips=0)
