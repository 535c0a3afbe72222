"""Files that are there whole or not at all, so that a run can be killed at any time and started again."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
  """A name beside `path` to write a file or a folder to; at the end of the block that takes the place of `path`.

  Where the block fails, `path` stays as it was. A kill may leave a hidden folder, which nobody reads.
  """
  path = Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  folder = Path(tempfile.mkdtemp(dir=path.parent, prefix=f'.{path.name}.'))
  try:
    yield folder / path.name
    # a folder cannot be renamed over one that holds something
    if path.is_dir():
      shutil.rmtree(path)
    os.replace(folder / path.name, path)
  finally:
    shutil.rmtree(folder)


def write_atomically(path: str | os.PathLike[str], text: str) -> None:
  """Writes UTF-8 text so that a reader never sees half a file."""
  with replacing(path) as fresh:
    fresh.write_text(text, encoding='utf-8')
