"""The main job on a handful of clips: what it leaves, what a second start does, and what it refuses."""

import json

import pytest
from absl import flags

from crosstrainer_jax import provenance, settings, train


def recorded(workdir):
  return provenance.recorded_config(workdir)


def test_the_workdir_holds_what_the_architecture_page_says(small_run):
  for name in (
    'config.json', 'environment.json', 'attributes.jsonl', 'tokenizer/tokenizer.json', 'stage1/done.json',
    'folds/predicted.json', 'stage2/done.json', 'stage2/params', 'probe/probe.npz', 'model.json', 'report.md',
    'report.json', 'done.json', 'predictions/CrossTrainer.jsonl', 'predictions/references.jsonl',
  ):  # fmt: skip
    assert (small_run / name).exists(), name
  assert list((small_run / 'tensorboard').glob('events*'))


def test_the_environment_is_recorded(small_run):
  environment = json.loads((small_run / 'environment.json').read_text())
  assert {'commit', 'packages', 'data_fingerprint', 'seed', 'command', 'device_kind'} <= set(environment)
  assert environment['packages']['jax']
  assert len(environment['data_fingerprint']) == 16


def test_a_second_start_trains_nothing_and_gives_the_same_report(small_run):
  before = (small_run / 'report.json').read_text()
  stamps = {path: path.stat().st_mtime_ns for path in small_run.rglob('done.json')}
  report = train.run(recorded(small_run), small_run, small_run.parent / 'datasets', json.loads(before)['command'])
  assert {path: path.stat().st_mtime_ns for path in small_run.rglob('done.json')} == stamps
  assert report.to_json() == before


def test_a_workdir_of_another_config_is_refused_by_name(small_run):
  config = recorded(small_run)
  config.stage1.epochs = 2.0
  with pytest.raises(settings.SettingsError, match='stage1.epochs: 1.0 → 2.0'):
    train.run(config, small_run, small_run.parent / 'datasets', '')


def test_the_plan_names_what_will_be_done_and_writes_nothing(tmp_path):
  if not flags.FLAGS.is_parsed():
    flags.FLAGS(['train'])
  text = train.plan(settings.load_config('configs/cross_sport.py:held_out=basketball'), tmp_path / 'run')
  assert 'ZS-3, held out: basketball' in text
  assert 'stage I' in text
  assert 'decoder.hidden_size = 128' in text
  assert not list(tmp_path.iterdir())
