"""Evaluating again: which run is taken, and that its scores do not change."""

import json
import os
import shutil
import types

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


def test_without_arguments_the_newest_run_gets_the_same_scores_again(small_run, tmp_path, monkeypatch, capsys):
  run = tmp_path / 'runs' / 'cross_sport'
  shutil.copytree(small_run, run)
  shutil.copytree(small_run.parent / 'datasets', tmp_path / 'runs' / 'datasets')
  (run / 'report.json').unlink()
  given = types.SimpleNamespace(
    workdir=None, runs='runs', data_dir='runs/datasets', published=False, table='', figure=''
  )
  monkeypatch.setattr(eval_verb, 'flags', types.SimpleNamespace(FLAGS=given))
  monkeypatch.chdir(tmp_path)
  eval_verb.main(['eval'])
  out = capsys.readouterr().out
  assert out.startswith('Evaluating runs/cross_sport, the newest run\n')
  assert out.endswith(
    'written: runs/cross_sport/report.md, runs/cross_sport/report.json, runs/cross_sport/predictions/\n'
  )
  before, after = (json.loads((folder / 'report.json').read_text()) for folder in (small_run, run))
  assert after['rows'] == before['rows']
  assert after['command'].startswith('python -m crosstrainer_jax.eval')
