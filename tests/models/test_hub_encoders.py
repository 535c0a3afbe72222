"""Encoders of other projects by directory: families, fingerprints, settings, and what is refused."""

import json

import jax
import numpy as np
import pytest
from safetensors.numpy import save_file
from transformers import CLIPProcessor
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from crosstrainer_jax.input.tokenizer import load_tokenizer
from crosstrainer_jax.models import encoders, hub_encoders
from crosstrainer_jax.models.preprocessing import (
  CLIP_MEAN,
  CLIP_STD,
  HALF,
  IMAGENET_MEAN,
  IMAGENET_STD,
  Preprocessing,
)
from crosstrainer_jax.weights.tensors import Tensors
from tests.input import hub_tokenizers
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


# Beside `fps`: what a second's feature is, and how frames are prepared.
EXPECTED = {
  'clip': (24, Preprocessing(17, (17, 17), CLIP_MEAN, CLIP_STD)),
  'siglip': (32, Preprocessing((17, 17), None, HALF, HALF)),
  'siglip2': (32, Preprocessing(None, None, HALF, HALF, 'bilinear')),
  'vjepa2': (40, Preprocessing(36, (32, 32), IMAGENET_MEAN, IMAGENET_STD, 'bilinear')),
  'egovlp': (24, Preprocessing(16, (16, 16), IMAGENET_MEAN, IMAGENET_STD)),
}


def check(encoder, family, width=None):
  """Settings, and the shape of features; what they are is compared with the reference by each family's own tests."""
  assert (encoder.name, encoder.by_second, encoder.resizes) == (family, True, True)
  assert (encoder.config.fps, encoder.config.frames_per_token) == (2, 2)
  dim, preprocessing = EXPECTED[family]
  assert (encoder.config.feature_dim, encoder.config.preprocessing) == (width or dim, preprocessing)
  features = jax.eval_shape(encoder.apply, encoder.params, FRAMES)
  assert (features.shape, features.dtype) == ((2, 2, width or dim), np.float32)
  assert all(leaf.std() > 0.05 for leaf in jax.tree.leaves(encoder.params) if leaf.size > 1)


# Qwen2.5-VL makes several tokens of a second: test_qwen_frames.py
@pytest.mark.parametrize('kind', [kind for kind in hub_encoders.FAMILIES if kind != 'qwen2_5_vl'])
def test_a_directory_of_every_kind(kind, tmp_path):
  family = kind.removesuffix('_vision_model')
  directory = hub_directories.write_golden(tmp_path, kind)
  # CLIPVisionModel has no projection: its feature is the state before it
  check(encoders.load(directory, fps=2), family, 32 if kind == 'clip_vision_model' else None)


def test_an_image_tower_with_its_projection(tmp_path):
  directory = hub_directories.write_golden(tmp_path, 'clip_vision_model')
  fields = json.loads((directory / 'config.json').read_text()) | {'projection_dim': 24}
  (directory / 'config.json').write_text(json.dumps(fields))
  tensors = {name: tensor.read() for name, tensor in Tensors(directory).items()}
  projection = np.random.default_rng(0).normal(size=(24, 32)).astype(np.float32)
  (directory / 'model.safetensors.index.json').unlink()
  save_file(tensors | {'visual_projection.weight': projection}, directory / 'model.safetensors')
  check(encoders.load(directory, fps=2), 'clip')


def test_a_file_of_egovlp(tmp_path):
  encoder = encoders.load(hub_directories.write_egovlp(tmp_path / 'egovlp.safetensors'), fps=2)
  check(encoder, 'egovlp')
  assert (encoder.config.num_frames, encoder.config.max_frames, encoder.config.heads) == (2, 4, 1)


def test_a_processor_as_transformers_saves_it(tmp_path):
  """Version 5 writes tokenizer and image processor into one file, which wins over what lies beside it."""
  directory = hub_directories.write_golden(tmp_path, 'clip')
  (directory / 'preprocessor_config.json').write_text('{"size": 5}')
  pictures = CLIPImageProcessorPil(size={'shortest_edge': 17}, crop_size={'height': 17, 'width': 17})
  words = load_tokenizer(hub_tokenizers.write(tmp_path / 'words', 'plain'))
  CLIPProcessor(pictures, words).save_pretrained(directory)
  assert 'image_processor' in json.loads((directory / 'processor_config.json').read_text())
  check(encoders.load(directory, fps=2), 'clip')


def test_a_section_for_videos(tmp_path):
  directory = hub_directories.write_golden(tmp_path, 'vjepa2')
  file = directory / 'video_preprocessor_config.json'
  processor = json.loads(file.read_text())
  file.unlink()
  (directory / 'processor_config.json').write_text(json.dumps({'processor_class': 'x', 'video_processor': processor}))
  check(encoders.load(directory, fps=2), 'vjepa2')


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
