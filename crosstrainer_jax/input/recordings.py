"""The videos of a dataset that was prepared without frames: which they are, by their content, and where they lie.

Features are kept under what a video is, not under where it is: they stay valid when files are moved, copied or
touched, and need no video any more once they are made.
"""

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path

# What an importer leaves in the folder of a dataset.
IMPORT_FILE = 'import.json'
# Beside it, where its key says so: a line for each take of a dataset in which all clips of a take see the same videos.
TAKES_FILE, BY_TAKE = 'recordings.jsonl', 'recordings_by_take'
# Size, beginning and end tell videos apart: one of them has the container's index, with the size of every frame.
_LOOKED_AT = 2**20


def identify(path: str | os.PathLike[str]) -> str:
  """`<bytes>-<hash of the first and the last megabyte>`, which is another when the file is another video."""
  with open(path, 'rb') as file:
    size = file.seek(0, os.SEEK_END)
    digest = hashlib.sha256()
    for start in sorted({0, max(0, size - _LOOKED_AT)}):
      file.seek(start)
      digest.update(file.read(_LOOKED_AT))
  return f'{size}-{digest.hexdigest()[:24]}'


class Recordings:
  """What the folder of a dataset says of its videos: nothing where the records hold the frames.

  Args:
    path: of its `import.json`.

  Raises:
    ValueError: the file is of an earlier version, which knew videos by their paths alone.
  """

  def __init__(self, path: Path):
    content = json.loads(path.read_text()) if path.is_file() else {}
    files = content.get('recordings', {})
    if files and 'identities' not in content:
      raise ValueError(
        f'{path}: it does not say what the videos hold; delete {path.parent} and prepare the dataset again'
      )
    identities = content.get('identities', {})
    self._of_clip: dict[str, list[str]] = {clip: [identities[file] for file in views] for clip, views in files.items()}
    self._of_take: dict[str, list[str]] = {}
    self._files: dict[str, list[str]] = {}
    self._turns: dict[str, int] = {}
    for file, identity in identities.items():
      self._files.setdefault(identity, []).append(file)
    if content.get(BY_TAKE):
      with path.with_name(TAKES_FILE).open(encoding='utf-8') as lines:
        for take in map(json.loads, lines):
          self._of_take[take['take']] = take['identities']
          self._turns |= dict.fromkeys(take['identities'], take.get('turn', 0))
          for file, identity in zip(take['files'], take['identities'], strict=True):
            known = self._files.setdefault(identity, [])
            if file not in known:
              known.append(file)
    self._found: dict[str, Path] = {}

  def __bool__(self) -> bool:
    """Whether features are made from videos."""
    return bool(self._of_clip or self._of_take)

  def of(self, clip_id: str, take: str) -> list[str]:
    """The identity of the video of each view of a clip.

    Raises:
      KeyError: nothing is known of it.
    """
    return self._of_clip[clip_id] if clip_id in self._of_clip else self._of_take[take]

  def name(self, identity: str) -> str:
    """Where the video was when the dataset was prepared."""
    return self._files[identity][0]

  def turn(self, identity: str) -> int:
    """Quarter turns clockwise that bring the video upright, which the file itself does not ask for."""
    return self._turns.get(identity, 0)

  def check(self, identities: Iterable[str]) -> None:
    """Looks whether these videos are there, with the size that they had.

    Raises:
      FileNotFoundError, ValueError: one is not.
    """
    for identity in identities:
      self._there(identity)

  def file(self, identity: str) -> Path:
    """Where the video is now, after a look at its content.

    Raises:
      FileNotFoundError, ValueError: it is gone, or another one lies there.
    """
    if identity not in self._found:
      there = self._there(identity)
      same = [path for path in there if identify(path) == identity]
      if not same:
        raise ValueError(_changed(there[0]))
      self._found[identity] = same[0]
    return self._found[identity]

  def _there(self, identity: str) -> list[Path]:
    there = [path for path in map(Path, self._files[identity]) if path.is_file()]
    if not there:
      raise FileNotFoundError(
        f'{self.name(identity)}: this video was there when the dataset was prepared, and is not any more, but not all '
        'of its features are made. Put it back, or prepare the dataset again from where it lies now'
      )
    fitting = [path for path in there if path.stat().st_size == int(identity.partition('-')[0])]
    if not fitting:
      raise ValueError(_changed(there[0]))
    return fitting


def _changed(path: Path) -> str:
  return f'{path}: it was another video when the dataset was prepared; prepare the dataset again, with --overwrite'
