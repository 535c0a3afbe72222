"""Small random models in the hub's directory form, written without PyTorch."""

import json
import runpy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from flax import nnx

from crosstrainer_jax.input.tokenizer import load_tokenizer
from crosstrainer_jax.models import clip, llama_family, qwen2_5_vl
from crosstrainer_jax.models.decoder import Decoder
from crosstrainer_jax.weights.convert import Source, flat
from crosstrainer_jax.weights.files import write_shards, write_tensors
from tests.input import hub_tokenizers

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
# Words and four special tokens of a tokenizer of hub_tokenizers take the first rows.
QWEN = {
  'model_type': 'qwen2_5_vl', 'vocab_size': 384, 'hidden_size': 32, 'intermediate_size': 48, 'num_hidden_layers': 2,
  'num_attention_heads': 4, 'num_key_value_heads': 2, 'max_position_embeddings': 2048, 'rms_norm_eps': 1e-6,
  'rope_theta': 10000.0, 'rope_scaling': {'type': 'mrope', 'mrope_section': [1, 1, 2]}, 'tie_word_embeddings': False,
  'vision_start_token_id': 380, 'vision_end_token_id': 381, 'image_token_id': 382, 'video_token_id': 383,
  'vision_config': {
    'depth': 3, 'hidden_size': 16, 'intermediate_size': 20, 'num_heads': 2, 'patch_size': 4, 'window_size': 16,
    'fullatt_block_indexes': [1], 'out_hidden_size': 32, 'tokens_per_second': 2,
  },
}  # fmt: skip
GOLDEN = Path(__file__).parent.parent / 'golden'
PROCESSOR = {
  'image_processor_type': 'CLIPImageProcessor', 'size': {'shortest_edge': 32}, 'crop_size': {'height': 32, 'width': 32},
}  # fmt: skip

# Processors of the golden records.
PROCESSORS = {
  'clip': PROCESSOR | {'size': {'shortest_edge': 17}, 'crop_size': 17},
  'siglip': {'image_processor_type': 'SiglipImageProcessor', 'size': {'height': 17, 'width': 17}},
  'siglip2': {'image_processor_type': 'Siglip2ImageProcessor', 'patch_size': 4, 'max_num_patches': 8},
  'vjepa2': {'video_processor_type': 'VJEPA2VideoProcessor', 'crop_size': {'height': 32, 'width': 32}},
}
PROCESSOR_FILES = {'vjepa2': 'video_preprocessor_config.json'}


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


def write_qwen(directory: Path, **fields: Any) -> Path:
  """Qwen2.5-VL with its processor, under the names of published files; `fields` of its config.json."""
  described = {**QWEN, **fields}
  config = qwen2_5_vl.model_config(described)
  state = nnx.state(nnx.eval_shape(lambda: qwen2_5_vl.Qwen2_5_VL(config, nnx.Rngs(0))), nnx.Param)
  _write(directory, described, state, qwen2_5_vl.sources(config, qwen2_5_vl.FORMS[0]), np.float32, {})
  processor = {'image_processor_type': 'Qwen2VLImageProcessor', 'patch_size': 4, 'min_pixels': 64, 'max_pixels': 1024}
  (directory / 'preprocessor_config.json').write_text(json.dumps(processor))
  return directory


def write_seeing_model(directory: Path) -> Path:
  """The same with a tokenizer that has the tokens for pictures."""
  words = load_tokenizer(hub_tokenizers.write(directory, 'qwen2.5-vl')).get_vocab()
  marks = {'vision_start': 'vision_start', 'vision_end': 'vision_end', 'image': 'image_pad', 'video': 'video_pad'}
  return write_qwen(directory, **{f'{field}_token_id': words[f'<|{mark}|>'] for field, mark in marks.items()})


def write_golden(directory: Path, kind: str) -> Path:
  """The whole model of a golden record, or its image tower alone, by `model_type`; with its processor."""
  family = kind.removesuffix('_vision_model')
  with np.load(GOLDEN / f'{family}.npz') as golden:
    fields, shapes, seed = json.loads(str(golden['config'])), json.loads(str(golden['shapes'])), int(golden['seed'])
  maker = runpy.run_path(str(GOLDEN / ('make_vjepa2.py' if family == 'vjepa2' else 'make_image_text.py')))
  tensors = maker['weights'](shapes, seed)
  if family == 'vjepa2':
    # the record has no predictor
    tensors['predictor.embeddings.mask_tokens'] = np.zeros((1, 1, 1, 24), np.float32)
  if kind != family:
    fields = fields['vision_config']
    tensors = {name: tensor for name, tensor in tensors.items() if name.startswith('vision_model.')}
  write_shards(directory, tensors.items(), shard_bytes=20_000)
  (directory / 'config.json').write_text(json.dumps({**fields, 'model_type': kind}))
  file = PROCESSOR_FILES.get(family, 'preprocessor_config.json')
  (directory / file).write_text(json.dumps(PROCESSORS[family]))
  return directory


def write_egovlp(file: Path) -> Path:
  """EgoVLPv2's checkpoint with its text tower; heads have 64 channels, as they are when no setting says otherwise."""
  maker = runpy.run_path(str(GOLDEN / 'make_egovlp.py'))
  write_tensors(file, maker['weights'](maker['SIZES'] | {'width': 64}) | {'text_model.x': np.zeros(1)}, {})
  return file


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
      centre = 1.0 if ('norm' in name or 'ln_q' in name) and name.endswith('weight') else 0.0
      tensors[name] = random.normal(centre, 0.2, shapes.get(name, shape)).astype(dtype)
  write_shards(directory, tensors.items(), shard_bytes=20_000)
  (directory / 'config.json').write_text(json.dumps(fields))
  return directory
