"""PEFT's directories: what is written comes back, and what would change the result is refused by name."""

import dataclasses
import json

import numpy as np
import pytest
from flax import nnx

from crosstrainer_jax.models import peft_adapter
from crosstrainer_jax.models.decoder import Decoder, DecoderConfig
from crosstrainer_jax.models.lora import LoRAConfig
from crosstrainer_jax.weights.tensors import Tensors

CONFIG = DecoderConfig(
  vocab_size=24, hidden_size=16, intermediate_size=24, num_layers=2, num_heads=2, num_kv_heads=1, head_dim=8,
  lora=LoRAConfig(rank=3, alpha=6.0, dropout=0.1, targets='(q|down)_proj'),
)  # fmt: skip


@pytest.fixture
def saved(tmp_path):
  decoder = nnx.jit(lambda: Decoder(CONFIG, nnx.Rngs(0)))()
  adapters = nnx.state(decoder, nnx.LoRAParam)
  peft_adapter.save(tmp_path, CONFIG, adapters, 'owner/base')
  return tmp_path, adapters


def change(directory, **fields):
  path = directory / 'adapter_config.json'
  path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def test_what_is_saved_comes_back(saved):
  directory, adapters = saved
  lora = peft_adapter.read_config(directory)
  assert (lora.rank, lora.alpha, lora.dropout, lora.scale) == (3, 6.0, 0.1, 2.0)
  again = dataclasses.replace(CONFIG, lora=lora)
  like = nnx.state(nnx.eval_shape(lambda: Decoder(again, nnx.Rngs(0))), nnx.LoRAParam)
  loaded = peft_adapter.load(directory, again, like)
  for (path, one), (other_path, other) in zip(nnx.to_flat_state(adapters), nnx.to_flat_state(loaded), strict=True):
    assert path == other_path
    np.testing.assert_array_equal(one.get_value(), other.get_value())


def test_names_are_those_of_peft(saved):
  fields = json.loads((saved[0] / 'adapter_config.json').read_text())
  assert fields['target_modules'] == ['down_proj', 'q_proj']
  assert (fields['peft_type'], fields['r'], fields['lora_alpha']) == ('LORA', 3, 6.0)
  assert fields['base_model_name_or_path'] == 'owner/base'
  tensors = Tensors(saved[0] / 'adapter_model.safetensors')
  name = 'base_model.model.model.layers.1.mlp.down_proj.lora_{}.weight'
  assert tensors[name.format('A')].shape == (3, 24)
  assert tensors[name.format('B')].shape == (16, 3)


@pytest.mark.parametrize(
  ('targets', 'adapted'),
  [
    (['q_proj', 'mlp.up_proj'], {'attention/q_proj', 'mlp/up_proj'}),
    ('all-linear', {f'attention/{n}_proj' for n in 'qkvo'} | {f'mlp/{n}_proj' for n in ('gate', 'up', 'down')}),
    (r'.*\.self_attn\.(k|v)_proj', {'attention/k_proj', 'attention/v_proj'}),
  ],
)
def test_targets_of_peft(saved, targets, adapted):
  change(saved[0], target_modules=targets)
  lora = peft_adapter.read_config(saved[0])
  paths = [f'attention/{n}_proj' for n in 'qkvo'] + [f'mlp/{n}_proj' for n in ('gate', 'up', 'down')]
  assert {path for path in paths if lora.adapts(path)} == adapted


@pytest.mark.parametrize(
  ('fields', 'message'),
  [
    ({'peft_type': 'IA3'}, r"peft_type = 'IA3' is not supported"),
    ({'use_dora': True}, r'use_dora = True is not supported'),
    ({'bias': 'all'}, r"bias = 'all' is not supported"),
    ({'modules_to_save': ['lm_head']}, r'modules_to_save = .* is not supported'),
    ({'rank_pattern': {'q_proj': 8}}, r'rank_pattern = .* is not supported'),
    ({'target_modules': ['query']}, r"target_modules = \['query'\] names none of"),
  ],
)
def test_what_would_change_the_result_is_refused(saved, fields, message):
  change(saved[0], **fields)
  with pytest.raises(ValueError, match=message):
    peft_adapter.read_config(saved[0])


def test_directories_without_an_adapter(tmp_path):
  with pytest.raises(FileNotFoundError, match=r'adapter_config\.json is missing'):
    peft_adapter.read_config(tmp_path)
  (tmp_path / 'adapter_config.json').write_text('{')
  with pytest.raises(ValueError, match='not JSON'):
    peft_adapter.read_config(tmp_path)
