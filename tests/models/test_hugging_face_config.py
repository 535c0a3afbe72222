"""A decoder's config as config.json: what is written is read back as the same decoder."""

import dataclasses
import json

import pytest

from crosstrainer_jax.models.decoder_config import DecoderConfig
from crosstrainer_jax.models.llama_family import decoder_config, hugging_face_config
from crosstrainer_jax.models.lora import LoRAConfig
from crosstrainer_jax.models.rotary import RopeScaling

SIZES = {
  'vocab_size': 96, 'hidden_size': 32, 'intermediate_size': 56, 'num_layers': 3, 'num_heads': 4, 'num_kv_heads': 2,
  'head_dim': 12, 'max_position': 64, 'rms_norm_eps': 1e-3, 'rope_theta': 5e5,
}  # fmt: skip
VARIANTS = {
  'llama, tied': ('llama', {'tie_embeddings': True}),
  'llama, biases everywhere': ('llama', {'qkv_bias': True, 'o_bias': True, 'mlp_bias': True, 'tie_embeddings': False}),
  'llama, biases of the MLP': ('llama', {'mlp_bias': True}),
  'llama3 rope': ('llama', {'rope_scaling': RopeScaling('llama3', 8.0, 1.5, 6.0, 32)}),
  'linear rope': ('llama', {'rope_scaling': RopeScaling('linear', 4.0)}),
  'mistral, window': ('mistral', {'sliding_window': 48}),
  'qwen2': ('qwen2', {'qkv_bias': True}),
  'qwen2, window': ('qwen2', {'qkv_bias': True, 'sliding_window': 48}),
  'qwen3': ('qwen3', {'qk_norm': True}),
  'qwen3, biases, window': ('qwen3', {'qk_norm': True, 'qkv_bias': True, 'o_bias': True, 'sliding_window': 48}),
}
OURS = {'dropout': 0.1, 'dtype': 'bfloat16', 'param_dtype': 'bfloat16', 'lora': LoRAConfig(4), 'remat': 'full'}


@pytest.mark.parametrize('name', VARIANTS)
def test_what_is_written_is_read_back(name):
  family, changes = VARIANTS[name]
  config = DecoderConfig(**SIZES, **changes, **OURS)
  fields = json.loads(json.dumps(hugging_face_config(config)))
  assert fields['model_type'] == family
  assert fields['architectures'] == [f'{family.capitalize()}ForCausalLM']
  assert decoder_config(fields, **OURS) == config
  # as releases of transformers before 5 read it
  del fields['rope_parameters']
  assert decoder_config(fields, **OURS) == config


@pytest.mark.parametrize(
  'changes',
  [
    {'o_bias': True},
    {'qk_norm': True, 'qkv_bias': True},
    {'qk_norm': True, 'mlp_bias': True},
    {'qkv_bias': True, 'mlp_bias': True},
    {'sliding_window': 48, 'qkv_bias': True, 'o_bias': True},
    {'sliding_window': 48, 'mlp_bias': True},
  ],
)
def test_what_no_family_has_is_refused(changes):
  with pytest.raises(ValueError, match='bias'):
    hugging_face_config(DecoderConfig(**SIZES, **changes))


def test_every_field_is_written():
  """A changed field of the config changes the file, unless it is a matter of training or of where things lie."""
  config = DecoderConfig(**SIZES)
  before = hugging_face_config(config)
  other = {
    'vocab_size': 97, 'hidden_size': 36, 'intermediate_size': 57, 'num_layers': 4, 'num_heads': 8, 'num_kv_heads': 4,
    'head_dim': 14, 'max_position': 65, 'rms_norm_eps': 1e-4, 'rope_theta': 1e6, 'tie_embeddings': False,
    'rope_scaling': RopeScaling('linear', 2.0), 'mlp_bias': True, 'qk_norm': True, 'sliding_window': 9,
    'qkv_bias': True,
  }  # fmt: skip
  for name, value in other.items():
    assert hugging_face_config(dataclasses.replace(config, **{name: value})) != before, name
  left = {field.name for field in dataclasses.fields(DecoderConfig)} - other.keys()
  # a bias of the fourth projection alone is no family's, and places in pictures are another file's (qwen2_5_vl.py)
  assert left == {
    'attention', 'dropout', 'dtype', 'param_dtype', 'lora', 'remat', 'unroll', 'o_bias', 'quantize', 'quantize_tile',
    'mrope_section',
  }  # fmt: skip
  with pytest.raises(ValueError, match='mrope_section'):
    hugging_face_config(dataclasses.replace(config, mrope_section=(1, 1, config.head_dim // 2 - 2)))
