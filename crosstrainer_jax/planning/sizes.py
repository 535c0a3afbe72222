"""The sizes of a config's models, with nothing downloaded: from a config.json, or as published.

A plan needs shapes, no weights. Of the decoder `config.json` is enough; for the models below not even that. Of the
video encoder it is the width of its features.
"""

import json
from pathlib import Path

import ml_collections
from huggingface_hub import try_to_load_from_cache

from crosstrainer_jax.models import encoders

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
PUBLISHED = {
  f'meta-llama/Llama-3.1-{size}{suffix}': fields
  for size, fields in (('8B', LLAMA_8B), ('70B', LLAMA_70B))
  for suffix in ('', '-Instruct')
}

# Features of encoders whose weights are not here, by a word in their name: EgoVLPv2 projects to 4096, CLIP's towers to
# 512 and 768, the others give their width.
FEATURE_DIMS = {
  'egovlp': 4096, 'clip-vit-base': 512, 'clip-vit-large': 768, 'siglip-base': 768, 'siglip-large': 1024,
  'siglip-so400m': 1152, 'siglip2-base': 768, 'siglip2-large': 1024, 'siglip2-so400m': 1152, 'vjepa2-vitl': 1024,
  'vjepa2-vith': 1280, 'vjepa2-vitg': 1408,
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
    config.decoder.weights, config.decoder.revision = str(place), ''
  return config, source


def feature_dim(config: ml_collections.ConfigDict, given: int = 0) -> tuple[int, str]:
  """D of the video features, and where it is from.

  Args:
    given: by the user; 0 to find it.

  Raises:
    ValueError: not known.
  """
  if given:
    return given, 'given'
  weights = str(config.encoder.weights)
  if weights == 'shipped' or Path(weights).exists():
    encoder = encoders.load(weights, '', config.encoder.fps, config.encoder.dtype)
    return int(encoder.config.feature_dim), weights
  for word, width in FEATURE_DIMS.items():
    if word in weights.lower():
      return width, f'as published for {word}; the encoder is not here'
  raise ValueError(f'encoder.weights is {weights}, which is not here: give the width of its features, --feature_dim')
