"""What a workdir records, and whose run it stays."""

import json
import re
import subprocess

import pytest

from crosstrainer_jax import provenance, settings

DATA = {'data_fingerprint': 'data', 'encoder_fingerprint': 'encoder'}


def config_of(seed, *overrides):
  return settings.load_config(f'configs/cross_sport.py:seed={seed}', overrides)


def test_environment_is_recorded(tmp_path):
  config = config_of(7)
  provenance.record_environment(tmp_path / 'run', config, DATA, dataset='/data')
  environment = json.loads((tmp_path / 'run' / 'environment.json').read_text())
  assert environment['seed'] == 7
  assert environment['data_fingerprint'] == 'data'
  assert environment['dataset'] == '/data'
  assert environment['devices'] == 8
  assert environment['device_kind'] == 'cpu'
  assert {'jax', 'jaxlib', 'flax', 'numpy', 'crosstrainer_jax'} <= set(environment['packages'])
  assert environment['commit'] == 'not a checkout' or re.fullmatch('[0-9a-f]{40}', environment['commit'])
  assert sorted(path.name for path in (tmp_path / 'run').iterdir()) == ['config.json', 'environment.json']
  assert settings.dump(provenance.recorded_config(tmp_path / 'run')) == settings.dump(config)


def test_a_workdir_keeps_its_run(tmp_path):
  provenance.claim_workdir(tmp_path, config_of(7), DATA)
  before = (tmp_path / 'environment.json').read_text()
  provenance.claim_workdir(tmp_path, config_of(7), DATA)
  assert (tmp_path / 'environment.json').read_text() == before
  for config, fingerprints, message in (
    (config_of(8), DATA, r'of another config \(seed: 7 → 8\)'),
    (config_of(7), DATA | {'data_fingerprint': 'other'}, r'another data fingerprint \(data, now other\)'),
    (config_of(7), DATA | {'encoder_fingerprint': 'other'}, r'another encoder fingerprint \(encoder, now other\)'),
  ):
    with pytest.raises(settings.SettingsError, match=message + '.*Choose another --workdir'):
      provenance.claim_workdir(tmp_path, config, fingerprints)


def test_evaluation_may_change_its_mind(tmp_path):
  provenance.claim_workdir(tmp_path, config_of(7), DATA)
  provenance.claim_workdir(tmp_path, config_of(7, 'eval.resamples=7'), DATA)
  assert provenance.recorded_config(tmp_path).eval.resamples == 7


def test_a_later_start_with_other_code_is_added_and_the_first_stays(tmp_path, monkeypatch):
  provenance.claim_workdir(tmp_path, config_of(7), DATA)
  first = provenance.recorded_environment(tmp_path)
  monkeypatch.setattr(provenance, '_commit', lambda: {'commit': 'later', 'dirty': True})
  for _ in range(2):
    provenance.claim_workdir(tmp_path, config_of(7), DATA)
  found = provenance.recorded_environment(tmp_path)
  assert [start['commit'] for start in found.pop('later')] == ['later']
  assert found == first


def test_a_start_that_was_killed_before_its_record_was_whole_is_recorded_anew(tmp_path):
  provenance.claim_workdir(tmp_path, config_of(7), DATA)
  (tmp_path / 'config.json').unlink()
  provenance.claim_workdir(tmp_path, config_of(8), DATA)
  assert provenance.recorded_environment(tmp_path)['seed'] == 8


def test_a_commit_of_another_checkout_is_not_ours(tmp_path, monkeypatch):
  """A wheel installed into an environment inside some other repository must not report that repository's commit."""
  subprocess.run(['git', 'init', '-q', tmp_path], check=True)
  package = tmp_path / 'site-packages' / 'crosstrainer_jax'
  package.mkdir(parents=True)
  monkeypatch.setattr(provenance, 'PACKAGE', package)
  assert provenance._commit() == {'commit': 'not a checkout', 'dirty': None}
