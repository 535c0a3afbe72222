"""Cameras of the embedded world: what stands where in the image."""

import numpy as np
import pytest

from crosstrainer_jax.datasets.skillsim import camera


def person(frames=4):
  """A stick of five points from floor to head, walking along x."""
  joints = np.zeros((frames, 5, 3))
  joints[..., 2] = np.linspace(0, 1.8, 5)
  joints[..., 0] += np.linspace(0, 1, frames)[:, None]
  return joints


def test_the_target_lies_in_the_middle_and_up_is_up():
  joints = person(1)
  view = camera.look_at(np.array([[5.0, 0, 0.9]]), joints[:, 2], focal=1.3)
  pixels, depth = view.project(joints, 64)
  np.testing.assert_allclose(pixels[0, 2], [32, 32], atol=1e-6)
  assert np.all(np.diff(pixels[0, :, 1]) < 0)
  assert depth[0, 2] == pytest.approx(5)


def test_farther_is_smaller():
  joints = person(1)
  sizes = []
  for distance in (3.0, 6.0):
    pixels, _ = camera.look_at(np.array([[distance, 0, 0.9]]), joints[:, 2], 1.3).project(joints, 64)
    sizes.append(np.ptp(pixels[0, :, 1]))
  assert sizes[0] == pytest.approx(2 * sizes[1], rel=0.1)


def test_a_point_behind_the_camera_stays_finite():
  view = camera.look_at(np.array([[5.0, 0, 1]]), np.array([[0.0, 0, 1]]), 1.3)
  pixels, depth = view.project(np.array([[[9.0, 0, 1]]]), 64)
  assert np.isfinite(pixels).all()
  assert depth[0, 0] == pytest.approx(0.2)


def test_a_static_view_keeps_the_whole_motion_in_frame_and_stands_still():
  joints = person()
  view = camera.static_view(joints, azimuth=0.7, elevation=0.2, fill=0.9)
  pixels, _ = view.project(joints, 64)
  assert view.static
  assert pixels.min() >= 0
  assert pixels.max() <= 64


def test_a_tracking_view_follows_the_pelvis():
  joints = person(16)
  view = camera.tracking_view(joints, 0.5, 0.1, 0.9, np.array([0.3, 0, 0]), 1.8)
  pixels, _ = view.project(joints, 64)
  assert not view.static
  assert np.abs(pixels[:, 0, 0] - 32).max() < 24
  assert np.ptp(view.position[:, 0]) > 0.3


def test_orbits_keep_their_distance_and_stay_above_the_floor():
  target = np.array([[0.0, 0, 1]])
  place = camera.orbit(target, np.array([1.0]), np.array([0.3]), np.array([4.0]))
  assert np.linalg.norm(place - target) == pytest.approx(4)
  assert camera.orbit(target, np.array([1.0]), np.array([-1.2]), np.array([4.0]))[0, 2] == 0.25
