"""The manifest: one row per video, or per comment on it, in JSONL or CSV. Reading checks, and reports all problems.

`docs/own_videos.md` holds the table of fields.
"""

import csv
import dataclasses
import difflib
import json
import math
import os
import pathlib
from collections.abc import Iterator
from typing import Any

from crosstrainer_jax.input import record

FIELDS = (
  'videos', 'views', 'sport', 'skill', 'participant', 'take', 'split', 'commentary', 'time', 'start', 'end', 'captions',
  'proficiency', 'faults', 'licence', 'provenance',
)  # fmt: skip
SPLITS = ('train', 'validation', 'test')
_LISTS = ('videos', 'views', 'faults')
_NUMBERS = ('time', 'start', 'end')
_REQUIRED = ('videos', 'sport', 'skill', 'participant')
# In CSV one view may have a column of its own: video_left, video_right.
_VIEW_COLUMN = 'video_'
_SHOWN = 20


class ManifestError(ValueError):
  """What is wrong with a manifest, line by line, with the fix."""


@dataclasses.dataclass(frozen=True)
class Row:
  """One checked row. Paths are relative to the root, with '/'; absent text is '', absent numbers and lists are None."""

  line: int
  videos: tuple[str, ...]
  views: tuple[str, ...]
  sport: str
  skill: str
  participant: str
  take: str
  split: str
  commentary: str
  time: float | None
  start: float | None
  end: float | None
  captions: str
  proficiency: int
  faults: tuple[str, ...] | None
  licence: str
  provenance: str


class _Problem(ValueError):
  """One field of one row."""

  def __init__(self, field: str, message: str):
    super().__init__(message)
    self.field = field


def read_manifest(path: str | os.PathLike[str], root: str | os.PathLike[str] | None = None) -> list[Row]:
  """All rows of a .jsonl or .csv manifest; paths in it are relative to `root`, by default the manifest's folder.

  Raises FileNotFoundError, and ManifestError with manifest, line, field and fix of every problem. Whether the videos
  exist and can be decoded is for the import to find out.
  """
  file = pathlib.Path(path)
  reader = {'.jsonl': _read_jsonl, '.csv': _read_csv}.get(file.suffix.lower())
  if reader is None:
    raise ManifestError(f'{file}: a manifest is a .jsonl or .csv file')
  if not file.is_file():
    raise FileNotFoundError(f'{file}: no such manifest')
  folder = pathlib.Path(root) if root is not None else file.parent
  if not folder.is_dir():
    raise FileNotFoundError(f'{folder}: the root of the videos is not a folder')
  rows: list[Row] = []
  problems: list[str] = []
  try:
    for line, values in reader(file):
      try:
        if isinstance(values, _Problem):
          raise values
        rows.append(_row(line, values, folder))
      except _Problem as problem:
        problems.append(_located(file, line, problem.field, str(problem)))
  except UnicodeDecodeError as error:
    raise ManifestError(f'{file}: not UTF-8 text; save the manifest as UTF-8') from error
  rows = _with_unique_takes(rows)
  problems += [_located(file, row.line, field, message) for row, field, message in _conflicts(rows)]
  if not rows and not problems:
    problems.append(f'{file}: no rows')
  if problems:
    more = [f'… and {len(problems) - _SHOWN} more problems'] if len(problems) > _SHOWN else []
    raise ManifestError('\n'.join(problems[:_SHOWN] + more))
  return rows


def resolve(root: str | os.PathLike[str], relative: str) -> pathlib.Path:
  """The file that a manifest path names. Raises ValueError where it is absolute or leaves the root ('..' or a link)."""
  path = pathlib.PurePosixPath(relative)
  if path.is_absolute() or pathlib.PureWindowsPath(relative).is_absolute():
    raise ValueError(f'{relative!r} is absolute; give it relative to the root, or set --root')
  base = pathlib.Path(root).resolve()
  file = base.joinpath(path).resolve()
  if not file.is_relative_to(base):
    raise ValueError(f'{relative!r} leaves the root {base}; move the file below it, or set --root')
  return file


def _read_jsonl(file: pathlib.Path) -> Iterator[tuple[int, dict[str, Any] | _Problem]]:
  with file.open(encoding='utf-8-sig') as lines:
    for number, line in enumerate(lines, 1):
      if not line.strip():
        continue
      try:
        values = json.loads(line)
      except json.JSONDecodeError as error:
        yield number, _Problem('', f'not JSON ({error.msg}, column {error.colno}); write one object per line')
        continue
      yield number, values if isinstance(values, dict) else _Problem('', 'not a JSON object {"videos": …}')


def _read_csv(file: pathlib.Path) -> Iterator[tuple[int, dict[str, Any] | _Problem]]:
  """Cells as text; an empty cell is an absent field."""
  with file.open(encoding='utf-8-sig', newline='') as lines:
    reader = csv.DictReader(lines, restkey='', restval='')
    names = [name.strip() for name in reader.fieldnames or ()]
    if len(names) == 1 and ';' in names[0]:
      raise ManifestError(f"{file} line 1: columns are separated by ';'; export it with commas, ';' separates views")
    if len(set(names)) < len(names):
      raise ManifestError(f'{file} line 1: a column occurs twice')
    reader.fieldnames = names
    for cells in reader:
      if '' in cells:
        yield reader.line_num, _Problem('', 'more cells than columns; put text that has commas into double quotes')
        continue
      yield reader.line_num, _parse_cells({name: cell.strip() for name, cell in cells.items() if cell.strip()})


def _parse_cells(cells: dict[str, str]) -> dict[str, Any] | _Problem:
  values: dict[str, Any] = dict(cells)
  columns = [name for name in cells if name.startswith(_VIEW_COLUMN)]
  if columns:
    if 'videos' in cells or 'views' in cells:
      return _Problem('videos', f'give either videos (and views) or columns {_VIEW_COLUMN}<view>, not both')
    values = {name: value for name, value in values.items() if name not in columns}
    values['videos'] = [cells[name] for name in columns]
    values['views'] = [name.removeprefix(_VIEW_COLUMN) for name in columns]
  for name in _LISTS:
    if isinstance(values.get(name), str):
      values[name] = [part.strip() for part in values[name].split(';') if part.strip()]
  for name in _NUMBERS:
    if name in values:
      try:
        values[name] = float(values[name])
      except ValueError:
        return _Problem(name, f'{values[name]!r} is no number; write seconds, for example 83.5')
  return values


def _row(line: int, values: dict[str, Any], root: pathlib.Path) -> Row:
  for name in values:
    if name not in FIELDS:
      near = difflib.get_close_matches(name, FIELDS, 1, cutoff=0.5)
      fix = f'did you mean {near[0]!r}?' if near else f'known: {", ".join(FIELDS)}'
      raise _Problem(name, f'unknown field; {fix}')
  values = {
    name: value
    for name, value in values.items()
    if value is not None and not (isinstance(value, str) and not value.strip())
  }
  for name in _REQUIRED:
    if name not in values:
      raise _Problem(name, 'missing; every row needs ' + ', '.join(_REQUIRED))
  text: dict[str, Any] = {name: _text(name, values.get(name, '')) for name in FIELDS if name not in _LISTS + _NUMBERS}
  numbers: dict[str, Any] = {name: _seconds(name, values[name]) if name in values else None for name in _NUMBERS}
  videos = _texts('videos', values['videos'])
  numbered = [f'view{i + 1}' for i in range(len(videos))] if len(videos) > 1 else ['main']
  views = _texts('views', values.get('views', numbered))
  if not videos:
    raise _Problem('videos', 'empty; give the path of at least one video')
  if len(views) != len(videos):
    raise _Problem('views', f'{len(views)} names for {len(videos)} videos; give one name per video')
  for field, parts in (('videos', videos), ('views', views)):
    if len(set(parts)) < len(parts):
      raise _Problem(field, 'the same entry twice')
  for field, paths in (('videos', videos), ('captions', (text['captions'],) if text['captions'] else ())):
    for path in paths:
      try:
        resolve(root, path)
      except ValueError as error:
        raise _Problem(field, str(error)) from error
  _check_times(text, numbers, 'faults' in values)
  if text['split'] and text['split'] not in SPLITS:
    raise _Problem('split', f'{text["split"]!r} is no split; use one of {", ".join(SPLITS)}, or leave it out')
  return Row(
    line=line,
    videos=videos,
    views=views,
    faults=_texts('faults', values['faults']) if 'faults' in values else None,
    proficiency=_level(text.pop('proficiency')),
    **text,
    **numbers,
  )


def _check_times(text: dict[str, str], numbers: dict[str, float | None], has_faults: bool) -> None:
  time, start, end = (numbers[name] for name in _NUMBERS)
  if text['captions']:
    for name, given in (('commentary', text['commentary']), ('time', time is not None), ('faults', has_faults)):
      if given:
        raise _Problem(
          name, 'cannot go with captions, which have a text and time for every comment; use a row of its own'
        )
  if time is not None and (start is not None or end is not None):
    raise _Problem('time', 'give either time or start and end, not both')
  if start is not None and end is not None and start >= end:
    raise _Problem('end', f'{end:g} is not after start {start:g}')
  if text['commentary'] and time is None and (start is None or end is None):
    raise _Problem(
      'time', 'missing; say when the commentary was made: time, or start and end of its segment, in seconds'
    )


def _text(field: str, value: Any) -> str:
  if not isinstance(value, str):
    raise _Problem(field, f'{value!r} is not text; put it in quotes')
  return ' '.join(value.split())


def _texts(field: str, value: Any) -> tuple[str, ...]:
  values = [value] if isinstance(value, str) else value
  if not isinstance(values, list) or not all(isinstance(v, str) and v.strip() for v in values):
    raise _Problem(field, f'{value!r} is not a list of texts; write ["…", "…"], in CSV …;…')
  return tuple(v.strip() for v in values)


def _seconds(field: str, value: Any) -> float:
  if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
    raise _Problem(field, f'{value!r} is no time; write seconds from the start of the video, for example 83.5')
  return float(value)


def _level(text: str) -> int:
  if not text:
    return -1
  name = ' '.join(text.casefold().replace('_', ' ').replace('-', ' ').split())
  if name not in record.LEVELS:
    raise _Problem('proficiency', f'{text!r} is no level; use one of {", ".join(record.LEVELS)}')
  return record.LEVELS.index(name)


def _with_unique_takes(rows: list[Row]) -> list[Row]:
  """A take without a name is called after its first video's file, or its path where files of one name are several."""
  holders: dict[str, set[object]] = {}
  for row in rows:
    path = pathlib.PurePosixPath(row.videos[0])
    holders.setdefault(row.take or path.stem, set()).add(('named', row.take) if row.take else path)

  def named(row: Row) -> Row:
    path = pathlib.PurePosixPath(row.videos[0])
    alone = len(holders[row.take or path.stem]) == 1
    return dataclasses.replace(row, take=row.take or (path.stem if alone else path.with_suffix('').as_posix()))

  return [named(row) for row in rows]


def _conflicts(rows: list[Row]) -> Iterator[tuple[Row, str, str]]:
  """What no row shows alone: (row, field, message)."""
  first_split: dict[tuple[str, str], Row] = {}
  seen: dict[Row, int] = {}
  for row in rows:
    for kind, name in (('participant', row.participant), *(('video', video) for video in row.videos)):
      first = first_split.setdefault((kind, name), row) if row.split else row
      if first.split != row.split:
        message = f'{name!r} is in {row.split!r} here and in {first.split!r} on line {first.line}'
        yield row, 'split', f'{message}; a {kind} belongs to one split'
        break
    earlier = seen.setdefault(dataclasses.replace(row, line=0), row.line)
    if earlier != row.line:
      yield row, '', f'the same as line {earlier}; remove one of them'


def _located(file: pathlib.Path, line: int, field: str, message: str) -> str:
  return f'{file} line {line}' + (f', field {field!r}' if field else '') + f': {message}'
