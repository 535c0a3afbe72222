"""V-JEPA 2 as f_v: what its features depend on, and a golden record of the reference for machines without PyTorch."""

import dataclasses
import functools
import json
import runpy
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import save_file

from crosstrainer_jax.models.vjepa2 import (
  IGNORED,
  VJEPA2,
  VJEPA2Config,
  preprocessing,
  replace_invalid,
  rotary_tables,
  rotate,
  sources,
)
from crosstrainer_jax.training import sharding
from crosstrainer_jax.weights import convert
from crosstrainer_jax.weights.tensors import Tensors

GOLDEN = Path(__file__).parent.parent / 'golden'
TOLERANCE = 1e-4
# of the record; the two forms of GELU are 5e-4 apart
RECORD_TOLERANCE = 3e-5
# bfloat16 keeps 8 bits; features are of size 1.
BF16_TOLERANCE = 0.05
CONFIG = VJEPA2Config(
  hidden_size=40, num_hidden_layers=2, num_attention_heads=2, mlp_ratio=2.5, crop_size=16, patch_size=8, fps=4,
  preprocessing=preprocessing({'crop_size': 16}),
)  # fmt: skip


def create(config: VJEPA2Config) -> VJEPA2:
  """A model with wide random weights."""
  graph, state = nnx.split(nnx.jit(lambda: VJEPA2(config, nnx.Rngs(0)))())
  rng = np.random.default_rng(0)
  state = jax.tree.map(lambda leaf: leaf + jnp.asarray(rng.normal(0, 0.2, leaf.shape), leaf.dtype), state)
  return nnx.merge(graph, state)


@functools.cache
def model() -> VJEPA2:
  return create(CONFIG)


@nnx.jit
def compiled(model: VJEPA2, frames: jax.Array, valid: jax.Array | None) -> jax.Array:
  return model(frames, valid)


def features(frames: np.ndarray, valid: np.ndarray | None = None, encoder: VJEPA2 | None = None) -> np.ndarray:
  return np.asarray(compiled(encoder or model(), frames, valid))


def clips(count: int = 3, length: int = 8, size: tuple[int, int] = (20, 30)) -> np.ndarray:
  return np.random.default_rng(0).integers(0, 256, (count, length, *size, 3), np.uint8)


def close(a: Any, b: Any) -> None:
  np.testing.assert_allclose(a, b, rtol=0, atol=1e-5)


def test_one_feature_a_second() -> None:
  found = features(clips())
  assert found.shape == (3, 2, CONFIG.feature_dim)
  assert found.dtype == np.float32
  assert found.std() > 0.3
  assert (CONFIG.frames_per_token, CONFIG.tokens_per_second, CONFIG.image_size) == (4, 1, 18)


def test_a_second_is_encoded_alone() -> None:
  frames = clips()
  whole = features(frames)
  for second in range(2):
    close(whole[:, second : second + 1], features(frames[:, 4 * second : 4 * second + 4]))


def test_members_of_a_batch_are_independent() -> None:
  frames = clips()
  whole = features(frames)
  close(features(frames[1:2]), whole[1:2])
  close(features(frames[::-1]), whole[::-1])


def test_the_order_of_frames_matters() -> None:
  frames = clips(1, 4)
  turned = features(frames[:, ::-1])
  assert np.abs(turned - features(frames)).max() > 1e-2


@pytest.mark.parametrize('size', [(18, 18), (40, 24), (9, 50)], ids=str)
def test_frames_of_any_size(size: tuple[int, int]) -> None:
  assert features(clips(1, 4, size)).shape == (1, 1, CONFIG.feature_dim)


def test_all_valid_is_no_mask() -> None:
  close(features(clips(), np.ones((3, 8), bool)), features(clips()))


def test_invalid_frames_do_not_matter() -> None:
  frames, valid = clips(), np.ones((3, 8), bool)
  valid[0, 2:4], valid[0, 5], valid[1, 4:], valid[2, 0] = False, False, False, False
  first = features(frames, valid)
  noise = np.where(valid[..., None, None, None], frames, 255 - frames)
  close(features(noise, valid), first)
  # in a tubelet with one valid frame, that frame stands for both
  repeated = frames.copy()
  repeated[0, 5], repeated[2, 0] = frames[0, 4], frames[2, 1]
  close(first[0, 1], features(repeated)[0, 1])
  close(first[2], features(repeated)[2])
  # a tubelet without is not there
  tokens, _ = model().encode(CONFIG.preprocessing(jnp.asarray(frames[:1, :2])))
  close(first[0, 0], tokens.mean(1)[0])
  # the valid part of a clip alone
  close(first[1, :1], features(frames[1:2, :4])[0])


def test_a_second_without_a_valid_frame_is_zero() -> None:
  valid = np.ones((3, 8), bool)
  valid[0, 4:], valid[1] = False, False
  valid[2, 1:] = False
  found = features(clips(), valid)
  np.testing.assert_array_equal(np.abs(found).max(-1) == 0, [[False, True], [True, True], [False, True]])
  assert np.isfinite(found).all()

  gradient = nnx.jit(nnx.grad(lambda model: model(clips(), valid).sum()))(model())
  assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


def test_replace_invalid() -> None:
  frames = np.arange(6, dtype=np.uint8).reshape(1, 6, 1, 1, 1)
  valid = np.array([[False, True, True, False, False, False]])
  replaced, seen = replace_invalid(jnp.asarray(frames), jnp.asarray(valid), 3)
  assert replaced.ravel().tolist() == [1, 1, 2, 3, 3, 3]
  assert seen.tolist() == [[True, False]]


def test_scanned_as_blocks_one_by_one() -> None:
  encoder = model()
  pixels = CONFIG.preprocessing(jnp.asarray(clips(2, 4)))
  tokens, states = encoder.encode(pixels)
  # embedded by a loop over tubelets, rows and columns
  x = np.stack([
    np.asarray(pixels[:, 2 * d : 2 * d + 2, 8 * r : 8 * r + 8, 8 * c : 8 * c + 8]).reshape(2, -1)
    for d in range(2) for r in range(2) for c in range(2)
  ], 1)  # fmt: skip
  x = encoder.patch_embedding(jnp.asarray(x))
  cos, sin = rotary_tables(8, 2, 20)
  graph, stacked = nnx.split(encoder.transformer.blocks)
  for layer in range(CONFIG.num_hidden_layers):
    block = nnx.merge(graph, jax.tree.map(lambda leaf, layer=layer: leaf[layer], stacked))
    x = block(x, None, lambda heads: rotate(heads, cos, sin))
    close(x, states[layer])
  close(encoder.norm(x), tokens)


def test_rotary_tables_by_hand() -> None:
  """Token 11 of frames of 2 x 2 patches: frame 2, row 1, column 1."""
  cos, sin = rotary_tables(12, 2, 14)
  angles = [2, 0.02, 2, 0.02, 1, 0.01, 1, 0.01, 1, 0.01, 1, 0.01]
  close(cos[11], np.cos(angles))
  close(sin[11], np.sin(angles))
  x = np.random.default_rng(0).normal(size=(1, 12, 1, 14)).astype(np.float32)
  turned = np.asarray(rotate(jnp.asarray(x), cos, sin))[0, 11, 0]
  # numbers 0 and 1 are a pair, but not of one angle
  close(turned[0], x[0, 11, 0, 0] * np.cos(2) - x[0, 11, 0, 1] * np.sin(2))
  close(turned[1], x[0, 11, 0, 1] * np.cos(0.02) + x[0, 11, 0, 0] * np.sin(0.02))
  np.testing.assert_array_equal(turned[12:], x[0, 11, 0, 12:])


def test_compiled_or_not() -> None:
  frames, valid = clips(1, 4), np.array([[True, True, False, False]])
  close(features(frames, valid), model()(jnp.asarray(frames), jnp.asarray(valid)))


@pytest.mark.parametrize('shape', [(1, 8, 1), (2, 2, 2)], ids=str)
def test_eight_devices_as_one(shape: tuple[int, int, int]) -> None:
  frames, valid = clips(8, 4), np.arange(4) < np.arange(1, 9)[:, None]
  mesh = sharding.make_mesh(shape)
  graph, state = nnx.split(model())
  placed = jax.tree.map(jax.device_put, state, sharding.state_shardings(state, mesh))
  batch = sharding.put_batch({'frames': frames, 'valid': valid}, mesh)
  split = compiled(nnx.merge(graph, placed), batch['frames'], batch['valid'])
  assert len(split.sharding.device_set) == 8
  np.testing.assert_allclose(split, features(frames, valid), rtol=0, atol=TOLERANCE)


def test_bfloat16() -> None:
  config = dataclasses.replace(CONFIG, dtype='bfloat16')
  graph, _ = nnx.split(nnx.eval_shape(lambda: VJEPA2(config, nnx.Rngs(0))))
  half = features(clips(), None, nnx.merge(graph, nnx.state(model())))
  assert half.dtype == np.float32
  difference = np.abs(half - features(clips())).max()
  assert 1e-4 < difference < BF16_TOLERANCE


def write(folder: Path, config: VJEPA2Config, seed: int = 0, **shapes: tuple[int, ...]) -> dict[str, np.ndarray]:
  """A random checkpoint as the hub has it, with the shapes that `config` needs."""
  maker = runpy.run_path(str(GOLDEN / 'make_vjepa2.py'))
  width, mlp = config.hidden_size, int(config.hidden_size * config.mlp_ratio)
  patches = 'encoder.embeddings.patch_embeddings.proj'
  all_shapes: dict[str, tuple[int, ...]] = {
    f'{patches}.weight': (width, 3, config.tubelet_size, config.patch_size, config.patch_size),
    f'{patches}.bias': (width,),
    'predictor.mask': (3,),
  }
  linear = {'attention.query': (width, width), 'attention.key': (width, width), 'attention.value': (width, width)}
  linear |= {'attention.proj': (width, width), 'mlp.fc1': (mlp, width), 'mlp.fc2': (width, mlp)}
  norms = ['encoder.layernorm']
  for layer in range(config.num_hidden_layers):
    norms += [f'encoder.layer.{layer}.{norm}' for norm in ('norm1', 'norm2')]
    for name, shape in linear.items():
      all_shapes[f'encoder.layer.{layer}.{name}.weight'] = shape
      all_shapes[f'encoder.layer.{layer}.{name}.bias'] = shape[:1]
  all_shapes |= {f'{norm}.{part}': (width,) for norm in norms for part in ('weight', 'bias')}
  tensors = maker['weights'](all_shapes | shapes, seed)
  save_file(tensors, folder / 'model.safetensors')
  return tensors


def load(folder: Path, config: VJEPA2Config) -> VJEPA2:
  graph, abstract = nnx.split(nnx.eval_shape(lambda: VJEPA2(config, nnx.Rngs(0))), nnx.Param)
  return nnx.merge(graph, convert.load(Tensors(folder), sources(config), abstract, IGNORED))


def test_weights_land_where_they_belong(tmp_path: Path) -> None:
  tensors = write(tmp_path, CONFIG)
  state = convert.flat(nnx.state(load(tmp_path, CONFIG), nnx.Param))
  kernel = tensors['encoder.embeddings.patch_embeddings.proj.weight']
  number = np.ravel_multi_index((1, 3, 5, 2), (2, 8, 8, 3))
  np.testing.assert_array_equal(state['patch_embedding/kernel'][...][number], kernel[:, 2, 1, 3, 5])
  query = state['transformer/blocks/attention/q_proj/kernel'][...][1]
  np.testing.assert_array_equal(query, tensors['encoder.layer.1.attention.query.weight'].T)


def test_all_that_does_not_fit_is_listed(tmp_path: Path) -> None:
  strange = {'encoder.layer.0.attention.key.bias': (41,), 'encoder.layer.2.norm1.bias': (40,), 'head': (2,)}
  tensors = write(tmp_path, CONFIG, **strange)
  del tensors['encoder.layernorm.bias'], tensors['encoder.layer.1.mlp.fc1.weight']
  save_file(tensors, tmp_path / 'model.safetensors')
  with pytest.raises(ValueError, match='do not fit') as error:
    load(tmp_path, CONFIG)
  for name in (*strange, 'encoder.layernorm.bias', 'encoder.layer.1.mlp.fc1.weight'):
    assert name in str(error.value)
  assert 'predictor' not in str(error.value)


def test_without_query_bias() -> None:
  config = dataclasses.replace(CONFIG, qkv_bias=False)
  state = nnx.state(nnx.eval_shape(lambda: VJEPA2(config, nnx.Rngs(0))), nnx.Param)
  assert set(convert.flat(state)) == set(sources(config))
  assert len(sources(config)) == len(sources(CONFIG)) - 3


@pytest.mark.parametrize(
  ('fields', 'message'),
  [
    ({'hidden_act': 'mish'}, "hidden_act='mish'"),
    ({'in_chans': 4}, 'in_chans=4'),
    ({'patch_size': [16, 16]}, r'patch_size=\[16, 16\]'),
    ({'use_SiLU': True}, 'use_SiLU'),
    ({'model_type': 'videomae'}, "model_type='videomae'"),
    ({'tubelet_size': 3}, 'tubelet_size=3'),
    ({'num_attention_heads': 256}, 'num_attention_heads=256'),
    ({'num_attention_heads': 15}, 'num_attention_heads=15'),
  ],
)
def test_what_is_not_supported_is_refused(fields: dict[str, Any], message: str) -> None:
  with pytest.raises(ValueError, match=message):
    VJEPA2Config.from_hugging_face(fields)


def test_config_of_a_checkpoint() -> None:
  """The fields that a published config has: ViT-g at 384 pixels."""
  config = VJEPA2Config.from_hugging_face(
    {
      'model_type': 'vjepa2', 'architectures': ['VJEPA2Model'], 'torch_dtype': 'float32', 'crop_size': 384,
      'hidden_size': 1408, 'num_hidden_layers': 40, 'num_attention_heads': 22, 'mlp_ratio': 4.363636363636363,
      'frames_per_clip': 64, 'drop_path_rate': 0.0, 'pred_hidden_size': 384,
    },
    {'crop_size': {'height': 384, 'width': 384}, 'size': {'shortest_edge': 111}, 'do_center_crop': True},
    fps=8, dtype='bfloat16',
  )  # fmt: skip
  assert config.transformer.mlp == int(1408 * 4.363636363636363)
  assert (config.fps, config.dtype, config.feature_dim) == (8, 'bfloat16', 1408)
  assert config.preprocessing.resize == config.image_size == int(384 * 256 / 224)
  assert config.preprocessing.crop == (384, 384)
  assert config.preprocessing.resample == 'bilinear'
  default = VJEPA2Config.from_hugging_face({})
  assert default == VJEPA2Config()
  assert default.preprocessing.resize == 292
  # without a file of the processor the crop is the model's
  assert VJEPA2Config.from_hugging_face({'crop_size': 384}).preprocessing.crop == (384, 384)


@pytest.mark.parametrize(('shape', 'message'), [((1, 6, 18, 18, 3), 'fps=4'), ((1, 5, 18, 18, 3), 'fps=4')])
def test_clips_that_do_not_divide(shape: tuple[int, ...], message: str) -> None:
  with pytest.raises(ValueError, match=message):
    model()(jnp.zeros(shape, jnp.uint8))


@pytest.mark.parametrize('shape', [(1, 3, 16, 16, 3), (1, 2, 20, 16, 3), (1, 2, 16, 20, 3)])
def test_pixels_that_do_not_divide(shape: tuple[int, ...]) -> None:
  with pytest.raises(ValueError, match='tubelet_size=2 frames and patches of patch_size=8'):
    model().encode(jnp.zeros(shape))


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
  """The folder of the model on record."""
  golden, folder = np.load(GOLDEN / 'vjepa2.npz'), tmp_path_factory.mktemp('vjepa2')
  weights = runpy.run_path(str(GOLDEN / 'make_vjepa2.py'))['weights']
  save_file(weights(json.loads(str(golden['shapes'])), int(golden['seed'])), folder / 'model.safetensors')
  return folder


def encode_record(folder: Path, **change: Any) -> tuple[jax.Array, jax.Array]:
  golden = np.load(GOLDEN / 'vjepa2.npz')
  config = VJEPA2Config.from_hugging_face(json.loads(str(golden['config'])))
  encoder = load(folder, dataclasses.replace(config, **change))
  return nnx.jit(lambda encoder, pixels: encoder.encode(pixels))(encoder, golden['pixels'].astype(np.float32))


def test_the_reference_on_record(checkpoint: Path) -> None:
  """tests/golden/make_vjepa2.py wrote what `transformers` computes; here it is computed without PyTorch."""
  golden = np.load(GOLDEN / 'vjepa2.npz')
  tokens, states = encode_record(checkpoint)
  assert golden['tokens'].std() > 0.3
  np.testing.assert_allclose(states, golden['states'], rtol=0, atol=RECORD_TOLERANCE)
  np.testing.assert_allclose(tokens, golden['tokens'], rtol=0, atol=RECORD_TOLERANCE)


@pytest.mark.parametrize(
  'change',
  [
    {'num_attention_heads': 4},
    {'hidden_act': 'gelu_pytorch_tanh'},
    {'hidden_act': 'quick_gelu'},
    {'layer_norm_eps': 1e-6},
    {'crop_size': 24},
  ],
  ids=str,
)
def test_a_changed_field_shows(change: dict[str, Any], checkpoint: Path) -> None:
  """The comparison with the record would notice a wrong field: each moves the tokens by far more than the tolerance."""
  tokens, _ = encode_record(checkpoint, **change)
  assert np.abs(tokens - np.load(GOLDEN / 'vjepa2.npz')['tokens']).max() >= 10 * RECORD_TOLERANCE
