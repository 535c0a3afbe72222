"""Evaluating again: which run is taken, and that its scores do not change."""

import json
import os
import shutil
import types

import pytest

from crosstrainer_jax import eval as eval_verb
from crosstrainer_jax import judging
from crosstrainer_jax.settings import SettingsError


def finished(folder, seconds):
  (folder / 'stage2').mkdir(parents=True)
  (folder / 'config.json').write_text('{}')
  done = folder / 'stage2' / 'done.json'
  done.write_text('{}')
  os.utime(done, (seconds, seconds))


def given_to(monkeypatch, **flags):
  """Sets the flags of the verb, which are not defined in the process of the tests."""
  default = {
    'workdir': None, 'runs': 'runs', 'data_dir': 'runs/datasets', 'external': [], 'human-sheet': 0, 'human-rows': None,
    'candidates': [], 'sheet-seed': 0, 'judged': None, 'key': None,
    'published': False, 'table': '', 'figure': '', 'setting': '', 'judge': '', 'timed': [],
    'submission': '', 'backend': '', 'estimate': False,
    **{name: value for name, (value, _) in eval_verb.VLM_FLAGS.items()},
  }  # fmt: skip
  given = types.SimpleNamespace(**default | flags)
  monkeypatch.setattr(eval_verb, 'flags', types.SimpleNamespace(FLAGS=given))


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
  given_to(monkeypatch)
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


def test_a_sheet_is_written_from_the_predictions_and_judged(small_run, small_data, tmp_path, monkeypatch, capsys):
  workdir = tmp_path / 'run'
  shutil.copytree(small_run, workdir)
  shutil.copytree(small_run.parent / 'datasets', tmp_path / 'datasets')
  given_to(monkeypatch, workdir=str(workdir), data_dir=None, **{'human-sheet': 2})
  eval_verb.main(['eval'])
  folder = workdir / 'human' / 'feedback'
  systems = {item['system'] for item in json.loads((folder / 'key.json').read_text())['items']}
  assert systems == {*judging.ROWS, 'expert’s comment'}
  rows = (folder / 'form.csv').read_text().splitlines()
  forms = []
  for rater in ('ann', 'bob'):
    forms.append(str(tmp_path / f'{rater}.csv'))
    (tmp_path / f'{rater}.csv').write_text(
      '\n'.join([rows[0], *(row.replace(',,,', f',{rater},yes,') for row in rows[1:])])
    )
  # a shell's pattern makes the further forms arguments of their own
  given_to(monkeypatch, judged=forms[:1], key=str(folder / 'key.json'))
  eval_verb.main(['eval', *forms[1:]])
  assert json.loads((folder / 'judged.json').read_text())['raters'] == ['ann', 'bob']
  assert 'expert’s comment' in capsys.readouterr().out


def test_a_sheet_of_videos_in_the_wild_needs_what_the_evaluation_left(tmp_path, monkeypatch):
  """An evaluation that is there is not made again, so that nothing need tell the sport."""
  folder = tmp_path / 'run' / 'wild' / 'videos'
  folder.mkdir(parents=True)
  (folder / 'report.json').write_text('{}')
  wild = {'workdir': str(tmp_path / 'run'), 'setting': 'wild', 'sport': '', 'sport_table': '', 'human-sheet': 2}
  given_to(monkeypatch, **wild)
  with pytest.raises(FileNotFoundError, match='evaluate these videos again'):
    eval_verb.main(['eval', str(tmp_path / 'videos')])
  given_to(monkeypatch, **wild | {'candidates': ['ours=found.jsonl']})
  with pytest.raises(SettingsError, match='cannot be judged with --setting=wild'):
    eval_verb.main(['eval', str(tmp_path / 'videos')])
  given_to(monkeypatch, **wild | {'human-sheet': 0})
  with pytest.raises(ValueError, match='nothing tells the sport'):
    eval_verb.main(['eval', str(tmp_path / 'videos')])
