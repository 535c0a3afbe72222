"""Evaluating again: which run is taken, and that its scores do not change."""

import os

import pytest

from crosstrainer_jax import eval as eval_verb


def finished(folder, seconds):
  (folder / 'stage2').mkdir(parents=True)
  (folder / 'config.json').write_text('{}')
  done = folder / 'stage2' / 'done.json'
  done.write_text('{}')
  os.utime(done, (seconds, seconds))


def test_the_newest_finished_run_is_taken(tmp_path):
  finished(tmp_path / 'old', 100)
  finished(tmp_path / 'sweeps' / 'transfer' / 'new', 200)
  (tmp_path / 'unfinished').mkdir()
  assert eval_verb.newest_run(tmp_path) == tmp_path / 'sweeps' / 'transfer' / 'new'


def test_rows_of_a_run_are_no_runs(tmp_path):
  finished(tmp_path / 'run', 100)
  finished(tmp_path / 'run' / 'rows' / 'video_zeroed', 200)
  (tmp_path / 'run' / 'rows' / 'video_zeroed' / 'config.json').unlink()
  assert eval_verb.newest_run(tmp_path) == tmp_path / 'run'


def test_without_a_run_the_error_says_how_to_make_one(tmp_path):
  with pytest.raises(FileNotFoundError, match='launch_tpu.sh'):
    eval_verb.newest_run(tmp_path)
