"""Looks at a folder of Ego-Exo4D: what an import will find, what is missing or half-written, and the command for it."""

import argparse
import hashlib
import pathlib
import shlex
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from crosstrainer_jax.datasets.egoexo4d import source as sources
from crosstrainer_jax.datasets.egoexo4d import streams, taxonomy
from crosstrainer_jax.datasets.egoexo4d.index import Index
from crosstrainer_jax.datasets.manifest.plan import amount
from crosstrainer_jax.datasets.manifest.rows import resolve
from crosstrainer_jax.datasets.takes import findings
from crosstrainer_jax.datasets.takes.feature_files import FAMILIES
from crosstrainer_jax.datasets.takes.findings import Finding
from crosstrainer_jax.input.progress import Progress

# More ids than these make no command that anybody wants to see.
_SHOWN_UIDS = 8
_HASHES = {32: 'md5', 40: 'sha1', 64: 'sha256'}


def add_options(parser: argparse.ArgumentParser) -> None:
  """Of the verb `doctor`, for this dataset."""
  parser.add_argument('root', help='folder that the egoexo command has downloaded to')
  parser.add_argument(
    '--sports', default=','.join(taxonomy.PAPER), help='scenarios that are looked for (default: %(default)s)'
  )
  parser.add_argument('--all_drills', action='store_true', help='also drills that the paper does not use')
  parser.add_argument(
    '--features', choices=sorted(FAMILIES), default='', help='look for these features, not for videos'
  )
  parser.add_argument('--missing', metavar='FILE', help='write the uids of takes that lack something, for the command')
  parser.add_argument('--manifest', help='the manifest.json of a part of the release (default: ROOT/manifest.json)')
  parser.add_argument('--checksums', action='store_true', help='read every file that the manifest has a checksum of')


def examine(options: argparse.Namespace) -> list[Finding]:
  """The findings. Raises FileNotFoundError and ValueError as `sources.EgoExo4D` does."""
  sports = tuple(sport.strip().lower() for sport in options.sports.split(',') if sport.strip())
  found = sources.EgoExo4D(options.root, sports, options.all_drills, options.features)
  root = pathlib.Path(found.root)
  report = list(_annotations(root))
  if findings.well(report):
    try:
      report += look_at(_needed(found, root), found.features, root, options.missing)
    except streams.BrokenFile as error:
      report.append(Finding('broken', 'annotations', str(error)))
  manifest = pathlib.Path(options.manifest or root / 'manifest.json')
  if manifest.is_file():
    report += _against(manifest, root, options.checksums)
  elif options.manifest or options.checksums:
    report.append(Finding('missing', str(manifest), 'sizes and checksums cannot be compared without it'))
  return report


def _annotations(root: pathlib.Path) -> Iterator[Finding]:
  egoexo = command(root, '').rstrip()
  annotations = root / 'annotations'
  needed = [(root / 'takes.json', 'metadata'), (annotations / 'splits.json', 'annotations')]
  commentary = [annotations / f'expert_commentary_{split}.json' for split in sources.ANNOTATED]
  folders = annotations / 'expert_commentary'
  if not folders.is_dir():
    needed += [(file, 'annotations') for file in commentary]
  useful = [(file, 'annotations') for file in commentary if folders.is_dir()]
  for name, splits in (('demonstrator', sources.SPLITS), ('demonstration', sources.ANNOTATED)):
    useful += [(annotations / f'proficiency_{name}_{split}.json', 'annotations') for split in splits]
  for files, state in ((needed, 'missing'), (useful, 'absent')):
    for file, part in files:
      name = file.relative_to(root).as_posix()
      if not file.is_file():
        yield Finding('missing' if state == 'missing' else 'absent', name, 'not there', f'{egoexo} {part}')
      elif wrong := findings.fault(file):
        yield Finding('broken', name, wrong, f'rm {_quoted(file)} && {egoexo} {part}')
      else:
        yield Finding('there', name, amount(file.stat().st_size))
  count = sum(1 for _ in folders.glob('*/*/data.json')) if folders.is_dir() else 0
  detail = f'{count} folders' if count else 'drawings and ratings are only there; 42 GB'
  remedy = '' if count else f'{egoexo} expert_commentary'
  yield Finding('there' if count else 'absent', 'annotations/expert_commentary/', detail, remedy)


def look_at(
  needed: Iterable[tuple[str, Sequence[str]]], features: str, root: pathlib.Path, missing_file: str | None
) -> list[Finding]:
  """The files of every view of takes.

  Args:
    needed: uid, or name, of a take, and the paths of its views.
    features: the family that is looked for, '' for videos.
    missing_file: where to write the uids of takes that lack something.
  """
  part = f'features/{features}' if features else 'downscaled_takes/448'
  whole: list[pathlib.Path] = []
  gone: list[str] = []
  broken: dict[str, str] = {}
  refused: list[str] = []
  uids: dict[str, None] = {}
  takes = complete = 0
  with Progress('looking at views', None, 'takes') as progress:
    for uid, paths in needed:
      takes += 1
      lacking = 0
      for path in paths:
        try:
          file = resolve(root, path)
        except ValueError as error:
          refused.append(str(error))
          continue
        if not file.is_file():
          gone.append(path)
        elif wrong := findings.fault(file):
          broken[path] = wrong
        else:
          whole.append(file)
          continue
        lacking += 1
        uids[uid] = None
      complete += not lacking
      progress.advance()
  kind = 'features' if features else 'videos'
  report = [
    Finding(
      'there' if whole else 'missing',
      f'{kind} of {takes} takes with commentary',
      f'{complete} takes complete, {len(whole)} files, {amount(findings.tree_size(whole))}',
    )
  ]
  if missing_file:
    pathlib.Path(missing_file).write_text('\n'.join(uids) + '\n')
  fetch = _fetch(root, part, list(uids), missing_file)
  if gone:
    report.append(Finding('missing', kind, f'{len(gone)} files (first: {findings.first_of(gone)})', fetch))
  if broken:
    first = findings.first_of([f'{path} ({why})' for path, why in broken.items()])
    remove = '\n'.join(f'rm {_quoted(root / path)}' for path in list(broken)[:_SHOWN_UIDS])
    report.append(Finding('broken', kind, f'{len(broken)} files (first: {first})', f'{remove}\n{fetch}'))
  if refused:
    detail = f'{len(refused)} paths that lead out of {root} (first: {findings.first_of(refused)})'
    report.append(Finding('broken', kind, detail, 'give the folder that the files lie in as the root, without links'))
  return report


def _needed(source: sources.EgoExo4D, root: pathlib.Path) -> Iterator[tuple[str, Sequence[str]]]:
  """(uid, paths of the views) of each take that has commentary."""
  with tempfile.TemporaryDirectory() as folder:
    index = Index(root, pathlib.Path(folder) / 'index.sqlite', source.sports, source.all_drills)
    try:
      for entry in index.takes():
        uid, name = str(entry.get('take_uid') or ''), str(entry.get('take_name') or '')
        spoken = root / 'annotations' / 'expert_commentary' / sources.one_name(name)
        if index.commentary(uid) or spoken.is_dir():
          yield uid, [path for _, path in source.views(entry, uid, lambda _: None)]
    finally:
      index.close()


def _fetch(root: pathlib.Path, part: str, uids: list[str], file: str | None) -> str:
  """The command that downloads what these takes lack."""
  some = f'{command(root, part)} --uids'
  if file:
    return f'{some} $(cat {_quoted(file)})'
  if len(uids) <= _SHOWN_UIDS:
    return f'{some} {" ".join(map(_quoted, uids))}'
  return f'{some} $(cat FILE)\nwith FILE written by this doctor: --missing FILE ({len(uids)} takes)'


def command(root: pathlib.Path, part: str) -> str:
  """That downloads a part of the release."""
  return f'egoexo -o {_quoted(root)} -y --parts {part}'


def _quoted(name: str | pathlib.Path) -> str:
  """For a shell: names come from files that others wrote."""
  return shlex.quote(str(name))


def _against(manifest: pathlib.Path, root: pathlib.Path, checksums: bool) -> list[Finding]:
  """Sizes, and checksums, of the files that a manifest names and that are there."""
  compared = unknown = 0
  wrong: list[str] = []
  with Progress('comparing with the manifest', None, 'files') as progress:
    for entry in streams.entries(manifest):
      for item in entry.get('paths') or []:
        file = _named(root, item.get('relative_path'))
        if file is None:
          continue
        compared += 1
        progress.advance()
        size = item.get('size')
        if isinstance(size, int | float) and file.stat().st_size != int(size):
          wrong.append(f'{item["relative_path"]} ({file.stat().st_size} of {int(size)} bytes)')
        elif checksums:
          same = _same(file, str(item.get('checksum') or ''))
          unknown += same is None
          if same is False:
            wrong.append(f'{item["relative_path"]} (another checksum)')
  what = f'{manifest.name}: sizes{" and checksums" if checksums else ""}'
  kinds = f', {unknown} with a checksum of a kind that is not known' if unknown else ''
  if wrong:
    return [
      Finding('broken', what, f'{len(wrong)} of {compared} files differ (first: {findings.first_of(wrong)}){kinds}')
    ]
  return [Finding('there', what, f'{compared} files are as it says{kinds}')]


def _named(root: pathlib.Path, path: Any) -> pathlib.Path | None:
  """A file of the manifest that is there."""
  try:
    file = resolve(root, str(path))
  except ValueError:
    return None
  return file if path and file.is_file() else None


def _same(file: pathlib.Path, checksum: str) -> bool | None:
  """Whether the file has this checksum; None for a kind that cannot be told by its length."""
  kind = _HASHES.get(len(checksum)) if all(c in '0123456789abcdefABCDEF' for c in checksum) else None
  if kind is None:
    return None
  with file.open('rb') as content:
    return hashlib.file_digest(content, kind).hexdigest() == checksum.lower()
