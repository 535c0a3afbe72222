"""What a doctor finds in the folder of a dataset: what is there, what is missing, what is broken, and what to do."""

import dataclasses
import json
import os
import pathlib
import zipfile
from collections.abc import Iterator, Sequence
from typing import Literal

# With one of these an mp4, or its older relative mov, begins.
_FIRST_BOXES = (b'ftyp', b'moov', b'mdat', b'free', b'skip', b'wide')
State = Literal['there', 'missing', 'broken', 'absent']

_MARKS: dict[State, str] = {'there': 'ok', 'missing': 'MISSING', 'broken': 'BROKEN', 'absent': '-'}


@dataclasses.dataclass(frozen=True)
class Finding:
  """One line of a doctor's report.

  Attributes:
    state: `absent` is what an import can do without.
    what: a file or a kind of files.
    detail: how many, how large, which are the first.
    remedy: the command, where there is something to do.
  """

  state: State
  what: str
  detail: str = ''
  remedy: str = ''


def describe(findings: Sequence[Finding]) -> str:
  """Lines for the terminal."""
  lines = []
  for finding in findings:
    detail = f': {finding.detail}' if finding.detail else ''
    lines.append(f'{_MARKS[finding.state]:>8}  {finding.what}{detail}')
    if finding.remedy:
      lines += [f'{"":>10}{line}' for line in finding.remedy.splitlines()]
  return '\n'.join(lines)


def well(findings: Sequence[Finding]) -> bool:
  """Whether nothing is missing or broken."""
  return all(finding.state in ('there', 'absent') for finding in findings)


def first_of(names: Sequence[str], count: int = 3) -> str:
  """The first names, and how many more."""
  more = f' and {len(names) - count} more' if len(names) > count else ''
  return ', '.join(names[:count]) + more


def fault(path: pathlib.Path) -> str:
  """What is wrong with a file as far as a look at its ends tells, in microseconds; '' for nothing.

  A download that broke off leaves a file without its end: mp4 keeps a list of what is in it, PyTorch's zip its
  directory at the end, and JSON closes what it opened.
  """
  size = path.stat().st_size
  if size == 0:
    return '0 bytes'
  look = {'.json': _json, '.mp4': _mp4, '.pt': _zip}.get(path.suffix.lower())
  return look(path, size) if look else ''


def _json(path: pathlib.Path, size: int) -> str:
  with path.open('rb') as file:
    head = file.read(64).removeprefix(b'\xef\xbb\xbf').lstrip()
    file.seek(max(0, size - 64))
    tail = file.read().rstrip()
  if size <= 2**16:
    try:
      json.loads(path.read_bytes())
    except ValueError as error:
      return f'broken JSON ({error})'
  ends = {b'{': b'}', b'[': b']'}.get(head[:1])
  return '' if ends and tail.endswith(ends) else 'JSON that ends early'


def _zip(path: pathlib.Path, size: int) -> str:
  del size
  return '' if zipfile.is_zipfile(path) else 'not a whole file of PyTorch'


def _mp4(path: pathlib.Path, size: int) -> str:
  kinds: set[bytes] = set()
  try:
    for kind, end in _boxes(path, size):
      if not kinds and kind not in _FIRST_BOXES:
        return 'not an mp4'
      kinds.add(kind)
      if end > size:
        return f'ends early, {end - size} bytes are missing'
  except ValueError as error:
    return str(error)
  lacking = {b'moov', b'mdat'} - kinds
  if b'moof' in kinds:
    lacking.discard(b'mdat')
  return f'without {", ".join(sorted(kind.decode() for kind in lacking))}: not a whole mp4' if lacking else ''


def _boxes(path: pathlib.Path, size: int) -> Iterator[tuple[bytes, int]]:
  """(kind, where it ends) of each of the outermost boxes of an mp4 (ISO/IEC 14496-12, 4.2)."""
  place = 0
  with path.open('rb') as file:
    while place + 8 <= size:
      file.seek(place)
      head = file.read(16)
      length, kind = int.from_bytes(head[:4], 'big'), head[4:8]
      if length == 1:
        length = int.from_bytes(head[8:16], 'big')
      elif length == 0:  # to the end of the file
        length = size - place
      if length < 8:
        raise ValueError('not an mp4')
      place += length
      yield kind, place


def tree_size(files: Sequence[pathlib.Path]) -> int:
  """Bytes of files that are there."""
  return sum(os.stat(file).st_size for file in files)
