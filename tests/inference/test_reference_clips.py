"""Clips that a deployment is checked with: which they are, and that the answers are those of the assessor."""

import json

import numpy as np
import pytest
from safetensors import safe_open

from crosstrainer_jax.inference import reference_clips
from crosstrainer_jax.inference.trained import read_trained
from tests.inference import finished_runs
from tests.models import hub_directories


@pytest.fixture(scope='module')
def trained(small_run):
  return read_trained(small_run)


@pytest.fixture(scope='module')
def model(trained):
  return trained.load()


@pytest.fixture(scope='module')
def seen(trained, model):
  source = trained.source()
  return reference_clips.look(trained, model[1], source, reference_clips.choose(trained, source, 99))


def test_they_are_test_clips_evenly_drawn(trained, run):
  source = trained.source()
  assert reference_clips.choose(trained, source, 99) == run.split.test
  assert reference_clips.choose(trained, source, 2) == [run.split.test[0], run.split.test[-1]]
  assert reference_clips.choose(trained, source, 1) == run.split.test[:1]


def test_features_are_those_of_the_run(seen, run):
  read, valid = run.videos(run.split.test)
  # Batches of another size: half precision may round another way.
  np.testing.assert_allclose(seen.features, read(slice(None))['features'], rtol=2e-3, atol=1e-3)
  np.testing.assert_array_equal(seen.valid, valid)
  assert seen.sports == ['soccer'] * len(run.split.test)
  assert seen.clip_ids == [run.clips[i].clip_id for i in run.split.test]


def test_features_of_single_seconds_come_from_their_store(small_data, tmp_path):
  base = finished_runs.write_base(tmp_path / 'base', 'plain')
  clip = hub_directories.write_clip(tmp_path / 'clip')
  config = finished_runs.config_on(base, f'encoder.weights={clip}', 'encoder.fps=4')
  trained = read_trained(finished_runs.finish(config, tmp_path / 'run', small_data))
  assert trained.encoder.by_second
  found = reference_clips.look(trained, None, trained.source(), [5, 40])
  assert found.features.shape == (2, 3, 4, trained.encoder.config.feature_dim)
  assert found.features.std() > 0


def test_answers_are_those_of_both_passes(trained, model, seen, run, tmp_path):
  reference_clips.write_answers(tmp_path / 'expected.json', trained, *model, seen)
  content = json.loads((tmp_path / 'expected.json').read_text())
  assert content['dtype'] == 'float32'
  limits = run.config.eval
  named, texts = run.assessor(run.params('stage2')).two_passes(
    seen.sports, {'features': seen.features}, seen.valid, limits.max_attribute_tokens, limits.max_feedback_tokens
  )
  assert [row['attributes'] for row in content['clips']] == named
  assert [row['feedback'] for row in content['clips']] == texts
  words = run.text.words
  for row in content['clips']:
    assert words.decode(row['feedback_tokens'], skip_special_tokens=True).strip() == row['feedback']
    assert len(row['attribute_tokens']) <= limits.max_attribute_tokens
    assert row['level'] in ('novice', 'intermediate', 'early expert', 'late expert')


def test_the_file_holds_all_that_is_asked(seen, tmp_path):
  seen.write(tmp_path / 'clips.safetensors')
  with safe_open(str(tmp_path / 'clips.safetensors'), 'numpy') as file:
    assert file.metadata() == {'clip_ids': json.dumps(seen.clip_ids), 'sports': json.dumps(seen.sports)}
    assert file.get_tensor('features').dtype == np.float16
    np.testing.assert_array_equal(file.get_tensor('valid'), seen.valid)
