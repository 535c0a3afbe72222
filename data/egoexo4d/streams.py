"""The JSON files of Ego-Exo4D, one entry at a time: the largest have hundreds of megabytes."""

import pathlib
from collections.abc import Iterator
from typing import Any

import ijson


class BrokenFile(ValueError):
  """A file that is not whole or not what its name says; the message names it and the remedy."""


def entries(path: pathlib.Path) -> Iterator[dict[str, Any]]:
  """The objects of a list, or of the list under the key `annotations`: files of either form are about.

  Raises BrokenFile.
  """
  prefix = 'item' if _first(path) == b'[' else 'annotations.item'
  for entry in _read(path, lambda file: ijson.items(file, prefix, use_float=True)):
    if isinstance(entry, dict):
      yield entry


def named(path: pathlib.Path, key: str) -> Iterator[tuple[str, Any]]:
  """Name and value of each member of the object under `key`. Raises BrokenFile."""
  yield from _read(path, lambda file: ijson.kvitems(file, key, use_float=True))


def _read(path: pathlib.Path, parse: Any) -> Iterator[Any]:
  try:
    with path.open('rb') as file:
      yield from parse(file)
  except (ijson.JSONError, UnicodeDecodeError) as error:
    fix = 'download it again (python -m crosstrainer_jax.doctor egoexo4d ROOT tells how)'
    raise BrokenFile(
      f'{path}: broken JSON, perhaps half of a file ({" ".join(str(error).split())[:80]}); {fix}'
    ) from error


def _first(path: pathlib.Path) -> bytes:
  """The first byte that is no space."""
  with path.open('rb') as file:
    while byte := file.read(1):
      if not byte.isspace() and byte not in b'\xef\xbb\xbf':
        return byte
  return b''
