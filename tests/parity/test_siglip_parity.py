"""SigLIP against `transformers` on torch: the same files of weights give the same states, embeddings and gradients."""

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
from safetensors.numpy import load_file, save_file

from crosstrainer_jax.models import siglip
from crosstrainer_jax.models.siglip import (
  Siglip,
  SiglipConfig,
  SiglipFrames,
  SiglipFramesConfig,
  SiglipText,
  SiglipTextConfig,
  SiglipVision,
  SiglipVisionConfig,
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
WIDE = {'hidden_size': 48, 'intermediate_size': 64, 'num_attention_heads': 3, 'num_hidden_layers': 3}
# name -> fields of both towers, of the image tower, of the text tower
CASES: dict[str, tuple[dict[str, Any], ...]] = {
  'plain': ({}, {}, {}),
  'whole patches': ({}, {'image_size': 24, 'patch_size': 4}, {}),
  'towers of other sizes': ({}, WIDE, {'layer_norm_eps': 0.05, 'projection_size': 48}),
  'one layer': ({'num_hidden_layers': 1}, {}, {}),
  'dropped in training': ({'attention_dropout': 0.5}, {}, {}),
  **{name: ({'hidden_act': name, 'layer_norm_eps': 0.05}, {}, {}) for name in ACTIVATIONS},
}


def reference(folder: Path, case: str = 'plain') -> Any:
  """A random SigLIP, saved in `folder`."""
  both, vision, text = CASES[case]
  config = MAKER['SIGLIP']
  model = MAKER['make'](
    config
    | {
      'vision_config': config['vision_config'] | both | vision,
      'text_config': config['text_config'] | both | text,
    }
  )
  MAKER['fill'](model, 0).save_pretrained(folder)
  return model


def load(folder: Path, module: type[nnx.Module], config: Any, ignored: tuple[str, ...] = siglip.BUFFERS) -> Any:
  graph, abstract = nnx.split(nnx.eval_shape(lambda: module(config, nnx.Rngs(0))), nnx.Param)
  tensors = Tensors(folder)
  return nnx.merge(graph, convert.load(tensors, siglip.sources(config, tensors), abstract, ignored))


def config_of(model: Any) -> SiglipConfig:
  return SiglipConfig.from_hugging_face(model.config.to_dict())


@nnx.jit
def call(model: Any, *inputs: jax.Array) -> Any:
  return model(*inputs)


def difference(a: Any, b: Any) -> float:
  assert a.shape == b.shape
  return float(np.abs(np.asarray(a) - np.asarray(b)).max())


def states_apart(ours: jax.Array, theirs: Any) -> list[float]:
  """Of every block; theirs begins with what enters the first."""
  return [difference(a, b) for a, b in zip(ours, theirs[1:], strict=True)]


def ids(tokens: np.ndarray) -> Any:
  return torch.tensor(tokens, dtype=torch.long)


def pictures(config: SiglipConfig, count: int = 2) -> np.ndarray:
  return MAKER['pictures'](count, config.vision.image_size)


@pytest.mark.parametrize('case', CASES)
def test_image_tower(case: str, tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
  model = reference(tmp_path, case)
  config = config_of(model)
  pixels = pictures(config)
  with torch.no_grad():
    expected = model.vision_model(MAKER['to_torch'](pixels), output_hidden_states=True)
  ours = call(load(tmp_path, SiglipVision, config.vision, siglip.IGNORED), pixels)
  found = states_apart(ours.states, expected.hidden_states)
  found += [difference(ours.tokens, expected.last_hidden_state), difference(ours.features, expected.pooler_output)]
  record_property('max_abs_difference', f'{max(found):.1e}')
  assert expected.pooler_output.std() > 0.3
  assert max(found) <= TOLERANCE


@pytest.mark.parametrize(
  ('case', 'padded'), [*((case, False) for case in CASES), ('plain', True)], ids=[*CASES, 'with a mask']
)
def test_text_tower(case: str, padded: bool, tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
  model = reference(tmp_path, case)
  config = config_of(model)
  with torch.no_grad():
    mask = ids(MASK) if padded else None
    expected = model.text_model(ids(TOKENS), attention_mask=mask, output_hidden_states=True)
  inputs = (TOKENS, MASK) if padded else (TOKENS,)
  ours = call(load(tmp_path, SiglipText, config.text, siglip.TEXT_IGNORED), *inputs)
  found = states_apart(ours.states, expected.hidden_states)
  found += [difference(ours.tokens, expected.last_hidden_state), difference(ours.features, expected.pooler_output)]
  record_property('max_abs_difference', f'{max(found):.1e}')
  assert expected.pooler_output.std() > 0.3
  assert max(found) <= TOLERANCE


@pytest.mark.parametrize('case', ['plain', 'towers of other sizes'])
def test_similarity(case: str, tmp_path: Path) -> None:
  model = reference(tmp_path, case)
  config = config_of(model)
  pixels = pictures(config)
  with torch.no_grad():
    expected = model(pixel_values=MAKER['to_torch'](pixels), input_ids=ids(TOKENS))
  ours = call(load(tmp_path, Siglip, config), pixels, TOKENS)
  assert difference(ours.logits, expected.logits_per_image) <= TOLERANCE
  assert difference(ours.image, expected.image_embeds) <= TOLERANCE
  assert difference(ours.text, expected.text_embeds) <= TOLERANCE
  assert expected.logits_per_image.std() > 0.03


@pytest.mark.parametrize(
  ('tower', 'change'),
  [
    ('vision', {'patch_size': 4}),
    ('vision', {'image_size': 32}),
    ('vision', {'num_hidden_layers': 1}),
    ('vision', {'intermediate_size': 48}),
    ('text', {'num_hidden_layers': 3}),
    ('text', {'max_position_embeddings': 8}),
    ('text', {'vocab_size': 31}),
    ('text', {'projection_size': 31}),
  ],
  ids=str,
)
def test_a_changed_size_does_not_load(tower: str, change: dict[str, Any], tmp_path: Path) -> None:
  config = config_of(reference(tmp_path))
  changed = dataclasses.replace(config, **{tower: dataclasses.replace(getattr(config, tower), **change)})
  with pytest.raises(ValueError, match='do not fit'):
    load(tmp_path, Siglip, changed)


def test_gradients(tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
  model = reference(tmp_path, 'towers of other sizes')
  config = config_of(model)
  ours = load(tmp_path, Siglip, config)
  pixels = pictures(config)
  direction = np.random.default_rng(1).normal(size=(2, 3)).astype(np.float32)

  logits = model(pixel_values=MAKER['to_torch'](pixels), input_ids=ids(TOKENS)).logits_per_image
  (logits * torch.tensor(direction)).sum().backward()
  # as a checkpoint whose values are gradients, which then takes the way of the weights
  folder = tmp_path / 'gradients'
  gradients = {name: weight.grad for name, weight in model.named_parameters()}
  with torch.no_grad():
    for name, weight in model.named_parameters():
      weight.copy_(gradients[name])
  model.save_pretrained(folder)
  expected = convert.flat(nnx.state(load(folder, Siglip, config), nnx.Param))

  @nnx.jit
  def gradient(ours: Siglip) -> nnx.State:
    return nnx.grad(lambda model: (model(jnp.asarray(pixels), TOKENS).logits * direction).sum())(ours)

  found = {}
  for path, leaf in convert.flat(gradient(ours)).items():
    wanted = np.asarray(expected[path][...])
    # a softmax does not feel what is added to all keys
    assert np.abs(wanted).max() > 10 * TOLERANCE or path.endswith('k_proj/bias'), path
    found[path] = difference(leaf[...], wanted)
  assert found.keys() == expected.keys()
  record_property('max_abs_difference', f'{max(found.values()):.1e}')
  assert max(found.values()) <= TOLERANCE, found


@pytest.mark.parametrize('bare', [True, False], ids=['transformers 5', 'transformers 4'])
def test_checkpoints_of_one_tower(bare: bool, tmp_path: Path) -> None:
  vision = transformers.SiglipVisionModel._from_config(
    transformers.SiglipVisionConfig(**MAKER['VISION']), attn_implementation='eager'
  )
  text = transformers.SiglipTextModel._from_config(
    transformers.SiglipTextConfig(**MAKER['TEXT']), attn_implementation='eager'
  )
  pixels = MAKER['pictures'](2, 17)
  inputs = {'vision': (vision, (MAKER['to_torch'](pixels),), (pixels,)), 'text': (text, (ids(TOKENS),), (TOKENS,))}
  for tower, (model, theirs, ours) in inputs.items():
    folder = tmp_path / tower
    MAKER['fill'](model, 0).save_pretrained(folder)
    if not bare:
      tensors = load_file(folder / 'model.safetensors')
      save_file({f'{tower}_model.{name}': array for name, array in tensors.items()}, folder / 'model.safetensors')
    with torch.no_grad():
      expected = model(*theirs).pooler_output
    kind, module = (SiglipVisionConfig, SiglipVision) if tower == 'vision' else (SiglipTextConfig, SiglipText)
    loaded = load(folder, module, kind.from_hugging_face(model.config.to_dict()))
    assert difference(call(loaded, *ours).features, expected) <= TOLERANCE


@pytest.mark.parametrize('size', [(40, 56), (56, 40)], ids=str)
def test_seconds_of_a_video(size: tuple[int, int], tmp_path: Path) -> None:
  """The mean of a second's valid frames, each preprocessed by the processor and encoded by the model there."""
  from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

  model = reference(tmp_path)
  processor = SiglipImageProcessorPil(size={'height': 17, 'width': 17})
  frames = np.random.default_rng(0).integers(0, 256, (2, 6, *size, 3), np.uint8)
  valid = np.array([[1, 1, 1, 0, 1, 0], [0, 0, 1, 0, 0, 0]], bool)
  with torch.no_grad():
    pixels = processor(list(frames.reshape(12, *frames.shape[2:])), return_tensors='pt')['pixel_values']
    expected = model.get_image_features(pixels).pooler_output
  weights = valid.reshape(2, 2, 3, 1)
  expected = (expected.numpy().reshape(2, 2, 3, -1) * weights).sum(2) / np.maximum(weights.sum(2), 1)
  config = SiglipFramesConfig.from_hugging_face(model.config.to_dict(), processor.to_dict(), fps=3)
  found = call(load(tmp_path, SiglipFrames, config, siglip.IGNORED), frames, valid)
  assert expected.std() > 0.3
  assert difference(found, expected) <= TOLERANCE


@pytest.mark.parametrize(
  'fields',
  [{}, {'vision_config': {'hidden_size': 1536, 'patch_size': 14}, 'text_config': {'projection_size': 1024}}],
  ids=['defaults', 'sections'],
)
def test_config_is_read_as_there(fields: dict[str, Any]) -> None:
  theirs = transformers.SiglipConfig(**fields)
  ours = SiglipConfig.from_hugging_face({'model_type': 'siglip', **fields})
  for mine, there in ((ours.vision, theirs.vision_config), (ours.text, theirs.text_config)):
    for field in dataclasses.fields(mine):
      if field.name not in ('dtype', 'param_dtype', 'projection_size'):
        assert getattr(mine, field.name) == getattr(there, field.name), field.name
  assert (ours.text.projection_size or ours.text.hidden_size) == theirs.text_config.projection_size
