"""L by its settings: fresh or from a directory, with adapters, on a mesh; what the directory says is the config."""

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest
from flax import nnx

from crosstrainer_jax.configs import compact
from crosstrainer_jax.models import pretrained
from crosstrainer_jax.models.decoder import Decoder
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
