"""The tower of Qwen2.5-VL as f_v: the tokens that Qwen2.5-VL itself sees, second by second."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from crosstrainer_jax.input.mrope import Grid
from crosstrainer_jax.models import encoders, hub_encoders, qwen2_5_vl
from crosstrainer_jax.models.qwen_pixels import QwenPixels
from crosstrainer_jax.weights.tensors import Tensors
from tests.models import hub_directories, tiny_qwen

SIZE = 24


@pytest.fixture(scope='module')
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
  return hub_directories.write_qwen(tmp_path_factory.mktemp('qwen'))


@pytest.fixture(scope='module')
def encoder(directory: Path) -> encoders.Encoder:
  return encoders.load(directory, size=SIZE)


def encode(encoder: encoders.Encoder, frames: np.ndarray, valid: np.ndarray | None = None) -> np.ndarray:
  return np.asarray(jax.jit(encoder.apply)(encoder.params, frames, valid))


def test_what_it_says_of_itself(encoder: encoders.Encoder) -> None:
  assert (encoder.name, encoder.resizes, encoder.by_second) == ('qwen2_5_vl', True, True)
  assert (encoder.config.fps, encoder.config.feature_dim, encoder.config.image_size) == (2, 64, SIZE)
  assert encoder.second == Grid(1, 3, 3, 2.0)
  assert encoder.each == 9


def test_behind_the_merger_they_are_what_qwen_sees(encoder: encoders.Encoder, directory: Path) -> None:
  config = qwen2_5_vl.read_config(directory)
  graph, abstract = nnx.split(nnx.eval_shape(lambda: qwen2_5_vl.Qwen2_5_VL(config, nnx.Rngs(0))), nnx.Param)
  whole = nnx.merge(graph, qwen2_5_vl.load(Tensors(directory), config, abstract))
  video = tiny_qwen.video(4, SIZE, SIZE)
  pixels = QwenPixels(encoder.config.preprocessing, SIZE**2, SIZE**2)
  made = qwen2_5_vl.prepare([video], [pixels], [2.0], config.vision)
  assert made.grids == [Grid(2, 3, 3, 2.0)]
  see = nnx.jit(lambda model, *given: model.see(*given))
  expected = np.asarray(see(whole, made.patches, made.positions, made.valid))[made.slots[0]]
  found = np.asarray(nnx.jit(lambda mapper, x: mapper(x))(whole.mapper, encode(encoder, video[None])[0]))
  assert expected.std() > 0.1
  np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5)


def test_frames_of_any_size_become_squares(encoder: encoders.Encoder) -> None:
  video = np.repeat(np.repeat(tiny_qwen.video(2, SIZE, SIZE), 2, 1), 2, 2)
  assert encode(encoder, video[None]).shape == (1, 9, 64)


def test_a_missing_frame_shows_the_other_and_a_second_without_any_is_nothing(encoder: encoders.Encoder) -> None:
  video = tiny_qwen.video(6, SIZE, SIZE)
  valid = np.array([[True, False, False, True, False, False]])
  noisy = np.where(valid[0][:, None, None, None], video, 9)
  found = encode(encoder, noisy[None], valid)[0].reshape(3, 9, 64)
  shown = encode(encoder, video[[0, 0, 3, 3]][None])[0].reshape(2, 9, 64)
  np.testing.assert_allclose(found[:2], shown, rtol=0, atol=2e-5)
  assert not found[2].any()
  with pytest.raises(ValueError, match='a multiple of fps=2 frames'):
    encode(encoder, video[None, :3])


def test_a_second_depends_on_its_own_frames_alone(encoder: encoders.Encoder) -> None:
  video = tiny_qwen.video(4, SIZE, SIZE)
  whole = encode(encoder, video[None])[0]
  np.testing.assert_allclose(whole[9:], encode(encoder, video[None, 2:])[0], rtol=0, atol=2e-5)


def test_more_frames_a_second_are_more_steps(directory: Path) -> None:
  encoder = encoders.load(directory, fps=4, size=16)
  assert encoder.second == Grid(2, 2, 2, 1.0)
  assert encoder.config.frames_per_token == 4
  assert encode(encoder, tiny_qwen.video(4, 16, 16)[None]).shape == (1, 8, 64)


@pytest.mark.parametrize(
  ('settings', 'message'),
  [
    ({'fps': 3}, 'fps=3 is no multiple of 2, the frames of a time step'),
    ({'size': 20}, 'image_size=20 is no multiple of 8'),
  ],
)
def test_settings_that_cannot_be(settings: dict, message: str, directory: Path) -> None:
  with pytest.raises(ValueError, match=message):
    encoders.load(directory, **settings)


def test_other_encoders_have_one_size(tmp_path: Path) -> None:
  with pytest.raises(ValueError, match='leave encoder.size at 0'):
    encoders.load(hub_directories.write_clip(tmp_path / 'clip'), size=64)
  with pytest.raises(ValueError, match='image_size cannot be set'):
    encoders.load(size=64)


def test_it_is_saved_and_read_back(encoder: encoders.Encoder, tmp_path: Path) -> None:
  path = tmp_path / 'encoder.safetensors'
  encoders.save(path, encoder.name, encoder.config, encoder.params, {}, dtype='float32')
  again = encoders.load(path)
  assert again.config == encoder.config
  video = tiny_qwen.video(2, SIZE, SIZE)[None]
  np.testing.assert_allclose(encode(again, video), encode(encoder, video), rtol=0, atol=1e-6)
  assert 'qwen2_5_vl' in hub_encoders.FAMILIES
  assert jnp.issubdtype(encode(again, video).dtype, jnp.float32)
