"""A finished run, opened: what is missing or does not fit is said."""

import dataclasses
import json
import shutil

import pytest
from flax import nnx

from crosstrainer_jax.inference.trained import Card, read_trained
from crosstrainer_jax.input.recorded_config import recorded_config
from crosstrainer_jax.models import encoders
from crosstrainer_jax.weights.convert import flat
from tests.inference import finished_runs
from tests.input.test_recorded_config import as_before
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


def test_a_run_of_before_pretrained_models_is_read_as_what_it_was(small_run, tmp_path):
  for name in ('model.json', 'tokenizer'):
    (tmp_path / name).symlink_to(small_run / name)
  config = recorded_config(small_run)
  (tmp_path / 'config.json').write_text(json.dumps(as_before(config)))
  card = json.loads((small_run / 'model.json').read_text())
  (tmp_path / 'model.json').unlink()
  (tmp_path / 'model.json').write_text(json.dumps({key: card[key] for key in card if key != 'frame_size'}))
  trained = read_trained(tmp_path)
  assert trained.config.to_dict() == config.to_dict()
  assert trained.frame_size == 64


def test_the_mesh_is_that_of_the_run_where_it_fits(small_run):
  trained = read_trained(small_run)
  for shape, expected in (
    ((1, -1, 1), (1, 8, 1)),
    ((2, -1, 1), (2, 4, 1)),
    # of another machine: over what is here
    ((4, 4, 1), (1, 8, 1)),
    ((1, 1, 1), (1, 8, 1)),
  ):
    config = trained.config.copy_and_resolve_references()
    config.mesh = shape
    assert dataclasses.replace(trained, config=config).mesh.devices.shape == expected
  # what no eight devices divide
  config.decoder.hidden_size, config.decoder.head_dim = 60, 15
  assert dataclasses.replace(trained, config=config).mesh.size == 1


def test_weights_may_lie_elsewhere_now(small_run, tmp_path):
  copy = tmp_path / 'run'
  copy.mkdir()
  for name in ('model.json', 'tokenizer', 'environment.json'):
    (copy / name).symlink_to(small_run / name)
  config = recorded_config(small_run)
  config.encoder.weights = str(tmp_path / 'gone' / 'eyes.safetensors')
  (copy / 'config.json').write_text(json.dumps(config.to_dict()))
  with pytest.raises(
    FileNotFoundError, match=r'eyes.safetensors.*\n.*run/config.json names them.*--encoder_weights PATH'
  ):
    read_trained(copy)
  moved = tmp_path / 'here.safetensors'
  shutil.copy(encoders.shipped_path(), moved)
  trained = read_trained(copy, encoder_weights=str(moved))
  assert trained.config.encoder.weights == str(moved)
  with pytest.raises(ValueError, match='--decoder_weights x: the L of .* started from nothing'):
    read_trained(copy, decoder_weights='x')


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
  # Another place is fine, for what is the same.
  base.rename(tmp_path / 'moved')
  with pytest.raises(FileNotFoundError, match=r'run/config.json names them as decoder.weights.*--decoder_weights PATH'):
    read_trained(workdir)
  assert read_trained(workdir, decoder_weights=str(tmp_path / 'moved')).base.directory == tmp_path / 'moved'
  # Weights that have changed since are not those of this run.
  finished_runs.write_base(base, 'qwen', rope_theta=10.0)
  assert read_trained(workdir).decoder.rope_theta == 10.0
  hub_directories.write_llama(base, intermediate_size=56, max_position_embeddings=640)
  with pytest.raises(ValueError, match='was trained from the L .*is now'):
    read_trained(workdir)
