import dataclasses
import json

import jax
import ml_dtypes
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file, save_file

from crosstrainer_jax.models import encoders
from crosstrainer_jax.models.preprocessing import Preprocessing

TINY = {
  'image_size': 16, 'fps': 2, 'channels': 4, 'keypoints': 2, 'values': 2, 'width': 8, 'layers': 2, 'heads': 2,
  'feature_dim': 6,
}  # fmt: skip
FRAMES = np.random.default_rng(0).integers(0, 256, (2, 4, 16, 16, 3), np.uint8)
NOTES = {'command': 'python -m crosstrainer_jax.pretrain', 'seed': '3'}


@pytest.fixture(scope='module')
def built():
  config, module = encoders.build('video_transformer', TINY, seed=3)
  return config, *nnx.split(module, nnx.Param)


@pytest.fixture
def saved(built, tmp_path):
  path = tmp_path / 'weights' / 'tiny.safetensors'
  config, _, params = built
  return path, encoders.save(path, 'video_transformer', config, params, NOTES)


def rewrite(path, change=None, header=None):
  """The file with other tensors or another header."""
  tensors = load_file(path)
  with encoders.safe_open(str(path), 'numpy') as file:
    metadata = file.metadata()
  tensors = change(tensors) if change else tensors
  save_file(tensors, path, metadata=metadata if header is None else header)


def test_building_follows_config_and_seed(built):
  config, graph, params = built
  assert (config.width, config.feature_dim, config.frames_per_token) == (8, 6, 2)
  assert nnx.merge(graph, params)(FRAMES).shape == (2, 2, 6)
  again, other = (nnx.state(encoders.build('video_transformer', TINY, seed)[1], nnx.Param) for seed in (3, 4))
  np.testing.assert_array_equal(again['token']['kernel'].get_value(), params['token']['kernel'].get_value())
  assert (other['token']['kernel'].get_value() != params['token']['kernel'].get_value()).any()


def test_unknown_names_are_refused_with_the_known_ones():
  with pytest.raises(ValueError, match=r"'clipp' is not one of \['video_transformer'\]"):
    encoders.build('clipp', {})
  with pytest.raises(ValueError, match=r"no setting \['heigth'\]; it has \['channels'"):
    encoders.build('video_transformer', {'heigth': 3})


def test_weights_come_back_in_half_precision(built, saved):
  config, _, params = built
  path, digest = saved
  encoder = encoders.load(path)
  assert (encoder.name, encoder.config) == ('video_transformer', config)
  flat, other = (nnx.to_flat_state(state) for state in (params, encoder.params))
  assert [key for key, _ in flat] == [key for key, _ in other]
  for (key, one), (_, two) in zip(flat, other, strict=True):
    assert two.get_value().dtype == np.float32, key
    np.testing.assert_array_equal(np.asarray(one.get_value()).astype(np.float16), two.get_value(), err_msg=str(key))
  features = encoder.apply(encoder.params, FRAMES)
  np.testing.assert_allclose(features, nnx.merge(built[1], params)(FRAMES), atol=2e-2)
  assert digest.startswith(encoder.fingerprint)


def test_weights_that_are_still_training_keep_all_their_digits(built, tmp_path):
  config, _, params = built
  encoders.save(tmp_path / 'a.safetensors', 'video_transformer', config, params, NOTES, dtype='float32')
  loaded = encoders.load(tmp_path / 'a.safetensors')
  for one, other in zip(jax.tree.leaves(params), jax.tree.leaves(loaded.params), strict=True):
    np.testing.assert_array_equal(one, other)


def test_the_header_says_how_it_was_made(saved):
  with encoders.safe_open(str(saved[0]), 'numpy') as file:
    header = file.metadata()
  assert header.items() >= NOTES.items()
  assert json.loads(header['config'])['width'] == 8


def test_the_fingerprint_follows_the_weights(built, saved, tmp_path):
  first = encoders.load(saved[0]).fingerprint
  assert encoders.load(saved[0]).fingerprint == first
  moved = tmp_path / 'elsewhere.safetensors'
  moved.write_bytes(saved[0].read_bytes())
  assert encoders.load(moved).fingerprint == first
  rewrite(saved[0], lambda tensors: tensors | {'token/bias': tensors['token/bias'] + np.float16(0.25)})
  assert encoders.load(saved[0]).fingerprint != first


def test_a_missing_file_says_how_to_make_it(tmp_path):
  with pytest.raises(FileNotFoundError, match=r'none\.safetensors: no encoder weights here\. .*\.pretrain'):
    encoders.load(tmp_path / 'none.safetensors')


def test_files_that_are_no_encoder(saved, tmp_path):
  path = saved[0]
  whole = path.read_bytes()
  for content in (b'', b'not safetensors at all', whole[: len(whole) // 2]):
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r'tiny\.safetensors: not a whole safetensors file'):
      encoders.load(path)
  save_file({'a': np.zeros(2, np.float32)}, path)
  with pytest.raises(ValueError, match=r'tiny\.safetensors: not an encoder of this project'):
    encoders.load(path)


def test_tensors_that_do_not_fit_are_all_named(saved):
  path = saved[0]
  whole = path.read_bytes()
  rewrite(path, lambda tensors: {('x' if name == 'token/bias' else name): value for name, value in tensors.items()})
  with pytest.raises(ValueError, match=r"tiny\.safetensors: missing \['token/bias'\], unknown \['x'\]"):
    encoders.load(path)
  path.write_bytes(whole)
  rewrite(path, lambda tensors: tensors | {'token/bias': value_of(9), 'maps/bias': value_of(5)})
  with pytest.raises(ValueError, match=r"another shape .*\['maps/bias', 'token/bias'\]"):
    encoders.load(path)


def value_of(size):
  return np.zeros(size, np.float16)


@pytest.mark.parametrize(
  'header', [{'encoder': 'clipp', 'config': '{}'}, {'encoder': 'video_transformer', 'config': '{'}]
)
def test_a_header_of_another_project_is_a_clear_error(saved, header):
  rewrite(saved[0], header=header)
  with pytest.raises(ValueError, match=r'tiny\.safetensors: its header describes no encoder of this project'):
    encoders.load(saved[0])


def test_configs_of_other_projects_come_back_from_a_header():
  pictures = Preprocessing(resize=(16, 16), crop=None, mean=(0.5,) * 3, std=(0.5,) * 3)
  plain = dataclasses.replace(pictures, resize=None)
  sizes = {'preprocessing': pictures, 'image_size': 16, 'patch_size': 8}
  for name, given in (
    ('clip', sizes), ('siglip', sizes), ('siglip2', {'preprocessing': plain}), ('vjepa2', {}), ('egovlp', {}),
  ):  # fmt: skip
    kind = encoders.FOREIGN[name][0]
    config = kind(**given)
    assert kind(**encoders._fields(json.loads(json.dumps(dataclasses.asdict(config))))) == config


def test_who_wrote_a_file(saved, tmp_path):
  save_file({'a': np.zeros(2, np.float32)}, tmp_path / 'other.safetensors')
  assert encoders.is_saved(saved[0])
  assert not encoders.is_saved(tmp_path / 'other.safetensors')
  assert not encoders.is_saved(tmp_path)


def test_half_precision_refuses_what_it_cannot_hold():
  features = np.array([[1.5, -2.25]], np.float32)
  assert encoders.to_float16(features).dtype == np.float16
  np.testing.assert_array_equal(encoders.to_float16(features.astype(ml_dtypes.bfloat16)), features)
  for bad in (1e6, np.nan, np.inf):
    with pytest.raises(ValueError, match='not finite in half precision'):
      encoders.to_float16(np.array([bad], np.float32))
