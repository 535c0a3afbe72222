"""What a config.json of the hub becomes, and what is refused by name."""

import json

import pytest
from flax import nnx
from transformers import AutoConfig

from crosstrainer_jax.models import llama_family
from crosstrainer_jax.models.decoder import Decoder
from crosstrainer_jax.models.llama_family import decoder_config, read_config, sources
from crosstrainer_jax.models.rotary import RopeScaling
from crosstrainer_jax.weights.convert import flat

# Llama-3.1-8B-Instruct's config.json, as it is published; an older form of the same fields is still the usual one.
LLAMA_31_8B = {
  'architectures': ['LlamaForCausalLM'], 'attention_bias': False, 'attention_dropout': 0.0, 'bos_token_id': 128000,
  'eos_token_id': [128001, 128008, 128009], 'hidden_act': 'silu', 'hidden_size': 4096, 'initializer_range': 0.02,
  'intermediate_size': 14336, 'max_position_embeddings': 131072, 'mlp_bias': False, 'model_type': 'llama',
  'num_attention_heads': 32, 'num_hidden_layers': 32, 'num_key_value_heads': 8, 'pretraining_tp': 1,
  'rms_norm_eps': 1e-05, 'rope_scaling': {'factor': 8.0, 'low_freq_factor': 1.0, 'high_freq_factor': 4.0,
  'original_max_position_embeddings': 8192, 'rope_type': 'llama3'}, 'rope_theta': 500000.0,
  'tie_word_embeddings': False, 'torch_dtype': 'bfloat16', 'transformers_version': '4.42.3', 'use_cache': True,
  'vocab_size': 128256,
}  # fmt: skip
SMALL = {
  'model_type': 'llama', 'vocab_size': 32, 'hidden_size': 16, 'intermediate_size': 24, 'num_hidden_layers': 2,
  'num_attention_heads': 4, 'num_key_value_heads': 2, 'max_position_embeddings': 64,
}  # fmt: skip


def test_the_papers_model():
  config = decoder_config(LLAMA_31_8B, max_position=2048, dtype='bfloat16')
  assert (config.hidden_size, config.num_layers, config.num_heads, config.num_kv_heads, config.head_dim) == (
    4096, 32, 32, 8, 128
  )  # fmt: skip
  assert config.rope_scaling == RopeScaling('llama3', 8.0, 1.0, 4.0, 8192)
  assert (config.rope_theta, config.rms_norm_eps, config.tie_embeddings) == (500_000.0, 1e-5, False)
  assert (config.max_position, config.dtype) == (2048, 'bfloat16')


@pytest.mark.parametrize(
  ('kind', 'expected'),
  [
    ('llama', {'qkv_bias': False, 'o_bias': False, 'qk_norm': False, 'sliding_window': 0, 'head_dim': 4}),
    ('mistral', {'qkv_bias': False, 'sliding_window': 4096}),
    ('qwen2', {'qkv_bias': True, 'o_bias': False, 'qk_norm': False, 'sliding_window': 0}),
    ('qwen3', {'qkv_bias': False, 'qk_norm': True, 'head_dim': 128, 'sliding_window': 0}),
  ],
)
def test_families_differ_where_they_do(kind, expected):
  config = decoder_config({**SMALL, 'model_type': kind})
  assert {name: getattr(config, name) for name in expected} == expected


@pytest.mark.parametrize(
  ('changes', 'expected'),
  [
    ({'sliding_window': None}, 0),
    ({'sliding_window': 48}, 48),
    ({'model_type': 'qwen2', 'sliding_window': 48, 'use_sliding_window': True, 'max_window_layers': 1}, 48),
    ({'model_type': 'qwen2', 'sliding_window': 48, 'use_sliding_window': True, 'max_window_layers': 2}, 0),
    ({'model_type': 'qwen2', 'sliding_window': 48, 'use_sliding_window': False}, 0),
    (
      {'model_type': 'qwen3', 'sliding_window': 48, 'use_sliding_window': True,
       'layer_types': ['full_attention', 'sliding_attention']},
      48,
    ),
    (
      {'model_type': 'qwen3', 'sliding_window': 48, 'use_sliding_window': True, 'layer_types': ['full_attention'] * 2},
      0,
    ),
  ],
)  # fmt: skip
def test_windows(changes, expected):
  assert decoder_config({**SMALL, 'model_type': 'mistral', **changes}).sliding_window == expected


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'model_type': 'gemma3'}, r"model_type = 'gemma3' is not supported; supported: llama, mistral, qwen2, qwen3"),
    ({'hidden_act': 'gelu'}, r"hidden_act = 'gelu' is not supported; supported: 'silu'"),
    ({'rope_scaling': {'rope_type': 'yarn', 'factor': 4.0}}, r'rope_scaling = .*yarn.* is not supported'),
    ({'rope_scaling': {'rope_type': 'llama3', 'factor': 4.0}}, r'rope_scaling = .* is not supported'),
    ({'rope_parameters': {'rope_type': 'default', 'mscale': 2}}, r'rope_parameters = .* is not supported'),
    ({'rope_parameters': {'rope_type': 'default', 'partial_rotary_factor': 0.5}}, r'rope_parameters = .* whole heads'),
    ({'partial_rotary_factor': 0.5}, r'partial_rotary_factor = 0.5 is not supported'),
    ({'use_mrope': True}, r'use_mrope = True is not supported'),
    ({'rope_interleaved': True}, r'rope_interleaved = True is not supported'),
    ({'attention_dropout': 0.1}, r'attention_dropout = 0.1 is not supported'),
    ({'quantization_config': {'bits': 4}}, r'quantization_config = .* is not supported'),
    ({'model_type': 'mistral', 'attention_bias': True}, r'attention_bias = True is not supported'),
    ({'model_type': 'qwen3', 'mlp_bias': True}, r'mlp_bias = True is not supported'),
    ({'model_type': 'qwen2', 'layer_types': ['chunked_attention'] * 2}, r'layer_types = .* is not supported'),
    (
      {'logit_scale': 0.5, 'attn_logit_softcapping': 50},
      r'attn_logit_softcapping = 50, logit_scale = 0.5. If they do not, copy',
    ),
    ({'hidden_size': None}, r'the field hidden_size is missing'),
  ],
)
def test_what_would_change_the_result_is_refused_by_name(changes, message):
  with pytest.raises(ValueError, match=message):
    decoder_config({**SMALL, **changes})


# Of SmolLM2, of Qwen2.5, and of a file that holds defaults of generating; none changes a logit.
INERT = [
  {'is_llama_config': True, 'rope_interleaved': False, 'transformers.js_config': {'dtype': 'q4'}, 'pad_token_id': 2},
  {
    'model_type': 'qwen2',
    'use_mrope': False,
    'use_sliding_window': False,
    'sliding_window': 16,
    'max_window_layers': 1,
  },
  {'max_length': 4096, 'do_sample': True, 'temperature': 0.9, 'top_p': 0.6, 'top_k': 50},
]


@pytest.mark.parametrize('fields', INERT, ids=['llama', 'qwen2', 'generation'])
def test_fields_of_published_files_that_change_nothing(fields):
  plain = {name: value for name, value in fields.items() if name == 'model_type'}
  assert decoder_config(SMALL | fields) == decoder_config(SMALL | plain)


@pytest.mark.parametrize('kind', llama_family.FAMILIES)
def test_all_that_transformers_writes_is_read(kind):
  config = AutoConfig.for_model(kind, **{name: value for name, value in SMALL.items() if name != 'model_type'})
  assert decoder_config(config.to_dict()) == decoder_config(SMALL | {'model_type': kind})
  assert decoder_config(config.to_diff_dict()) == decoder_config(SMALL | {'model_type': kind})


def test_it_cannot_be_longer_than_it_was_made_for():
  with pytest.raises(ValueError, match='max_position = 65, but config.json says max_position_embeddings = 64'):
    decoder_config(SMALL, max_position=65)


def test_directories_without_a_model(tmp_path):
  with pytest.raises(FileNotFoundError, match=r'config\.json is missing'):
    read_config(tmp_path)
  (tmp_path / 'config.json').write_text('{')
  with pytest.raises(ValueError, match=r'config\.json: not JSON'):
    read_config(tmp_path)
  (tmp_path / 'config.json').write_text(json.dumps(SMALL))
  assert read_config(tmp_path).vocab_size == 32


@pytest.mark.parametrize(
  'changes',
  [{}, {'tie_word_embeddings': True}, {'model_type': 'qwen2'}, {'model_type': 'qwen3'},
   {'attention_bias': True, 'mlp_bias': True}],
)  # fmt: skip
def test_every_parameter_has_a_source(changes):
  config = decoder_config({**SMALL, **changes})
  state = nnx.state(nnx.eval_shape(lambda: Decoder(config, nnx.Rngs(0))), nnx.Param)
  assert set(sources(config)) == set(flat(state))
  names = [name for source in sources(config).values() for name in source.names(2)]
  assert len(names) == len(set(names))


def test_the_head_of_tied_embeddings_may_lie_in_the_file():
  tied, untied = (decoder_config({**SMALL, 'tie_word_embeddings': tie}) for tie in (True, False))
  assert any('lm_head' in pattern for pattern in llama_family.ignored(tied))
  assert not any('lm_head' in pattern for pattern in llama_family.ignored(untied))
