"""EgoVLPv2's video tower against a restatement in loops, and read from files as PyTorch writes them."""

import dataclasses
import functools
import io
import math
import pickle
import re
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from crosstrainer_jax.models import egovlp
from crosstrainer_jax.models.egovlp import EgoVLPv2, EgoVLPv2Config
from crosstrainer_jax.training import sharding
from crosstrainer_jax.weights import convert
from crosstrainer_jax.weights.tensors import Tensors

TOLERANCE = 1e-4
CONFIG = EgoVLPv2Config(
  layers=3, width=32, heads=4, mlp=56, patch=4, image_size=12, max_frames=4, num_frames=4, projection_dim=24
)
SETTINGS = {'heads': CONFIG.heads}
Weights = dict[str, np.ndarray]


def checkpoint(config: EgoVLPv2Config = CONFIG, seed: int = 0) -> Weights:
  """Random tensors under the names and of the shapes of the published checkpoint, with those that are not needed."""
  width, patch = config.width, config.patch
  shapes: dict[str, tuple[int, ...]] = {
    'video_model.cls_token': (1, 1, width),
    'video_model.pos_embed': (1, 1 + config.positions, width),
    'video_model.temporal_embed': (1, config.max_frames, width),
    'video_model.patch_embed.proj.weight': (width, 3, patch, patch),
    'video_model.patch_embed.proj.bias': (width,),
    'video_model.norm.weight': (width,),
    'video_model.norm.bias': (width,),
  }

  def linear(name: str, outputs: int, inputs: int, bias: bool = True) -> None:
    shapes[f'{name}.weight'] = (outputs, inputs)
    if bias:
      shapes[f'{name}.bias'] = (outputs,)

  for layer in range(config.layers):
    block = f'video_model.blocks.{layer}'
    for norm in ('norm1', 'norm2', 'norm3'):
      shapes |= {f'{block}.{norm}.weight': (width,), f'{block}.{norm}.bias': (width,)}
    for attention in ('attn', 'timeattn'):
      linear(f'{block}.{attention}.qkv', 3 * width, width)
      linear(f'{block}.{attention}.proj', width, width)
    linear(f'{block}.mlp.fc1', config.mlp, width)
    linear(f'{block}.mlp.fc2', width, config.mlp)
    if layer >= config.layers // 2:
      linear(f'{block}.attn.qkv_text_i2t', 2 * width, width)
      linear(f'{block}.attn.qkv_i2t', width, width)
      linear(f'{block}.attn.proj_i2t', width, width)
      shapes |= {f'{block}.attn.alpha_i2t': (1,), f'{block}.attn.norm_i2t_i.weight': (width,)}
      shapes |= {f'{block}.attn.norm_i2t_i.bias': (width,)}
  linear('vid_proj.0', config.projection_dim, width, bias=False)
  linear('vid_proj.2', config.projection_dim, config.projection_dim)
  linear('vid_proj.4', config.projection_dim, config.projection_dim)
  shapes |= {'cls_token': (1, 1, width), 'norm.weight': (width,), 'itm_score.fc.weight': (2, width)}
  shapes |= {'text_model.embeddings.position_ids': (1, 5), 'txt_proj.0.weight': (3, width)}
  shapes |= {'cross_modal_video_pooler.dense.bias': (width,), 'video_model.head.bias': (7,)}

  rng = np.random.default_rng(seed)
  return {
    name: rng.normal(1.0 if re.search(r'norm\w*\.weight$', name) else 0.0, 0.2, shape).astype(np.float32)
    for name, shape in shapes.items()
  }


class Torch(str):
  """A name in PyTorch, pickled as such without PyTorch being there."""

  def __call__(self) -> None: ...


@dataclasses.dataclass(frozen=True)
class Stored:
  """A tensor as the pickle of PyTorch has it, its numbers elsewhere."""

  key: str
  shape: tuple[int, ...]

  def __reduce__(self) -> tuple[Any, ...]:
    strides = tuple(int(np.prod(self.shape[axis + 1 :])) for axis in range(len(self.shape)))
    storage = Storage(self.key, math.prod(self.shape))
    return Torch('torch._utils _rebuild_tensor_v2'), (storage, 0, self.shape, strides, False, OrderedDict())


@dataclasses.dataclass(frozen=True)
class Storage:
  key: str
  count: int


# The one written in Python, whose `save` can be extended.
PythonPickler: Any = pickle._Pickler


class TorchPickler(PythonPickler):
  def persistent_id(self, value: Any) -> Any:
    if isinstance(value, Storage):
      return 'storage', Torch('torch FloatStorage'), value.key, 'cpu', value.count
    return None

  def save(self, value: Any, *arguments: Any, **options: Any) -> None:
    if isinstance(value, Torch):
      self.write(b'c' + '\n'.join(value.split()).encode() + b'\n')
    else:
      super().save(value, *arguments, **options)


def write(path: Path, weights: Weights, wrapped: bool = True) -> Path:
  """A file as `torch.save` makes it: the weights alone, or under `state_dict` beside what a trainer keeps."""
  keys = {name: str(number) for number, name in enumerate(weights)}
  state = OrderedDict((name, Stored(keys[name], value.shape)) for name, value in weights.items())
  moments = {'exp_avg': Stored('0', next(iter(weights.values())).shape)}
  content = {'epoch': 3, 'state_dict': state, 'optimizer': {'state': {0: moments}}} if wrapped else state
  pickled = io.BytesIO()
  TorchPickler(pickled, protocol=2).dump(content)
  with zipfile.ZipFile(path, 'w') as archive:
    archive.writestr('archive/data.pkl', pickled.getvalue())
    for name, key in keys.items():
      archive.writestr(f'archive/data/{key}', weights[name].tobytes())
  return path


def load(path: Path, **settings: Any) -> EgoVLPv2:
  tensors = Tensors(path)
  config = EgoVLPv2Config.from_checkpoint(tensors, **(SETTINGS | settings))
  graph, abstract = nnx.split(nnx.eval_shape(lambda: EgoVLPv2(config, nnx.Rngs(0))), nnx.Param)
  prefix = egovlp.find_prefix(tensors)
  return nnx.merge(graph, convert.load(tensors, egovlp.sources(config), abstract, egovlp.IGNORED, prefix))


@pytest.fixture(scope='module')
def weights() -> Weights:
  return checkpoint()


@pytest.fixture(scope='module')
def path(weights: Weights, tmp_path_factory: pytest.TempPathFactory) -> Path:
  named = {f'module.{name}': value for name, value in weights.items()}
  return write(tmp_path_factory.mktemp('egovlp') / 'EgoVLPv2.pth', named)


@pytest.fixture(scope='module')
def model(path: Path) -> EgoVLPv2:
  return load(path)


def clips(views: int = 2, seconds: int = 2, frames: int = 4, size: int = 12) -> np.ndarray:
  return np.random.default_rng(1).integers(0, 256, (views, seconds * frames, size, size, 3), np.uint8)


def normalised(seconds: int = 2, frames: int = 4) -> np.ndarray:
  return np.random.default_rng(2).normal(size=(seconds, frames, 12, 12, 3)).astype(np.float32)


@functools.cache
def compiled() -> tuple[Any, Any, Any]:
  return (
    nnx.jit(lambda model, *inputs: model(*inputs)),
    nnx.jit(lambda model, *inputs: model.encode(*inputs)),
    nnx.jit(lambda model, *inputs: model.video(*inputs)),
  )


def encode(model: EgoVLPv2, frames: np.ndarray, valid: np.ndarray | None = None) -> np.ndarray:
  return np.asarray(compiled()[0](model, frames, valid))


def features_of(model: EgoVLPv2, pixels: np.ndarray) -> np.ndarray:
  return np.asarray(compiled()[1](model, pixels))


def tower(model: EgoVLPv2, pixels: np.ndarray, valid: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
  cls, states = compiled()[2](model, pixels, valid)
  return np.asarray(cls), np.asarray(states)


def adjusted(model: EgoVLPv2, **changes: Any) -> EgoVLPv2:
  """The same weights under another config."""
  config = dataclasses.replace(model.config, **changes)
  graph = nnx.split(nnx.eval_shape(lambda: EgoVLPv2(config, nnx.Rngs(0))), nnx.Param)[0]
  return nnx.merge(graph, nnx.state(model, nnx.Param))


def difference(a: Any, b: Any) -> float:
  return float(np.abs(np.asarray(a, np.float64) - np.asarray(b, np.float64)).max())


# The restatement: float64, one query after another.


def restated(weights: Weights, pixels: np.ndarray, config: EgoVLPv2Config) -> tuple[list[np.ndarray], np.ndarray]:
  """States [1 + F * P, D] after every block, and the feature, of one second float[F, H, W, 3]."""
  w = {name: value.astype(np.float64) for name, value in weights.items()}
  frames, patch, side = len(pixels), config.patch, config.image_size // config.patch
  place = {(f, p): 1 + f * side**2 + p for f in range(frames) for p in range(side**2)}

  def norm(x: np.ndarray, name: str) -> np.ndarray:
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + config.eps) * w[f'{name}.weight'] + w[
      f'{name}.bias'
    ]

  def linear(x: np.ndarray, name: str) -> np.ndarray:
    return x @ w[f'{name}.weight'].T + w.get(f'{name}.bias', 0)

  def attention(x: np.ndarray, name: str, seen: dict[int, list[int]]) -> np.ndarray:
    q, k, v = np.split(linear(x, f'{name}.qkv'), 3, axis=-1)
    size = config.width // config.heads
    out = np.zeros_like(x)
    for query, keys in seen.items():
      for head in range(config.heads):
        part = slice(head * size, (head + 1) * size)
        scores = np.array([q[query, part] * size**-0.5 @ k[key, part] for key in keys])
        shares = np.exp(scores - scores.max()) / np.exp(scores - scores.max()).sum()
        out[query, part] = sum(share * v[key, part] for share, key in zip(shares, keys, strict=True))
    return linear(out, f'{name}.proj')

  kernel, bias = w['video_model.patch_embed.proj.weight'], w['video_model.patch_embed.proj.bias']
  x = np.zeros((1 + len(place), config.width))
  x[0] = w['video_model.cls_token'][0, 0] + w['video_model.pos_embed'][0, 0]
  for (f, p), token in place.items():
    top, left = p // side * patch, p % side * patch
    for row in range(patch):
      for column in range(patch):
        x[token] += kernel[:, :, row, column] @ pixels[f, top + row, left + column]
    x[token] += bias + w['video_model.pos_embed'][0, 1 + p] + w['video_model.temporal_embed'][0, f]

  everything = {0: list(range(len(x)))}
  in_time = everything | {at: [0, *(place[g, p] for g in range(frames))] for (f, p), at in place.items()}
  in_space = everything | {at: [0, *(place[f, q] for q in range(side**2))] for (f, p), at in place.items()}
  erf = np.vectorize(math.erf)
  states = []
  for layer in range(config.layers):
    block = f'video_model.blocks.{layer}'
    time = attention(norm(x, f'{block}.norm3'), f'{block}.timeattn', in_time)
    x = x + attention(norm(x + time, f'{block}.norm1'), f'{block}.attn', in_space)
    inner = linear(norm(x, f'{block}.norm2'), f'{block}.mlp.fc1')
    x = x + linear(inner * 0.5 * (1 + erf(inner / math.sqrt(2))), f'{block}.mlp.fc2')
    states.append(x)
  feature = norm(x[0], 'video_model.norm')
  if config.projection:
    feature = np.maximum(linear(feature, 'vid_proj.0'), 0)
    feature = linear(np.maximum(linear(feature, 'vid_proj.2'), 0), 'vid_proj.4')
  return states, feature


@pytest.mark.parametrize('frames', [4, 3, 1])
def test_every_layer_is_as_restated_in_loops(
  model: EgoVLPv2, weights: Weights, frames: int, record_property: Any
) -> None:
  pixels = normalised(frames=frames)
  states, features = tower(model, pixels)[1], features_of(model, pixels)
  found = 0.0
  for second in range(len(pixels)):
    expected, feature = restated(weights, pixels[second], CONFIG)
    assert np.std(feature) > 0.2
    found = max(found, difference(states[:, second], expected), difference(features[second], feature))
  record_property('max_abs_difference', f'{found:.1e}')
  assert found <= TOLERANCE


def test_frames_are_prepared_as_imagenet(model: EgoVLPv2, weights: Weights) -> None:
  frames = clips(seconds=1)
  pixels = (frames / 255 - np.array([0.485, 0.456, 0.406])) / np.array([0.229, 0.224, 0.225])
  expected = [restated(weights, second, CONFIG)[1] for second in pixels]
  assert difference(encode(model, frames)[:, 0], expected) <= TOLERANCE


@pytest.mark.parametrize('change', [{'eps': 1e-2}, {'heads': 2}])
def test_a_changed_field_shows(model: EgoVLPv2, change: dict[str, Any]) -> None:
  pixels = normalised()
  assert difference(features_of(adjusted(model, **change), pixels), features_of(model, pixels)) > 10 * TOLERANCE


def test_resampling_shows(model: EgoVLPv2) -> None:
  frames = clips(size=30)
  assert difference(encode(adjusted(model, resample='bilinear'), frames), encode(model, frames)) > 10 * TOLERANCE


def test_the_published_sizes() -> None:
  """ViT-B/16 with time attention, 114.2 M parameters, and a projection of 36.7 M."""
  state = nnx.state(nnx.eval_shape(lambda: EgoVLPv2(EgoVLPv2Config(), nnx.Rngs(0))), nnx.Param)
  shapes = {name: variable.shape for name, variable in convert.flat(state).items()}
  assert set(shapes) == set(egovlp.sources(EgoVLPv2Config()))
  sizes = {name: math.prod(shape) for name, shape in shapes.items()}
  assert sum(size for name, size in sizes.items() if name.startswith('projection/')) == 36_708_352
  attention = 4 * 768 * 768 + 4 * 768
  block = 2 * attention + 3 * 2 * 768 + 2 * 768 * 3072 + 3072 + 768
  tokens = 3 * 16 * 16 * 768 + 768 + 768 + 197 * 768 + 4 * 768
  expected = tokens + 12 * block + 2 * 768
  assert sum(size for name, size in sizes.items() if name.startswith('video/')) == expected == 114_168_576
  features = nnx.eval_shape(lambda: EgoVLPv2(EgoVLPv2Config(), nnx.Rngs(0))(jnp.zeros((2, 8, 90, 160, 3), jnp.uint8)))
  assert (features.shape, features.dtype) == ((2, 2, 4096), jnp.float32)
  plain = nnx.eval_shape(lambda: EgoVLPv2(EgoVLPv2Config(projection=False), nnx.Rngs(0)))
  assert set(convert.flat(nnx.state(plain, nnx.Param))) == set(egovlp.sources(plain.config))
  assert plain.config.feature_dim == 768


def test_the_config_says_what_an_encoder_says() -> None:
  config = EgoVLPv2Config(max_frames=16, num_frames=8)
  assert (config.fps, config.tokens_per_second, config.frames_per_token) == (8, 1, 8)
  assert (config.image_size, config.positions, config.feature_dim) == (224, 196, 4096)


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    ({'heads': 5}, r'heads=5 does not divide a width of 768'),
    ({'image_size': 225}, r'image_size=225 must be a multiple of patch=16'),
    ({'num_frames': 5}, r'num_frames=5: there are temporal embeddings for 1 to 4 frames'),
    ({'num_frames': 0}, r'num_frames=0: there are temporal embeddings'),
    ({'resample': 'nearest'}, r"resample='nearest' is not one of bicubic, bilinear"),
  ],
)
def test_a_wrong_config_is_a_clear_error(change: dict[str, Any], message: str) -> None:
  with pytest.raises(ValueError, match=message):
    EgoVLPv2Config(**change)


# Reading a checkpoint.


@pytest.mark.parametrize('wrapped', [True, False])
@pytest.mark.parametrize('parallel', ['module.', ''])
def test_sizes_and_prefix_are_read_off(wrapped: bool, parallel: str, weights: Weights, tmp_path: Path) -> None:
  named = {parallel + name: value for name, value in weights.items()}
  tensors = Tensors(write(tmp_path / 'other.pth', named, wrapped))
  assert egovlp.find_prefix(tensors) == ('state_dict.' if wrapped else '') + parallel
  assert EgoVLPv2Config.from_checkpoint(tensors, **SETTINGS) == CONFIG


def test_bare_names_give_the_same_weights(weights: Weights, model: EgoVLPv2, tmp_path: Path) -> None:
  loaded = load(write(tmp_path / 'bare.pth', weights, wrapped=False))
  expected = convert.flat(nnx.state(model, nnx.Param))
  for name, variable in convert.flat(nnx.state(loaded, nnx.Param)).items():
    np.testing.assert_array_equal(variable[...], expected[name][...], err_msg=name)


def test_settings_are_taken(path: Path) -> None:
  tensors = Tensors(path)
  settings: dict[str, Any] = {
    'heads': 2, 'num_frames': 2, 'projection': False, 'eps': 1e-6, 'resample': 'bilinear', 'dtype': 'bfloat16',
    'param_dtype': 'bfloat16',
  }  # fmt: skip
  config = EgoVLPv2Config.from_checkpoint(tensors, **settings)
  assert {name: getattr(config, name) for name in settings} == settings
  assert (config.max_frames, config.fps, config.feature_dim) == (4, 2, 32)
  for setting in ('width', 'max_frames', 'projection_dim', 'depth'):
    with pytest.raises(
      ValueError, match=rf"EgoVLPv2\.pth: \['{setting}'\] cannot be set; settings are \['dtype', 'eps"
    ):
      EgoVLPv2Config.from_checkpoint(tensors, **(SETTINGS | {setting: 5}))
  with pytest.raises(ValueError, match=r'num_frames=5: there are temporal embeddings for 1 to 4 frames'):
    EgoVLPv2Config.from_checkpoint(tensors, **(SETTINGS | {'num_frames': 5}))


def test_heads_have_64_channels_unless_said(tmp_path: Path) -> None:
  wide = dataclasses.replace(CONFIG, layers=1, width=128, heads=2)
  path = write(tmp_path / 'wide.pth', checkpoint(wide))
  assert EgoVLPv2Config.from_checkpoint(Tensors(path)) == wide


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    ({'video_model.patch_embed.proj.weight': None}, r'not a checkpoint of EgoVLPv2: .*behind state_dict\.module\., '),
    ({'video_model.temporal_embed': None}, r'missing or have .*: state_dict\.video_model\.temporal_embed$'),
    ({'video_model.pos_embed': (10, 32)}, r'number of axes: state_dict\.video_model\.pos_embed$'),
    ({'video_model.pos_embed': (1, 9, 32)}, r'patches of 3 x 4 x 4 at 8 positions; supported are square'),
    ({'video_model.patch_embed.proj.weight': (32, 3, 4, 2)}, r'patches of 3 x 4 x 2 at 9 positions'),
    ({'video_model.patch_embed.proj.weight': (32, 1, 4, 4)}, r'patches of 1 x 4 x 4 at 9 positions'),
    ({'vid_proj.0.bias': (24,)}, r'projection consists of vid_proj\.0\.bias, .*or projection=False'),
    ({'vid_proj.4.weight': None}, r'projection consists of vid_proj\.0\.weight, .*; supported is vid_proj\.0'),
    (dict.fromkeys(egovlp.PROJECTION), r'projection consists of nothing; supported is'),
  ],
)
def test_a_tower_of_another_form_is_a_clear_error(
  change: dict[str, tuple[int, ...] | None], message: str, weights: Weights, tmp_path: Path
) -> None:
  path = write(tmp_path / 'strange.pth', changed(weights, change))
  with pytest.raises(ValueError, match=rf'strange\.pth: .*{message}'):
    load(path)


def changed(weights: Weights, change: dict[str, tuple[int, ...] | None]) -> Weights:
  """The weights without those that are None, and with others of the shapes given."""
  others = {name: np.ones(shape, np.float32) for name, shape in change.items() if shape}
  return {name: value for name, value in (weights | others).items() if name not in change or change[name]}


def test_everything_that_does_not_fit_is_listed(weights: Weights, tmp_path: Path) -> None:
  change: dict[str, tuple[int, ...] | None] = {
    'video_model.blocks.1.norm3.bias': None,
    'video_model.blocks.0.timeattn.proj.weight': None,
    'video_model.blocks.2.attn.rotary.weight': (4,),
    'video_model.norm.scale': (32,),
    'video_model.blocks.2.mlp.fc2.weight': (32, 55),
  }
  with pytest.raises(ValueError) as error:
    load(write(tmp_path / 'bad.pth', changed(weights, change)))
  for expected in (
    '2 missing: state_dict.video_model.blocks.0.timeattn.proj.weight, state_dict.video_model.blocks.1.norm3.bias',
    '2 not known here: state_dict.video_model.blocks.2.attn.rotary.weight, state_dict.video_model.norm.scale',
    '1 of another shape: state_dict.video_model.blocks.2.mlp.fc2.weight is [32, 55]',
  ):
    assert expected in str(error.value)


def test_without_projection_its_weights_may_be_absent(weights: Weights, tmp_path: Path) -> None:
  path = write(tmp_path / 'tower.pth', changed(weights, dict.fromkeys(egovlp.PROJECTION)))
  plain = load(path, projection=False)
  assert encode(plain, clips()).shape == (2, 2, 32)
  expected = [restated(weights, second, plain.config)[1] for second in normalised()]
  assert difference(features_of(plain, normalised()), expected) <= TOLERANCE


# What holds for an encoder.


def test_one_feature_a_second(model: EgoVLPv2) -> None:
  frames = clips(views=3)
  features = encode(model, frames)
  assert features.shape == (3, 2, 24)
  assert features.dtype == np.float32
  # a second is encoded from its own frames, a view alone as among others, in any order
  assert difference(encode(model, frames[1:2, 4:]), features[1:2, 1:]) <= 1e-5
  assert difference(encode(model, frames[::-1]), features[::-1]) <= 1e-5
  assert difference(features[:, 0], features[:, 1]) > 0.1


@pytest.mark.parametrize('size', [(12, 20), (31, 17)])
def test_frames_of_any_size(model: EgoVLPv2, size: tuple[int, int]) -> None:
  frames = np.random.default_rng(3).integers(0, 256, (1, 4, *size, 3), np.uint8)
  assert np.isfinite(encode(model, frames)).all()


def test_seconds_must_be_whole(model: EgoVLPv2) -> None:
  with pytest.raises(ValueError, match=r'takes seconds of 4 frames; got \(2, 6, 12, 12, 3\)'):
    model(jnp.asarray(clips()[:, :6]))


def test_frames_that_are_not_valid_do_not_matter(model: EgoVLPv2) -> None:
  frames, valid = clips(views=3), np.ones((3, 8), bool)
  valid[0, 2:4], valid[0, 4], valid[1, 4:], valid[2] = False, False, False, [True, False] * 4
  first = encode(model, frames, valid)
  noise = np.where(valid[..., None, None, None], frames, 255 - frames)
  np.testing.assert_array_equal(encode(model, noise, valid), first)
  assert difference(encode(model, frames)[0], first[0]) > 0.01
  # what is valid is seen: the other frames change the feature
  assert (
    difference(encode(model, np.where(valid[..., None, None, None], 255 - frames, frames), valid)[2], first[2]) > 0.01
  )
  np.testing.assert_array_equal(np.abs(first).max(-1) == 0, [[False, False], [False, True], [False, False]])
  assert difference(encode(model, frames, np.ones_like(valid)), encode(model, frames)) <= 1e-5


def test_padding_is_as_fewer_frames(model: EgoVLPv2, path: Path) -> None:
  """Frames 2 and 3 of 4 masked: what the same weights make of two frames a second."""
  frames, valid = clips(), np.tile([True, True, False, False], (2, 2))
  half = frames[:, [0, 1, 4, 5]]
  assert difference(encode(model, frames, valid), encode(load(path, num_frames=2), half)) <= 1e-5


def test_hidden_states_of_valid_frames_do_not_see_the_others(model: EgoVLPv2) -> None:
  pixels, valid = normalised(1), np.array([[True, False, True, True]])
  other = pixels.copy()
  other[:, 1] += 3
  kept = np.r_[True, np.repeat(valid[0], CONFIG.positions)]
  one, two = (tower(model, p, valid)[1] for p in (pixels, other))
  assert difference(one[:, :, kept], two[:, :, kept]) <= 1e-6
  assert difference(one[:, :, ~kept], two[:, :, ~kept]) > 0.1


def test_order_of_frames_and_of_positions_matters(model: EgoVLPv2) -> None:
  pixels = normalised()
  features = features_of(model, pixels)
  assert difference(features_of(model, pixels[:, ::-1]), features) > 0.01
  assert difference(features_of(model, pixels[:, :, ::-1]), features) > 0.01


def test_scanned_blocks_are_blocks_one_by_one_and_jit_changes_nothing(model: EgoVLPv2) -> None:
  pixels, valid = normalised(), np.array([[True] * 4, [True, False, True, False]])
  last, states = tower(model, pixels, valid)
  graph, stacked = nnx.split(model.video.blocks)
  apply = jax.jit(lambda params, *inputs: nnx.merge(graph, params)(*inputs))
  x = model.video.embed(jnp.asarray(pixels))
  for layer in range(CONFIG.layers):
    x = apply(jax.tree.map(lambda leaf, layer=layer: leaf[layer], stacked), x, valid)
    assert difference(states[layer], x) <= 1e-5
  assert difference(last, model.video.norm(x[:, 0])) <= 1e-5
  frames = clips()
  assert difference(encode(model, frames), model(jnp.asarray(frames))) <= 1e-5


def test_eight_devices_are_as_one(model: EgoVLPv2) -> None:
  """Parameters where their logical axes lie, the batch over the rest."""
  mesh = sharding.make_mesh((1, 4, 2))
  graph, params = nnx.split(model)
  placed = jax.device_put(params, sharding.state_shardings(params, mesh))
  kernel = placed['video']['blocks']['space']['qkv']['kernel'][...]
  assert kernel.addressable_shards[0].data.shape == (3, 32 // 4, 96 // 2)
  frames = clips(views=4)
  valid = np.random.default_rng(4).random((4, 8)) < 0.7
  apply = jax.jit(lambda params, *inputs: nnx.merge(graph, params)(*inputs))
  on_mesh = apply(placed, *sharding.put_batch((frames, valid), mesh))
  assert difference(on_mesh, encode(model, frames, valid)) <= 1e-5


def test_bfloat16_stays_near(model: EgoVLPv2) -> None:
  """The root mean square of the error is within a twentieth of the features' spread."""
  exact, near = encode(model, clips()), encode(adjusted(model, dtype='bfloat16'), clips())
  assert near.dtype == np.float32
  assert 0 < np.sqrt(np.mean((near - exact) ** 2)) <= 0.05 * exact.std()


def test_every_parameter_learns(model: EgoVLPv2) -> None:
  loss = nnx.jit(nnx.grad(lambda model, pixels: jnp.square(model.encode(pixels)).mean()))
  for name, gradient in convert.flat(nnx.state(loss(model, normalised()))).items():
    assert np.abs(gradient[...]).max() > 1e-6, name


def test_a_fresh_encoder_is_sane() -> None:
  fresh = nnx.jit(lambda: EgoVLPv2(CONFIG, nnx.Rngs(0)))()
  features = encode(fresh, clips())
  assert 1e-3 < features.std() < 10
