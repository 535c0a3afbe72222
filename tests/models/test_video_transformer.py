import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from crosstrainer_jax.models.video_transformer import VideoTransformer, VideoTransformerConfig, sinusoids

CONFIG = VideoTransformerConfig(
  image_size=16, fps=2, patch=2, channels=8, keypoints=3, values=2, width=16, layers=2, heads=2, feature_dim=12
)


@functools.cache
def encoder() -> VideoTransformer:
  return nnx.jit(lambda: VideoTransformer(CONFIG, nnx.Rngs(0)))()


@functools.cache
def compiled():
  return nnx.jit(lambda model, frames, valid=None: model.observe(frames, valid))


def encode(frames, valid=None):
  return np.asarray(compiled()(encoder(), frames, valid)[0])


def clips(views: int = 3, length: int = 6) -> np.ndarray:
  return np.random.default_rng(0).integers(0, 256, (views, length, 16, 16, 3), np.uint8)


def test_one_feature_a_second():
  features = encode(clips())
  assert features.shape == (3, 3, 12)
  assert features.dtype == np.float32
  assert len(np.unique(features.round(4), axis=1)[0]) == 3


@pytest.mark.parametrize('length', [2, 4])
def test_clips_of_other_lengths(length):
  assert encode(clips(length=length)).shape == (3, length // 2, 12)


def test_more_tokens_a_second():
  config = dataclasses.replace(CONFIG, tokens_per_second=2)
  shape = nnx.eval_shape(lambda: VideoTransformer(config, nnx.Rngs(0))(jnp.zeros((1, 6, 16, 16, 3), jnp.uint8))).shape
  assert shape == (1, 6, 12)


def test_views_do_not_see_each_other():
  frames = clips()
  changed = frames.copy()
  changed[1] = 0
  before, after = encode(frames), encode(changed)
  np.testing.assert_allclose(after[[0, 2]], before[[0, 2]], atol=1e-5)
  assert np.abs(after[1] - before[1]).max() > 1e-3


def test_padding_frames_change_no_valid_token():
  frames, valid = clips(), np.ones((3, 6), bool)
  valid[0, 3:], valid[1] = False, False
  first = encode(frames, valid)
  noise = np.where(valid[..., None, None, None], frames, 255 - frames)
  np.testing.assert_allclose(encode(noise, valid), first, atol=1e-5)
  # the valid part alone, of a clip that is shorter
  np.testing.assert_allclose(encode(frames[:1, :4], valid[:1, :4]), first[:1, :2], atol=1e-5)
  np.testing.assert_allclose(encode(frames[2:], None), first[2:], atol=1e-5)


def test_a_token_without_a_valid_frame_is_zero():
  valid = np.ones((3, 6), bool)
  valid[0, 2:4], valid[1, 5], valid[2] = False, False, False
  features = encode(clips(), valid)
  nothing = np.abs(features).max(-1) == 0
  np.testing.assert_array_equal(nothing, [[False, True, False], [False] * 3, [True] * 3])
  assert np.isfinite(features).all()


def test_maps_say_where_they_look():
  _, logits, positions = compiled()(encoder(), clips(), None)
  assert logits.shape == (3, 6, 3, CONFIG.grid**2)
  assert positions.shape == (3, 6, 3, 2)
  weights = jax.nn.softmax(logits, -1)
  x, y = np.meshgrid((np.arange(4) + 0.5) / 4, (np.arange(4) + 0.5) / 4)
  np.testing.assert_allclose(positions[..., 0], weights @ x.reshape(-1), atol=1e-5)
  np.testing.assert_allclose(positions[..., 1], weights @ y.reshape(-1), atol=1e-5)


def test_time_matters():
  frames = clips(1)
  assert np.abs(encode(frames[:, ::-1])[:, ::-1] - encode(frames)).max() > 1e-3


@pytest.mark.parametrize('shape', [(1, 2, 16, 8, 3), (1, 2, 32, 32, 3), (1, 3, 16, 16, 3)])
def test_a_wrong_size_is_a_clear_error(shape):
  with pytest.raises(ValueError, match=r'takes 16 x 16 frames, a multiple of 2 of them; got \(1, '):
    encoder()(jnp.zeros(shape, jnp.uint8))


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    ({'tokens_per_second': 4}, r'encoder\.fps=2 must be a multiple'),
    ({'image_size': 18}, r'encoder\.image_size=18 must be a multiple of 2 x patch = 4'),
  ],
)
def test_a_wrong_config_is_a_clear_error(change, message):
  with pytest.raises(ValueError, match=message):
    dataclasses.replace(CONFIG, **change)


def test_every_parameter_learns():
  def loss(model, frames):
    return jnp.square(model(frames)).mean()

  gradients = nnx.jit(nnx.grad(loss))(encoder(), clips())
  still = [path for path, leaf in nnx.to_flat_state(nnx.state(gradients)) if not np.abs(leaf.get_value()).max() > 0]
  # a softmax does not feel what is added to all cells of a map
  assert [path[0] for path in still] in ([], ['maps'])


def test_sinusoids_tell_times_apart():
  times = jnp.arange(64) / 4
  embedded = np.asarray(sinusoids(times, 16))
  assert embedded.shape == (64, 16)
  distances = np.linalg.norm(embedded[:, None] - embedded[None], axis=-1) + np.eye(64)
  assert distances.min() > 0.2
