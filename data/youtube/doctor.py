"""Looks at a folder of yt-dlp: which videos an import will find, which are half there, and the command for the rest."""

import argparse
import pathlib
import shlex
from collections.abc import Sequence

from crosstrainer_jax.datasets.manifest.plan import amount
from crosstrainer_jax.datasets.takes import findings
from crosstrainer_jax.datasets.takes.findings import Finding
from crosstrainer_jax.datasets.youtube.folder import Download, downloads, read_info, text
from crosstrainer_jax.input.progress import Progress

# More addresses than these make no command that anybody wants to see.
_SHOWN = 8
_PLAYLISTS = ('playlist', 'multi_video')


def add_options(parser: argparse.ArgumentParser) -> None:
  """Of the verb `doctor`, for this dataset."""
  parser.add_argument('root', help='folder that yt-dlp has downloaded to, or is to')
  parser.add_argument('--languages', default='en', help='of the captions, by commas (default: %(default)s)')


def command(root: pathlib.Path, languages: Sequence[str], addresses: Sequence[str], videos: bool = True) -> str:
  """The command of yt-dlp that makes a folder which can be imported."""
  wanted = ','.join(f'{language}.*' for language in languages)
  options = [
    '-o',
    f'{root}/%(title).150B [%(id)s].%(ext)s',
    *(
      ['-f', 'bv*[height<=720]+ba/b[height<=720]/b', '--merge-output-format', 'mp4'] if videos else ['--skip-download']
    ),
    '--write-info-json',
    '--no-write-playlist-metafiles',
    '--write-subs',
    '--write-auto-subs',
    '--sub-format',
    'json3/srv3/vtt/best',
    '--sub-langs',
    f'{wanted},-live_chat',
  ]
  return ' '.join(['yt-dlp', *map(shlex.quote, options), '--', *map(shlex.quote, addresses or ['URL'])])


def examine(options: argparse.Namespace) -> list[Finding]:
  """The findings."""
  root = pathlib.Path(options.root)
  languages = [part.strip().lower() for part in options.languages.split(',') if part.strip()]
  if not root.is_dir():
    return [Finding('missing', str(root), 'no such folder; fill it', command(root, languages, []))]
  whole: list[pathlib.Path] = []
  half: list[tuple[str, str]] = []  # address, what is wrong
  silent: list[tuple[str, str]] = []  # address, video
  broken: list[str] = []
  bare, playlists = 0, 0
  with Progress('looking at videos', None, 'videos') as progress:
    for download in downloads(root, lambda path: broken.append(f'{path} (a name that is no UTF-8)')):
      progress.advance()
      info, wrong = _info(root, download)
      if wrong:
        broken.append(f'{download.info} ({wrong})')
      if info.get('_type') in _PLAYLISTS:
        playlists += 1
        continue
      address = (
        text(info, 'webpage_url') or f'https://www.youtube.com/watch?v={text(info, "id") or download.bracketed_id}'
      )
      if not download.videos:
        lies, state = (download.half[0], 'half') if download.half else (download.stem, 'no video')
        half.append((address, f'{lies} ({state})'))
        continue
      if fault := findings.fault(root / download.videos[0]):
        half.append((address, f'{download.videos[0]} ({fault})'))
        continue
      whole.append(root / download.videos[0])
      bare += download.info is None
      if not download.whisper and not any(file.language in (*languages, '') for file in download.captions):
        silent.append((address, download.videos[0]))
  detail = f'{len(whole)} whole, {amount(findings.tree_size(whole))}; {len(whole) - len(silent)} with captions'
  report = [Finding('there' if whole else 'missing', 'videos', detail, '' if whole else command(root, languages, []))]
  if half:
    detail = f'{len(half)} (first: {findings.first_of([wrong for _, wrong in half])})'
    report.append(Finding('broken', 'videos that are not whole', detail, command(root, languages, _shown(half))))
  if silent:
    first = findings.first_of([path for _, path in silent])
    detail = f'{len(silent)} (first: {first}); fetch them, or let Whisper listen'
    file = root / silent[0][1]
    whisper = f'whisper {shlex.quote(str(file))} --output_format json --output_dir {shlex.quote(str(file.parent))}'
    remedy = f'{command(root, languages, _shown(silent), videos=False)}\n{whisper}'
    report.append(Finding('absent', 'videos without captions', detail, remedy))
  if bare:
    report.append(Finding('absent', 'info.json', f'{bare} videos without: each is a channel of its own'))
  if playlists:
    report.append(Finding('absent', 'playlists', f'{playlists} files tell of playlists, and are passed over'))
  if broken:
    report.append(Finding('broken', 'other files', f'{len(broken)} (first: {findings.first_of(broken)})'))
  return report


def _shown(found: Sequence[tuple[str, str]]) -> list[str]:
  return [*(address for address, _ in found[:_SHOWN]), *(['…'] if len(found) > _SHOWN else [])]


def _info(root: pathlib.Path, download: Download) -> tuple[dict[str, object], str]:
  if download.info is None:
    return {}, ''
  try:
    return read_info(root, download.info), ''
  except (ValueError, OSError) as error:
    return {}, str(error)
