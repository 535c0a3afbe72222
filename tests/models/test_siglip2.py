"""SigLIP 2 NaFlex: grids of patches, their positions, and a record of the reference for machines without PyTorch.

What holds for it as f_v is in test_image_text.py.
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
from transformers.models.siglip2.image_processing_pil_siglip2 import (
  Siglip2ImageProcessorPil,
  get_image_size_for_max_num_patches,
)

from crosstrainer_jax.models import siglip, siglip2
from crosstrainer_jax.models.image_text import patches
from crosstrainer_jax.models.preprocessing import HALF, Preprocessing
from crosstrainer_jax.models.siglip2 import (
  Siglip2,
  Siglip2Config,
  Siglip2Frames,
  Siglip2FramesConfig,
  Siglip2Vision,
  Siglip2VisionConfig,
  resized_positions,
)
from crosstrainer_jax.training import sharding
from crosstrainer_jax.weights import convert
from crosstrainer_jax.weights.tensors import Tensors

GOLDEN = Path(__file__).parent.parent / 'golden'
# the two forms of GELU are 5e-4 apart
TOLERANCE = 3e-5
MAKER = runpy.run_path(str(GOLDEN / 'make_image_text.py'))
TOKENS, MASK = MAKER['texts']()
PATCHES, SHAPES, REAL = MAKER['patches']()
CONFIG = Siglip2Config.from_hugging_face(MAKER['SIGLIP2'])
PROCESSOR = {'image_processor_type': 'Siglip2ImageProcessor', 'patch_size': 4, 'max_num_patches': 8}


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
  """The folder of the model on record."""
  golden, folder = np.load(GOLDEN / 'siglip2.npz'), tmp_path_factory.mktemp('siglip2')
  save_file(MAKER['weights'](json.loads(str(golden['shapes'])), int(golden['seed'])), folder / 'model.safetensors')
  return folder


@functools.cache
def load(folder: Path, module: type[nnx.Module], config: Any, ignored: tuple[str, ...] = siglip.BUFFERS) -> Any:
  graph, abstract = nnx.split(nnx.eval_shape(lambda: module(config, nnx.Rngs(0))), nnx.Param)
  tensors = Tensors(folder)
  return nnx.merge(graph, convert.load(tensors, siglip2.sources(config, tensors), abstract, ignored))


@nnx.jit
def call(model: Any, *inputs: jax.Array) -> Any:
  return model(*inputs)


def close(a: Any, b: Any, tolerance: float = 1e-5) -> None:
  np.testing.assert_allclose(a, b, rtol=0, atol=tolerance)


def test_the_reference_on_record(checkpoint: Path) -> None:
  """tests/golden/make_image_text.py wrote what `transformers` computes; here it is computed without PyTorch."""
  golden = np.load(GOLDEN / 'siglip2.npz')
  model = load(checkpoint, Siglip2, Siglip2Config.from_hugging_face(json.loads(str(golden['config']))))
  pictures = golden['pixels'].astype(np.float32), golden['grids']
  image, text = call(model.vision, *pictures), call(model.text, golden['tokens'], golden['mask'])
  assert golden['image_features'].std() > 0.3
  close(image.states, golden['image_states'], TOLERANCE)
  close(image.features, golden['image_features'], TOLERANCE)
  close(text.states, golden['text_states'], TOLERANCE)
  close(text.features, golden['text_features'], TOLERANCE)
  close(call(model, *pictures, golden['tokens'], golden['mask']).logits, golden['logits'], TOLERANCE)


@pytest.mark.parametrize(
  'change',
  [{'num_attention_heads': 2}, {'hidden_act': 'gelu'}, {'hidden_act': 'quick_gelu'}, {'layer_norm_eps': 0.05}],
  ids=str,
)
def test_a_changed_field_shows(change: dict[str, Any], checkpoint: Path) -> None:
  """The comparison with the record would notice: each field moves the features by far more than the tolerance."""
  golden = np.load(GOLDEN / 'siglip2.npz')
  vision = load(checkpoint, Siglip2Vision, dataclasses.replace(CONFIG.vision, **change), siglip2.IGNORED)
  found = call(vision, golden['pixels'].astype(np.float32), golden['grids']).features
  assert np.abs(found - golden['image_features']).max() >= 10 * TOLERANCE


def test_grids_are_those_of_the_processor() -> None:
  rng = np.random.default_rng(0)
  sizes = [(1, 1), (720, 1280), (1280, 720), (64, 64), (1, 3000), *map(tuple, rng.integers(1, 2000, (100, 2)))]
  for patch, most in ((16, 256), (14, 729), (4, 7)):
    config = Siglip2FramesConfig(
      patch_size=patch, max_num_patches=most, preprocessing=Preprocessing(None, None, HALF, HALF)
    )
    for height, width in sizes:
      rows, columns = config.grid(height, width)
      expected = get_image_size_for_max_num_patches(height, width, patch, most)
      assert (rows * patch, columns * patch) == expected, (height, width)


@pytest.mark.parametrize('size', [(40, 56), (90, 31), (12, 12)], ids=str)
def test_patches_of_frames_are_those_of_the_processor(size: tuple[int, int]) -> None:
  frame = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
  processor = Siglip2ImageProcessorPil(patch_size=4, max_num_patches=30)
  expected = processor([frame], return_tensors='np')
  config = Siglip2FramesConfig.from_hugging_face(
    MAKER['SIGLIP2'], json.loads(processor.to_json_string()), num_patches=9
  )
  rows, columns = config.grid(*size)
  assert [rows, columns] == expected['spatial_shapes'][0].tolist()

  class Record(nnx.Module):
    def __call__(self, patches: jax.Array, shapes: jax.Array, padded: bool) -> Any:
      assert not padded
      return type('Seen', (), {'features': patches, 'shapes': shapes})

  model = nnx.eval_shape(lambda: Siglip2Frames(config, nnx.Rngs(0)))
  model.tower = Record()  # type: ignore[assignment]
  close(model.features(jnp.asarray(frame[None])), expected['pixel_values'][:, : rows * columns], 1e-6)


def test_positions_of_the_own_grid_stay() -> None:
  table = jnp.asarray(np.random.default_rng(0).normal(size=(9, 5)), jnp.float32)
  close(resized_positions(table, jnp.asarray([[3, 3]]), 9)[0], table)
  padded = resized_positions(table, jnp.asarray([[3, 3], [1, 1]]), 11)
  close(padded[0, :9], table)
  close(padded[0, 9:], np.asarray(table)[[0, 0]])
  # one patch has the middle of the whole grid, and less of its edges
  weights = np.outer([2, 3, 2], [2, 3, 2]).ravel() / 49
  close(padded[1], np.tile(weights @ table, (11, 1)))


def test_positions_as_jax_resizes() -> None:
  table = jnp.asarray(np.random.default_rng(0).normal(size=(16, 5)), jnp.float32)
  for rows, columns in ((2, 7), (9, 1), (4, 3)):
    expected = jax.image.resize(table.reshape(4, 4, 5), (rows, columns, 5), 'bilinear', antialias=True)
    close(resized_positions(table, jnp.asarray([[rows, columns]]), rows * columns)[0], expected.reshape(-1, 5))


def test_padding_and_neighbours_do_not_matter(checkpoint: Path) -> None:
  vision = load(checkpoint, Siglip2, CONFIG).vision
  whole = call(vision, PATCHES, SHAPES)
  noise = np.where(REAL[..., None], PATCHES, 7)
  close(call(vision, noise, SHAPES).features, whole.features)
  close(call(vision, PATCHES[::-1], SHAPES[::-1]).features, whole.features[::-1])
  alone = nnx.jit(lambda vision: vision(PATCHES[1:2, :7], SHAPES[1:2], padded=False))(vision)
  close(alone.features, whole.features[1:2])
  close(alone.tokens, whole.tokens[1:2, :7])
  # a picture of another shape is another picture
  assert np.abs(call(vision, PATCHES[:1], np.array([[4, 2]])).features - whole.features[:1]).max() > 1e-2


def test_one_shape_for_all(checkpoint: Path) -> None:
  vision = load(checkpoint, Siglip2, CONFIG).vision
  shapes = np.array([[2, 3]])
  close(call(vision, PATCHES, shapes).features, call(vision, PATCHES, np.repeat(shapes, 3, 0)).features)


def test_scanned_as_blocks_one_by_one(checkpoint: Path) -> None:
  vision = load(checkpoint, Siglip2, CONFIG).vision
  found = call(vision, PATCHES, SHAPES)
  positions = resized_positions(vision.position_embedding.embedding[...], jnp.asarray(SHAPES), 8)
  x = vision.patch_embedding(jnp.asarray(PATCHES)) + positions
  graph, stacked = nnx.split(vision.transformer.blocks)
  for layer in range(2):
    block = nnx.merge(graph, jax.tree.map(lambda leaf, layer=layer: leaf[layer], stacked))
    x = block(x, jnp.asarray(REAL)[:, None, None])
    close(found.states[layer], x)
  close(found.tokens, vision.post_norm(x))


def test_eight_devices_as_one(checkpoint: Path) -> None:
  model = load(checkpoint, Siglip2, CONFIG)
  inputs = np.resize(PATCHES, (8, 8, 48)), np.resize(SHAPES, (8, 2)), np.resize(TOKENS, (8, 9))
  mesh = sharding.make_mesh((1, 8, 1))
  graph, state = nnx.split(model)
  placed = jax.tree.map(jax.device_put, state, sharding.state_shardings(state, mesh))
  split = call(nnx.merge(graph, placed), *sharding.put_batch(inputs, mesh)).logits
  assert len(split.sharding.device_set) == 8
  close(split, call(model, *inputs).logits, TOLERANCE)


def test_bfloat16(checkpoint: Path) -> None:
  """8 bits: cosines that are 0.03 apart at most, times a scale of 1."""
  half = load(checkpoint, Siglip2, Siglip2Config.from_hugging_face(MAKER['SIGLIP2'], dtype='bfloat16'))
  found = call(half, PATCHES, SHAPES, TOKENS, MASK)
  expected = call(load(checkpoint, Siglip2, CONFIG), PATCHES, SHAPES, TOKENS, MASK)
  assert 1e-4 < np.abs(found.logits - expected.logits).max() < 0.03


@pytest.mark.parametrize(
  ('module', 'config', 'ignored'),
  [
    (Siglip2, CONFIG, siglip.BUFFERS),
    (Siglip2Vision, CONFIG.vision, siglip2.IGNORED),
    (Siglip2Frames, Siglip2FramesConfig.from_hugging_face(MAKER['SIGLIP2'], PROCESSOR), siglip2.IGNORED),
  ],
  ids=['both', 'image', 'frames'],
)
def test_all_that_does_not_fit_is_listed(
  checkpoint: Path, tmp_path: Path, module: type[nnx.Module], config: Any, ignored: tuple[str, ...]
) -> None:
  load(checkpoint, module, config, ignored)
  tensors = {name: tensor.read() for name, tensor in Tensors(checkpoint).items()}
  del tensors['vision_model.head.probe']
  wrong = ('vision_model.embeddings.patch_embedding.weight', 'vision_model.encoder.layers.2.mlp.fc1.bias')
  save_file(tensors | {name: np.zeros((32, 47), np.float32) for name in wrong}, tmp_path / 'model.safetensors')
  with pytest.raises(ValueError, match='do not fit') as error:
    load(tmp_path, module, config, ignored)
  for name in (*wrong, 'vision_model.head.probe'):
    assert name in str(error.value)


def test_the_model_on_the_hub() -> None:
  """The fields of google/siglip2-base-patch16-naflex that count."""
  config = {
    'model_type': 'siglip2', 'architectures': ['Siglip2Model'],
    'vision_config': {'model_type': 'siglip2_vision_model', 'num_patches': 256, 'patch_size': 16},
    'text_config': {'model_type': 'siglip2_text_model', 'vocab_size': 256000, 'projection_size': 768},
  }  # fmt: skip
  processor = {
    'image_processor_type': 'Siglip2ImageProcessor', 'do_convert_rgb': None, 'do_resize': True, 'do_rescale': True,
    'do_normalize': True, 'image_mean': [0.5, 0.5, 0.5], 'image_std': [0.5, 0.5, 0.5], 'resample': 2,
    'rescale_factor': 0.00392156862745098, 'patch_size': 16, 'max_num_patches': 256, 'processor_class': 'Processor',
  }  # fmt: skip
  frames = Siglip2FramesConfig.from_hugging_face(config, processor, fps=2)
  assert (frames.image_size, frames.feature_dim, frames.max_num_patches, frames.fps) == (256, 768, 256, 2)
  assert frames.preprocessing == Preprocessing(None, None, HALF, HALF, 'bilinear')
  assert frames.grid(720, 1280) == (12, 21)
  assert Siglip2FramesConfig.from_hugging_face(config, processor, max_num_patches=1024).image_size == 512
  assert Siglip2Config.from_hugging_face(config).vision == Siglip2VisionConfig()


def frames_config(**fields: Any) -> Siglip2FramesConfig:
  return Siglip2FramesConfig.from_hugging_face(MAKER['SIGLIP2'], PROCESSOR | fields)


@pytest.mark.parametrize(
  ('make', 'message'),
  [
    (
      lambda: Siglip2VisionConfig.from_hugging_face({'model_type': 'siglip'}),
      "'siglip'.*supported: siglip2, siglip2_vis",
    ),
    (lambda: Siglip2VisionConfig(vision_use_head=False), 'vision_use_head=False is not supported'),
    (lambda: Siglip2VisionConfig(num_patches=200), 'num_patches=200 is not supported; supported: square numbers'),
    (lambda: frames_config(do_resize=False), 'do_resize=False is not supported'),
    (lambda: frames_config(patch_size=8), 'patch_size=8, but the model has 4'),
    (lambda: frames_config(resample=0), 'resample=0'),
    (lambda: frames_config(max_num_patches=0), 'max_num_patches=0 must be at least 1'),
    (lambda: frames_config(do_center_crop=True, crop_size=8), 'not cropped'),
  ],
)
def test_what_is_not_supported_is_refused(make: Any, message: str) -> None:
  with pytest.raises(ValueError, match=message):
    make()


def test_compiled_or_not(checkpoint: Path) -> None:
  vision = load(checkpoint, Siglip2, CONFIG).vision
  close(vision(jnp.asarray(PATCHES), jnp.asarray(SHAPES)).features, call(vision, PATCHES, SHAPES).features)
  assert patches(jnp.zeros((1, 8, 16, 3)), 4).shape == (1, 8, 48)
