"""A checkpoint on disk as named tensors: safetensors, in one file or in shards with an index.

Files of PyTorch are read as well, by `torch_files`.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import ml_dtypes
import numpy as np
from safetensors import SafetensorError, safe_open

from crosstrainer_jax.weights import torch_files
from crosstrainer_jax.weights.mapped_tensor import Tensor

# Names of the types in a safetensors header.
DTYPES: Mapping[str, np.dtype] = {
  'F64': np.dtype(np.float64),
  'F32': np.dtype(np.float32),
  'F16': np.dtype(np.float16),
  'BF16': np.dtype(ml_dtypes.bfloat16),
  'I64': np.dtype(np.int64),
  'I32': np.dtype(np.int32),
  'I16': np.dtype(np.int16),
  'I8': np.dtype(np.int8),
  'U8': np.dtype(np.uint8),
  'BOOL': np.dtype(np.bool_),
}

INDEX = 'model.safetensors.index.json'
SINGLE = 'model.safetensors'
# Bytes of a tensor that its fingerprint is made of.
SAMPLED = 2**16
TORCH_SUFFIXES = ('.bin', '.pt', '.pth')


class Tensors(Mapping[str, Tensor]):
  """The tensors of a checkpoint by name.

  Args:
    path: a file, or a folder as `save_pretrained` of Hugging Face writes it.

  Raises:
    FileNotFoundError: there are no weights.
    ValueError: a file is broken, or of a kind that is not read.
  """

  def __init__(self, path: str | Path):
    self.path = Path(path)
    self._tensors: dict[str, Tensor] = {}
    for file in _files(self.path):
      found = torch_files.read(file) if file.suffix in TORCH_SUFFIXES else dict(_safetensors(file))
      if twice := self._tensors.keys() & found.keys():
        raise ValueError(f'{file}: these tensors are in another file of {self.path} as well: {sorted(twice)[:5]}')
      self._tensors |= found

  def __getitem__(self, name: str) -> Tensor:
    return self._tensors[name]

  def __iter__(self) -> Iterator[str]:
    return iter(self._tensors)

  def __len__(self) -> int:
    return len(self._tensors)

  def fingerprint(self) -> str:
    """Names the content: a hash of every tensor's name, type, shape and first bytes, without reading all of them."""
    digest = hashlib.sha256()
    for name, tensor in sorted(self.items()):
      digest.update(f'{name} {tensor.dtype} {tensor.shape}\n'.encode())
      digest.update(
        np.ascontiguousarray(tensor.read()[:1]).tobytes()[:SAMPLED] if tensor.shape else tensor.read().tobytes()
      )
    return digest.hexdigest()[:16]


def _files(path: Path) -> list[Path]:
  if path.is_file():
    return [path]
  if not path.is_dir():
    raise FileNotFoundError(f'{path}: no such file or folder of weights')
  if (path / INDEX).is_file():
    try:
      names = sorted(set(json.loads((path / INDEX).read_text())['weight_map'].values()))
      strange = [name for name in names if Path(name).name != name]
    except (ValueError, KeyError, AttributeError, TypeError) as error:
      raise ValueError(f'{path / INDEX}: not an index of weights ({error!r}); get it again') from error
    if strange:
      raise ValueError(f'{path / INDEX}: names files outside its folder: {strange}')
    if absent := [name for name in names if not (path / name).is_file()]:
      raise FileNotFoundError(f'{path}: {len(absent)} of {len(names)} files of the index are missing: {absent}')
    return [path / name for name in names]
  if (path / SINGLE).is_file():
    return [path / SINGLE]
  found = sorted(file for file in path.iterdir() if file.name.startswith('pytorch_model') and file.suffix == '.bin')
  if not found:
    raise FileNotFoundError(f'{path}: no weights here ({SINGLE}, {INDEX} or pytorch_model.bin)')
  return found


def _safetensors(file: Path) -> Iterator[tuple[str, Tensor]]:
  try:
    # The library checks the header: offsets without gaps, sizes that fit, a file that is whole.
    with safe_open(str(file), 'numpy'):
      pass
  except SafetensorError as error:
    raise ValueError(f'{file}: not a whole safetensors file ({error}); get it again') from error
  with file.open('rb') as opened:
    length = int.from_bytes(opened.read(8), 'little')
    header = json.loads(opened.read(length))
  for name, entry in header.items():
    if name == '__metadata__':
      continue
    if entry['dtype'] not in DTYPES:
      raise ValueError(f'{file}: {name} is of type {entry["dtype"]}, which is not read; known: {", ".join(DTYPES)}')
    yield name, Tensor(file, tuple(entry['shape']), DTYPES[entry['dtype']], 8 + length + entry['data_offsets'][0])
