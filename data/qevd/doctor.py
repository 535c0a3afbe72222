"""Looks at a folder of QEVD: what an import will find, what is missing or half-written, and the command for it."""

import argparse
import pathlib
import shlex
import zipfile
from collections.abc import Iterator
from typing import Any

from crosstrainer_jax.datasets.manifest.plan import amount
from crosstrainer_jax.datasets.manifest.rows import resolve
from crosstrainer_jax.datasets.qevd import archives
from crosstrainer_jax.datasets.qevd import source as sources
from crosstrainer_jax.datasets.qevd.sessions import read_frame_times
from crosstrainer_jax.datasets.takes import findings
from crosstrainer_jax.datasets.takes.findings import Finding
from crosstrainer_jax.input.progress import Progress

# Where the archives are, once the licence is accepted at `PAGE`. The addresses are those that public code uses.
PAGE = 'https://www.qualcomm.com/developer/software/qevd-dataset'
_FILES = 'https://softwarecenter.qualcomm.com/api/download/software/dataset/AIDataset/Qualcomm_Exercise_Video_Dataset'
_WORKERS_FOLDER = 'QEVD-FIT-300k-Additional-Labels'
_VOLUMES = ('z01', 'z02', 'zip')
# Sessions in each archive as published, and whether an import needs it.
_SESSIONS = {'QEVD-FIT-COACH': (149, True), 'QEVD-FIT-COACH-Benchmark': (74, True)}


def add_options(parser: argparse.ArgumentParser) -> None:
  """Of the verb `doctor`, for this dataset."""
  parser.add_argument('root', help='folder that the archives are unpacked in')
  parser.add_argument(
    '--part', choices=sources.PARTS, default='coach', help='what is looked for (default: %(default)s)'
  )


def examine(options: argparse.Namespace) -> list[Finding]:
  """The findings."""
  root = pathlib.Path(options.root)
  if options.part == 'coach':
    return [finding for archive in archives.SESSIONS for finding in _sessions(root, archive)]
  return [*_labels(root), *_parts(root), *_clips(root)]


def _fetch(root: pathlib.Path, folder: str, file: str) -> str:
  """The command that downloads a file, going on where it broke off."""
  return f'curl -L -C - --create-dirs -o {_quoted(root / file)} {_FILES}/{folder}/{file}'


def _archive(root: pathlib.Path, archive: str) -> Finding:
  """What is to be done about an archive of one file that is not unpacked."""
  file = root / f'{archive}.zip'
  fetch = _fetch(root, archive, file.name)
  if not file.is_file():
    return Finding('missing', archive, f'neither unpacked nor downloaded; accept the licence at {PAGE}', fetch)
  if not zipfile.is_zipfile(file):
    return Finding('broken', file.name, f'{amount(file.stat().st_size)}, which end early', fetch)
  unpack = f'unzip -n {_quoted(file)} -d {_quoted(root)}'
  return Finding('missing', archive, 'downloaded, not unpacked', unpack)


def _sessions(root: pathlib.Path, archive: str) -> Iterator[Finding]:
  published, needed = _SESSIONS.get(archive, (0, False))
  folder = archives.unpacked(root, archive, archives.LONG_RANGE)
  if folder is None:
    if needed:
      yield _archive(root, archive)
    else:
      yield Finding('absent', archive, 'not there; its feedback is not published')
    return
  file = root / folder / archives.LONG_RANGE
  unpack = f'unzip -o {_quoted(root / archive)}.zip -d {_quoted(root)}'
  if wrong := findings.fault(file):
    yield Finding('broken', f'{folder}/{archives.LONG_RANGE}', wrong, unpack)
    return
  count, whole, gone, broken = 0, [], [], []
  for record in archives.records(file):
    count += 1
    faults = [_session_file(root, folder, record, field) for field in ('long_range_video_file', 'video_timestamps')]
    for path, wrong in faults:
      if wrong == _GONE:
        gone.append(path)
      elif wrong:
        broken.append(f'{path} ({wrong})')
    if not any(wrong for _, wrong in faults):
      whole.append(resolve(root, faults[0][0]))
  expected = f' of {published} as published' if published else ''
  detail = f'{count} sessions{expected}, {len(whole)} complete, {amount(findings.tree_size(whole))}'
  yield Finding('there' if whole else 'missing', folder, detail)
  if gone:
    yield Finding('missing', folder, f'{len(gone)} files (first: {findings.first_of(gone)})', unpack)
  if broken:
    yield Finding('broken', folder, f'{len(broken)} files (first: {findings.first_of(broken)})', unpack)


_GONE = 'not there'


def _session_file(root: pathlib.Path, folder: str, record: Any, field: str) -> tuple[str, str]:
  """(path, what is wrong with it or '') of a file that a session names."""
  value = record.get(field) if isinstance(record, dict) else None
  if not isinstance(value, str) or not value:
    return f'{folder}/{archives.LONG_RANGE}', f'a session without {field}'
  path = archives.beside(folder, value)
  try:
    file = resolve(root, path)
  except ValueError as error:
    return path, str(error)
  if not file.is_file():
    return path, _GONE
  if file.suffix == '.npy':
    try:
      read_frame_times(file)
    except (OSError, ValueError, EOFError) as error:
      return path, str(error)
    return path, ''
  return path, findings.fault(file)


def _labels(root: pathlib.Path) -> Iterator[Finding]:
  for name, folder, use in (
    (archives.LABELS, '', ''),
    (archives.FEEDBACKS, '', 'clips have labels alone without it'),
    (archives.WORKERS, _WORKERS_FOLDER, 'each clip is a participant of its own without it'),
  ):
    path = archives.find(root, name)
    remedy = _fetch(root, folder, name) if folder else ''
    if path is None:
      todo = remedy or _archive(root, 'QEVD-FIT-COACH').remedy
      yield Finding('absent' if use else 'missing', name, f'not there; {use}' if use else 'not there', todo)
    elif wrong := findings.fault(root / path):
      again = f'unzip -o {_quoted(root / "QEVD-FIT-COACH.zip")} -d {_quoted(root)}'
      yield Finding('broken', path, wrong, remedy or again)
    else:
      yield Finding('there', path, amount((root / path).stat().st_size))


def _parts(root: pathlib.Path) -> Iterator[Finding]:
  """The four archives of three volumes each; one folder `short_clips` may stand in for all."""
  together = (root / archives.SHORT_CLIPS).is_dir()
  for part in archives.PARTS:
    if archives.unpacked(root, part):
      yield Finding('there', part, 'unpacked')
      continue
    volumes = [f'{part}.{kind}' for kind in _VOLUMES]
    lacking = [name for name in volumes if not (root / name).is_file() or not (root / name).stat().st_size]
    if not lacking:
      # The last volume holds the directory; 7z finds the others beside it.
      last, joined, here = (_quoted(path) for path in (root / f'{part}.zip', root / f'{part}-joined.zip', root))
      unpack = f'7z x -aos -o{here} {last}'
      other = f'or, without 7z: zip -s 0 {last} --out {joined} && unzip -n {joined} -d {here}'
      yield Finding('missing', part, 'downloaded, not unpacked', f'{unpack}\n{other}')
    elif together and len(lacking) == len(volumes):
      yield Finding('absent', part, f'not there under this name; {archives.SHORT_CLIPS} is')
    else:
      detail = f'{len(lacking)} of {len(volumes)} volumes are missing; accept the licence at {PAGE}'
      yield Finding('missing', part, detail, '\n'.join(_fetch(root, part, name) for name in lacking))


def _clips(root: pathlib.Path) -> Iterator[Finding]:
  """The video of every labelled clip."""
  path = archives.find(root, archives.LABELS)
  if path is None or findings.fault(root / path):
    return
  folders = archives.clip_folders(root)
  count = whole = missing = 0
  gone: list[str] = []
  broken: list[str] = []
  with Progress('looking at clips', None, 'clips') as progress:
    for record in archives.records(root / path):
      video = record.get('video_path') if isinstance(record, dict) else None
      if not isinstance(video, str):
        continue
      count += 1
      name = f'{pathlib.PurePosixPath(video).stem}.mp4'
      file = next((root / folder / name for folder in folders if (root / folder / name).is_file()), None)
      if file is None:
        missing += 1
        if len(gone) < _KEPT:
          gone.append(name)
      elif wrong := findings.fault(file):
        broken.append(f'{file.relative_to(root)} ({wrong})')
      else:
        whole += 1
      progress.advance()
  yield Finding('there' if whole else 'missing', 'short clips', f'{whole} of {count} labelled clips are whole')
  if missing and whole:
    yield Finding('missing', 'short clips', f'{missing} files (first: {", ".join(gone)})')
  if broken:
    remove = '\n'.join(f'rm {_quoted(root / name.partition(" (")[0])}' for name in broken[:_KEPT])
    detail = f'{len(broken)} files (first: {findings.first_of(broken)})'
    yield Finding('broken', 'short clips', detail, f'{remove}\nand unpack their part again')


_KEPT = 3


def _quoted(path: pathlib.Path) -> str:
  return shlex.quote(str(path))
