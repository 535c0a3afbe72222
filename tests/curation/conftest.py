"""A small how-to world: one short video of each fate."""

from __future__ import annotations

import dataclasses
import pathlib

import pytest

from crosstrainer_jax.curation import scan, steps
from crosstrainer_jax.curation.run import Run
from crosstrainer_jax.curation.videos import Segment, Verdict, Video
from crosstrainer_jax.datasets.howto import folder, script

KINDS = ('greeting', 'right', 'mistake', 'advice')


def short_lesson(index: int, kinds: tuple[str, ...] = KINDS) -> script.Lesson:
  """A lesson with a piece of each of these kinds, about other things in each lesson."""
  found: list[script.Piece] = []
  donors = [script.lesson(0, number) for number in range(5 * index, 5 * index + 40)]
  for number, kind in enumerate(kinds):
    piece = next(
      p
      for donor in donors
      for p in donor.pieces
      if p.kind == kind and p.picture != 'right' or p.kind == kind == 'right'
    )
    shift = script.SECONDS * (number - piece.number)
    found.append(dataclasses.replace(piece, number=number, start=piece.start + shift, end=piece.end + shift))
  return dataclasses.replace(donors[0], index=index, pieces=tuple(found))


def videos() -> list[folder.Posted]:
  """Of each fate one, and of whole ones one for each form of captions."""
  found = []
  for number, (fate, form) in enumerate(
    [
      *(('whole', form) for form in ('json3', 'vtt', 'srt', 'srv1')),
      *(
        (fate, 'json3') for fate in ('drifting', 'longer cut', 'silent', 'foreign', 'music', 'private', 'gone', 'half')
      ),
      ('corrupt', 'srt'),
    ]
  ):
    lesson = short_lesson(number)
    found.append(folder.Posted(f'v{number:02d}', lesson, fate, form, lesson.channel))
  copy = dataclasses.replace(found[2], name='v99', fate='copy', channel='a fan', copy_of='v02')
  return [*found, copy]


@pytest.fixture(scope='session')
def howto(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
  """The folder of `videos`. Tests must not change it."""
  place = tmp_path_factory.mktemp('howto') / 'videos'
  folder.write_posted(place, 0, videos())
  return place


@pytest.fixture(scope='session')
def curated(howto: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
  """A finished curation of it by the rules. Tests must not change it."""
  place = tmp_path_factory.mktemp('curated') / 'library'
  table = str(howto / folder.TABLE_FILE)
  settings = steps.Settings(str(howto), windows=steps.look.Windows(longest=4.0))
  Run(place, scan.Folder(str(howto), table=table), settings, test_fraction=0.3).make()
  return place


@pytest.fixture
def video() -> Video:
  """A video of two sentences, which no gate has seen."""
  return Video(
    id='abc',
    path='lesson [abc].mp4',
    files={'stem': 'lesson [abc]', 'info': '', 'whisper': '', 'captions': []},
    stamp='1',
    sport='soccer',
    skill='dribbling',
    channel='coach',
    segments=[
      Segment(0, 'Bend your knees before the touch.', (1.0, 3.0)),
      Segment(1, 'Subscribe to the channel.', (4.0, 6.0), actionable=Verdict(False, 'an advert', 'rules:1')),
    ],
  )
