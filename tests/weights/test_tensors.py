import json

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from crosstrainer_jax.weights import tensors, torch_files
from crosstrainer_jax.weights.mapped_tensor import Tensor
from crosstrainer_jax.weights.tensors import Tensors

RNG = np.random.default_rng(0)
WEIGHTS = {
  'embedding': RNG.standard_normal((5, 3)).astype(np.float32),
  'layers.0.weight': RNG.standard_normal((3, 4)).astype(np.float16),
  'layers.1.weight': RNG.standard_normal((3, 4)).astype(ml_dtypes.bfloat16),
  'scale': np.array(0.5, np.float32),
  'position_ids': np.arange(7)[None],
}
FIRST, SECOND = 'model-00001-of-00002.safetensors', 'model-00002-of-00002.safetensors'


def same(found, expected):
  assert set(found) == set(expected)
  for name, value in expected.items():
    read = found[name].read()
    assert (found[name].shape, found[name].dtype, read.dtype) == (value.shape, value.dtype, value.dtype)
    np.testing.assert_array_equal(read, value)


def save_sharded(folder, weight_map=None):
  """WEIGHTS in two files, with their index."""
  names = list(WEIGHTS)
  for file, part in ((FIRST, names[:2]), (SECOND, names[2:])):
    save_file({name: WEIGHTS[name] for name in part}, folder / file)
  weight_map = weight_map or {name: FIRST if name in names[:2] else SECOND for name in names}
  (folder / tensors.INDEX).write_text(json.dumps({'metadata': {'total_size': 0}, 'weight_map': weight_map}))


def forge(path, header, data=b''):
  """A safetensors file with any header."""
  content = header if isinstance(header, bytes) else json.dumps(header).encode()
  path.write_bytes(len(content).to_bytes(8, 'little') + content + data)


def test_single_file(tmp_path):
  path = tmp_path / 'model.safetensors'
  save_file(WEIGHTS, path, metadata={'format': 'pt'})
  same(Tensors(path), WEIGHTS)
  same(Tensors(str(path)), WEIGHTS)
  same(Tensors(tmp_path), WEIGHTS)
  assert len(Tensors(path)) == len(WEIGHTS)
  assert '__metadata__' not in Tensors(path)


def test_all_types(tmp_path):
  kinds = [dtype for dtype in tensors.DTYPES.values() if dtype != ml_dtypes.bfloat16]
  weights = {dtype.name: np.array([[0, 1], [1, 0]]).astype(dtype) for dtype in [*kinds, np.dtype(ml_dtypes.bfloat16)]}
  save_file(weights, tmp_path / 'model.safetensors')
  same(Tensors(tmp_path), weights)


def test_shards(tmp_path):
  save_sharded(tmp_path)
  same(Tensors(tmp_path), WEIGHTS)


def test_missing_shard(tmp_path):
  save_sharded(tmp_path)
  (tmp_path / SECOND).unlink()
  with pytest.raises(FileNotFoundError, match=rf"1 of 2 files of the index are missing: \['{SECOND}'\]"):
    Tensors(tmp_path)


@pytest.mark.parametrize('name', ['../x.safetensors', '/etc/passwd', 'sub/x.safetensors', './x.safetensors'])
def test_an_index_names_nothing_outside_its_folder(name, tmp_path):
  folder = tmp_path / 'model'
  (folder / 'sub').mkdir(parents=True)
  for place in (tmp_path, folder, folder / 'sub'):
    save_file(WEIGHTS, place / 'x.safetensors')
  save_sharded(folder, {'embedding': name})
  with pytest.raises(ValueError, match='names files outside its folder'):
    Tensors(folder)


@pytest.mark.parametrize('name', ['..', '.', ''])
def test_an_index_names_files(name, tmp_path):
  save_sharded(tmp_path, {'embedding': name})
  with pytest.raises((ValueError, FileNotFoundError), match='outside its folder|are missing'):
    Tensors(tmp_path)


@pytest.mark.parametrize(
  'text',
  [
    b'',
    b'{"weight_map": {"a": ',
    b'\xff\xfe\x00',
    b'[]',
    b'7',
    b'{}',
    b'{"weight_map": null}',
    b'{"weight_map": ["a"]}',
    b'{"weight_map": {"a": 3}}',
    b'{"weight_map": {"a": ["x"]}}',
    b'{"weight_map": {"a": "x", "b": null}}',
  ],
)
def test_a_broken_index(text, tmp_path):
  (tmp_path / tensors.INDEX).write_bytes(text)
  with pytest.raises(ValueError, match=r'index\.json: not an index of weights .* get it again'):
    Tensors(tmp_path)


def test_one_name_in_two_shards(tmp_path):
  save_sharded(tmp_path)
  save_file({'scale': WEIGHTS['scale'], 'embedding': WEIGHTS['embedding']}, tmp_path / SECOND)
  with pytest.raises(ValueError, match=rf"{SECOND}: these tensors are in another file of .*: \['embedding'\]"):
    Tensors(tmp_path)


def test_every_length_of_a_cut_file_is_refused(tmp_path):
  path = tmp_path / 'model.safetensors'
  save_file({'a': np.ones((2, 2), np.float32), 'b': np.ones(3, np.float16)}, path)
  whole = path.read_bytes()
  for length in range(len(whole)):
    path.write_bytes(whole[:length])
    with pytest.raises(ValueError, match=r'model\.safetensors: not a whole safetensors file .* get it again'):
      Tensors(path)
  path.write_bytes(whole + b'\0')
  with pytest.raises(ValueError, match='not a whole safetensors file'):
    Tensors(path)


@pytest.mark.parametrize(
  'header',
  [
    b'not json at all',
    b'\x80\x04\x95pickle?',
    {'a': {'dtype': 'F32', 'shape': [4], 'data_offsets': [0, 8]}},
    {'a': {'dtype': 'F32', 'shape': [2], 'data_offsets': [8, 16]}},
    {'a': {'dtype': 'F32', 'shape': [-2], 'data_offsets': [0, 8]}},
    {'a': {'dtype': 'F32', 'shape': [2], 'data_offsets': [0, 16]}},
    {'a': {'dtype': 'F33', 'shape': [2], 'data_offsets': [0, 8]}},
    {'a': {'dtype': 'F32', 'shape': [2**62, 4], 'data_offsets': [0, 8]}},
    {'a': {'shape': [2], 'data_offsets': [0, 8]}},
    {
      'a': {'dtype': 'F32', 'shape': [2], 'data_offsets': [0, 8]},
      'b': {'dtype': 'F32', 'shape': [2], 'data_offsets': [0, 8]},
    },
    [],
  ],
)
def test_a_corrupt_header(header, tmp_path):
  forge(tmp_path / 'model.safetensors', header, bytes(16))
  with pytest.raises(ValueError, match=r'model\.safetensors: not a whole safetensors file'):
    Tensors(tmp_path)


def test_a_length_of_the_header_beyond_the_file(tmp_path):
  (tmp_path / 'model.safetensors').write_bytes((2**63).to_bytes(8, 'little') + b'{}')
  with pytest.raises(ValueError, match='not a whole safetensors file'):
    Tensors(tmp_path)


def test_a_type_that_is_not_read(tmp_path):
  forge(tmp_path / 'model.safetensors', {'a': {'dtype': 'F8_E4M3', 'shape': [8], 'data_offsets': [0, 8]}}, bytes(8))
  with pytest.raises(ValueError, match=r'a is of type F8_E4M3, which is not read; known: F64, F32, F16, BF16'):
    Tensors(tmp_path)


def test_no_weights(tmp_path):
  with pytest.raises(FileNotFoundError, match='no weights here'):
    Tensors(tmp_path)
  with pytest.raises(FileNotFoundError, match='no such file or folder'):
    Tensors(tmp_path / 'absent')
  (tmp_path / 'config.json').write_text('{}')
  with pytest.raises(ValueError, match=r'config\.json: not a whole safetensors file'):
    Tensors(tmp_path / 'config.json')


@pytest.fixture
def read_torch(monkeypatch):
  """Stands in for the reader of PyTorch's files: a tensor of the file's own name."""

  def read(file):
    return {file.stem: Tensor(file, (2,), np.dtype(np.float32), 0)}

  monkeypatch.setattr(torch_files, 'read', read)


def test_which_files_are_read(read_torch, tmp_path):
  """An index before a single file before the files of PyTorch; nothing else of the folder."""
  for name in ('pytorch_model-00002-of-00002.bin', 'pytorch_model-00001-of-00002.bin', 'training_args.bin', 'a.pth'):
    (tmp_path / name).write_bytes(bytes(8))
  assert list(Tensors(tmp_path)) == ['pytorch_model-00001-of-00002', 'pytorch_model-00002-of-00002']
  for suffix in ('.bin', '.pt', '.pth'):
    (tmp_path / f'own{suffix}').write_bytes(bytes(8))
    assert list(Tensors(tmp_path / f'own{suffix}')) == ['own']
  save_file({'single': WEIGHTS['scale']}, tmp_path / 'model.safetensors')
  assert list(Tensors(tmp_path)) == ['single']
  save_sharded(tmp_path)
  assert set(Tensors(tmp_path)) == set(WEIGHTS)
