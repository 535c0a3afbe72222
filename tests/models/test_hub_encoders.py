"""Encoders of other projects by directory: families, fingerprints, settings, and what is refused."""

import json

import jax
import numpy as np
import pytest

from crosstrainer_jax.models import encoders, hub_encoders
from tests.models import hub_directories

FRAMES = np.random.default_rng(0).integers(0, 256, (2, 4, 40, 48, 3), np.uint8)


@pytest.fixture(scope='module')
def directory(tmp_path_factory):
  return hub_directories.write_clip(tmp_path_factory.mktemp('clip'))


def test_a_directory_becomes_an_encoder(directory):
  encoder = encoders.load(directory, fps=2)
  assert (encoder.name, encoder.by_second, encoder.frame_size) == ('clip', True, None)
  assert (encoder.config.fps, encoder.config.feature_dim, encoder.config.frames_per_token) == (2, 12, 2)
  features = jax.jit(encoder.apply)(encoder.params, FRAMES)
  assert (features.shape, features.dtype) == ((2, 2, 12), np.float32)
  assert np.abs(features[0] - features[1]).max() > 1e-3


def test_the_fingerprint_follows_weights_and_settings(directory, tmp_path):
  first = encoders.load(directory)
  assert encoders.load(directory).fingerprint == first.fingerprint
  assert encoders.load(directory, fps=2).fingerprint != first.fingerprint
  assert encoders.load(directory, dtype='bfloat16').fingerprint != first.fingerprint
  other = hub_directories.write_clip(tmp_path / 'other')
  assert encoders.load(other).fingerprint == first.fingerprint
  processor = json.loads((other / 'preprocessor_config.json').read_text()) | {'resample': 2}
  (other / 'preprocessor_config.json').write_text(json.dumps(processor))
  assert encoders.load(other).fingerprint != first.fingerprint


def test_every_family_is_complete():
  for family in hub_encoders.FAMILIES.values():
    assert callable(family.config)
    assert callable(family.module)
    assert callable(family.sources)


@pytest.mark.parametrize(
  ('file', 'change', 'error', 'message'),
  [
    ('config.json', None, FileNotFoundError, r'config\.json is missing'),
    ('config.json', '{', ValueError, 'not JSON'),
    ('config.json', '{"model_type": "bert"}', ValueError, r"model_type = 'bert' is no video encoder.*supported: clip"),
    ('preprocessor_config.json', None, FileNotFoundError, 'nothing says how pictures are prepared'),
  ],
)
def test_what_is_no_encoder_is_refused(tmp_path, file, change, error, message):
  directory = hub_directories.write_clip(tmp_path)
  (directory / file).unlink()
  if change is not None:
    (directory / file).write_text(change)
  with pytest.raises(error, match=message):
    encoders.load(directory)


def test_other_files_and_settings_are_refused(tmp_path):
  (tmp_path / 'a.txt').write_text('x')
  with pytest.raises(ValueError, match=r'a\.txt: not a file of weights'):
    encoders.load(tmp_path / 'a.txt')
  with pytest.raises(ValueError, match='fps cannot be set'):
    encoders.load('shipped', fps=2)
  with pytest.raises(FileNotFoundError, match='no repository of the hub'):
    encoders.load(tmp_path / 'none')
