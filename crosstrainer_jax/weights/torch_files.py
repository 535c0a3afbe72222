"""Tensors of a PyTorch file (`.bin`, `.pt`, `.pth`), read without PyTorch and without running anything in it.

Such a file is a zip archive: a pickle that says what there is, beside the raw numbers. A pickle can name any function
and have it called. Here the few names that tensors need are known; whatever else is named becomes an `Inert`, which
does nothing when it is made, called or filled.
"""

import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import IO, Any, NamedTuple

import ml_dtypes
import numpy as np

from crosstrainer_jax.weights.mapped_tensor import Tensor

STORAGES = {
  'DoubleStorage': np.dtype(np.float64),
  'FloatStorage': np.dtype(np.float32),
  'HalfStorage': np.dtype(np.float16),
  'BFloat16Storage': np.dtype(ml_dtypes.bfloat16),
  'LongStorage': np.dtype(np.int64),
  'IntStorage': np.dtype(np.int32),
  'ShortStorage': np.dtype(np.int16),
  'CharStorage': np.dtype(np.int8),
  'ByteStorage': np.dtype(np.uint8),
  'BoolStorage': np.dtype(np.bool_),
}

HOW_TO_CONVERT = (
  'Where PyTorch is installed and the file is trusted, this converts it: '
  'python -c "import sys, torch, safetensors.torch as s; '
  "s.save_file({k: v.contiguous().clone() for k, v in torch.load(sys.argv[1], map_location='cpu').items()}, "
  'sys.argv[2])" FILE FILE.safetensors'
)


class Inert:
  """Stands for whatever a pickle names beside tensors: takes everything and does nothing."""

  def __new__(cls, *_: Any, **__: Any) -> 'Inert':
    return super().__new__(cls)

  def __init__(self, *_: Any, **__: Any) -> None: ...
  def __call__(self, *_: Any, **__: Any) -> 'Inert':
    return self

  def __setstate__(self, _: Any) -> None: ...
  def __setitem__(self, _: Any, __: Any) -> None: ...
  def append(self, _: Any) -> None: ...
  def extend(self, _: Any) -> None: ...
  def add(self, _: Any) -> None: ...
  def update(self, _: Any) -> None: ...


class _Storage(NamedTuple):
  """Numbers of one type at one place of the file."""

  dtype: np.dtype
  offset: int
  count: int


def read(file: str | Path) -> dict[str, Tensor]:
  """The tensors of a file by name; those in dicts and lists within have the names joined by dots.

  Raises:
    ValueError: not a PyTorch file that can be read here; the message says how to convert it.
  """
  file = Path(file)
  if not zipfile.is_zipfile(file):
    raise ValueError(f'{file}: not a PyTorch file of the zip format, or not a whole one. {HOW_TO_CONVERT}')
  with zipfile.ZipFile(file) as archive:
    pickles = [name for name in archive.namelist() if name.endswith('/data.pkl') or name == 'data.pkl']
    if len(pickles) != 1:
      raise ValueError(f'{file}: holds {len(pickles)} pickles where a PyTorch file has one. {HOW_TO_CONVERT}')
    folder = pickles[0].removesuffix('data.pkl')
    if folder + 'byteorder' in archive.namelist() and archive.read(folder + 'byteorder') != b'little':
      raise ValueError(f'{file}: its numbers are not little-endian. {HOW_TO_CONVERT}')
    try:
      with archive.open(pickles[0]) as opened:
        content = _Unpickler(opened, file, archive, folder).load()
    except ValueError:
      raise
    except Exception as error:  # a broken pickle may fail in any way
      raise ValueError(f'{file}: its pickle is broken ({error!r}). {HOW_TO_CONVERT}') from error
  found: dict[str, Tensor] = {}
  _collect(content, '', found, set())
  if not found:
    raise ValueError(f'{file}: holds no tensors. {HOW_TO_CONVERT}')
  return found


class _Unpickler(pickle.Unpickler):
  def __init__(self, opened: IO[bytes], path: Path, archive: zipfile.ZipFile, folder: str):
    super().__init__(opened, encoding='utf-8')
    self._path, self._archive, self._folder = path, archive, folder

  def find_class(self, module: str, name: str) -> Any:
    if (module, name) == ('collections', 'OrderedDict'):
      return OrderedDict
    if module == 'torch' and name in STORAGES:
      return STORAGES[name]
    if module == 'torch._utils' and name == '_rebuild_tensor_v2':
      return self._tensor
    if module == 'torch._utils' and name in ('_rebuild_parameter', '_rebuild_parameter_with_state'):
      return _first
    if module.partition('.')[0] == 'torch' and ('rebuild' in name or name.endswith('Storage')):
      raise ValueError(f'{self._path}: holds tensors of a kind that is not read ({module}.{name}). {HOW_TO_CONVERT}')
    return Inert

  def persistent_load(self, pid: Any) -> _Storage:
    kind, dtype, key, _, count = pid
    if kind != 'storage' or not isinstance(dtype, np.dtype):
      raise ValueError(f'{self._path}: holds storages of a kind that is not read. {HOW_TO_CONVERT}')
    entry = self._archive.getinfo(f'{self._folder}data/{key}')
    if entry.compress_type != zipfile.ZIP_STORED or entry.file_size < count * dtype.itemsize:
      raise ValueError(f'{self._path}: the numbers of storage {key} are compressed or cut off. {HOW_TO_CONVERT}')
    return _Storage(dtype, self._offset(entry), count)

  def _offset(self, entry: zipfile.ZipInfo) -> int:
    """Where the bytes of an entry begin: behind its local header, whose length the directory does not tell."""
    with self._path.open('rb') as file:
      file.seek(entry.header_offset)
      header = file.read(30)
    return entry.header_offset + 30 + int.from_bytes(header[26:28], 'little') + int.from_bytes(header[28:30], 'little')

  def _tensor(self, storage: _Storage, first: int, shape: tuple[int, ...], strides: tuple[int, ...], *_: Any) -> Tensor:
    size = storage.dtype.itemsize
    last = first + sum((length - 1) * stride for length, stride in zip(shape, strides, strict=True))
    if first < 0 or min((*shape, *strides, 0)) < 0 or (0 not in shape and last >= storage.count):
      raise ValueError(f'{self._path}: a tensor of shape {list(shape)} reaches beyond its numbers; get the file again')
    return Tensor(
      self._path, tuple(shape), storage.dtype, storage.offset + first * size, tuple(stride * size for stride in strides)
    )


def _first(tensor: Tensor, *_: Any) -> Tensor:
  return tensor


def _collect(value: Any, name: str, found: dict[str, Tensor], seen: set[int]) -> None:
  """Puts every tensor in `value` into `found`."""
  if isinstance(value, Tensor):
    found[name] = value
  if not isinstance(value, dict | list | tuple) or isinstance(value, Tensor) or id(value) in seen:
    return
  seen.add(id(value))
  members = value.items() if isinstance(value, dict) else enumerate(value)
  for key, member in members:
    _collect(member, f'{name}.{key}' if name else str(key), found, seen)
