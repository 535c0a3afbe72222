"""SigLIP's towers: what their embeddings depend on, and a record of the reference for machines without PyTorch.

What holds for SigLIP as f_v is in test_image_text.py.
"""

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

from crosstrainer_jax.models import siglip
from crosstrainer_jax.models.image_text import patches
from crosstrainer_jax.models.preprocessing import HALF
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
from crosstrainer_jax.training import sharding
from crosstrainer_jax.weights import convert
from crosstrainer_jax.weights.tensors import Tensors
from tests.models.image_text_records import recorded

GOLDEN = Path(__file__).parent.parent / 'golden'
# the two forms of GELU are 5e-4 apart
TOLERANCE = 3e-5
MAKER = runpy.run_path(str(GOLDEN / 'make_image_text.py'))
TOKENS, MASK = MAKER['texts']()
CONFIG = SiglipConfig.from_hugging_face(MAKER['SIGLIP'])
PROCESSOR = {'image_processor_type': 'SiglipImageProcessor', 'size': {'height': 17, 'width': 17}}
TOWERS: dict[str, Any] = {'vision': (SiglipVision, siglip.IGNORED), 'text': (SiglipText, siglip.TEXT_IGNORED)}


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
  """The folder of the model on record."""
  golden, folder = np.load(GOLDEN / 'siglip.npz'), tmp_path_factory.mktemp('siglip')
  save_file(MAKER['weights'](json.loads(str(golden['shapes'])), int(golden['seed'])), folder / 'model.safetensors')
  return folder


@functools.cache
def load(folder: Path, module: type[nnx.Module], config: Any, ignored: tuple[str, ...] = siglip.BUFFERS) -> Any:
  graph, abstract = nnx.split(nnx.eval_shape(lambda: module(config, nnx.Rngs(0))), nnx.Param)
  tensors = Tensors(folder)
  return nnx.merge(graph, convert.load(tensors, siglip.sources(config, tensors), abstract, ignored))


@nnx.jit
def call(model: Any, *inputs: jax.Array) -> Any:
  return model(*inputs)


def pixels(count: int = 2) -> np.ndarray:
  return MAKER['pictures'](count, 17)


def close(a: Any, b: Any, tolerance: float = 1e-5) -> None:
  np.testing.assert_allclose(a, b, rtol=0, atol=tolerance)


def test_the_reference_on_record(checkpoint: Path) -> None:
  """tests/golden/make_image_text.py wrote what `transformers` computes; here it is computed without PyTorch."""
  golden = np.load(GOLDEN / 'siglip.npz')
  model = load(checkpoint, Siglip, SiglipConfig.from_hugging_face(json.loads(str(golden['config']))))
  pictures = np.moveaxis(golden['pixels'].astype(np.float32), 1, -1)
  image, text = call(model.vision, pictures), call(model.text, golden['tokens'], golden['mask'])
  assert golden['image_features'].std() > 0.3
  close(image.states, golden['image_states'], TOLERANCE)
  close(image.features, golden['image_features'], TOLERANCE)
  close(text.states, golden['text_states'], TOLERANCE)
  close(text.features, golden['text_features'], TOLERANCE)
  close(call(model, pictures, golden['tokens'], golden['mask']).logits, golden['logits'], TOLERANCE)


@pytest.mark.parametrize(
  ('tower', 'change'),
  [
    (tower, change)
    for tower in ('vision', 'text')
    for change in (
      {'num_attention_heads': 2},
      {'hidden_act': 'gelu'},
      {'hidden_act': 'quick_gelu'},
      {'layer_norm_eps': 0.05},
    )
  ],
  ids=str,
)
def test_a_changed_field_shows(tower: str, change: dict[str, Any], checkpoint: Path) -> None:
  """The comparison with the record would notice: each field moves the features by far more than the tolerance."""
  inputs, expected = recorded(np.load(GOLDEN / 'siglip.npz'), tower)
  module, ignored = TOWERS[tower]
  changed = load(checkpoint, module, dataclasses.replace(getattr(CONFIG, tower), **change), ignored)
  assert np.abs(call(changed, *inputs).features - expected).max() >= 10 * TOLERANCE


def test_members_of_a_batch_are_independent(checkpoint: Path) -> None:
  model = load(checkpoint, Siglip, CONFIG)
  whole = call(model, pixels(3), TOKENS, MASK)
  turned = call(model, pixels(3)[::-1], TOKENS[::-1], MASK[::-1])
  close(turned.logits, whole.logits[::-1, ::-1])
  close(call(model, pixels(3)[1:2], TOKENS[2:], MASK[2:]).logits, whole.logits[1:2, 2:])
  close(jnp.linalg.norm(whole.image, axis=-1), 1)


def test_all_tokens_of_a_text_see_each_other(checkpoint: Path) -> None:
  text = load(checkpoint, Siglip, CONFIG).text
  changed = TOKENS.copy()
  changed[:, -1] = 5
  assert np.abs(call(text, changed).tokens[:, 0] - call(text, TOKENS).tokens[:, 0]).min(-1).max() > 1e-4
  # but none sees what the mask hides, except the hidden ones themselves
  mask = np.ones_like(MASK)
  mask[:, 2] = False
  changed = TOKENS.copy()
  changed[:, 2] = 5
  a, b = call(text, TOKENS, mask).tokens, call(text, changed, mask).tokens
  close(np.delete(a, 2, 1), np.delete(b, 2, 1))


def test_scanned_as_blocks_one_by_one(checkpoint: Path) -> None:
  vision = load(checkpoint, Siglip, CONFIG).vision
  found = call(vision, pixels())
  x = vision.patch_embedding(patches(jnp.asarray(pixels()), 8)) + vision.position_embedding.embedding[...]
  graph, stacked = nnx.split(vision.transformer.blocks)
  for layer in range(2):
    x = nnx.merge(graph, jax.tree.map(lambda leaf, layer=layer: leaf[layer], stacked))(x)
    close(found.states[layer], x)
  close(found.tokens, vision.post_norm(x))
  close(found.features, vision.head(found.tokens))


def test_pooling_by_hand(checkpoint: Path) -> None:
  """One picture, head by head."""
  head = load(checkpoint, Siglip, CONFIG).vision.head
  x = np.random.default_rng(0).normal(size=(5, 32)).astype(np.float32)
  kernel, bias = (np.asarray(part[...]) for part in (head.in_proj.kernel, head.in_proj.bias))
  query = head.probe[...][0, 0] @ kernel[:, :32] + bias[:32]
  keys, values = x @ kernel[:, 32:64] + bias[32:64], x @ kernel[:, 64:] + bias[64:]
  mixed = []
  for part in (slice(8 * i, 8 * i + 8) for i in range(4)):
    scores = np.exp(keys[:, part] @ query[part] / 8**0.5)
    mixed.append(scores / scores.sum() @ values[:, part])
  pooled = head.out_proj(jnp.concatenate(mixed))
  expected = pooled + head.fc2(jax.nn.gelu(head.fc1(head.norm(pooled)), approximate=True))
  close(head(x[None])[0], expected)
  padded = np.concatenate([x, 9 * x])[None]
  close(head(padded, (np.arange(10) < 5)[None, None, None])[0], expected)


def test_compiled_or_not(checkpoint: Path) -> None:
  model = load(checkpoint, Siglip, CONFIG)
  close(model(jnp.asarray(pixels()), TOKENS, MASK).logits, call(model, pixels(), TOKENS, MASK).logits)


def test_eight_devices_as_one(checkpoint: Path) -> None:
  model = load(checkpoint, Siglip, CONFIG)
  tokens = np.resize(TOKENS, (8, 9))
  mesh = sharding.make_mesh((1, 8, 1))
  graph, state = nnx.split(model)
  placed = jax.tree.map(jax.device_put, state, sharding.state_shardings(state, mesh))
  split = call(nnx.merge(graph, placed), *sharding.put_batch((pixels(8), tokens), mesh)).logits
  assert len(split.sharding.device_set) == 8
  close(split, call(model, pixels(8), tokens).logits, TOLERANCE)


def test_bfloat16(checkpoint: Path) -> None:
  """8 bits: cosines that are 0.03 apart at most, times a scale of 1."""
  half = load(checkpoint, Siglip, SiglipConfig.from_hugging_face(MAKER['SIGLIP'], dtype='bfloat16'))
  found = call(half, pixels(), TOKENS, MASK)
  assert found.logits.dtype == np.float32
  expected = call(load(checkpoint, Siglip, CONFIG), pixels(), TOKENS, MASK)
  assert 1e-4 < np.abs(found.logits - expected.logits).max() < 0.03


@pytest.mark.parametrize(
  ('module', 'config', 'ignored'),
  [
    (Siglip, CONFIG, siglip.BUFFERS),
    (SiglipVision, CONFIG.vision, siglip.IGNORED),
    (SiglipText, CONFIG.text, siglip.TEXT_IGNORED),
    (SiglipFrames, SiglipFramesConfig.from_hugging_face(MAKER['SIGLIP'], PROCESSOR), siglip.IGNORED),
  ],
  ids=['both', 'image', 'text', 'frames'],
)
def test_all_that_does_not_fit_is_listed(
  checkpoint: Path, tmp_path: Path, module: type[nnx.Module], config: Any, ignored: tuple[str, ...]
) -> None:
  tensors = {name: tensor.read() for name, tensor in Tensors(checkpoint).items()}
  buffers = {f'{tower}_model.embeddings.position_ids': np.arange(9)[None] for tower in ('vision', 'text')}
  save_file(tensors | buffers, tmp_path / 'model.safetensors')
  load(tmp_path, module, config, ignored)

  towers = ('vision', 'text') if module is Siglip else ('text',) if module is SiglipText else ('vision',)
  missing = [f'{tower}_model.encoder.layers.1.mlp.fc1.bias' for tower in towers]
  extra = [f'{tower}_model.encoder.layers.2.mlp.fc1.bias' for tower in towers] + ['head.weight']
  shapes = [f'{tower}_model.encoder.layers.0.layer_norm1.bias' for tower in towers]
  tensors |= {name: np.zeros(3, np.float32) for name in (*extra, *shapes)}
  for name in missing:
    del tensors[name]
  (tmp_path / 'wrong').mkdir()
  save_file(tensors, tmp_path / 'wrong' / 'model.safetensors')
  with pytest.raises(ValueError, match='do not fit') as error:
    load(tmp_path / 'wrong', module, config, ignored)
  for name in (*missing, *extra, *shapes):
    assert name in str(error.value)


def test_the_models_on_the_hub() -> None:
  """The fields of google/siglip-so400m-patch14-384 and of a SigLIP 2 for pictures of one size that count."""
  tower = {'hidden_size': 1152, 'intermediate_size': 4304, 'num_attention_heads': 16, 'num_hidden_layers': 27}
  config = {
    'model_type': 'siglip', 'architectures': ['SiglipModel'], 'initializer_factor': 1.0,
    'vision_config': {**tower, 'model_type': 'siglip_vision_model', 'image_size': 384, 'patch_size': 14},
    'text_config': {**tower, 'model_type': 'siglip_text_model', 'vocab_size': 32000},
  }  # fmt: skip
  processor = {
    'image_processor_type': 'SiglipImageProcessor', 'do_convert_rgb': None, 'do_resize': True, 'do_rescale': True,
    'do_normalize': True, 'image_mean': [0.5, 0.5, 0.5], 'image_std': [0.5, 0.5, 0.5], 'resample': 3,
    'rescale_factor': 0.00392156862745098, 'size': {'height': 384, 'width': 384}, 'processor_class': 'SiglipProcessor',
  }  # fmt: skip
  frames = SiglipFramesConfig.from_hugging_face(config, processor, fps=2, dtype='bfloat16')
  assert (frames.positions, frames.feature_dim, frames.fps, frames.dtype) == (729, 1152, 2, 'bfloat16')
  assert (frames.hidden_act, frames.layer_norm_eps) == ('gelu_pytorch_tanh', 1e-6)
  assert (frames.preprocessing.resize, frames.preprocessing.crop, frames.preprocessing.mean) == ((384, 384), None, HALF)
  later = config | {'vision_config': {'image_size': 224}, 'text_config': {'vocab_size': 256000, 'projection_size': 768}}
  both = SiglipConfig.from_hugging_face(later)
  assert both.vision == SiglipVisionConfig()
  assert both.text == SiglipTextConfig(vocab_size=256000, projection_size=768)


@pytest.mark.parametrize(
  ('make', 'message'),
  [
    (
      lambda: SiglipVisionConfig.from_hugging_face({'model_type': 'siglip2'}),
      "'siglip2'.*supported: siglip, siglip_vis",
    ),
    (
      lambda: SiglipTextConfig.from_hugging_face({'model_type': 'clip'}),
      'supported: siglip, siglip2, siglip_text_model',
    ),
    (lambda: SiglipVisionConfig(vision_use_head=False), 'vision_use_head=False is not supported; supported: True'),
    (lambda: SiglipFramesConfig.from_hugging_face(MAKER['SIGLIP'], PROCESSOR | {'size': [16, 17]}), 'image_size=17'),
    (lambda: SiglipFramesConfig.from_hugging_face(MAKER['SIGLIP'], PROCESSOR | {'resample': 0}), 'resample=0'),
  ],
)
def test_what_is_not_supported_is_refused(make: Any, message: str) -> None:
  with pytest.raises(ValueError, match=message):
    make()


def test_inputs_that_do_not_fit(checkpoint: Path) -> None:
  model = load(checkpoint, Siglip, CONFIG)
  with pytest.raises(ValueError, match='pictures of 17 x 17 pixels; got'):
    model.vision(jnp.zeros((1, 16, 16, 3)))
  with pytest.raises(ValueError, match='texts of 10 tokens, but the encoder takes at most 9'):
    model.text(jnp.zeros((1, 10), jnp.int32))
