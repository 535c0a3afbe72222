"""The how-to world as a folder: what yt-dlp would leave of its videos, and the truth beside it.

    python -m crosstrainer_jax.curate world --output runs/howto

Most videos are whole. Of the others each is wrong in one way, so that what a curation does about it can be counted:

| fate | what lies in the folder | what should become of it |
|---|---|---|
| whole | video, info file, captions | sentences |
| copy | an earlier lesson under another address, darker and compressed harder | duplicates |
| drifting | captions six seconds late, and a transcript that is right | sentences by the transcript |
| longer cut | captions that run on after the end of the video | a reason |
| silent | no captions | a reason |
| foreign | captions in German alone | a reason |
| music | captions of sounds alone | a reason |
| private, gone | an info file or none, and no video | a reason |
| half | a download that has not ended | a reason |
| corrupt | a video file of which the second half is missing | a reason, or the sentences that can be seen |

`truth.jsonl` has a line for each video: its fate, what it is a copy of, and every piece with what is true of it.
"""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from crosstrainer_jax.datasets.howto import film, script, subtitles
from crosstrainer_jax.datasets.howto.script import Lesson
from crosstrainer_jax.datasets.skillsim.world import World
from crosstrainer_jax.input.files import write_atomically
from crosstrainer_jax.input.progress import Progress

TRUTH_FILE, TABLE_FILE = 'truth.jsonl', 'table.csv'
WHOLE, COPY, DRIFTING = 'whole', 'copy', 'drifting'
# Shares of all videos.
FATES = {
  WHOLE: 0.78, COPY: 0.05, DRIFTING: 0.04, 'longer cut': 0.02, 'silent': 0.02, 'foreign': 0.02, 'music': 0.01,
  'private': 0.02, 'gone': 0.02, 'half': 0.01, 'corrupt': 0.01,
}  # fmt: skip
LAG = 6.0
_LICENCE = 'Creative Commons Attribution license (reuse allowed)'


@dataclasses.dataclass(frozen=True)
class Posted:
  """A video of the site: a lesson, what has become of it, and for a copy the video that was there first."""

  name: str
  lesson: Lesson
  fate: str
  form: str
  channel: str
  copy_of: str = ''


def posted(seed: int, count: int) -> list[Posted]:
  """The videos in the order in which they were posted."""
  found: list[Posted] = []
  whole: list[Posted] = []
  fates = list(FATES)
  for index in range(count):
    rng = np.random.default_rng([seed, 9003, index])
    fate = fates[int(rng.choice(len(fates), p=np.array(list(FATES.values())) / sum(FATES.values())))]
    form = str(rng.choice(list(subtitles.FORMS), p=[0.5, 0.2, 0.2, 0.1]))
    name = f'howto{seed:02d}{index:05d}'
    if fate == COPY and not whole:
      fate = WHOLE
    if fate == COPY:
      first = whole[int(rng.integers(len(whole)))]
      found.append(Posted(name, first.lesson, fate, form, f'{first.channel}-fan', first.name))
      continue
    lesson = script.lesson(seed, index)
    found.append(Posted(name, lesson, fate, form, lesson.channel))
    if fate == WHOLE:
      whole.append(found[-1])
  return found


def write(folder: str | os.PathLike[str], seed: int = 0, videos: int = 400) -> list[Posted]:
  """Writes the folder; videos that are there stay as they are, so that a killed run goes on.

  Raises:
    ValueError: fewer than one video, or a folder of another world.
  """
  if videos < 1:
    raise ValueError(f'--videos {videos}: at least 1')
  everything = posted(seed, videos)
  write_posted(folder, seed, everything)
  return everything


def write_posted(folder: str | os.PathLike[str], seed: int, everything: Sequence[Posted]) -> None:
  """Writes the folder of these videos. Raises ValueError for a folder of others."""
  root = pathlib.Path(folder)
  truth = ''.join(json.dumps(_truth(video)) + '\n' for video in everything)
  before = root / TRUTH_FILE
  if before.is_file() and before.read_text(encoding='utf-8') != truth:
    raise ValueError(f'{root} holds another how-to world; name another folder, or delete this one')
  root.mkdir(parents=True, exist_ok=True)
  write_atomically(before, truth)
  rows = [f'{video.name},{video.lesson.sport},{video.lesson.skill}\n' for video in everything]
  write_atomically(root / TABLE_FILE, ''.join(['id,sport,skill\n', *rows]))
  world = World(seed)
  with Progress('how-to world', len(everything), 'videos') as bar:
    for video in everything:
      _post(root, world, video)
      bar.advance()


def _truth(video: Posted) -> dict[str, Any]:
  pieces = [
    {'number': p.number, 'kind': p.kind, 'text': p.text, 'start': round(p.start, 3), 'end': round(p.end, 3),
     'actionable': p.actionable, 'demonstrated': p.demonstrated, 'execution': p.execution, 'fault': p.fault,
     'direction': p.direction} for p in video.lesson.pieces
  ]  # fmt: skip
  return {
    'id': video.name, 'fate': video.fate, 'copy_of': video.copy_of, 'sport': video.lesson.sport,
    'skill': video.lesson.skill, 'channel': video.channel, 'pieces': pieces,
  }  # fmt: skip


def _post(root: pathlib.Path, world: World, video: Posted) -> None:
  """Writes the files of one video; the info file comes last."""
  lesson, fate = video.lesson, video.fate
  stem = f'{lesson.title} [{video.name}]'
  info_file = root / f'{stem}.info.json'
  half = root / f'{stem}.mp4.part'
  if info_file.exists() or half.exists() or fate == 'gone':
    return
  path = root / f'{stem}.mp4'
  if fate not in ('private', 'gone', 'half'):
    partial = root / f'.{video.name}.mp4'
    film.write(partial, world, lesson, *((30, 0.9) if fate == COPY else (14, 1.0)))
    if fate == 'corrupt':
      whole = partial.read_bytes()
      partial.write_bytes(whole[: len(whole) // 2])
    os.replace(partial, path)
  elif fate == 'half':
    half.write_bytes(bytes(4096))
    return
  by, captions = _captions(video)
  for suffix, content in captions.items():
    (root / f'{stem}.{suffix}').write_text(content, encoding='utf-8')
  language = 'de' if fate == 'foreign' else 'en'
  info = {
    'id': video.name,
    'title': lesson.title,
    'channel': video.channel,
    'channel_id': video.channel,
    'webpage_url': f'https://www.youtube.com/watch?v={video.name}',
    'duration': lesson.seconds,
    'language': language,
    'license': _LICENCE if lesson.index % 3 else None,
    'availability': 'private' if fate == 'private' else 'public',
    'subtitles': {language: []} if by == 'people' else {},
    'automatic_captions': {f'{language}-orig': []} if by == 'recognised' else {},
  }
  write_atomically(info_file, json.dumps(info, indent=1))


def _captions(video: Posted) -> tuple[str, dict[str, str]]:
  """Who wrote them, and suffix → content."""
  pieces: Sequence[script.Piece] = video.lesson.pieces
  by, form = subtitles.FORMS[video.form]
  tag = 'en' if by == 'people' else 'en-orig'
  if video.fate in ('silent', 'private'):
    return '', {}
  if video.fate == 'foreign':
    said = [dataclasses.replace(p, text='Heute üben wir das noch einmal ganz langsam.') for p in pieces]
    return by, {f'de.{video.form}': form(said)}
  if video.fate == 'music':
    said = [dataclasses.replace(p, text='[Music]') for p in pieces]
    return 'people', {'en.srt': subtitles.srt(said)}
  if video.fate == DRIFTING:
    return by, {f'{tag}.{video.form}': form(pieces, LAG), 'whisper.json': subtitles.whisper(pieces)}
  if video.fate == 'longer cut':
    return by, {f'{tag}.{video.form}': form(pieces, video.lesson.seconds / 2)}
  return by, {f'{tag}.{video.form}': form(pieces)}


def read_truth(folder: str | os.PathLike[str]) -> dict[str, dict[str, Any]]:
  """What is true of each video, by id; empty where the folder is of no how-to world."""
  path = pathlib.Path(folder) / TRUTH_FILE
  if not path.is_file():
    return {}
  lines = path.read_text(encoding='utf-8').splitlines()
  return {content['id']: content for content in map(json.loads, lines)}
