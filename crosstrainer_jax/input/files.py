"""Files that are there whole or not at all, so that a run can be killed at any time and started again."""

import contextlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from crosstrainer_jax.input.buckets import as_path, in_bucket, upload


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str], last: str = '') -> Iterator[Path]:
  """A name beside `path` to write a file or a folder to; at the end of the block that takes the place of `path`.

  Where the block fails, `path` stays as it was. A kill may leave a hidden folder beside it (`leftovers`), which nobody
  reads; between the last two steps that also holds what `path` was.

  In a bucket a file is there whole or not at all too, but a folder comes file by file: what reads it looks for `last`.

  Args:
    last: name of the file of a folder that comes last.
  """
  if in_bucket(path):
    with tempfile.TemporaryDirectory() as elsewhere:
      fresh = Path(elsewhere) / os.path.basename(path)
      yield fresh
      if fresh.is_dir():
        upload(fresh, as_path(path), last)
      else:
        as_path(path).write_bytes(fresh.read_bytes())
    return
  path = Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  folder = Path(tempfile.mkdtemp(dir=path.parent, prefix=f'.{path.name}.'))
  try:
    yield folder / path.name
    if path.is_dir():
      # A folder cannot be renamed over one that holds something, and deleting that one takes its time.
      os.replace(path, folder / 'old')
      try:
        os.replace(folder / path.name, path)
      except OSError:
        os.replace(folder / 'old', path)
        raise
    else:
      os.replace(folder / path.name, path)
  finally:
    shutil.rmtree(folder)


def leftovers(path: str | os.PathLike[str]) -> list[Path]:
  """Hidden folders of kills while `path` was being replaced; one of a program that still writes it looks the same."""
  path = Path(path)
  if not path.parent.is_dir():
    return []
  ours = re.compile(rf'\.{re.escape(path.name)}\.[a-z0-9_]{{8}}')
  return sorted(other for other in path.parent.iterdir() if ours.fullmatch(other.name) and other.is_dir())


def write_atomically(path: str | os.PathLike[str], text: str) -> None:
  """Writes UTF-8 text so that a reader never sees half a file."""
  with replacing(path) as fresh:
    fresh.write_text(text, encoding='utf-8')
