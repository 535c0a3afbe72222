"""The checkout as it lies here, packed for the workers: with what is not committed, without what git ignores."""

import io
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

# Where there is no git to ask.
LEFT_OUT = {'.git', '.venv', 'runs', '__pycache__', 'build', 'dist', '.pytest_cache', '.ruff_cache', '.mypy_cache'}


def pack(root: Path, archive: Path) -> str:
  """Writes `archive` (tar.gz); returns what is in it, for the user.

  It holds a file `.commit`, from which a run on the workers, who have no git, knows its commit.
  """
  files = list(carried(root))
  commit, changed = commit_of(root)
  with tarfile.open(archive, 'w:gz') as tar:
    for file in files:
      tar.add(root / file, arcname=str(file))
    note = tarfile.TarInfo('.commit')
    content = f'{commit or ""}\n{"dirty" if changed else "clean"}\n'.encode()
    note.size = len(content)
    tar.addfile(note, io.BytesIO(content))
  where = 'no git checkout' if commit is None else f'commit {commit[:12]}'
  with_changes = f' with {changed} files that differ from it' if changed else ''
  return f'{len(files)} files, {archive.stat().st_size / 1e6:.1f} MB: {where}{with_changes}'


def carried(root: Path) -> Iterator[Path]:
  """The files that belong to the checkout, relative to it."""
  listed = _git(root, 'ls-files', '-z', '--cached', '--others', '--exclude-standard')
  if listed is None:
    for path in sorted(root.rglob('*')):
      inner = path.relative_to(root)
      if path.is_file() and not LEFT_OUT & set(inner.parts) and not inner.name.endswith('.egg-info'):
        yield inner
    return
  for name in sorted(set(listed.split('\0')) - {''}):
    # what is deleted but not committed is listed too
    if (root / name).is_file():
      yield Path(name)


def commit_of(root: Path) -> tuple[str | None, int]:
  """The commit, and how many files differ from it; None and 0 where this is no git checkout."""
  commit = _git(root, 'rev-parse', 'HEAD')
  if commit is None:
    return None, 0
  return commit.strip(), len((_git(root, 'status', '--porcelain') or '').splitlines())


def _git(root: Path, *command: str) -> str | None:
  """What git says of the checkout at `root` itself; None where there is none."""
  try:
    top = subprocess.run(['git', '-C', str(root), 'rev-parse', '--show-toplevel'], capture_output=True, text=True)
    if top.returncode or Path(top.stdout.strip()).resolve() != root.resolve():
      return None
    return subprocess.run(['git', '-C', str(root), *command], capture_output=True, text=True, check=True).stdout
  except (OSError, subprocess.CalledProcessError):
    return None
