"""A run that starts from another: its parameters, its words, and what is refused."""

import json
import shutil

import jax
import numpy as np
import pytest

from crosstrainer_jax import parent, provenance, settings
from crosstrainer_jax.run import open_run
from crosstrainer_jax.settings import SettingsError
from tests.conftest import SMALL


@pytest.fixture
def config(small_run):
  """Three clips of the sport that the parent has not seen."""
  overrides = [*SMALL, 'split.setting=K-shot', 'split.shots=3', f'init.from_run={small_run}']

  def make(*more, source='configs/cross_sport.py:smoke'):
    return settings.load_config(source, [*overrides, *more])

  return make


def test_the_child_begins_where_its_parent_ended(run, small_run, small_data, config, tmp_path, capsys):
  child = open_run(config('seed=5'), tmp_path, small_data)
  assert f'the parameters of {small_run} after stage II' in capsys.readouterr().out
  trained = run.params('stage2')
  jax.tree.map(np.testing.assert_array_equal, jax.tree.leaves(child.initial), jax.tree.leaves(trained))
  # among them the statistics that whiten the features, which are those of other clips
  assert 'whitening' in child.initial['mapper']
  assert child.text.words.get_vocab() == run.text.words.get_vocab()
  text = f'Work on the {child.clips[child.split.train[0]].skill}, please.'
  assert child.text.text(text) == run.text.text(text)
  assert [child.clips[i].sport for i in child.split.train] == ['soccer'] * 3
  assert (child.split.validation, child.split.test) == ([], run.split.test)
  assert provenance.recorded_environment(tmp_path)['parent_fingerprint'] == parent.find(child.config).fingerprint


def test_without_a_parent_the_same_clips_begin_from_nothing(run, small_data, config, tmp_path):
  scratch = open_run(config('init.from_run='), tmp_path, small_data)
  assert len(scratch.split.train) == 3
  assert scratch.text.words.get_vocab() != run.text.words.get_vocab()


@pytest.mark.parametrize(
  ('change', 'said'),
  [
    ('decoder.num_layers=2', 'decoder.num_layers: 1 there, 2 here'),
    ('prompt.k=2', 'prompt.k: 3 there, 2 here'),
    ('mapper.whiten=false', 'mapper.whiten: True there, False here'),
  ],
)
def test_another_architecture_is_refused(small_data, config, tmp_path, change, said):
  with pytest.raises(SettingsError, match=f'is another model .*{said}'):
    open_run(config(change), tmp_path, small_data)
  assert not (tmp_path / 'config.json').exists()


def test_another_encoder_is_refused(small_run, config):
  found = parent.find(config())
  with pytest.raises(SettingsError, match='encoder fingerprint: .* there, other here'):
    found.require_fit(config(), 'other', None)


def test_a_parent_that_has_seen_the_people_of_the_test_is_refused(small_data, config, tmp_path):
  # people of the test pool are in no training part; a run of every clip has seen them all
  whole = shutil.copytree(parent.find(config()).workdir, tmp_path / 'parent')
  recorded = json.loads((whole / 'config.json').read_text())
  recorded['split'] |= {'setting': 'FIT', 'held_out': ''}
  (whole / 'config.json').write_text(json.dumps(recorded))
  with pytest.raises(SettingsError, match='was trained on .* people of this test, .*its scores would mean nothing'):
    open_run(config(f'init.from_run={whole}'), tmp_path / 'child', small_data)


def test_a_parent_that_is_not_finished_or_not_there(config, tmp_path):
  with pytest.raises(FileNotFoundError, match='nothing is not the folder of a run: train it first'):
    parent.find(config(f'init.from_run={tmp_path}/nothing'))
  (tmp_path / 'begun').mkdir()
  (tmp_path / 'begun' / 'config.json').write_text('{}')
  with pytest.raises(FileNotFoundError, match='begun has not finished stage II'):
    parent.find(config(f'init.from_run={tmp_path}/begun'))


def test_another_parent_makes_another_run(small_run, small_data, config, tmp_path):
  copy = shutil.copytree(small_run, tmp_path / 'parent')
  child = config(f'init.from_run={copy}')
  open_run(child, tmp_path / 'child', small_data)
  done = copy / 'stage2' / 'done.json'
  facts = json.loads(done.read_text())
  done.write_text(json.dumps(facts | {'checksums': dict.fromkeys(facts['checksums'], 0)}))
  with pytest.raises(SettingsError, match='with another parent fingerprint'):
    open_run(child, tmp_path / 'child', small_data)
