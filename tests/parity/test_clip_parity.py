"""CLIP against `transformers` on torch: the same files of weights give the same states, embeddings and gradients."""

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

from crosstrainer_jax.models import clip
from crosstrainer_jax.models.clip import (
  Clip,
  ClipConfig,
  ClipFrames,
  ClipFramesConfig,
  ClipText,
  ClipTextConfig,
  ClipVision,
  ClipVisionConfig,
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
  'towers of other sizes': ({}, WIDE, {'layer_norm_eps': 0.05}),
  'legacy end token': ({}, {}, {'eos_token_id': 2}),
  'one layer': ({'num_hidden_layers': 1}, {}, {}),
  'dropped in training': ({'attention_dropout': 0.5}, {}, {}),
  **{name: ({'hidden_act': name, 'layer_norm_eps': 0.05}, {}, {}) for name in ACTIVATIONS},
}


def reference(folder: Path, case: str = 'plain') -> Any:
  """A random CLIP, saved in `folder`."""
  both, vision, text = CASES[case]
  config = MAKER['CLIP']
  config = transformers.CLIPConfig(
    vision_config=config['vision_config'] | both | vision,
    text_config=config['text_config'] | both | text,
    projection_dim=config['projection_dim'],
  )
  model = transformers.CLIPModel._from_config(config, attn_implementation='eager')
  MAKER['fill'](model, 0).save_pretrained(folder)
  return model


def load(folder: Path, module: type[nnx.Module], config: Any, ignored: tuple[str, ...] = clip.BUFFERS) -> Any:
  graph, abstract = nnx.split(nnx.eval_shape(lambda: module(config, nnx.Rngs(0))), nnx.Param)
  tensors = Tensors(folder)
  return nnx.merge(graph, convert.load(tensors, clip.sources(config, tensors), abstract, ignored))


def config_of(model: Any) -> ClipConfig:
  return ClipConfig.from_hugging_face(model.config.to_dict())


@nnx.jit
def call(model: Any, *inputs: jax.Array) -> Any:
  return model(*inputs)


def difference(a: Any, b: Any) -> float:
  assert a.shape == b.shape
  return float(np.abs(np.asarray(a) - np.asarray(b)).max())


def ids(tokens: np.ndarray) -> Any:
  return torch.tensor(tokens, dtype=torch.long)


def pictures(config: ClipConfig, count: int = 2) -> np.ndarray:
  return MAKER['pictures'](count, config.vision.image_size)


@pytest.mark.parametrize('case', CASES)
def test_image_tower(case: str, tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
  model = reference(tmp_path, case)
  config = config_of(model)
  pixels = pictures(config)
  with torch.no_grad():
    expected = model.vision_model(MAKER['to_torch'](pixels), output_hidden_states=True)
    features = model.visual_projection(expected.pooler_output)
  ours = call(load(tmp_path, ClipVision, config.vision, clip.IGNORED), pixels)
  found = states_apart(ours.states, expected.hidden_states)
  found += [difference(ours.tokens, expected.last_hidden_state), difference(ours.features, features)]
  record_property('max_abs_difference', f'{max(found):.1e}')
  assert features.std() > 0.3
  assert max(found) <= TOLERANCE


@pytest.mark.parametrize(
  ('case', 'padded'), [*((case, True) for case in CASES), ('plain', False)], ids=[*CASES, 'without a mask']
)
def test_text_tower(case: str, padded: bool, tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
  model = reference(tmp_path, case)
  config = config_of(model)
  with torch.no_grad():
    mask = ids(MASK) if padded else None
    expected = model.text_model(ids(TOKENS), attention_mask=mask, output_hidden_states=True)
    features = model.text_projection(expected.pooler_output)
  inputs = (TOKENS, MASK) if padded else (TOKENS,)
  ours = call(load(tmp_path, ClipText, config.text, clip.TEXT_IGNORED), *inputs)
  found = states_apart(ours.states, expected.hidden_states)
  found += [difference(ours.tokens, expected.last_hidden_state), difference(ours.features, features)]
  record_property('max_abs_difference', f'{max(found):.1e}')
  assert features.std() > 0.3
  assert max(found) <= TOLERANCE


def states_apart(ours: jax.Array, theirs: Any) -> list[float]:
  """Of every block; theirs begins with what enters the first."""
  return [difference(a, b) for a, b in zip(ours, theirs[1:], strict=True)]


@pytest.mark.parametrize('tokens', [[[5, 28, 7, 28, 28]], [[28, 3, 4, 5, 6]], [[5, 6, 7, 8, 9]], [[28]]], ids=str)
@pytest.mark.parametrize('case', ['plain', 'legacy end token'])
def test_where_a_text_ends(case: str, tokens: list[list[int]], tmp_path: Path) -> None:
  """At its first end token, at its highest token in old configs; without one, at its first token."""
  model = reference(tmp_path, case)
  with torch.no_grad():
    expected = model.get_text_features(torch.tensor(tokens)).pooler_output
  text = load(tmp_path, ClipText, config_of(model).text, clip.TEXT_IGNORED)
  assert difference(call(text, np.array(tokens)).features, expected) <= TOLERANCE


@pytest.mark.parametrize('case', ['plain', 'towers of other sizes'])
def test_similarity(case: str, tmp_path: Path) -> None:
  model = reference(tmp_path, case)
  config = config_of(model)
  pixels = pictures(config)
  with torch.no_grad():
    expected = model(pixel_values=MAKER['to_torch'](pixels), input_ids=ids(TOKENS), attention_mask=ids(MASK))
  ours = call(load(tmp_path, Clip, config), pixels, TOKENS, MASK)
  assert difference(ours.logits, expected.logits_per_image) <= TOLERANCE
  assert difference(ours.image, expected.image_embeds) <= TOLERANCE
  assert difference(ours.text, expected.text_embeds) <= TOLERANCE
  assert expected.logits_per_image.std() > 0.03


@pytest.mark.parametrize(
  ('tower', 'change'),
  [
    ('vision', {'patch_size': 4}),
    ('vision', {'image_size': 32}),
    ('vision', {'projection_dim': 16}),
    ('vision', {'num_hidden_layers': 1}),
    ('text', {'num_hidden_layers': 3}),
    ('text', {'max_position_embeddings': 8}),
    ('text', {'vocab_size': 31}),
    ('text', {'intermediate_size': 48}),
  ],
  ids=str,
)
def test_a_changed_size_does_not_load(tower: str, change: dict[str, Any], tmp_path: Path) -> None:
  config = config_of(reference(tmp_path))
  changed = dataclasses.replace(config, **{tower: dataclasses.replace(getattr(config, tower), **change)})
  with pytest.raises(ValueError, match='do not fit'):
    load(tmp_path, Clip, changed)
  module, ignored = (ClipVision, clip.IGNORED) if tower == 'vision' else (ClipText, clip.TEXT_IGNORED)
  with pytest.raises(ValueError, match='do not fit'):
    load(tmp_path, module, getattr(changed, tower), ignored)


@pytest.mark.parametrize('case', ['towers of other sizes'])
def test_gradients(case: str, tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
  model = reference(tmp_path, case)
  config = config_of(model)
  ours = load(tmp_path, Clip, config)
  pixels = pictures(config)
  direction = np.random.default_rng(1).normal(size=(2, 3)).astype(np.float32)

  logits = model(
    pixel_values=MAKER['to_torch'](pixels), input_ids=ids(TOKENS), attention_mask=ids(MASK)
  ).logits_per_image
  (logits * torch.tensor(direction)).sum().backward()
  # as a checkpoint whose values are gradients, which then takes the way of the weights
  folder = tmp_path / 'gradients'
  gradients = {name: weight.grad for name, weight in model.named_parameters()}
  with torch.no_grad():
    for name, weight in model.named_parameters():
      weight.copy_(gradients[name])
  model.save_pretrained(folder)
  expected = convert.flat(nnx.state(load(folder, Clip, config), nnx.Param))

  @nnx.jit
  def gradient(ours: Clip) -> nnx.State:
    return nnx.grad(lambda model: (model(jnp.asarray(pixels), TOKENS, MASK).logits * direction).sum())(ours)

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
@pytest.mark.parametrize('name', ['CLIPVisionModel', 'CLIPVisionModelWithProjection'])
def test_a_checkpoint_of_the_image_tower(name: str, bare: bool, tmp_path: Path) -> None:
  config = transformers.CLIPVisionConfig(**MAKER['VISION'], projection_dim=24)
  model = MAKER['fill'](getattr(transformers, name)._from_config(config, attn_implementation='eager'), 0)
  model.save_pretrained(tmp_path)
  projects = name.endswith('WithProjection')
  if not (bare or projects):
    tensors = load_file(tmp_path / 'model.safetensors')
    save_file({f'vision_model.{key}': array for key, array in tensors.items()}, tmp_path / 'model.safetensors')
  pixels = MAKER['pictures'](2, 17)
  with torch.no_grad():
    output = model(MAKER['to_torch'](pixels))
  settings = {} if projects else {'projection_dim': None}
  ours = load(tmp_path, ClipVision, ClipVisionConfig.from_hugging_face(model.config.to_dict(), **settings))
  expected = output.image_embeds if projects else output.pooler_output
  assert difference(call(ours, pixels).features, expected) <= TOLERANCE


def test_a_checkpoint_of_the_text_tower(tmp_path: Path) -> None:
  config = transformers.CLIPTextConfig(**MAKER['CLIP']['text_config'], projection_dim=24)
  model = transformers.CLIPTextModelWithProjection._from_config(config, attn_implementation='eager')
  MAKER['fill'](model, 0).save_pretrained(tmp_path)
  with torch.no_grad():
    expected = model(ids(TOKENS), attention_mask=ids(MASK)).text_embeds
  ours = load(tmp_path, ClipText, ClipTextConfig.from_hugging_face(model.config.to_dict()))
  assert difference(call(ours, TOKENS, MASK).features, expected) <= TOLERANCE


@pytest.mark.parametrize('size', [(40, 56), (56, 40), (9, 12)], ids=str)
@pytest.mark.parametrize('feature', clip.FEATURES)
def test_seconds_of_a_video(feature: str, size: tuple[int, int], tmp_path: Path) -> None:
  """The mean of a second's valid frames, each preprocessed by the processor and encoded by the model there."""
  from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

  model = reference(tmp_path)
  processor = CLIPImageProcessorPil(size={'shortest_edge': 17}, crop_size={'height': 17, 'width': 17})
  frames = np.random.default_rng(0).integers(0, 256, (2, 6, *size, 3), np.uint8)
  valid = np.array([[1, 1, 1, 0, 1, 0], [0, 0, 1, 0, 0, 0]], bool)
  with torch.no_grad():
    pixels = processor(list(frames.reshape(12, *frames.shape[2:])), return_tensors='pt')['pixel_values']
    if feature == 'projected':
      expected = model.get_image_features(pixels).pooler_output
    else:
      expected = model.vision_model(pixels).pooler_output
  weights = valid.reshape(2, 2, 3, 1)
  expected = (expected.numpy().reshape(2, 2, 3, -1) * weights).sum(2) / np.maximum(weights.sum(2), 1)
  config = ClipFramesConfig.from_hugging_face(model.config.to_dict(), processor.to_dict(), feature=feature, fps=3)
  found = call(load(tmp_path, ClipFrames, config, clip.IGNORED), frames, valid)
  assert expected.std() > 0.3
  assert difference(found, expected) <= TOLERANCE


@pytest.mark.parametrize(
  'fields',
  [
    {},
    {'vision_config': {'hidden_size': 1536, 'patch_size': 14}, 'text_config': {'hidden_act': 'gelu'}},
    {
      'vision_config': {'hidden_act': 'gelu', 'hidden_size': 512, 'image_size': 336},
      'vision_config_dict': {'hidden_size': 1024, 'num_attention_heads': 16},
      'text_config': {'hidden_act': 'gelu', 'eos_token_id': 2},
      'text_config_dict': {'num_hidden_layers': 24},
      'projection_dim': 768,
    },
  ],
  ids=['defaults', 'sections', 'old sections'],
)
def test_config_is_read_as_there(fields: dict[str, Any]) -> None:
  theirs = transformers.CLIPConfig(**fields)
  ours = ClipConfig.from_hugging_face({'model_type': 'clip', **fields})
  for mine, there in ((ours.vision, theirs.vision_config), (ours.text, theirs.text_config)):
    for field in dataclasses.fields(mine):
      if field.name not in ('dtype', 'param_dtype', 'projection_dim'):
        assert getattr(mine, field.name) == getattr(there, field.name), field.name
    assert mine.projection_dim == theirs.projection_dim
