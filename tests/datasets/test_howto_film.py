import dataclasses

import numpy as np
import pytest

from crosstrainer_jax.datasets.howto import film, script
from crosstrainer_jax.datasets.skillsim.world import World
from crosstrainer_jax.input import video

WORLD = World(0)
LESSON = script.lesson(0, 2)


def piece(picture, **more):
  return script.Piece(3, 'right', picture, 'Bend your knees.', 12.2, 14.0, **more)


def test_a_mistake_differs_from_the_right_way_and_both_move():
  right = film.frames(WORLD, LESSON, piece('right'))
  wrong = film.frames(WORLD, LESSON, piece('mistake', fault='knee bend', direction='too deep', severity=1.0))
  assert right.shape == wrong.shape == (16, 64, 64, 3)
  assert np.abs(right.astype(int) - wrong).mean() > 1
  assert np.abs(np.diff(right.astype(int), axis=0)).mean() > 1


def test_who_talks_hardly_moves_and_a_card_not_at_all():
  assert not np.diff(film.frames(WORLD, LESSON, piece('card')).astype(int), axis=0).any()
  talking = film.frames(WORLD, LESSON, piece('talking'))
  assert np.diff(talking.astype(int), axis=0).any()


def test_a_lesson_is_a_video_of_its_pieces(tmp_path):
  short = dataclasses.replace(LESSON, pieces=LESSON.pieces[:2])
  film.write(tmp_path / 'a.mp4', WORLD, short)
  assert video.probe(tmp_path / 'a.mp4').duration == pytest.approx(8.0)
  seen = video.read_frames(tmp_path / 'a.mp4', [4.0 + n / 4 for n in range(16)], 64)
  meant = film.frames(WORLD, short, short.pieces[1])
  assert np.abs(seen.astype(int) - meant).mean() < 6
