"""SigLIP 2 NaFlex against `transformers` on torch: the same files of weights give the same states and gradients."""

import dataclasses
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from crosstrainer_jax.models import siglip, siglip2
from crosstrainer_jax.models.siglip import SiglipText
from crosstrainer_jax.models.siglip2 import (
  Siglip2,
  Siglip2Config,
  Siglip2Frames,
  Siglip2FramesConfig,
  Siglip2Vision,
  Siglip2VisionConfig,
  resized_positions,
)
from crosstrainer_jax.models.transformer import ACTIVATIONS
from crosstrainer_jax.weights import convert
from crosstrainer_jax.weights.tensors import Tensors

pytestmark = pytest.mark.parity
torch = pytest.importorskip('torch')
transformers = pytest.importorskip('transformers')

MAKER = runpy.run_path(str(Path(__file__).parent.parent / 'golden' / 'make_image_text.py'))
TOLERANCE = 1e-4
TOKENS, MASK = MAKER['texts']()
PATCHES, SHAPES, REAL = MAKER['patches']()
# name -> fields of the image tower
CASES: dict[str, dict[str, Any]] = {
  'plain': {},
  'other sizes': {'hidden_size': 48, 'intermediate_size': 64, 'num_attention_heads': 3, 'num_hidden_layers': 3},
  'a large grid': {'num_patches': 49, 'layer_norm_eps': 0.05},
  'a grid of one': {'num_patches': 1, 'num_hidden_layers': 1},
  **{name: {'hidden_act': name, 'layer_norm_eps': 0.05} for name in ACTIVATIONS},
}


def reference(folder: Path, case: str = 'plain') -> Any:
  """A random SigLIP 2, saved in `folder`."""
  config = MAKER['SIGLIP2']
  vision = config['vision_config'] | CASES[case]
  text = config['text_config'] | {'projection_size': vision['hidden_size']}
  model = MAKER['make'](config | {'vision_config': vision, 'text_config': text})
  MAKER['fill'](model, 0).save_pretrained(folder)
  return model


def load(folder: Path, module: type[nnx.Module], config: Any, ignored: tuple[str, ...] = siglip.BUFFERS) -> Any:
  graph, abstract = nnx.split(nnx.eval_shape(lambda: module(config, nnx.Rngs(0))), nnx.Param)
  tensors = Tensors(folder)
  return nnx.merge(graph, convert.load(tensors, siglip2.sources(config, tensors), abstract, ignored))


def config_of(model: Any) -> Siglip2Config:
  return Siglip2Config.from_hugging_face(model.config.to_dict())


@nnx.jit
def call(model: Any, *inputs: jax.Array) -> Any:
  return model(*inputs)


def difference(a: Any, b: Any) -> float:
  assert a.shape == b.shape
  return float(np.abs(np.asarray(a) - np.asarray(b)).max())


def images() -> dict[str, Any]:
  return MAKER['image_inputs'](MAKER['SIGLIP2'])


def ids(tokens: np.ndarray) -> Any:
  return torch.tensor(tokens, dtype=torch.long)


@pytest.mark.parametrize('case', CASES)
def test_image_tower(case: str, tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
  """Padding too, which sees the picture and is not seen."""
  model = reference(tmp_path, case)
  with torch.no_grad():
    expected = model.vision_model(**images(), output_hidden_states=True)
  ours = call(load(tmp_path, Siglip2Vision, config_of(model).vision, siglip2.IGNORED), PATCHES, SHAPES)
  found = [difference(a, b) for a, b in zip(ours.states, expected.hidden_states[1:], strict=True)]
  found += [difference(ours.tokens, expected.last_hidden_state), difference(ours.features, expected.pooler_output)]
  record_property('max_abs_difference', f'{max(found):.1e}')
  assert expected.pooler_output.std() > 0.3
  assert max(found) <= TOLERANCE


def test_text_tower(tmp_path: Path) -> None:
  model = reference(tmp_path)
  with torch.no_grad():
    expected = model.text_model(ids(TOKENS), output_hidden_states=True)
  ours = call(load(tmp_path, SiglipText, config_of(model).text, siglip.TEXT_IGNORED), TOKENS)
  for a, b in zip(ours.states, expected.hidden_states[1:], strict=True):
    assert difference(a, b) <= TOLERANCE
  assert difference(ours.features, expected.pooler_output) <= TOLERANCE


def test_similarity(tmp_path: Path) -> None:
  model = reference(tmp_path)
  with torch.no_grad():
    expected = model(**images(), input_ids=ids(TOKENS), attention_mask=ids(MASK))
  ours = call(load(tmp_path, Siglip2, config_of(model)), PATCHES, SHAPES, TOKENS, MASK)
  assert difference(ours.logits, expected.logits_per_image) <= TOLERANCE
  assert expected.logits_per_image.std() > 0.03


@pytest.mark.parametrize('side', [1, 3, 16])
def test_resized_positions(side: int) -> None:
  """Against the antialiased bilinear resizing of PyTorch itself."""
  table = np.random.default_rng(0).normal(size=(side**2, 5)).astype(np.float32)
  grid = torch.tensor(table).T.reshape(1, 5, side, side)
  shapes = np.array([(1, 1), (2, 31), (31, 2), (16, 16), (7, 9), (12, 21)])
  ours = np.asarray(jax.jit(resized_positions, static_argnums=2)(table, shapes, 256))
  for shape, found in zip(shapes, ours, strict=True):
    resized = torch.nn.functional.interpolate(
      grid, tuple(shape.tolist()), mode='bilinear', align_corners=False, antialias=True
    )
    expected = resized[0].flatten(1).T
    assert difference(found[: len(expected)], expected) <= 1e-5


@pytest.mark.parametrize('change', [{'patch_size': 2}, {'num_patches': 16}, {'num_hidden_layers': 1}], ids=str)
def test_a_changed_size_does_not_load(change: dict[str, Any], tmp_path: Path) -> None:
  config = config_of(reference(tmp_path)).vision
  with pytest.raises(ValueError, match='do not fit'):
    load(tmp_path, Siglip2Vision, dataclasses.replace(config, **change), siglip2.IGNORED)


def test_gradients(tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
  model = reference(tmp_path)
  config = config_of(model)
  ours = load(tmp_path, Siglip2, config)
  direction = np.random.default_rng(1).normal(size=(3, 3)).astype(np.float32)

  logits = model(**images(), input_ids=ids(TOKENS), attention_mask=ids(MASK)).logits_per_image
  (logits * torch.tensor(direction)).sum().backward()
  # as a checkpoint whose values are gradients, which then takes the way of the weights
  folder = tmp_path / 'gradients'
  gradients = {name: weight.grad for name, weight in model.named_parameters()}
  with torch.no_grad():
    for name, weight in model.named_parameters():
      weight.copy_(gradients[name])
  model.save_pretrained(folder)
  expected = convert.flat(nnx.state(load(folder, Siglip2, config), nnx.Param))

  @nnx.jit
  def gradient(ours: Siglip2) -> nnx.State:
    def loss(model: Siglip2) -> jax.Array:
      return (model(jnp.asarray(PATCHES), jnp.asarray(SHAPES), TOKENS, MASK).logits * direction).sum()

    return nnx.grad(loss)(ours)

  found = {}
  for path, leaf in convert.flat(gradient(ours)).items():
    wanted = np.asarray(expected[path][...])
    # a softmax does not feel what is added to all keys
    assert np.abs(wanted).max() > 10 * TOLERANCE or path.endswith('k_proj/bias'), path
    found[path] = difference(leaf[...], wanted)
  assert found.keys() == expected.keys()
  record_property('max_abs_difference', f'{max(found.values()):.1e}')
  assert max(found.values()) <= TOLERANCE, found


def test_a_checkpoint_of_the_image_tower(tmp_path: Path) -> None:
  config = transformers.Siglip2VisionConfig(**MAKER['SIGLIP2']['vision_config'])
  model = transformers.Siglip2VisionModel._from_config(config, attn_implementation='eager')
  MAKER['fill'](model, 0).save_pretrained(tmp_path)
  with torch.no_grad():
    expected = model(**images()).pooler_output
  ours = load(tmp_path, Siglip2Vision, Siglip2VisionConfig.from_hugging_face(model.config.to_dict()))
  assert difference(call(ours, PATCHES, SHAPES).features, expected) <= TOLERANCE


@pytest.mark.parametrize('size', [(40, 40), (40, 56), (90, 31)], ids=str)
def test_seconds_of_a_video(size: tuple[int, int], tmp_path: Path) -> None:
  """The mean of a second's valid frames, each preprocessed by the processor and encoded, padded, by the model there."""
  from transformers.models.siglip2.image_processing_pil_siglip2 import Siglip2ImageProcessorPil

  model = reference(tmp_path)
  processor = Siglip2ImageProcessorPil(patch_size=4, max_num_patches=21)
  frames = np.random.default_rng(0).integers(0, 256, (2, 4, *size, 3), np.uint8)
  valid = np.array([[1, 1, 1, 0], [0, 0, 1, 0]], bool)
  with torch.no_grad():
    inputs = processor(list(frames.reshape(8, *frames.shape[2:])), return_tensors='pt')
    expected = model.get_image_features(**inputs).pooler_output
  weights = valid.reshape(2, 2, 2, 1)
  expected = (expected.numpy().reshape(2, 2, 2, -1) * weights).sum(2) / np.maximum(weights.sum(2), 1)
  config = Siglip2FramesConfig.from_hugging_face(model.config.to_dict(), processor.to_dict(), fps=2)
  found = call(load(tmp_path, Siglip2Frames, config, siglip2.IGNORED), frames, valid)
  assert expected.std() > 0.3
  assert difference(found, expected) <= TOLERANCE


@pytest.mark.parametrize('fields', [{}, {'vision_config': {'hidden_size': 1536, 'num_patches': 1024}}], ids=str)
def test_config_is_read_as_there(fields: dict[str, Any]) -> None:
  theirs = transformers.Siglip2Config(**fields)
  ours = Siglip2Config.from_hugging_face({'model_type': 'siglip2', **fields})
  for mine, there in ((ours.vision, theirs.vision_config), (ours.text, theirs.text_config)):
    for field in dataclasses.fields(mine):
      if field.name not in ('dtype', 'param_dtype', 'projection_size'):
        assert getattr(mine, field.name) == getattr(there, field.name), field.name
