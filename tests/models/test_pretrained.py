"""L by its settings: fresh or from a directory, with adapters, on a mesh; what the directory says is the config."""

import copy

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest
from flax import nnx

from crosstrainer_jax.configs import compact
from crosstrainer_jax.models import peft_adapter, pretrained
from crosstrainer_jax.models.decoder import Decoder
from crosstrainer_jax.training import sharding, stages
from crosstrainer_jax.weights.convert import flat
from crosstrainer_jax.weights.tensors import Tensors
from tests.models import hub_directories


def config(directory=None, **changes):
  made = compact.preset()
  if directory is not None:
    made.decoder = ml_collections.ConfigDict({'weights': str(directory), 'revision': '', **changes})
  return made


@pytest.fixture(scope='module')
def directory(tmp_path_factory):
  return hub_directories.write_llama(tmp_path_factory.mktemp('llama'), jnp.bfloat16)


def test_without_weights_it_starts_from_nothing():
  assert pretrained.find(config()) is None
  fresh = pretrained.fresh(config(), vocab_size=320)
  assert (fresh.vocab_size, fresh.hidden_size, fresh.lora) == (320, 128, None)


def test_a_directory_says_its_sizes(directory):
  found = pretrained.find(config(directory, max_position=128, dtype='bfloat16'))
  assert found.directory == directory
  assert (found.config.vocab_size, found.config.hidden_size) == (384, 32)
  assert (found.config.max_position, found.config.dtype, found.config.lora) == (128, 'bfloat16', None)
  assert pretrained.find(config(directory)).config.max_position == 2048


def test_adapters_are_those_of_the_settings(directory):
  changed = config(directory)
  changed.lora.rank = 4
  assert pretrained.find(changed).config.lora.rank == 4
  assert pretrained.lora_config(config()) is None


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
def test_weights_are_read(directory, dtype):
  found = pretrained.find(config(directory, param_dtype=dtype))
  graph, like = nnx.split(nnx.eval_shape(lambda: Decoder(found.config, nnx.Rngs(0))))
  loaded = flat(found.load(like))
  assert {variable.dtype for variable in loaded.values()} == {jnp.dtype(dtype)}
  there = Tensors(directory)['model.layers.1.mlp.up_proj.weight'].read()
  np.testing.assert_array_equal(
    np.asarray(loaded['layers/mlp/up_proj/kernel'][...][1].T, np.float32), there.astype(np.float32)
  )
  assert jax.tree.leaves(nnx.merge(graph, found.load(like)).embed(jnp.ones((1, 2), jnp.int32)))[0].shape == (1, 2, 32)


@pytest.fixture(scope='module')
def adapted(directory, tmp_path_factory):
  """An adapter with random weights, and a config that begins from it."""
  made = config(directory)
  made.lora.update({'rank': 3, 'alpha': 6.0, 'targets': '(q|down)_proj', 'weights': ''})
  lora = pretrained.find(made).config
  state = nnx.state(nnx.eval_shape(lambda: Decoder(lora, nnx.Rngs(0))), nnx.LoRAParam)
  random = np.random.default_rng(0)
  state = jax.tree.map(lambda leaf: jnp.asarray(random.normal(size=leaf.shape), leaf.dtype), state)
  made.lora.weights = str(tmp_path_factory.mktemp('adapter'))
  peft_adapter.save(made.lora.weights, lora, state, 'base')
  return made, flat(state)


def test_an_adapter_is_gone_on_from(adapted):
  """Through the model of a stage: what the directories have is read, the rest is made."""
  made, expected = adapted
  blueprint, params = stages.build(made, 384, 6, 381, 0, sharding.make_mesh((1, 1, 1), jax.devices()[:1]))
  found = flat(params['decoder'])
  assert {path for path in found if 'lora_' in path} == set(expected)
  for path, value in expected.items():
    np.testing.assert_array_equal(found[path][...], value[...])
  assert not blueprint.split(params)[1]
  base = pretrained.find(made)
  assert pretrained.find(config(base.directory)).fingerprint != base.fingerprint
  made = copy.deepcopy(made)
  made.lora.weights = ''
  assert not [path for path in flat(pretrained.find(made).load(params['decoder'])) if 'lora_' in path]


@pytest.mark.parametrize('changes', [{'rank': 4}, {'alpha': 3.0}, {'targets': 'q_proj'}, {'rank': 0}], ids=str)
def test_settings_that_are_not_those_of_the_adapter_are_refused(adapted, changes):
  made = copy.deepcopy(adapted[0])
  made.lora.update(changes)
  with pytest.raises(ValueError, match=r'other settings than config.lora: set --config.lora.rank=3 .*alpha=6.0 .*targ'):
    pretrained.find(made)


def test_the_flags_that_an_adapter_asks_for_fit_it(adapted):
  made = copy.deepcopy(adapted[0])
  made.lora.update({'targets': '^(attention/q_proj|mlp/down_proj)$', 'dropout': 0.5})
  assert pretrained.find(made).config.lora.dropout == 0.5
  made.lora.weights = str(pretrained.find(made).directory)
  with pytest.raises(FileNotFoundError, match=r'adapter_config\.json is missing'):
    pretrained.find(made)


def test_the_fingerprint_follows_the_weights(directory, tmp_path):
  again = hub_directories.write_llama(tmp_path / 'again', jnp.bfloat16)
  other = hub_directories.write_llama(tmp_path / 'other', np.float32)
  prints = [pretrained.find(config(path)).fingerprint for path in (directory, again, other)]
  assert prints[0] == prints[1] != prints[2]


def test_nothing_there_is_a_clear_error(tmp_path):
  with pytest.raises(FileNotFoundError, match='no repository of the hub'):
    pretrained.find(config(tmp_path / 'none'))
  with pytest.raises(FileNotFoundError, match=r'config\.json is missing'):
    pretrained.find(config(tmp_path))
