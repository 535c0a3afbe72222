"""CLIP's towers: what their embeddings depend on, and a record of the reference for machines without PyTorch.

What holds for CLIP as f_v is in test_image_text.py.
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
from crosstrainer_jax.models.image_text import patches
from crosstrainer_jax.models.preprocessing import CLIP_MEAN, CLIP_STD
from crosstrainer_jax.training import sharding
from crosstrainer_jax.weights import convert
from crosstrainer_jax.weights.tensors import Tensors
from tests.models.image_text_records import recorded

GOLDEN = Path(__file__).parent.parent / 'golden'
TOLERANCE = 1e-4
MAKER = runpy.run_path(str(GOLDEN / 'make_image_text.py'))
TOKENS, MASK = MAKER['texts']()
CONFIG = ClipConfig.from_hugging_face(MAKER['CLIP'])
PROCESSOR = {'image_processor_type': 'CLIPImageProcessor', 'size': 17, 'crop_size': 17}
TOWERS: dict[str, Any] = {'vision': (ClipVision, clip.IGNORED), 'text': (ClipText, clip.TEXT_IGNORED)}


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
  """The folder of the model on record."""
  golden, folder = np.load(GOLDEN / 'clip.npz'), tmp_path_factory.mktemp('clip')
  save_file(MAKER['weights'](json.loads(str(golden['shapes'])), int(golden['seed'])), folder / 'model.safetensors')
  return folder


@functools.cache
def load(folder: Path, module: type[nnx.Module], config: Any, ignored: tuple[str, ...] = clip.BUFFERS) -> Any:
  graph, abstract = nnx.split(nnx.eval_shape(lambda: module(config, nnx.Rngs(0))), nnx.Param)
  tensors = Tensors(folder)
  return nnx.merge(graph, convert.load(tensors, clip.sources(config, tensors), abstract, ignored))


@nnx.jit
def call(model: Any, *inputs: jax.Array) -> Any:
  return model(*inputs)


def pixels(count: int = 2) -> np.ndarray:
  return MAKER['pictures'](count, 17)


def close(a: Any, b: Any, tolerance: float = 1e-5) -> None:
  np.testing.assert_allclose(a, b, rtol=0, atol=tolerance)


def test_the_reference_on_record(checkpoint: Path) -> None:
  """tests/golden/make_image_text.py wrote what `transformers` computes; here it is computed without PyTorch."""
  golden = np.load(GOLDEN / 'clip.npz')
  model = load(checkpoint, Clip, ClipConfig.from_hugging_face(json.loads(str(golden['config']))))
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
    for change in ({'num_attention_heads': 2}, {'hidden_act': 'gelu'}, {'layer_norm_eps': 1e-3})
  ]
  + [('text', {'eos_token_id': 27})],
  ids=str,
)
def test_a_changed_field_shows(tower: str, change: dict[str, Any], checkpoint: Path) -> None:
  """The comparison with the record would notice: each field moves the features by far more than the tolerance."""
  inputs, expected = recorded(np.load(GOLDEN / 'clip.npz'), tower)
  module, ignored = TOWERS[tower]
  changed = load(checkpoint, module, dataclasses.replace(getattr(CONFIG, tower), **change), ignored)
  assert np.abs(call(changed, *inputs).features - expected).max() >= 10 * TOLERANCE


def test_members_of_a_batch_are_independent(checkpoint: Path) -> None:
  model = load(checkpoint, Clip, CONFIG)
  whole = call(model, pixels(3), TOKENS, MASK)
  assert whole.logits.shape == (3, 3)
  turned = call(model, pixels(3)[::-1], TOKENS[::-1], MASK[::-1])
  close(turned.logits, whole.logits[::-1, ::-1])
  close(call(model, pixels(3)[1:2], TOKENS[2:], MASK[2:]).logits, whole.logits[1:2, 2:])
  close(jnp.linalg.norm(whole.image, axis=-1), 1)


def test_what_follows_the_end_of_a_text_does_not_matter(checkpoint: Path) -> None:
  text = load(checkpoint, Clip, CONFIG).text
  whole = call(text, TOKENS, MASK).features
  noise = np.where(MASK, TOKENS, np.random.default_rng(1).integers(0, 30, TOKENS.shape))
  close(call(text, noise, MASK).features, whole)
  close(call(text, noise).features, whole)
  close(call(text, TOKENS[1:2, :6]).features, whole[1:2])
  other = np.where(TOKENS == TOKENS[2, 0], 29, TOKENS)  # noqa: SIM300 - both are arrays
  assert np.abs(call(text, other, MASK).features[2] - whole[2]).max() > 1e-2


def test_padding_is_seen_by_no_token(checkpoint: Path) -> None:
  """Padding in the middle of a text, which nobody writes, changes only what comes of its own places."""
  text = load(checkpoint, Clip, CONFIG).text
  mask = np.ones((1, 9), bool)
  mask[0, 2] = False
  tokens, changed = TOKENS[:1], TOKENS[:1].copy()
  changed[0, 2] = 5
  a, b = call(text, tokens, mask).tokens, call(text, changed, mask).tokens
  close(np.delete(a, 2, 1), np.delete(b, 2, 1))
  assert np.abs(a - call(text, tokens).tokens).max() > 1e-2


def test_scanned_as_blocks_one_by_one(checkpoint: Path) -> None:
  vision = load(checkpoint, Clip, CONFIG).vision
  found = call(vision, pixels())
  x = vision.patch_embedding(patches(jnp.asarray(pixels()), 8))
  x = jnp.concatenate([jnp.broadcast_to(vision.class_embedding[...], (2, 1, 32)), x], 1)
  x = vision.pre_norm(x + vision.position_embedding.embedding[...])
  graph, stacked = nnx.split(vision.transformer.blocks)
  for layer in range(2):
    x = nnx.merge(graph, jax.tree.map(lambda leaf, layer=layer: leaf[layer], stacked))(x)
    close(found.states[layer], x)
  close(found.tokens, x)
  close(found.features, vision.projection(vision.post_norm(x[:, 0])))


def test_compiled_or_not(checkpoint: Path) -> None:
  model = load(checkpoint, Clip, CONFIG)
  close(model(jnp.asarray(pixels()), TOKENS, MASK).logits, call(model, pixels(), TOKENS, MASK).logits)


def test_eight_devices_as_one(checkpoint: Path) -> None:
  model = load(checkpoint, Clip, CONFIG)
  tokens, mask = np.resize(TOKENS, (8, 9)), np.resize(MASK, (8, 9))
  mesh = sharding.make_mesh((1, 8, 1))
  graph, state = nnx.split(model)
  placed = jax.tree.map(jax.device_put, state, sharding.state_shardings(state, mesh))
  batch = sharding.put_batch((pixels(8), tokens, mask), mesh)
  split = call(nnx.merge(graph, placed), *batch).logits
  assert len(split.sharding.device_set) == 8
  close(split, call(model, pixels(8), tokens, mask).logits, TOLERANCE)


def test_bfloat16(checkpoint: Path) -> None:
  """8 bits: cosines that are 0.03 apart at most, times a scale of 1."""
  half = load(checkpoint, Clip, ClipConfig.from_hugging_face(MAKER['CLIP'], dtype='bfloat16'))
  found = call(half, pixels(), TOKENS, MASK)
  assert found.logits.dtype == np.float32
  expected = call(load(checkpoint, Clip, CONFIG), pixels(), TOKENS, MASK)
  assert 1e-4 < np.abs(found.logits - expected.logits).max() < 0.03


@pytest.mark.parametrize(
  ('module', 'config', 'ignored'),
  [
    (Clip, CONFIG, clip.BUFFERS),
    (ClipVision, CONFIG.vision, clip.IGNORED),
    (ClipText, CONFIG.text, clip.TEXT_IGNORED),
    (ClipFrames, ClipFramesConfig.from_hugging_face(MAKER['CLIP'], PROCESSOR), clip.IGNORED),
    (ClipFrames, ClipFramesConfig.from_hugging_face(MAKER['CLIP'], PROCESSOR, feature='pooled'), clip.IGNORED),
  ],
  ids=['both', 'image', 'text', 'frames', 'frames before the projection'],
)
def test_all_that_does_not_fit_is_listed(
  checkpoint: Path, tmp_path: Path, module: type[nnx.Module], config: Any, ignored: tuple[str, ...]
) -> None:
  tensors = {name: tensor.read() for name, tensor in Tensors(checkpoint).items()}
  buffers = {f'{tower}_model.embeddings.position_ids': np.arange(9)[None] for tower in ('vision', 'text')}
  save_file(tensors | buffers, tmp_path / 'model.safetensors')
  load(tmp_path, module, config, ignored)

  towers = ('vision', 'text') if module is Clip else ('text',) if module is ClipText else ('vision',)
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


def test_a_tower_alone_may_lack_its_prefix() -> None:
  bare = clip.sources(CONFIG.vision, ['embeddings.class_embedding', 'pre_layrnorm.bias'])
  assert bare['class_embedding'].name == 'embeddings.class_embedding'
  assert bare['transformer/blocks/norm1/scale'].name == 'encoder.layers.{}.layer_norm1.weight'


def test_the_model_on_the_hub() -> None:
  """The fields of openai/clip-vit-large-patch14-336 that count."""
  config = {
    'model_type': 'clip', 'architectures': ['CLIPModel'], 'projection_dim': 768, 'torch_dtype': 'float32',
    'vision_config': {
      'model_type': 'clip_vision_model', 'hidden_size': 1024, 'intermediate_size': 4096, 'num_hidden_layers': 24,
      'num_attention_heads': 16, 'image_size': 336, 'patch_size': 14, 'projection_dim': 768, 'dropout': 0.0,
    },
    'vision_config_dict': None, 'text_config_dict': None,
    'text_config': {
      'hidden_size': 768, 'intermediate_size': 3072, 'num_attention_heads': 12, 'eos_token_id': 2, 'bos_token_id': 0,
    },
  }  # fmt: skip
  processor = {'feature_extractor_type': 'CLIPFeatureExtractor', 'size': 336, 'crop_size': 336, 'resample': 3}
  frames = ClipFramesConfig.from_hugging_face(config, processor, fps=2, dtype='bfloat16')
  assert (frames.positions, frames.feature_dim, frames.fps, frames.dtype) == (577, 768, 2, 'bfloat16')
  assert (frames.hidden_act, frames.layer_norm_eps, frames.transformer.layers) == ('quick_gelu', 1e-5, 24)
  assert (frames.preprocessing.resize, frames.preprocessing.crop) == (336, (336, 336))
  assert (frames.preprocessing.mean, frames.preprocessing.std) == (CLIP_MEAN, CLIP_STD)
  pooled = ClipFramesConfig.from_hugging_face(config, processor, feature='pooled')
  assert (pooled.feature_dim, pooled.projection_dim) == (1024, None)
  both = ClipConfig.from_hugging_face(config, dtype='bfloat16')
  assert both.vision == ClipVisionConfig(**{f.name: getattr(frames, f.name) for f in dataclasses.fields(both.vision)})
  assert (both.text.eos_token_id, both.text.projection_dim, both.text.dtype) == (2, 768, 'bfloat16')
  assert both.text.transformer.layers == 12


@pytest.mark.parametrize(
  ('make', 'message'),
  [
    (
      lambda: ClipVisionConfig.from_hugging_face({'model_type': 'chinese_clip'}),
      'chinese_clip.*supported: clip, clip_vi',
    ),
    (lambda: ClipTextConfig.from_hugging_face({'model_type': 'clip_vision_model'}), 'supported: clip, clip_text_model'),
    (lambda: ClipTextConfig(eos_token_id=[1, 2]), r'eos_token_id=\[1, 2\] is not supported'),  # type: ignore[arg-type]
    (lambda: ClipFramesConfig.from_hugging_face(MAKER['CLIP'], PROCESSOR, feature='class'), 'known: projected, pooled'),
    (lambda: ClipFramesConfig.from_hugging_face(MAKER['CLIP'], PROCESSOR | {'crop_size': 16}), 'image_size=17'),
    (lambda: ClipFramesConfig.from_hugging_face(MAKER['CLIP'], PROCESSOR | {'do_center_crop': False}), 'image_size=17'),
    (lambda: ClipFramesConfig.from_hugging_face(MAKER['CLIP'], PROCESSOR | {'do_pad': True}), 'do_pad=True'),
  ],
)
def test_what_is_not_supported_is_refused(make: Any, message: str) -> None:
  with pytest.raises(ValueError, match=message):
    make()


def test_inputs_that_do_not_fit(checkpoint: Path) -> None:
  model = load(checkpoint, Clip, CONFIG)
  with pytest.raises(ValueError, match='pictures of 17 x 17 pixels; got'):
    model.vision(jnp.zeros((1, 16, 16, 3)))
  with pytest.raises(ValueError, match='texts of 10 tokens, but the encoder takes at most 9'):
    model.text(jnp.zeros((1, 10), jnp.int32))
