"""Where the files of QEVD lie below a root: as the archives unpack, each in its folder or all in one.

```
QEVD-FIT-COACH/            feedbacks_long_range.json long_range_videos/ fine_grained_labels.json …   149 sessions, train
QEVD-FIT-COACH-Benchmark/  feedbacks_long_range.json long_range_videos/                              74 sessions, test
short_clips/  or  QEVD-FIT-300k-Part-1/ … -4/    NNNNNNNN.mp4
fine_grained_labels_with_worker_ids.json         a download of its own
```
"""

import contextlib
import pathlib
import posixpath
from collections.abc import Iterator
from typing import Any

import ijson

from crosstrainer_jax.datasets.manifest.rows import resolve

LONG_RANGE = 'feedbacks_long_range.json'
LABELS = 'fine_grained_labels.json'
FEEDBACKS = 'feedbacks_short_clips.json'
WORKERS = 'fine_grained_labels_with_worker_ids.json'
SHORT_CLIPS = 'short_clips'
PARTS = tuple(f'QEVD-FIT-300k-Part-{number}' for number in (1, 2, 3, 4))
# Archive → (short name, split).
SESSIONS = {
  'QEVD-FIT-COACH': ('coach', 'train'),
  'QEVD-FIT-COACH-Benchmark': ('benchmark', 'test'),
  'QEVD-FIT-COACH-Competition-CVPR2025': ('competition', 'test'),
}


def unpacked(root: pathlib.Path, archive: str, holding: str = '') -> str | None:
  """The folder of an unpacked archive, relative to the root; None where it is not there.

  It may lie in a folder of its own name once more, as some programs unpack it, or be the root itself.
  """
  places = [archive, f'{archive}/{archive}', *(['.'] if root.name == archive else [])]
  return next((place for place in reversed(places) if (root / place / holding).exists()), None)


def find(root: pathlib.Path, name: str) -> str | None:
  """The path of one of the files of labels, relative to the root; None where it is nowhere."""
  folders = ['.', *(folder for archive in SESSIONS if (folder := unpacked(root, archive)))]
  return next((posixpath.normpath(f'{f}/{name}') for f in folders if (root / f / name).is_file()), None)


def clip_folders(root: pathlib.Path) -> list[str]:
  """The folders that may hold short clips, relative to the root."""
  candidates = [SHORT_CLIPS, *(folder for part in PARTS if (folder := unpacked(root, part)))]
  candidates += [f'{folder}/{SHORT_CLIPS}' for archive in SESSIONS if (folder := unpacked(root, archive))]
  return [posixpath.normpath(folder) for folder in candidates if (root / folder).is_dir()]


def records(file: pathlib.Path) -> Iterator[Any]:
  """The elements of the list that a JSON file holds, one at a time.

  Raises:
    ValueError: the file ends early, is no JSON or holds no list.
  """
  empty = True
  with file.open('rb') as stream:
    try:
      for element in ijson.items(stream, 'item', use_float=True):
        empty = False
        yield element
    except (ijson.JSONError, UnicodeDecodeError) as error:
      raise ValueError(f'{file}: not whole, or no JSON ({error}); unpack its archive again') from error
  if empty:
    raise ValueError(f'{file}: no list of records in it; unpack its archive again')


def beside(folder: str, path: str) -> str:
  """A path of the files, which start at their own folder, relative to the root and with nothing left out of sight."""
  return posixpath.normpath(posixpath.join(folder, path)) if folder != '.' else posixpath.normpath(path)


def stamps(root: pathlib.Path, paths: list[str]) -> dict[str, list[int] | None]:
  """Size and time of change of files, by their paths; None for those that are not there."""
  found: dict[str, list[int] | None] = {}
  for path in paths:
    found[path] = None
    with contextlib.suppress(OSError, ValueError):
      stat = resolve(root, path).stat()
      found[path] = [stat.st_size, stat.st_mtime_ns]
  return found
