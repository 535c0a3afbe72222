"""Llama 2/3/3.1/3.2, Mistral, Qwen2/2.5 and Qwen3 as the hub has them: `config.json` to our config, names to our names.

Fields of `config.json` are of three kinds: those read here, those that do not change the result (`HARMLESS`), and
everything else, which is refused by name.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

from crosstrainer_jax.models.decoder_config import DecoderConfig
from crosstrainer_jax.models.rotary import RopeScaling
from crosstrainer_jax.weights.convert import LINEAR, Source

FAMILIES = ('llama', 'mistral', 'qwen2', 'qwen3')

# Tensors that old checkpoints hold beside the parameters: rotary frequencies follow from the config.
IGNORED = (r'model\.layers\.\d+\.self_attn\.rotary_emb\.inv_freq$',)
# Of a checkpoint with tied embeddings: the same matrix a second time.
TIED = (r'lm_head\.weight$',)

# Settings of a decoder that no directory knows.
OURS = {'attention', 'dropout', 'dtype', 'param_dtype', 'lora', 'quantize', 'quantize_tile', 'remat', 'unroll'}

# What a directory says that changes nothing about logits.
HARMLESS = {
  'architectures', 'auto_map', 'bos_token_id', 'chunk_size_feed_forward', 'do_sample', 'dtype', 'eos_token_id',
  'id2label', 'initializer_range', 'is_decoder', 'is_encoder_decoder', 'is_llama_config', 'label2id', 'max_length',
  'model_type', 'output_attentions', 'output_hidden_states', 'pad_token_id', 'pretraining_tp', 'problem_type',
  'return_dict', 'temperature', 'tokenizer_class', 'top_k', 'top_p', 'torch_dtype', 'transformers.js_config',
  'transformers_version', 'unsloth_fixed', 'unsloth_version', 'use_cache',
}  # fmt: skip
# Fields with one value that is supported (the first of the tuple is what an absent field means).
FIXED: dict[str, tuple[Any, ...]] = {
  'hidden_act': ('silu', 'swish'),
  'attention_dropout': (0.0, 0, None),
  'add_cross_attention': (False, None),
  'cross_attention_hidden_size': (None,),
  'quantization_config': (None,),
  'rope_interleaved': (False, None),
  'tie_encoder_decoder': (False, None),
  'use_mrope': (False, None),
}


class _Fields(dict[str, Any]):
  """The fields of a config.json; remembers which were read."""

  def __init__(self, source: str, fields: dict[str, Any]):
    super().__init__(fields)
    self.source, self.used = source, set[str]()

  def take(self, name: str, default: Any = ...) -> Any:
    self.used.add(name)
    value = self.get(name)
    if value is None and default is ...:
      raise ValueError(f'{self.source}: the field {name} is missing')
    return default if value is None else value

  def refuse(self, name: str, supported: str) -> ValueError:
    return ValueError(f'{self.source}: {name} = {self[name]!r} is not supported; supported: {supported}')


def decoder_config(fields: dict[str, Any], source: str = 'config.json', **settings: Any) -> DecoderConfig:
  """The config of a decoder.

  Args:
    fields: content of a `config.json`.
    source: names the file in messages.
    settings: of our own: dtype, param_dtype, remat, unroll, lora, quantize, quantize_tile, and max_position where a
      shorter one will do.

  Raises:
    ValueError: no model of these families, or a field that would change the result and is not supported.
  """
  read = _Fields(source, fields)
  kind = read.take('model_type')
  if kind not in FAMILIES:
    raise read.refuse('model_type', ', '.join(FAMILIES))
  for name, values in FIXED.items():
    if read.take(name, values[0]) not in values:
      raise read.refuse(name, repr(values[0]))
  hidden, heads = read.take('hidden_size'), read.take('num_attention_heads')
  bias = read.take('attention_bias', False)
  theta, scaling = _rope(read)
  longest = read.take('max_position_embeddings')
  config = DecoderConfig(
    vocab_size=read.take('vocab_size'),
    hidden_size=hidden,
    intermediate_size=read.take('intermediate_size'),
    num_layers=read.take('num_hidden_layers'),
    num_heads=heads,
    num_kv_heads=read.take('num_key_value_heads', {'mistral': 8, 'qwen2': 32, 'qwen3': 32}.get(kind, heads)),
    # Qwen3 does not follow the others: its default is a number.
    head_dim=read.take('head_dim', 128 if kind == 'qwen3' else hidden // heads),
    rope_theta=theta,
    rope_scaling=scaling,
    rms_norm_eps=read.take('rms_norm_eps', 1e-6),
    tie_embeddings=read.take('tie_word_embeddings', False),
    # Qwen2 always has the first three biases and never the fourth; in the others one field decides all.
    qkv_bias=bias or kind == 'qwen2',
    o_bias=bias and kind != 'qwen2',
    mlp_bias=read.take('mlp_bias', False),
    qk_norm=kind == 'qwen3',
    sliding_window=_window(read, kind, read.take('num_hidden_layers')),
    **{'max_position': longest, **settings},
  )
  if config.max_position > longest:
    raise ValueError(f'max_position = {config.max_position}, but {source} says max_position_embeddings = {longest}')
  if bias and kind in ('mistral', 'qwen2'):
    raise read.refuse('attention_bias', 'false for this family')
  if config.mlp_bias and kind != 'llama':
    raise read.refuse('mlp_bias', 'false for this family')
  unknown = sorted(name for name in fields.keys() - read.used - HARMLESS if not name.startswith('_'))
  if unknown:
    listed = ', '.join(f'{name} = {fields[name]!r}' for name in unknown)
    raise ValueError(
      f'{source}: fields that are not known here, and may change the result: {listed}. '
      'If they do not, copy the directory, delete them from the config.json of the copy, and name the copy'
    )
  return config


def hugging_face_config(config: DecoderConfig) -> dict[str, Any]:
  """The way back of `decoder_config`: what a `config.json` says of a decoder.

  Rotary positions are written as transformers 5 reads them, and as releases before it did. Of the window, that all
  layers have it.

  Raises:
    ValueError: no family has this combination of biases, norms and window.
  """
  kind = 'qwen3' if config.qk_norm else 'qwen2' if config.qkv_bias and not config.o_bias else 'llama'
  if kind == 'llama' and config.sliding_window:
    kind = 'mistral'
  rope: dict[str, Any] = {'rope_type': 'default'}
  if (scaling := config.rope_scaling) is not None:
    rope = {'rope_type': scaling.kind, 'factor': scaling.factor}
    if scaling.kind == 'llama3':
      rope |= {'low_freq_factor': scaling.low_freq_factor, 'high_freq_factor': scaling.high_freq_factor}
      rope['original_max_position_embeddings'] = scaling.original_max_position
  fields = {
    'architectures': [f'{kind.capitalize()}ForCausalLM'],
    'model_type': kind,
    'vocab_size': config.vocab_size,
    'hidden_size': config.hidden_size,
    'intermediate_size': config.intermediate_size,
    'num_hidden_layers': config.num_layers,
    'num_attention_heads': config.num_heads,
    'num_key_value_heads': config.num_kv_heads,
    'head_dim': config.head_dim,
    'hidden_act': 'silu',
    'rms_norm_eps': config.rms_norm_eps,
    'max_position_embeddings': config.max_position,
    'tie_word_embeddings': config.tie_embeddings,
    'rope_parameters': {**rope, 'rope_theta': config.rope_theta},
    'rope_theta': config.rope_theta,
    'rope_scaling': rope if config.rope_scaling else None,
  }
  if kind in ('llama', 'qwen3'):
    fields['attention_bias'] = config.qkv_bias
  if kind == 'llama':
    fields['mlp_bias'] = config.mlp_bias
  if kind in ('qwen2', 'qwen3'):
    fields['use_sliding_window'] = config.sliding_window > 0
    fields['max_window_layers'] = 0 if config.sliding_window else config.num_layers
  if kind != 'llama':
    fields['sliding_window'] = config.sliding_window or None
  ours = {field.name: getattr(config, field.name) for field in dataclasses.fields(config) if field.name in OURS}
  read = dataclasses.asdict(decoder_config(fields, **ours))
  if wrong := [name for name, value in dataclasses.asdict(config).items() if read[name] != value]:
    listed = ', '.join(f'{name} = {getattr(config, name)!r}' for name in wrong)
    raise ValueError(f'no family of {", ".join(FAMILIES)} has {listed} beside the rest of {config}')
  return fields


def read_config(directory: str | Path, **settings: Any) -> DecoderConfig:
  """The config of the decoder in a directory of the hub.

  Raises:
    FileNotFoundError, ValueError: no `config.json`, or none of a decoder that is supported.
  """
  path, fields = read_fields(directory)
  return decoder_config(fields, str(path), **settings)


def read_fields(directory: str | Path) -> tuple[Path, dict[str, Any]]:
  """The path and the content of the `config.json` of a directory.

  Raises:
    FileNotFoundError, ValueError: there is none, or it is broken.
  """
  path = Path(directory) / 'config.json'
  if not path.is_file():
    raise FileNotFoundError(f'{directory}: no model of the hub here (config.json is missing)')
  try:
    fields = json.loads(path.read_text())
  except ValueError as error:
    raise ValueError(f'{path}: not JSON ({error})') from error
  return path, fields


def _rope(read: _Fields) -> tuple[float, RopeScaling | None]:
  """Base and scaling. Older files have `rope_theta` and `rope_scaling`, newer ones `rope_parameters` with both."""
  theta = read.take('rope_theta', 10_000.0)
  scaling = dict(read.take('rope_scaling', {})) | dict(read.take('rope_parameters', {}))
  name = 'rope_parameters' if read.get('rope_parameters') else 'rope_scaling'
  theta = float(scaling.pop('rope_theta', theta))
  kinds = {scaling.pop(key) for key in ('rope_type', 'type') if key in scaling} or {'default'}
  partial = scaling.pop('partial_rotary_factor', read.take('partial_rotary_factor', 1.0))
  if len(kinds) > 1 or partial != 1.0:
    raise read.refuse(
      name if partial == 1.0 or name in read else 'partial_rotary_factor', 'one rope_type over whole heads'
    )
  kind = kinds.pop()
  if kind == 'default':
    if scaling:
      raise read.refuse(name, 'a rope_type beside these values')
    return theta, None
  fields = {
    'linear': {'factor'},
    'llama3': {'factor', 'low_freq_factor', 'high_freq_factor', 'original_max_position_embeddings'},
  }
  if fields.get(kind) != scaling.keys():
    raise read.refuse(name, 'default, linear with factor, llama3 with its four values')
  if 'original_max_position_embeddings' in scaling:
    scaling['original_max_position'] = scaling.pop('original_max_position_embeddings')
  return theta, RopeScaling(kind, **scaling)


def _window(read: _Fields, kind: str, layers: int) -> int:
  """The window of attention of the layers that have one, 0 for none."""
  # Where the field is absent (and not null) there is the family's default.
  window = read.take('sliding_window', 0 if kind == 'llama' or 'sliding_window' in read else 4096)
  used = read.take('use_sliding_window', kind in ('llama', 'mistral'))
  first = read.take('max_window_layers', 28)
  types = read.take('layer_types', None)
  if types is not None and set(types) - {'full_attention', 'sliding_attention'}:
    raise read.refuse('layer_types', 'full_attention, sliding_attention')
  if kind in ('qwen2', 'qwen3'):
    used = used and ('sliding_attention' in types if types is not None else first < layers)
  return int(window) if used else 0


def sources(config: DecoderConfig) -> dict[str, Source]:
  """Where each parameter of a `Decoder` comes from; adapters are not among them."""
  layer = 'model.layers.{}.'
  found = {
    'embedding/embedding': Source('model.embed_tokens.weight'),
    'final_norm/scale': Source('model.norm.weight'),
    'layers/input_norm/scale': Source(layer + 'input_layernorm.weight'),
    'layers/post_attention_norm/scale': Source(layer + 'post_attention_layernorm.weight'),
  }
  biased = {'attention': config.qkv_bias, 'attention/o_proj': config.o_bias, 'mlp': config.mlp_bias}
  for path, name in linears().items():
    found[f'layers/{path}/kernel'] = Source(f'{layer}{name}.weight', LINEAR)
    if biased[path if path in biased else path.partition('/')[0]]:
      found[f'layers/{path}/bias'] = Source(f'{layer}{name}.bias')
  if config.qk_norm:
    for name in ('q_norm', 'k_norm'):
      found[f'layers/attention/{name}/scale'] = Source(f'{layer}self_attn.{name}.weight')
  if not config.tie_embeddings:
    found['lm_head/kernel'] = Source('lm_head.weight', LINEAR)
  return found


def linears() -> dict[str, str]:
  """Path of every linear layer of a block here -> its name there."""
  attention = {f'attention/{name}_proj': f'self_attn.{name}_proj' for name in 'qkvo'}
  return attention | {f'mlp/{name}_proj': f'mlp.{name}_proj' for name in ('gate', 'up', 'down')}


def ignored(config: DecoderConfig) -> tuple[str, ...]:
  """Names of tensors that a checkpoint may hold and that are not needed."""
  return IGNORED + TIED if config.tie_embeddings else IGNORED
