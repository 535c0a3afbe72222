"""V-JEPA 2 against `transformers` on torch: the same files of weights give the same states, features and gradients."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from crosstrainer_jax.models.transformer import ACTIVATIONS
from crosstrainer_jax.models.vjepa2 import IGNORED, VJEPA2, VJEPA2Config, preprocessing, sources
from crosstrainer_jax.weights import convert
from crosstrainer_jax.weights.tensors import Tensors

pytestmark = pytest.mark.parity
torch = pytest.importorskip('torch')
transformers = pytest.importorskip('transformers')

TOLERANCE = 1e-4
# A head of 20 holds three segments of 6 and 2 that are not turned.
SIZES = {
  'hidden_size': 40, 'num_attention_heads': 2, 'num_hidden_layers': 3, 'mlp_ratio': 2.5, 'hidden_act': 'gelu',
  'layer_norm_eps': 0.05, 'qkv_bias': True, 'crop_size': 32, 'patch_size': 8, 'tubelet_size': 2, 'frames_per_clip': 8,
  'pred_hidden_size': 24, 'pred_num_attention_heads': 2, 'pred_num_hidden_layers': 1, 'pred_num_mask_tokens': 2,
}  # fmt: skip
CASES = {
  'plain': {},
  'whole head turned': {'hidden_size': 48, 'num_attention_heads': 4},
  'odd head': {'hidden_size': 44, 'num_attention_heads': 4},
  'no bias': {'qkv_bias': False},
  'frames one by one': {'tubelet_size': 1},
  'dropped in training': {
    'drop_path_rate': 0.5, 'attention_probs_dropout_prob': 0.5, 'attention_dropout': 0.5, 'frames_per_clip': 2,
  },
  'one layer': {'num_hidden_layers': 1, 'mlp_ratio': 48 / 11},
  **{name: {'hidden_act': name} for name in ACTIVATIONS if name != SIZES['hidden_act']},
}  # fmt: skip


def reference(folder: Path, **fields: Any) -> Any:
  """A random V-JEPA 2, saved in `folder`; weights and norms are wide, since small ones hide errors."""
  config = transformers.VJEPA2Config(**SIZES | fields, attn_implementation='eager')
  model = transformers.VJEPA2Model(config)
  torch.manual_seed(0)
  with torch.no_grad():
    for name, weight in model.named_parameters():
      weight.normal_(1.0 if 'norm' in name and name.endswith('weight') else 0.0, 0.2)
  model.save_pretrained(folder)
  return model.eval()


def config_of(model: Any, **settings: Any) -> VJEPA2Config:
  return VJEPA2Config.from_hugging_face(model.config.to_dict(), **settings)


def load(folder: Path, config: VJEPA2Config) -> VJEPA2:
  graph, abstract = nnx.split(nnx.eval_shape(lambda: VJEPA2(config, nnx.Rngs(0))), nnx.Param)
  return nnx.merge(graph, convert.load(Tensors(folder), sources(config), abstract, IGNORED))


def pixels(*shape: int) -> np.ndarray:
  return np.random.default_rng(0).normal(size=(*shape, 3)).astype(np.float32)


def to_torch(clips: np.ndarray) -> Any:
  return torch.tensor(np.moveaxis(clips, -1, -3))


@nnx.jit
def encode(model: VJEPA2, clips: jax.Array) -> tuple[jax.Array, jax.Array]:
  return model.encode(clips)


def difference(a: Any, b: Any) -> float:
  assert a.shape == b.shape
  return float(np.abs(np.asarray(a) - np.asarray(b)).max())


@pytest.mark.parametrize('fields', CASES.values(), ids=CASES.keys())
def test_every_state(fields: dict[str, Any], tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
  model = reference(tmp_path, **fields)
  clips = pixels(2, 4, 32, 32)
  with torch.no_grad():
    expected = model(to_torch(clips), skip_predictor=True, output_hidden_states=True)
  tokens, states = encode(load(tmp_path, config_of(model)), clips)
  # theirs begins with what enters the blocks
  assert len(expected.hidden_states) == len(states) + 1
  found = [difference(ours, theirs) for ours, theirs in zip(states, expected.hidden_states[1:], strict=True)]
  found.append(difference(tokens, expected.last_hidden_state))
  assert expected.last_hidden_state.std() > 0.3
  record_property('max_abs_difference', f'{max(found):.1e}')
  assert max(found) <= TOLERANCE


@pytest.mark.parametrize(
  'shape', [(1, 2, 32, 32), (1, 12, 32, 32), (2, 4, 16, 24), (1, 2, 48, 40), (3, 2, 8, 8)], ids=str
)
def test_clips_of_other_sizes(shape: tuple[int, ...], tmp_path: Path) -> None:
  """Longer than `frames_per_clip`, and of another height and width than `crop_size`."""
  model = reference(tmp_path)
  clips = pixels(*shape)
  with torch.no_grad():
    expected = model(to_torch(clips), skip_predictor=True).last_hidden_state
  assert difference(encode(load(tmp_path, config_of(model)), clips)[0], expected) <= TOLERANCE


@pytest.mark.parametrize(
  'change',
  [
    {'hidden_size': 48},
    {'mlp_ratio': 2.0},
    {'num_hidden_layers': 2},
    {'num_hidden_layers': 4},
    {'qkv_bias': False},
    {'patch_size': 16},
    {'tubelet_size': 1},
  ],
  ids=str,
)
def test_a_changed_size_does_not_load(change: dict[str, Any], tmp_path: Path) -> None:
  config = config_of(reference(tmp_path))
  with pytest.raises(ValueError, match='do not fit'):
    load(tmp_path, dataclasses.replace(config, **change))


@pytest.mark.parametrize('name', ['plain', 'whole head turned', 'odd head', 'no bias'])
def test_gradients(name: str, tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
  model = reference(tmp_path, **CASES[name])
  config = config_of(model)
  ours = load(tmp_path, config)
  clips = pixels(2, 4, 32, 32)
  direction = np.random.default_rng(1).normal(size=(2, 32, config.hidden_size)).astype(np.float32)

  tokens = model(to_torch(clips), skip_predictor=True).last_hidden_state
  (tokens * torch.tensor(direction)).sum().backward()
  # as a checkpoint whose values are gradients, which then takes the way of the weights
  folder = tmp_path / 'gradients'
  gradients = {key: value.grad for key, value in model.named_parameters() if not key.startswith('predictor')}
  with torch.no_grad():
    for key, value in model.named_parameters():
      value.copy_(gradients.get(key, torch.zeros(())))
  model.save_pretrained(folder)
  expected = convert.flat(nnx.state(load(folder, config), nnx.Param))

  @nnx.jit
  def gradient(ours: VJEPA2) -> nnx.State:
    return nnx.grad(lambda model: (model.encode(jnp.asarray(clips))[0] * direction).sum())(ours)

  found = {}
  for path, leaf in convert.flat(gradient(ours)).items():
    wanted = np.asarray(expected[path][...])
    assert np.abs(wanted).max() > 1000 * TOLERANCE, path
    found[path] = difference(leaf[...], wanted)
  assert found.keys() == expected.keys()
  record_property('max_abs_difference', f'{max(found.values()):.1e}')
  assert max(found.values()) <= TOLERANCE, found


def test_seconds_of_a_video(tmp_path: Path) -> None:
  """Every second is encoded alone and is the mean of its tokens; frames as our preprocessing gives them."""
  model = reference(tmp_path)
  config = config_of(model, fps=4)
  frames = np.random.default_rng(0).integers(0, 256, (2, 8, 50, 70, 3), np.uint8)
  with torch.no_grad():
    seconds = to_torch(np.array(config.preprocessing(jnp.asarray(frames)))).reshape(4, 4, 3, 32, 32)
    expected = model(seconds, skip_predictor=True).last_hidden_state.mean(1).reshape(2, 2, -1)
  features = nnx.jit(lambda model, frames: model(frames))(load(tmp_path, config), frames)
  assert expected.std() > 0.3
  assert difference(features, expected) <= TOLERANCE


def test_invalid_frames(tmp_path: Path) -> None:
  """A second of which the end is padding is what the reference makes of its beginning alone."""
  model = reference(tmp_path)
  config = config_of(model, fps=6)
  frames = np.random.default_rng(0).integers(0, 256, (1, 6, 36, 36, 3), np.uint8)
  valid = np.array([[False, True, True, True, False, False]])
  beginning = np.array(config.preprocessing(jnp.asarray(frames[:, [1, 1, 2, 3]])))
  with torch.no_grad():
    expected = model(to_torch(beginning), skip_predictor=True).last_hidden_state.mean(1)
  features = nnx.jit(lambda model, frames, valid: model(frames, valid))(load(tmp_path, config), frames, valid)
  assert difference(features[:, 0], expected) <= TOLERANCE


def processed(frames: np.ndarray, crop: int) -> Any:
  """What VJEPA2VideoProcessor does to uint8[N, T, H, W, 3]: float32[N * T, 3, crop, crop].

  Written anew, since the processor needs torchvision, whose resizing is this `interpolate`.
  """
  clip = torch.tensor(np.moveaxis(frames, -1, -3)).flatten(0, 1)
  height, width = clip.shape[-2:]
  edge = int(crop * 256 / 224)
  size = (edge, int(edge * width / height)) if height <= width else (int(edge * height / width), edge)
  resized = torch.nn.functional.interpolate(clip, size, mode='bilinear', antialias=True)
  top, left = (size[0] - crop) // 2, (size[1] - crop) // 2
  cropped = resized[..., top : top + crop, left : left + crop].float() / 255
  mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
  return (cropped - mean[:, None, None]) / std[:, None, None]


@pytest.mark.parametrize('size', [(50, 70), (70, 50), (36, 36), (20, 24), (300, 200)], ids=str)
def test_preprocessing(size: tuple[int, int]) -> None:
  frames = np.random.default_rng(0).integers(0, 256, (1, 2, *size, 3), np.uint8)
  ours = np.asarray(preprocessing({'crop_size': 32})(jnp.asarray(frames)))[0]
  theirs = np.moveaxis(processed(frames, 32).numpy(), 1, -1)
  # one step of 255, where rounding falls the other way
  assert difference(ours, theirs) <= 1.01 / 255 / 0.224
  assert np.mean(np.abs(ours - theirs) > 1e-5) < 0.05


def test_the_processor_is_read() -> None:
  """The defaults, and the shortest edge that does not depend on `size`, are those of `transformers`."""
  try:
    from transformers.models.vjepa2.video_processing_vjepa2 import VJEPA2VideoProcessor as Processor
  except ImportError:
    pytest.skip('transformers has no processor without torchvision')
  mine = preprocessing({})
  assert Processor.size == {'shortest_edge': mine.resize}
  assert (Processor.crop_size, Processor.crop_size) == mine.crop
  assert tuple(Processor.image_mean) == mine.mean
  assert tuple(Processor.image_std) == mine.std
  assert Processor.resample.name.lower() == mine.resample
