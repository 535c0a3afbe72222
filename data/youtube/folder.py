"""What yt-dlp leaves in a folder, sorted by video.

A video is a stem, by default `<title> [<id>]`, with files beside each other; folders below are looked through too.

```
<stem>.info.json            what the site says of it           --write-info-json
<stem>.mp4 .mkv .webm …     the video
<stem>.<lang>.json3 .vtt …  captions                           --write-subs --write-auto-subs
<stem>.json                 Whisper's transcript, made afterwards
<stem>.mp4.part, .f137.mp4  a download that has not ended, formats that are not yet merged
```
"""

import json
import os
import pathlib
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from crosstrainer_jax.datasets.manifest.rows import resolve
from crosstrainer_jax.input import captions

VIDEOS = ('.mp4', '.mkv', '.webm', '.mov', '.m4v', '.avi', '.flv', '.ts', '.3gp')
_INFO = '.info.json'
_CAPTIONS = tuple(suffix for suffix in captions.SUFFIXES if suffix != '.json')
_WHISPER = ('json', 'whisper.json')
# Language tags as the site writes them: en, en-US, en-orig, a.en, zh-Hans, en-eEY6OEpapPo.
_TAG = re.compile(r'(?:a\.)?[a-zA-Z]{2,3}(?:[-_][\w-]+)?')
_HALF = re.compile(r'\.(?:part(?:-Frag\d+)?|ytdl)$|\.temp\.\w+$')
_UNMERGED = re.compile(r'\.f(?:\d|hls|dash|http)[\w-]*$')
_ID = re.compile(r'\[([^\[\]]+)\]$')
# Bytes. A video's comments may be in it; a playlist of ten thousand videos is smaller.
_LARGEST_INFO = 256_000_000


class CaptionFile(NamedTuple):
  """`path` relative to the root; `tag` is the language in its name, '' for none."""

  path: str
  tag: str

  @property
  def language(self) -> str:
    """The language alone: `en` of `en-US`, `en-orig` and `a.en`."""
    return language_of(self.tag)


class Download(NamedTuple):
  """The files of one video, by paths relative to the root; `half` are those of a download that has not ended."""

  stem: str
  info: str | None
  videos: tuple[str, ...]
  captions: tuple[CaptionFile, ...]
  whisper: str | None
  half: tuple[str, ...]

  @property
  def bracketed_id(self) -> str:
    """The id that the name ends with, or the name where it has none."""
    name = pathlib.PurePosixPath(self.stem).name
    found = _ID.search(name)
    return found[1] if found else name


def language_of(tag: str) -> str:
  """`en` of `en-US`, `en_GB`, `en-orig` and `a.en`."""
  return re.split('[-_]', tag.removeprefix('a.'))[0].lower()


def downloads(root: str | os.PathLike[str], refuse: Callable[[str], None] = lambda _: None) -> Iterator[Download]:
  """The videos below a folder, in order of their paths; links to folders are not followed.

  Args:
    refuse: told of names that are no UTF-8, which no record can hold.
  """
  base = pathlib.Path(root)
  for folder, inner, names in os.walk(base):
    inner.sort()
    where = pathlib.Path(folder).relative_to(base)
    prefix = '' if where == pathlib.Path('.') else f'{where.as_posix()}/'
    for name in [*inner, *names]:
      if _readable(name) != name:
        refuse(f'{prefix}{_readable(name)}')
    inner[:] = [name for name in inner if _readable(name) == name]
    yield from _sorted_by_stem(prefix, sorted(name for name in names if _readable(name) == name))


def _sorted_by_stem(prefix: str, names: list[str]) -> Iterator[Download]:
  stems = {name.removesuffix(_INFO) for name in names if name.endswith(_INFO)}
  for name in names:
    stem, suffix = os.path.splitext(name)
    if suffix.lower() in VIDEOS and not _HALF.search(name) and not _UNMERGED.search(stem):
      stems.add(stem)
  found: dict[str, list[str]] = {stem: [] for stem in stems}
  for name in names:
    # Where there is no video yet, and nothing told of it, the name is all there is.
    stem = _stem_of(name, stems) or (_bare(name) if _is_of_a_video(name) else '')
    if stem:
      found.setdefault(stem, []).append(name.removeprefix(f'{stem}.'))
  for stem, rests in sorted(found.items()):
    info, whisper, videos, said, half = None, None, [], [], []
    for rest in rests:
      path = f'{prefix}{stem}.{rest}'
      tag, _, suffix = rest.rpartition('.')
      if f'.{rest}' == _INFO:
        info = path
      elif _HALF.search(f'.{rest}') or _UNMERGED.fullmatch(f'.{tag}'):
        half.append(path)
      elif f'.{suffix}'.lower() in VIDEOS and not tag:
        videos.append(path)
      elif f'.{suffix}'.lower() in _CAPTIONS and (not tag or _TAG.fullmatch(tag)):
        said.append(CaptionFile(path, tag))
      elif rest in _WHISPER:
        whisper = path
    if info or videos or said or half:
      yield Download(f'{prefix}{stem}', info, tuple(videos), tuple(said), whisper, tuple(half))


def _stem_of(name: str, stems: set[str]) -> str | None:
  """The longest of the stems that a name begins with: titles have full stops too."""
  places = [place for place, letter in enumerate(name) if letter == '.']
  return next((name[:place] for place in reversed(places) if name[:place] in stems), None)


def _is_of_a_video(name: str) -> bool:
  stem, suffix = os.path.splitext(name)
  return bool(
    _HALF.search(name) or suffix.lower() in _CAPTIONS or (suffix.lower() in VIDEOS and _UNMERGED.search(stem))
  )


def _bare(name: str) -> str:
  """A name without what yt-dlp adds to the stem."""
  while True:
    stem, suffix = os.path.splitext(_HALF.sub('', name) if _HALF.search(name) else name)
    known = suffix.lower() in (*VIDEOS, *_CAPTIONS) or _UNMERGED.fullmatch(suffix)
    if not known and not (suffix and _TAG.fullmatch(suffix[1:])):
      return f'{stem}{suffix}'
    name = stem


def _readable(words: str) -> str:
  """Without halves of characters, which neither UTF-8 nor a record can hold."""
  return words.encode('utf-8', 'replace').decode('utf-8')


def read_info(root: str | os.PathLike[str], path: str) -> dict[str, Any]:
  """What the site says of a video.

  Raises:
    ValueError: the file leaves the root, ends early or is something else.
    OSError: it cannot be read.
  """
  file = resolve(root, path)
  if file.stat().st_size > _LARGEST_INFO:
    raise ValueError(f'larger than {_LARGEST_INFO / 1e6:.0f} MB')
  try:
    content = json.loads(file.read_bytes())
  except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
    raise ValueError(f'not whole, or no JSON ({error}); download it again') from error
  if not isinstance(content, dict):
    raise ValueError('not a JSON object')
  return content


def text(info: Mapping[str, Any], *names: str) -> str:
  """The first of these fields that is there; any may be missing or null."""
  for name in names:
    value = info.get(name)
    if isinstance(value, str) and value.strip():
      return _readable(' '.join(value.split()))
  return ''


def tags(info: Mapping[str, Any], name: str) -> set[str]:
  """The languages of `subtitles` or `automatic_captions`."""
  value = info.get(name)
  return {str(tag) for tag in value} if isinstance(value, dict) else set()
