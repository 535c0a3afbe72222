"""Tensors written as Hugging Face does come back; shards hold no more than they should."""

import json

import ml_dtypes
import numpy as np
import pytest
from safetensors import safe_open

from crosstrainer_jax.weights.files import write_shards, write_tensors
from crosstrainer_jax.weights.tensors import INDEX, SINGLE, Tensors


def tensors(count: int = 5):
  random = np.random.default_rng(0)
  kinds = [np.float32, np.float16, ml_dtypes.bfloat16]
  return {f't{i}': random.normal(size=(4, i + 1)).astype(kinds[i % 3]) for i in range(count)}


def assert_there(path, expected):
  found = Tensors(path)
  assert set(found) == set(expected)
  for name, value in expected.items():
    assert found[name].dtype == value.dtype
    np.testing.assert_array_equal(found[name].read(), value)


def test_one_file(tmp_path):
  write_tensors(tmp_path / 'a.safetensors', tensors(), {'format': 'pt'})
  assert_there(tmp_path / 'a.safetensors', tensors())
  with safe_open(str(tmp_path / 'a.safetensors'), 'numpy') as file:
    assert file.metadata() == {'format': 'pt'}


def test_what_is_not_contiguous_is_written_in_order(tmp_path):
  value = np.arange(12.0).reshape(3, 4).T
  write_tensors(tmp_path / 'a.safetensors', {'x': value}, {})
  np.testing.assert_array_equal(Tensors(tmp_path / 'a.safetensors')['x'].read(), value)


def test_what_fits_into_one_file_has_no_index(tmp_path):
  write_shards(tmp_path, tensors().items())
  assert {path.name for path in tmp_path.iterdir()} == {SINGLE}
  assert_there(tmp_path, tensors())


@pytest.mark.parametrize('most', [1, 60, 100])
def test_shards_and_their_index(tmp_path, most):
  expected = tensors(7)
  write_shards(tmp_path, iter(expected.items()), most)
  assert_there(tmp_path, expected)
  index = json.loads((tmp_path / INDEX).read_text())
  files = sorted(set(index['weight_map'].values()))
  assert files == [f'model-{i + 1:05d}-of-{len(files):05d}.safetensors' for i in range(len(files))]
  assert index['metadata']['total_size'] == sum(value.nbytes for value in expected.values())
  for file in files:
    members = [name for name, there in index['weight_map'].items() if there == file]
    assert sum(expected[name].nbytes for name in members) <= most or len(members) == 1
  assert {path.name for path in tmp_path.iterdir()} == {INDEX, *files}
