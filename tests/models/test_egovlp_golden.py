"""EgoVLPv2's video tower against what the reference in PyTorch made (`tests/golden/make_egovlp.py`)."""

import importlib.util
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from flax import nnx
from safetensors.numpy import save_file

from crosstrainer_jax.models import egovlp
from crosstrainer_jax.weights import convert
from crosstrainer_jax.weights.tensors import Tensors

TOLERANCE = 1e-4


def golden():
  """`tests/golden/make_egovlp.py`; of it nothing that needs torch is used."""
  spec = importlib.util.spec_from_file_location('make_egovlp', Path(__file__).parents[1] / 'golden' / 'make_egovlp.py')
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


def test_the_golden_file(tmp_path):
  make_egovlp = golden()
  save_file(make_egovlp.weights(make_egovlp.SIZES), tmp_path / 'model.safetensors')
  tensors = Tensors(tmp_path)
  config = egovlp.EgoVLPv2Config.from_checkpoint(tensors, heads=make_egovlp.SIZES['heads'])
  graph, abstract = nnx.split(nnx.eval_shape(lambda: egovlp.EgoVLPv2(config, nnx.Rngs(0))), nnx.Param)
  loaded = convert.load(tensors, egovlp.sources(config), abstract, egovlp.IGNORED, egovlp.find_prefix(tensors))
  model = nnx.merge(graph, loaded)

  with np.load(make_egovlp.GOLDEN) as file:
    stored = dict(file)
  pixels = jnp.asarray(np.moveaxis(make_egovlp.normalised(stored['frames']), 2, -1))

  @nnx.jit
  def forward(model, pixels, frames):
    _, states = model.video(pixels)
    return model.encode(pixels), model(frames), jnp.concatenate([model.video.embed(pixels)[None], states])

  feature, from_frames, states = forward(model, pixels, jnp.asarray(stored['frames']))
  assert np.abs(feature - stored['feature']).max() <= TOLERANCE
  assert np.abs(from_frames[:, 0] - stored['feature']).max() <= TOLERANCE
  assert np.abs(states[:, 0] - stored['states']).max() <= TOLERANCE
