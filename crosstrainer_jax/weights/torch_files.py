"""Tensors of a PyTorch file (`.bin`, `.pt`, `.pth`), read without PyTorch and without running anything in it.

Such a file is a zip archive: a pickle that says what there is, beside the raw numbers. A pickle can name any function
and have it called, and can set attributes of whatever it named. Here the few names that tensors need are known;
whatever else is named becomes an `Inert`, which does nothing when it is made, called or filled.
"""

import io
import pickle
import pickletools
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

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
  'Convert it where PyTorch is installed and the file is trusted: python -c "'
  'import sys, torch, safetensors.torch as s; '
  "t = torch.load(sys.argv[1], map_location='cpu', weights_only=False); "
  "t = t.get('state_dict', t); "
  's.save_file({k: v.contiguous().clone() for k, v in t.items() if torch.is_tensor(v)}, sys.argv[2])'
  '" FILE FILE.safetensors'
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


class _Function(NamedTuple):
  """A function that is known here; a tuple, since a pickle may set attributes of a function itself."""

  call: Callable[..., Tensor]

  def __call__(self, *arguments: Any) -> Tensor:
    return self.call(*arguments)


class _Type(NamedTuple):
  """The type of a storage's numbers; a tuple, since a pickle may turn the byte order of a dtype itself."""

  dtype: np.dtype


class _Storage(NamedTuple):
  """Numbers of one type at one place of the file."""

  dtype: np.dtype
  offset: int
  length: int


class _Refused(ValueError):
  """Says which file, what is wrong and what to do."""

  def __init__(self, file: Path, what: str):
    super().__init__(f'{file}: {what}. {HOW_TO_CONVERT}')


def read(file: str | Path) -> dict[str, Tensor]:
  """The tensors of a file by name; those in dicts and lists within have the names joined by dots.

  Raises:
    ValueError: not a PyTorch file that can be read here; the message says how to convert it.
  """
  file = Path(file)
  if not zipfile.is_zipfile(file):
    raise _Refused(file, 'not a PyTorch file of the zip format, or not a whole one')
  found: dict[str, Tensor] = {}
  try:
    _collect(_content(file), '', found, set())
  except _Refused:
    raise
  except Exception as error:  # a broken archive or pickle may fail in any way
    raise _Refused(file, f'its archive or its pickle is broken ({error!r})') from error
  if not found:
    raise _Refused(file, 'holds no tensors')
  return found


def _content(file: Path) -> Any:
  """What the pickle of the file holds."""
  with zipfile.ZipFile(file) as archive:
    pickles = [name for name in archive.namelist() if name.endswith('/data.pkl') or name == 'data.pkl']
    if len(pickles) != 1:
      raise _Refused(file, f'holds {len(pickles)} pickles where a PyTorch file has one')
    folder = pickles[0].removesuffix('data.pkl')
    if folder + 'byteorder' in archive.namelist() and archive.read(folder + 'byteorder') != b'little':
      raise _Refused(file, 'its numbers are not little-endian')
    content = archive.read(pickles[0])
    for opcode, argument, _ in pickletools.genops(content):
      # An extension is a number for a name, and may not pass `find_class`; a memo takes the memory up to its number.
      if opcode.name.startswith('EXT') or ('PUT' in opcode.name and (argument or 0) > len(content)):
        raise _Refused(file, f'its pickle has {opcode.name} {argument}, which PyTorch does not write')
    return _Unpickler(content, file, archive, folder).load()


class _Unpickler(pickle.Unpickler):
  def __init__(self, content: bytes, path: Path, archive: zipfile.ZipFile, folder: str):
    super().__init__(io.BytesIO(content), encoding='utf-8')
    self._path, self._archive, self._folder = path, archive, folder

  def find_class(self, module: str, name: str) -> Any:
    if (module, name) == ('collections', 'OrderedDict'):
      return OrderedDict
    if module == 'torch' and name in STORAGES:
      return _Type(STORAGES[name])
    if module == 'torch._utils' and name == '_rebuild_tensor_v2':
      return _Function(self._tensor)
    if module == 'torch._utils' and name in ('_rebuild_parameter', '_rebuild_parameter_with_state'):
      return _Function(_first)
    if module.partition('.')[0] == 'torch' and ('rebuild' in name or name.endswith('Storage')):
      raise _Refused(self._path, f'holds tensors of a kind that is not read ({module}.{name})')
    return Inert

  def persistent_load(self, pid: Any) -> _Storage:
    kind, numbers, key, _, count = pid
    if kind != 'storage' or not isinstance(numbers, _Type):
      raise _Refused(self._path, 'holds storages of a kind that is not read')
    entry, size = self._archive.getinfo(f'{self._folder}data/{key}'), count * numbers.dtype.itemsize
    offset = self._offset(entry)
    whole = 0 <= size <= entry.file_size and offset + size <= self._path.stat().st_size
    if entry.compress_type != zipfile.ZIP_STORED or not whole:
      raise _Refused(self._path, f'the numbers of storage {key} are compressed or cut off')
    return _Storage(numbers.dtype, offset, count)

  def _offset(self, entry: zipfile.ZipInfo) -> int:
    """Where the bytes of an entry begin: behind its local header, whose length the directory does not tell."""
    with self._path.open('rb') as file:
      file.seek(entry.header_offset)
      header = file.read(30)
    return entry.header_offset + 30 + int.from_bytes(header[26:28], 'little') + int.from_bytes(header[28:30], 'little')

  def _tensor(
    self,
    storage: _Storage,
    first: int,
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    requires_grad: bool = False,
    hooks: Any = None,
    view: Any = None,
  ) -> Tensor:
    if view:
      raise _Refused(self._path, f'holds a tensor that is a negative or conjugate view ({view})')
    if not all(type(number) is int for number in (first, *shape, *strides)):
      raise _Refused(self._path, 'holds a tensor whose place is not given in whole numbers')
    size = storage.dtype.itemsize
    last = first + sum((length - 1) * stride for length, stride in zip(shape, strides, strict=True))
    if min((first, *shape, *strides)) < 0 or (0 not in shape and last >= storage.length):
      raise _Refused(self._path, f'a tensor of shape {list(shape)} reaches beyond its numbers')
    return Tensor(
      self._path, tuple(shape), storage.dtype, storage.offset + first * size, tuple(stride * size for stride in strides)
    )


def _first(tensor: Tensor, *_: Any) -> Tensor:
  return tensor


def _collect(value: Any, name: str, found: dict[str, Tensor], seen: set[int]) -> None:
  """Puts every tensor in `value` into `found`."""
  if isinstance(value, Tensor):
    if name in found:
      raise ValueError(f'two tensors are called {name}')
    found[name] = value
  if not isinstance(value, dict | list | tuple) or isinstance(value, Tensor) or id(value) in seen:
    return
  seen.add(id(value))
  # of dict itself: a pickle may have hung another `items` on an OrderedDict
  members = dict.items(value) if isinstance(value, dict) else enumerate(value)
  for key, member in members:
    _collect(member, f'{name}.{key}' if name else str(key), found, seen)
