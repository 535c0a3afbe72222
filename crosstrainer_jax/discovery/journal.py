"""A file with one JSON line for each clip that grows line by line and is put in place as a whole.

New lines go to `<output>.part` as they are made, so that a killed run loses nothing and a reader never sees half a
file. The next run reads both.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self

from crosstrainer_jax.input.buckets import as_path, in_bucket
from crosstrainer_jax.input.files import write_atomically

Line = dict[str, Any]


class Journal:
  """The lines of earlier runs by clip, and those that are made now.

  Args:
    output: the file.
    check: raises ValueError, TypeError or KeyError for a line that is no such line.

  Attributes:
    lines: by clip id; `write` adds to them.
    broken: lines of earlier runs that could not be read, and are dropped.
  """

  def __init__(self, output: str | Path, check: Callable[[Line], None]):
    self.output = as_path(output)
    self.output.parent.mkdir(parents=True, exist_ok=True)
    self._part = self.output.with_name(self.output.name + '.part')
    if in_bucket(self.output):  # where nothing can be added to a file
      self._part = Path(tempfile.mkdtemp(prefix='crosstrainer_jax-')) / self._part.name
    self.lines: dict[str, Line] = {}
    self.broken = 0
    for path in (self.output, self._part):
      for line in read_lines(path, check):
        if line is None:
          self.broken += 1
        else:
          self.lines[str(line['clip_id'])] = line

  def __enter__(self) -> Self:
    self._stream = self._part.open('a', encoding='utf-8')
    return self

  def __exit__(self, *_: object) -> None:
    self._stream.close()

  def write(self, line: Line) -> None:
    """Adds a line, which is in the file when this returns."""
    self.lines[line['clip_id']] = line
    self._stream.write(json.dumps(line, ensure_ascii=False) + '\n')
    self._stream.flush()

  def finish(self, order: Sequence[str]) -> None:
    """Puts all lines in place: those of the clips `order` first, in that order."""
    ids = dict.fromkeys([*(name for name in order if name in self.lines), *self.lines])
    write_atomically(self.output, ''.join(json.dumps(self.lines[name], ensure_ascii=False) + '\n' for name in ids))
    self._part.unlink(missing_ok=True)


def read_lines(path: Path, check: Callable[[Line], None]) -> Iterator[Line | None]:
  """The lines of `path`, None for each that is broken; nothing if there is no such file."""
  if not path.is_file():
    return
  for text in path.read_bytes().decode('utf-8', errors='replace').splitlines():
    try:
      line = json.loads(text)
      check(line)
    except (ValueError, TypeError, KeyError):
      yield None
    else:
      yield line


def need_texts(line: Line, *names: str) -> None:
  """Raises where one of the fields is no text."""
  for name in names:
    if not isinstance(line[name], str):
      raise TypeError(name)


def text_sha(text: str) -> str:
  """The hash by which a line knows its commentary again."""
  return hashlib.sha256(text.encode('utf-8')).hexdigest()[:16]


@dataclasses.dataclass(frozen=True)
class Unread:
  """A clip that got no answer that can be used, and why; `text_sha` and `backend` as a line would have them."""

  clip_id: str
  text_sha: str
  backend: str
  reason: str


def write_unread(output: Path, unread: Sequence[Unread]) -> None:
  """Lists those clips beside `output`, or removes the list of an earlier run where there are none."""
  path = unread_list(output)
  if unread:
    rows = [json.dumps(dataclasses.asdict(one), ensure_ascii=False) for one in unread]
    write_atomically(path, '\n'.join(rows) + '\n')
  elif path.is_file():
    path.unlink()


def read_unread(output: Path) -> dict[str, Unread]:
  """The list beside `output` by clip id; lines that cannot be read are passed over."""

  def check(line: Line) -> None:
    need_texts(line, 'clip_id', 'text_sha', 'backend', 'reason')

  lines = [line for line in read_lines(unread_list(output), check) if line is not None]
  return {line['clip_id']: Unread(line['clip_id'], line['text_sha'], line['backend'], line['reason']) for line in lines}


def unread_list(output: Path) -> Path:
  """Where the list is."""
  return output.with_name(f'{output.stem}.unread.jsonl')


def describe_unread(output: Path, unread: Sequence[Unread], shown: int = 5) -> list[str]:
  """Those clips as lines for the user; [] where there are none."""
  if not unread:
    return []
  return [
    f'{len(unread)} clips have no readable answer, and no line; they are listed in {unread_list(output)}:',
    *(f'  {one.clip_id}: {one.reason}' for one in unread[:shown]),
    *(['  …'] if len(unread) > shown else []),
  ]
