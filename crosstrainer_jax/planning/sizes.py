"""The sizes of a config's models, with nothing downloaded: from a config.json, or as published.

A plan needs shapes, no weights. Of the decoder `config.json` is enough; for the models below not even that. Of the
video encoder it is the width of its features, and how many there are of a second.
"""

import json
from pathlib import Path
from typing import Any

import ml_collections
from huggingface_hub import try_to_load_from_cache

from crosstrainer_jax.models import encoders
from crosstrainer_jax.models.preprocessing import CLIP_MEAN, CLIP_STD, Preprocessing
from crosstrainer_jax.models.qwen_frames import QwenFramesConfig

# config.json of meta-llama's repositories, as far as it decides shapes; Llama 3 and 3.1 have the same.
_LLAMA = {
  'model_type': 'llama', 'vocab_size': 128256, 'hidden_act': 'silu', 'rms_norm_eps': 1e-5, 'rope_theta': 500000.0,
  'max_position_embeddings': 131072, 'num_key_value_heads': 8, 'tie_word_embeddings': False,
  'rope_scaling': {'rope_type': 'llama3', 'factor': 8.0, 'low_freq_factor': 1.0, 'high_freq_factor': 4.0,
                   'original_max_position_embeddings': 8192},
}  # fmt: skip
LLAMA_8B = _LLAMA | {
  'hidden_size': 4096, 'intermediate_size': 14336, 'num_hidden_layers': 32, 'num_attention_heads': 32,
}  # fmt: skip
LLAMA_70B = _LLAMA | {
  'hidden_size': 8192, 'intermediate_size': 28672, 'num_hidden_layers': 80, 'num_attention_heads': 64,
}  # fmt: skip
# config.json of Qwen's repositories, likewise.
_QWEN = {
  'model_type': 'qwen2_5_vl', 'hidden_act': 'silu', 'rms_norm_eps': 1e-6, 'rope_theta': 1e6,
  'max_position_embeddings': 128000, 'rope_scaling': {'type': 'mrope', 'mrope_section': [16, 24, 24]},
}  # fmt: skip
_TOWER = {'hidden_size': 1280, 'intermediate_size': 3420, 'tokens_per_second': 2}
QWEN_3B = _QWEN | {
  'hidden_size': 2048, 'intermediate_size': 11008, 'num_hidden_layers': 36, 'num_attention_heads': 16,
  'num_key_value_heads': 2, 'vocab_size': 151936, 'tie_word_embeddings': True,
  'vision_config': _TOWER | {'out_hidden_size': 2048},
}  # fmt: skip
QWEN_7B = _QWEN | {
  'hidden_size': 3584, 'intermediate_size': 18944, 'num_hidden_layers': 28, 'num_attention_heads': 28,
  'num_key_value_heads': 4, 'vocab_size': 152064, 'tie_word_embeddings': False,
  'vision_config': _TOWER | {'out_hidden_size': 3584},
}  # fmt: skip
PUBLISHED = {
  f'meta-llama/Llama-3.1-{size}{suffix}': fields
  for size, fields in (('8B', LLAMA_8B), ('70B', LLAMA_70B))
  for suffix in ('', '-Instruct')
} | {f'Qwen/Qwen2.5-VL-{size}-Instruct': fields for size, fields in (('3B', QWEN_3B), ('7B', QWEN_7B))}

# Features of encoders whose weights are not here, by a word in their name: EgoVLPv2 projects to 4096, CLIP's towers to
# 512 and 768, the others give their width.
FEATURE_DIMS = {
  'egovlp': 4096, 'clip-vit-base': 512, 'clip-vit-large': 768, 'siglip-base': 768, 'siglip-large': 1024,
  'siglip-so400m': 1152, 'siglip2-base': 768, 'siglip2-large': 1024, 'siglip2-so400m': 1152, 'vjepa2-vitl': 1024,
  'vjepa2-vith': 1280, 'vjepa2-vitg': 1408, 'qwen2.5-vl': 5120,
}  # fmt: skip


def with_decoder_sizes(config: ml_collections.ConfigDict, scratch: Path) -> tuple[ml_collections.ConfigDict, str]:
  """`config` whose decoder is a directory on this machine that holds a config.json at least, and where that is from.

  Args:
    scratch: a directory to write published sizes to.

  Raises:
    FileNotFoundError: neither a directory, nor in the hub's cache, nor published here.
  """
  if not config.decoder.get('weights'):
    return config, 'sizes of the config'
  name = config.decoder.weights
  if Path(name).is_dir():
    return config, f'sizes of {name}/config.json'
  cached = try_to_load_from_cache(name, 'config.json', revision=config.decoder.get('revision') or None)
  if isinstance(cached, str):
    place, source = Path(cached).parent, f'sizes of {name}, from the cache of the hub'
  elif name in PUBLISHED:
    place, source = scratch, f'sizes of {name} as published; its weights are not needed'
    (place / 'config.json').write_text(json.dumps(PUBLISHED[name]))
  else:
    raise FileNotFoundError(
      f'decoder.weights is {name}: no directory here, and its sizes are not known. Its config.json is enough: '
      f'hf download {name} config.json --local-dir sizes, and --config.decoder.weights=sizes'
    )
  config = config.copy_and_resolve_references()
  with config.unlocked():
    if config.mapper.get('weights') == name:
      config.mapper.weights = str(place)
    config.decoder.weights, config.decoder.revision = str(place), ''
  return config, source


def feature_dim(config: ml_collections.ConfigDict, given: int = 0) -> tuple[int, int, str]:
  """D of the video features, how many there are of a second, and where both are from.

  Args:
    given: D, by the user; 0 to find it.

  Raises:
    ValueError: not known.
  """
  if given:
    return given, 1, 'given'
  eyes, weights = config.encoder, str(config.encoder.weights)
  if weights == 'shipped' or Path(weights).exists():
    encoder = encoders.load(weights, '', eyes.fps, eyes.dtype, eyes.size)
    return int(encoder.config.feature_dim), encoder.each, weights
  for word, width in FEATURE_DIMS.items():
    if word in weights.lower():
      each = QwenFramesConfig(preprocessing=_ANY, **_given(eyes)).second.tokens if word.startswith('qwen') else 1
      return width, each, f'as published for {word}; the encoder is not here'
  raise ValueError(f'encoder.weights is {weights}, which is not here: give the width of its features, --feature_dim')


# Of pictures, about which nothing is asked.
_ANY = Preprocessing(None, None, CLIP_MEAN, CLIP_STD)


def _given(eyes: ml_collections.ConfigDict) -> dict[str, Any]:
  return {name: value for name, value in (('fps', eyes.fps), ('image_size', eyes.size)) if value}
