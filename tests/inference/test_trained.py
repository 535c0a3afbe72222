"""A finished run, opened: what is missing or does not fit is said."""

import json
import shutil

import pytest
from flax import nnx

from crosstrainer_jax.inference.trained import Card, read_trained
from crosstrainer_jax.weights.convert import flat
from tests.inference import finished_runs
from tests.models import hub_directories


def test_a_run_of_the_compact_preset(small_run):
  trained = read_trained(small_run)
  assert trained.base is None
  assert trained.joint is None
  assert trained.probe is not None
  assert trained.decoder.vocab_size == trained.text.rows
  assert len(trained.source()) == 64
  blueprint, params = trained.load()
  assert {path: leaf.shape for path, leaf in flat(params).items()} == {
    path: leaf.shape for path, leaf in flat(trained.shapes).items()
  }
  assert blueprint.merge(params).decoder.config == trained.decoder
  assert trained.trained_encoder(params) is trained.encoder


def test_another_dataset_in_its_place_is_none(small_run, tmp_path):
  copy = tmp_path / 'run'
  shutil.copytree(small_run, copy, ignore=shutil.ignore_patterns('rows', 'folds', 'tensorboard', 'checkpoints'))
  path = copy / 'environment.json'
  recorded = json.loads(path.read_text())
  for changes in ({'data_fingerprint': '0123'}, {'dataset': str(tmp_path / 'gone')}, {'dataset': ''}):
    path.write_text(json.dumps(recorded | changes))
    assert read_trained(copy).source() is None
  path.unlink()
  assert read_trained(copy).environment == {}
  assert read_trained(copy).source() is None


def test_what_is_missing_is_said(small_run, tmp_path):
  with pytest.raises(FileNotFoundError, match='has no config.json'):
    read_trained(tmp_path)
  with pytest.raises(FileNotFoundError, match='launch_tpu.sh'):
    Card.read(tmp_path)
  shutil.copy(small_run / 'config.json', tmp_path)
  with pytest.raises(FileNotFoundError, match='model.json is missing.*it resumes'):
    read_trained(tmp_path)


def test_a_run_on_a_pretrained_decoder(small_data, tmp_path):
  base = finished_runs.write_base(tmp_path / 'base', 'qwen')
  workdir = finished_runs.finish(finished_runs.config_on(base), tmp_path / 'run', small_data)
  trained = read_trained(workdir)
  assert trained.base.directory == base
  assert trained.decoder.lora.rank == 4
  assert trained.probe is None
  assert nnx.split_state(trained.shapes['decoder'], nnx.LoRAParam, ...)[0]
  # Weights that have changed since are not those of this run.
  shutil.rmtree(base)
  finished_runs.write_base(base, 'qwen', rope_theta=10.0)
  assert read_trained(workdir).decoder.rope_theta == 10.0
  hub_directories.write_llama(base, intermediate_size=56, max_position_embeddings=640)
  with pytest.raises(ValueError, match='was trained from the L .*is now'):
    read_trained(workdir)
