"""PEFT's directories: what is written comes back, and what would change the result is refused by name."""

import dataclasses
import json

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from crosstrainer_jax.models import peft_adapter
from crosstrainer_jax.models.decoder import Decoder
from crosstrainer_jax.models.decoder_config import DecoderConfig
from crosstrainer_jax.models.llama_family import sources
from crosstrainer_jax.models.lora import LoRAConfig
from crosstrainer_jax.weights.convert import flat, tensors
from crosstrainer_jax.weights.tensors import Tensors

CONFIG = DecoderConfig(
  vocab_size=24, hidden_size=16, intermediate_size=24, num_layers=2, num_heads=2, num_kv_heads=1, head_dim=8,
  lora=LoRAConfig(rank=3, alpha=6.0, dropout=0.1, targets='(q|down)_proj'),
)  # fmt: skip


@pytest.fixture(scope='module')
def adapters():
  return nnx.state(nnx.jit(lambda: Decoder(CONFIG, nnx.Rngs(0)))(), nnx.LoRAParam)


@pytest.fixture
def saved(tmp_path, adapters):
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
  written = Tensors(saved[0] / 'adapter_model.safetensors')
  name = 'base_model.model.model.layers.1.mlp.down_proj.lora_{}.weight'
  assert written[name.format('A')].shape == (3, 24)
  assert written[name.format('B')].shape == (16, 3)


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
def test_merged_tensors_do_what_adapter_and_base_did(dtype):
  config = dataclasses.replace(CONFIG, param_dtype=dtype)
  state = nnx.state(nnx.jit(lambda: Decoder(config, nnx.Rngs(0)))(), nnx.Param)
  random = np.random.default_rng(0)
  for path, leaf in flat(state).items():
    if 'lora_' in path:
      leaf.set_value(jnp.asarray(random.normal(size=leaf.shape), jnp.float32))
  merged, plain = dict(peft_adapter.merged_tensors(state, config)), dict(tensors(state, sources(config)))
  assert list(merged) == list(plain)
  values = flat(state)
  for name, value in plain.items():
    adapted = any(part in name for part in ('q_proj', 'down_proj'))
    assert merged[name].dtype == (np.float32 if adapted else value.dtype), name
    if not adapted:
      np.testing.assert_array_equal(merged[name], value)
  for layer in range(2):
    a, b = (np.asarray(values[f'layers/mlp/down_proj/{part}'][...][layer]) for part in ('lora_a', 'lora_b'))
    name = f'model.layers.{layer}.mlp.down_proj.weight'
    np.testing.assert_allclose(merged[name], plain[name].astype(np.float32) + 2.0 * (a @ b).T, rtol=1e-5, atol=1e-5)
  bare = dataclasses.replace(config, lora=None)
  alone = nnx.split_state(state, nnx.LoRAParam, ...)[1]
  assert {name: value.dtype for name, value in peft_adapter.merged_tensors(alone, bare)} == {
    name: value.dtype for name, value in plain.items()
  }


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
    ({'kasa_config': {'beta': 1e-4}}, r'kasa_config = .* is not supported'),
    *(
      ({'init_lora_weights': name}, rf"init_lora_weights = '{name}' is not supported; supported: True, .*'gaussian'")
      for name in ('pissa', 'pissa_niter_4', 'olora', 'corda', 'loftq', 'lora_ga', 'mica')
    ),
    ({'target_modules': ['query']}, r"target_modules = \['query'\] names none of"),
  ],
)
def test_what_would_change_the_result_is_refused(saved, fields, message):
  change(saved[0], **fields)
  with pytest.raises(ValueError, match=message):
    peft_adapter.read_config(saved[0])


@pytest.mark.parametrize('how', [True, False, None, 'gaussian', 'eva', 'orthogonal'])
def test_how_it_began_does_not_matter(saved, how):
  change(saved[0], init_lora_weights=how)
  assert peft_adapter.read_config(saved[0]).rank == 3


def test_directories_without_an_adapter(tmp_path):
  with pytest.raises(FileNotFoundError, match=r'adapter_config\.json is missing'):
    peft_adapter.read_config(tmp_path)
  (tmp_path / 'adapter_config.json').write_text('{')
  with pytest.raises(ValueError, match='not JSON'):
    peft_adapter.read_config(tmp_path)
