"""The folder contract: what lies below the root becomes one `Video` each, dead ones too, with a reason.

Nothing is downloaded here. The folder is one that yt-dlp has filled (`data/youtube/README.md` says how), flat or with a
folder for each search of `queries.csv`, which then tells sport, skill and search of what lies in it.
"""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import pathlib
import re
from collections.abc import Iterator, Mapping
from typing import Any

from crosstrainer_jax.curation.taxonomy import Query, read_queries
from crosstrainer_jax.curation.videos import Video
from crosstrainer_jax.datasets.youtube import source as youtube
from crosstrainer_jax.datasets.youtube.folder import Download, downloads, read_info, text
from crosstrainer_jax.datasets.youtube.transcript import spoken_language

STEP = 'videos'
# Reasons.
NOT_THERE = 'listed, and not in the folder: gone, or not yet downloaded'
PRIVATE = 'the site does not show it to everybody'
NO_SPORT = 'nothing tells its sport'
_OPEN = ('', 'public', 'unlisted')
_ID = re.compile(r'[\w-]{11}')


@dataclasses.dataclass(frozen=True)
class Folder:
  """Videos below `root`.

  Attributes:
    sport, skill: of all videos that neither a table nor a search names.
    table: a .csv or .jsonl with `id`, `sport` and, if wished, `skill`; '' for none.
    queries: the file of `curate queries`, whose ids are names of folders below the root; '' for none.

  Raises:
    ValueError: nothing tells the sport.
  """

  root: str
  sport: str = ''
  skill: str = ''
  table: str = ''
  queries: str = ''

  def __post_init__(self) -> None:
    if not (self.sport or self.table or self.queries):
      raise ValueError('nothing tells the sport: give --sport, --table with the sport of each video, or --queries')

  def require(self) -> None:
    """Raises FileNotFoundError where there is no such folder."""
    if not pathlib.Path(self.root).is_dir():
      raise FileNotFoundError(
        f'{self.root}: no such folder; python -m crosstrainer_jax.doctor youtube {self.root} says how to fill it'
      )

  def videos(self) -> Iterator[Video]:
    """All of them: those that are whole in order of their paths, then dead ones, then those that only a table names.

    Raises:
      FileNotFoundError: there is no such folder, table or list.
      ValueError: the table or list cannot be read.
    """
    self.require()
    table = youtube.read_table(self.table) if self.table else {}
    queries = read_queries(self.queries) if self.queries else {}
    names: list[str] = []
    seen: set[str] = set()
    dead: dict[str, Video] = {}
    for download in downloads(self.root, names.append):
      video = self._video(download, table, queries)
      # Of a video that two searches found the first that is whole counts.
      if video is None or video.id in seen:
        continue
      if video.dropped:
        dead.setdefault(video.id, video)
        continue
      seen.add(video.id)
      yield video
    for name, video in dead.items():
      if name not in seen:
        seen.add(name)
        yield video
    for name in names:
      yield _lost(name, youtube.BAD_NAME, 'rename it')
    for name, (sport, skill) in table.items():
      if name not in seen:
        lost = _lost(name, NOT_THERE)
        lost.sport, lost.skill = sport, skill
        yield lost

  def _video(
    self, download: Download, table: Mapping[str, tuple[str, str]], queries: Mapping[str, Query]
  ) -> Video | None:
    """None for a file about a playlist."""
    info, wrong = self._info(download)
    if info.get('_type') in youtube.PLAYLISTS:
      return None
    name = text(info, 'id') or download.bracketed_id
    query = queries.get(pathlib.PurePosixPath(download.stem).parts[0])
    sport, skill = table.get(name) or ((query.sport, query.skill) if query else (self.sport, self.skill))
    length = info.get('duration')
    video = Video(
      id=name,
      path=download.videos[0] if download.videos else '',
      files={
        'stem': download.stem,
        'info': download.info or '',
        'captions': [list(file) for file in download.captions],
        'whisper': download.whisper or '',
      },
      stamp=self._stamp(download),
      url=text(info, 'webpage_url') or _address(name),
      title=text(info, 'title'),
      channel=text(info, 'channel_id', 'uploader_id', 'channel', 'uploader') or name,
      sport=sport,
      skill=skill or self.skill or youtube.UNSORTED,
      query=query.text if query else '',
      licence=text(info, 'license') or youtube.STANDARD_LICENCE,
      availability=text(info, 'availability'),
      last_seen=self._written(download),
      language=spoken_language(info),
      duration=float(length) if isinstance(length, int | float) and not isinstance(length, bool) else None,
    )
    if video.availability not in _OPEN:
      video.drop(STEP, PRIVATE, video.availability)
    elif not download.videos:
      video.drop(STEP, youtube.HALF if download.half else youtube.NO_VIDEO, ', '.join(download.half))
    elif not sport:
      video.drop(STEP, NO_SPORT, download.stem)
    elif wrong:
      video.detail = f'{youtube.BAD_INFO}: {wrong}'  # what can be known without it is enough
    return video

  def _info(self, download: Download) -> tuple[dict[str, Any], str]:
    if not download.info:
      return {}, ''
    try:
      return read_info(self.root, download.info), ''
    except (ValueError, OSError) as error:
      return {}, str(error)

  def _files(self, download: Download) -> list[pathlib.Path]:
    paths = [download.info, *download.videos[:1], *(file.path for file in download.captions), download.whisper]
    return [pathlib.Path(self.root) / path for path in paths if path]

  def _stamp(self, download: Download) -> str:
    stamps = '\n'.join(f'{file}\n{youtube.stamp(file)}' for file in self._files(download))
    return hashlib.sha256(stamps.encode(errors='surrogateescape')).hexdigest()[:16]

  def _written(self, download: Download) -> str:
    times = [file.stat().st_mtime for file in self._files(download) if file.is_file()]
    return datetime.datetime.fromtimestamp(max(times), datetime.UTC).date().isoformat() if times else ''


def _address(name: str) -> str:
  """Of a video of YouTube; '' for what is no id of that site."""
  return f'https://www.youtube.com/watch?v={name}' if _ID.fullmatch(name) else ''


def _lost(name: str, reason: str, detail: str = '') -> Video:
  lost = Video(name, '', {}, '')
  lost.drop(STEP, reason, detail)
  return lost


def download_of(video: Video) -> Download:
  """The files of a video, as the importer of the site's folders knows them."""
  from crosstrainer_jax.datasets.youtube.folder import CaptionFile

  files = video.files
  said = tuple(CaptionFile(path, tag) for path, tag in files['captions'])
  return Download(files['stem'], files['info'] or None, (video.path,), said, files['whisper'] or None, ())
