"""The renderer: the figure is where its joints are, in its own colours, the same every time."""

import numpy as np
import pytest

from crosstrainer_jax.datasets.skillsim import generic, render
from crosstrainer_jax.datasets.skillsim.camera import static_view


@pytest.fixture(scope='module')
def drawn():
  joints = generic.joints(3, 5)
  rng = np.random.default_rng(0)
  look, scene = render.random_look(rng), render.random_scene(rng, 'none')
  view = static_view(joints, 0.6, 0.1, 0.9)
  return joints, view, look, scene, render.draw(joints, view, look, scene)


def test_shape_and_type(drawn):
  joints, *_, frames = drawn
  assert frames.shape == (len(joints), render.SIZE, render.SIZE, 3)
  assert frames.dtype == np.uint8


def test_the_figure_covers_its_joints(drawn):
  joints, view, look, scene, frames = drawn
  far = joints + np.array([0, 0, 100.0])
  empty = render.draw(far, view, look, scene)
  pixels = view.project(joints, render.SIZE)[0]
  hit = []
  for frame, background, points in zip(frames, empty, pixels, strict=True):
    changed = np.abs(frame.astype(int) - background.astype(int)).sum(-1) > 60
    for x, y in points.round().astype(int):
      if 1 <= x < render.SIZE - 1 and 1 <= y < render.SIZE - 1:
        hit.append(changed[y - 1 : y + 2, x - 1 : x + 2].any())
  assert np.mean(hit) > 0.8


def test_drawing_is_deterministic(drawn):
  joints, view, look, scene, frames = drawn
  np.testing.assert_array_equal(render.draw(joints, view, look, scene), frames)


def test_views_are_drawn_one_by_one(drawn):
  joints, view, look, scene, frames = drawn
  other = static_view(joints, 2.0, 0.1, 0.9)
  both = render.draw_views(joints, [view, other], look, scene)
  np.testing.assert_array_equal(both[0], frames)
  assert (both[1] != frames).any()


def test_the_implement_shows_where_it_is(drawn):
  joints, view, look, *_ = drawn
  scene = render.random_scene(np.random.default_rng(1), 'ball')
  place = joints[:, 0] + np.array([0, 0, 0.9])
  with_ball = render.draw(joints, view, look, scene, place)
  without = render.draw(joints, view, look, scene, place + np.array([0, 0, 100.0]))
  x, y = view.project(place[:, None], render.SIZE)[0][:, 0].mean(0)
  rows, columns = np.nonzero((with_ball != without).any((0, 3)))
  assert abs(columns.mean() - x) < 6
  assert abs(rows.mean() - y) < 6
