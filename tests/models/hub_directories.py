"""Small random models in the hub's directory form, written without PyTorch."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from flax import nnx

from crosstrainer_jax.models import clip, llama_family
from crosstrainer_jax.models.decoder import Decoder
from crosstrainer_jax.weights.convert import Source, flat
from crosstrainer_jax.weights.files import write_shards

LLAMA = {
  'model_type': 'llama', 'vocab_size': 384, 'hidden_size': 32, 'intermediate_size': 48, 'num_hidden_layers': 2,
  'num_attention_heads': 4, 'num_key_value_heads': 2, 'max_position_embeddings': 2048, 'rms_norm_eps': 1e-5,
  'rope_theta': 10000.0,
}  # fmt: skip
CLIP = {
  'model_type': 'clip', 'projection_dim': 12,
  'vision_config': {
    'hidden_size': 16, 'intermediate_size': 24, 'num_hidden_layers': 2, 'num_attention_heads': 2, 'image_size': 32,
    'patch_size': 16,
  },
}  # fmt: skip
PROCESSOR = {
  'image_processor_type': 'CLIPImageProcessor', 'size': {'shortest_edge': 32}, 'crop_size': {'height': 32, 'width': 32},
}  # fmt: skip


def write_llama(directory: Path, dtype: Any = np.float32, **fields: Any) -> Path:
  """A decoder of the Llama family; `fields` of its config.json."""
  described = {**LLAMA, **fields}
  config = llama_family.decoder_config(described)
  state = nnx.state(nnx.eval_shape(lambda: Decoder(config, nnx.Rngs(0))), nnx.Param)
  return _write(directory, described, state, llama_family.sources(config), dtype, {})


def write_clip(directory: Path) -> Path:
  """CLIP's image tower, with its processor."""
  config = clip.ClipFramesConfig.from_hugging_face(CLIP, PROCESSOR)
  state = nnx.state(nnx.eval_shape(lambda: clip.ClipFrames(config, nnx.Rngs(0))), nnx.Param)
  patches = {'vision_model.embeddings.patch_embedding.weight': (16, 3, 16, 16)}
  _write(directory, CLIP, state, clip.sources(config), np.float32, patches)
  (directory / 'preprocessor_config.json').write_text(json.dumps(PROCESSOR))
  return directory


def _write(
  directory: Path, fields: Any, state: nnx.State, sources: Mapping[str, Source], dtype: Any, shapes: Mapping[str, Any]
) -> Path:
  random = np.random.default_rng(0)
  tensors = {}
  for path, variable in flat(state).items():
    source = sources[path]
    shape = variable.shape[1:] if '{}' in source.name else variable.shape
    if len(source.axes) == len(shape):
      shape = tuple(shape[axis] for axis in np.argsort(source.axes))
    for name in source.names(variable.shape[0] if variable.shape else 1):
      centre = 1.0 if 'norm' in name and name.endswith('weight') else 0.0
      tensors[name] = random.normal(centre, 0.2, shapes.get(name, shape)).astype(dtype)
  write_shards(directory, tensors.items(), shard_bytes=20_000)
  (directory / 'config.json').write_text(json.dumps(fields))
  return directory
