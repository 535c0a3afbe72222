"""What image-text families share, and what holds for every one of them as f_v."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from crosstrainer_jax.models.clip import ClipFrames, ClipFramesConfig
from crosstrainer_jax.models.image_text import (
  Encoded,
  FrameEncoder,
  FrameEncoderConfig,
  TextEmbedding,
  TowerConfig,
  check_pictures,
  normalise,
  patches,
  section,
  tower_prefix,
)
from crosstrainer_jax.models.preprocessing import HALF, Preprocessing
from crosstrainer_jax.models.siglip import SiglipFrames, SiglipFramesConfig
from crosstrainer_jax.models.siglip2 import Siglip2Frames, Siglip2FramesConfig
from crosstrainer_jax.training import sharding

SIZES = {'hidden_size': 32, 'intermediate_size': 40, 'num_hidden_layers': 2, 'num_attention_heads': 4}
CROPPING, SQUARE = Preprocessing(16, (16, 16), HALF, HALF), Preprocessing((16, 16), None, HALF, HALF)
PLAIN = Preprocessing(None, None, HALF, HALF, 'bilinear')
# name -> the config and the module of f_v
FAMILIES: dict[str, tuple[Any, type[FrameEncoder]]] = {
  'clip': (
    ClipFramesConfig(**SIZES, image_size=16, patch_size=8, projection_dim=24, preprocessing=CROPPING, fps=2),
    ClipFrames,
  ),
  'siglip': (SiglipFramesConfig(**SIZES, image_size=16, patch_size=8, preprocessing=SQUARE, fps=2), SiglipFrames),
  'siglip2': (
    Siglip2FramesConfig(**SIZES, patch_size=4, num_patches=9, max_num_patches=16, preprocessing=PLAIN, fps=2),
    Siglip2Frames,
  ),
}
every_family = pytest.mark.parametrize('name', FAMILIES)


@functools.cache
def model(name: str) -> FrameEncoder:
  """With wide random weights."""
  config, module = FAMILIES[name]
  graph, state = nnx.split(nnx.eval_shape(lambda: module(config, nnx.Rngs(0))))
  rng = np.random.default_rng(0)
  filled = [
    (path, leaf.replace(jnp.asarray(rng.normal(float(path[-1] == 'scale'), 0.2, leaf.shape), leaf.dtype)))
    for path, leaf in nnx.to_flat_state(state)
  ]
  return nnx.merge(graph, nnx.from_flat_state(filled))


@nnx.jit
def compiled(model: FrameEncoder, frames: jax.Array, valid: jax.Array | None) -> jax.Array:
  return model(frames, valid)


def features(name: str, frames: np.ndarray, valid: np.ndarray | None = None) -> np.ndarray:
  return np.asarray(compiled(model(name), frames, valid))


def clips(count: int = 3, length: int = 4, size: tuple[int, int] = (20, 31)) -> np.ndarray:
  return np.random.default_rng(0).integers(0, 256, (count, length, *size, 3), np.uint8)


def close(a: Any, b: Any) -> None:
  np.testing.assert_allclose(a, b, rtol=0, atol=1e-5)


@every_family
def test_one_feature_a_second(name: str) -> None:
  found, (config, _) = features(name, clips()), FAMILIES[name]
  assert found.shape == (3, 2, config.feature_dim)
  assert found.dtype == np.float32
  assert found.std() > 0.3
  assert (config.frames_per_token, config.tokens_per_second, config.image_size) == (2, 1, 16)


@every_family
def test_a_second_is_the_mean_of_its_frames(name: str) -> None:
  frames = clips()
  single = np.asarray(nnx.jit(lambda model, frames: model.features(frames))(model(name), frames.reshape(12, 20, 31, 3)))
  close(features(name, frames), single.reshape(3, 2, 2, -1).mean(2))


@every_family
def test_members_of_a_batch_are_independent(name: str) -> None:
  frames = clips()
  whole = features(name, frames)
  close(features(name, frames[1:2]), whole[1:2])
  close(features(name, frames[::-1]), whole[::-1])
  close(features(name, frames[:, 2:]), whole[:, 1:])


@every_family
def test_invalid_frames_do_not_matter(name: str) -> None:
  frames, valid = clips(), np.ones((3, 4), bool)
  close(features(name, frames, valid), features(name, frames))
  valid[0, 1], valid[1, 2:], valid[2] = False, False, False
  found = features(name, frames, valid)
  noise = np.where(valid[..., None, None, None], frames, 255 - frames)
  close(features(name, noise, valid), found)
  close(found[0, 0], features(name, frames[:1, [0, 0]])[0, 0])
  # a second without a valid frame is zero
  np.testing.assert_array_equal(np.abs(found).max(-1) == 0, [[False, False], [False, True], [True, True]])


@every_family
def test_frames_of_any_size(name: str) -> None:
  for size in ((16, 16), (9, 50)):
    assert features(name, clips(1, 2, size)).shape == (1, 1, FAMILIES[name][0].feature_dim)


@every_family
def test_eight_devices_as_one(name: str) -> None:
  frames, valid = clips(8, 2), np.arange(2) < np.arange(8)[:, None]
  mesh = sharding.make_mesh((2, 2, 2))
  graph, state = nnx.split(model(name))
  placed = jax.tree.map(jax.device_put, state, sharding.state_shardings(state, mesh))
  batch = sharding.put_batch({'frames': frames, 'valid': valid}, mesh)
  split = compiled(nnx.merge(graph, placed), batch['frames'], batch['valid'])
  assert len(split.sharding.device_set) == 8
  np.testing.assert_allclose(split, features(name, frames, valid), rtol=0, atol=1e-4)


@pytest.mark.parametrize('name', ['clip', 'siglip2'])
def test_made_by_a_compiled_function(name: str) -> None:
  config, module = FAMILIES[name]
  found = compiled(nnx.jit(lambda: module(config, nnx.Rngs(0)))(), clips(), None)
  assert jnp.isfinite(found).all()
  assert found.std() > 1e-3


@every_family
def test_bfloat16(name: str) -> None:
  """8 bits, of features whose size is 1: up to 0.04 apart."""
  config, module = FAMILIES[name]
  half = dataclasses.replace(config, dtype='bfloat16')
  graph, _ = nnx.split(nnx.eval_shape(lambda: module(half, nnx.Rngs(0))))
  found = np.asarray(compiled(nnx.merge(graph, nnx.state(model(name))), clips(), None))
  assert found.dtype == np.float32
  assert 1e-4 < np.abs(found - features(name, clips())).max() < 0.1


@every_family
def test_every_parameter_has_axes(name: str) -> None:
  for path, leaf in nnx.to_flat_state(nnx.state(model(name), nnx.Param)):
    assert sharding.logical_axes(leaf) is not None, path


@pytest.mark.parametrize('name', ['clip'])
def test_every_parameter_learns(name: str) -> None:
  """Of the others the comparison with `transformers` looks at gradients."""
  valid = np.array([[True, False, False, False]])

  def loss(model: FrameEncoder) -> jax.Array:
    return jnp.square(model(clips(1), valid)).mean()

  for path, leaf in nnx.to_flat_state(nnx.jit(nnx.grad(loss))(model(name))):
    assert jnp.isfinite(leaf[...]).all(), path
    assert jnp.abs(leaf[...]).max() > 0, path


@every_family
def test_a_part_of_a_second_is_refused(name: str) -> None:
  with pytest.raises(ValueError, match='multiple of fps=2 frames'):
    model(name)(jnp.zeros((1, 3, 16, 16, 3), jnp.uint8))
  with pytest.raises(ValueError, match='fps=0 must be at least 1'):
    dataclasses.replace(FAMILIES[name][0], fps=0)


@every_family
@pytest.mark.parametrize(
  ('change', 'message'),
  [
    ({'hidden_act': 'mish'}, "hidden_act='mish' is not supported; supported: gelu, "),
    ({'num_attention_heads': 5}, 'num_attention_heads=5 does not divide hidden_size=32'),
  ],
)
def test_a_wrong_setting_is_refused(name: str, change: dict[str, Any], message: str) -> None:
  with pytest.raises(ValueError, match=message):
    dataclasses.replace(FAMILIES[name][0], **change)


def test_a_tower_of_ones_own() -> None:
  """Any encoder of pictures makes an f_v: here their mean colour."""

  @dataclasses.dataclass(frozen=True)
  class Config(FrameEncoderConfig, TowerConfig):
    pass

  class Mean(nnx.Module):
    def __call__(self, pixels: jax.Array) -> Encoded:
      return Encoded(pixels.mean((1, 2)), pixels, pixels)

  config = Config(preprocessing=Preprocessing((4, 4), None, (0.0,) * 3, (1.0,) * 3, 'bilinear', 1.0), fps=3)
  frames = np.arange(2 * 6, dtype=np.uint8).reshape(2, 6, 1, 1, 1) * np.ones((4, 8, 3), np.uint8)
  found = FrameEncoder(config, Mean())(jnp.asarray(frames), jnp.asarray(np.tile([True, True, False], (2, 2))))
  close(found[..., 0], [[0.5, 3.5], [6.5, 9.5]])


@pytest.mark.parametrize('size', [(6, 9), (7, 11)], ids=str)
def test_patches_by_a_loop(size: tuple[int, int]) -> None:
  pixels = np.random.default_rng(0).normal(size=(2, *size, 3)).astype(np.float32)
  expected = [pixels[:, y : y + 3, x : x + 3].reshape(2, -1) for y in (0, 3) for x in (0, 3, 6)]
  np.testing.assert_array_equal(patches(jnp.asarray(pixels), 3), np.stack(expected, 1))


def test_text_embedding() -> None:
  embed = TextEmbedding(7, 4, TowerConfig(hidden_size=24), nnx.Rngs(0))
  tokens = jnp.asarray([[3, 6, 0], [1, 1, 2]])
  expected = embed.token.embedding[...][tokens] + embed.position.embedding[...][:3]
  close(embed(tokens), expected)
  with pytest.raises(ValueError, match='texts of 5 tokens, but the encoder takes at most 4'):
    embed(jnp.zeros((1, 5), jnp.int32))


def test_pictures_of_one_size() -> None:
  check_pictures(CROPPING, 16)
  check_pictures(SQUARE, 16)
  for other in (PLAIN, dataclasses.replace(CROPPING, crop=None), dataclasses.replace(SQUARE, resize=(16, 17))):
    with pytest.raises(ValueError, match='does not yield pictures of image_size=16'):
      check_pictures(other, 16)


def test_a_tower_alone_may_lack_its_prefix() -> None:
  assert tower_prefix('vision_model.', ['embeddings.class_embedding', 'pre_layrnorm.bias']) == ''
  for names in ([], iter(['logit_scale', 'vision_model.embeddings.class_embedding'])):
    assert tower_prefix('vision_model.', names) == 'vision_model.'


def test_normalise() -> None:
  close(normalise(jnp.asarray([[3.0, 4.0]], jnp.bfloat16)), [[0.6, 0.8]])


def test_section_of_a_config() -> None:
  families = {'both': 'whole', 'one': 'tower'}
  alone = {'model_type': 'one', 'hidden_size': 24, 'layer_norm_eps': None, 'dtype': 'float16', 'torch_dtype': 'x'}
  assert section(alone, 'text_config', TowerConfig, families) == {'hidden_size': 24}
  whole = {'model_type': 'both', 'text_config': {'hidden_size': 36, 'hidden_act': 'relu'}, 'hidden_size': 12}
  assert section(whole, 'text_config', TowerConfig, families) == {'hidden_size': 36, 'hidden_act': 'relu'}
  assert section({'model_type': 'both'}, 'text_config', TowerConfig, families) == {}
  # the old form wins, its defaults too
  found = TowerConfig(
    **section(whole | {'text_config_dict': {'hidden_size': 48}}, 'text_config', TowerConfig, families)
  )
  assert found == TowerConfig(hidden_size=48)


@pytest.mark.parametrize(
  ('fields', 'message'),
  [
    ({'model_type': 'three'}, "model_type='three' is not supported here; supported: one"),
    ({'model_type': ''}, "model_type='' is not supported here"),
    ({'num_channels': 1}, 'num_channels=1 is not supported; supported: 3'),
    ({'patch_size': [14, 16]}, r'patch_size=\[14, 16\] is not supported; supported: one number'),
    ({'image_size': [14, 16]}, r'image_size=\[14, 16\] is not supported'),
  ],
)
def test_what_is_not_supported_is_refused(fields: dict[str, Any], message: str) -> None:
  with pytest.raises(ValueError, match=message):
    section({'model_type': 'one'} | fields, 'text_config', TowerConfig, {'one': 'tower'})
