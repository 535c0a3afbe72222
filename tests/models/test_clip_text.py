import numpy as np
import pytest

from crosstrainer_jax.models import clip_text
from crosstrainer_jax.models.clip_text import ClipTextEncoder
from crosstrainer_jax.models.two_towers import ClipTextTower
from tests.models import clip_directory
from tests.models.hub_directories import write_clip


def test_texts_become_vectors_of_the_space_of_images(tmp_path):
  encoder = ClipTextEncoder.load(clip_directory.write(tmp_path / 'clip'))
  tokens = encoder.tokens(['bend your knees', 'head up'])
  assert [len(text.ids) for text in tokens] == [5, 4]
  assert encoder.fingerprint
  ids = np.zeros((2, 8), np.int32)
  mask = np.zeros((2, 8), bool)
  for row, text in enumerate(tokens):
    ids[row, : len(text.ids)], mask[row, : len(text.ids)] = text.ids, True
  tower = ClipTextTower(encoder.model)
  vectors = np.asarray(tower(ids, mask))
  np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
  # what pads a text changes nothing
  np.testing.assert_allclose(np.asarray(tower(ids[1:, :4], mask[1:, :4])), vectors[1:], atol=1e-6)
  assert np.abs(vectors[0] - vectors[1]).max() > 1e-3


def test_a_clip_is_known_by_its_config(tmp_path):
  assert clip_text.is_clip(clip_directory.write(tmp_path / 'clip'))
  assert not clip_text.is_clip(tmp_path)


def test_a_directory_without_texts_is_told(tmp_path):
  with pytest.raises(ValueError, match='text'):
    ClipTextEncoder.load(write_clip(tmp_path / 'vision'))
