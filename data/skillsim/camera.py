"""Pinhole cameras. Camera axes are x right, y up, z depth; the world has z up."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Camera:
  """A camera over T frames; a static one has the same pose in all of them.

  position float[T, 3] in metres; axes float[T, 3, 3] whose rows are right, up and depth; focal length in image widths.
  """

  position: np.ndarray
  axes: np.ndarray
  focal: float
  static: bool

  def turn(self, vectors: np.ndarray) -> np.ndarray:
    """World vectors float[T, N, 3] -> camera axes (rotation only)."""
    return vectors @ self.axes.transpose(0, 2, 1)

  def project(self, points: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """World points float[T, N, 3] -> pixels float[T, N, 2] (x right, y down) and depth float[T, N] in metres, at
    least 0.2.
    """
    local = self.turn(points - self.position[:, None])
    depth = np.maximum(local[..., 2], 0.2)
    scale = self.focal * size / depth
    return np.stack([size / 2 + local[..., 0] * scale, size / 2 - local[..., 1] * scale], -1), depth


def look_at(position: np.ndarray, target: np.ndarray, focal: float) -> Camera:
  """Camera at `position` float[T, 3] (or [1, 3]) looking at `target` of the same shape, without roll."""
  forward = target - position
  forward = forward / np.linalg.norm(forward, axis=-1, keepdims=True)
  right = np.stack([forward[:, 1], -forward[:, 0], np.zeros(len(forward))], -1)
  right /= np.linalg.norm(right, axis=-1, keepdims=True) + 1e-9
  axes = np.stack([right, np.cross(right, forward), forward], 1)
  return Camera(position, axes, focal, static=bool(np.ptp(position, 0).max() == 0 and np.ptp(target, 0).max() == 0))


def orbit(target: np.ndarray, azimuth: np.ndarray, elevation: np.ndarray, distance: np.ndarray) -> np.ndarray:
  """Position float[T, 3] at `distance` from `target`, seen under `azimuth` (from x) and `elevation` (radians)."""
  flat = np.cos(elevation)
  offset = np.stack([np.cos(azimuth) * flat, np.sin(azimuth) * flat, np.sin(elevation) + 0 * azimuth], -1)
  position = target + np.asarray(distance)[..., None] * offset
  position[:, 2] = np.maximum(position[:, 2], 0.25)
  return position


def static_view(joints: np.ndarray, azimuth: float, elevation: float, fill: float, focal: float = 1.3) -> Camera:
  """A camera on a tripod that keeps the whole motion `joints` [T, J, 3] in frame; `fill` is the share of the image it
  takes.
  """
  frames = len(joints)
  low, high = joints.min((0, 1)), joints.max((0, 1))
  centre = (low + high) / 2
  radius = np.linalg.norm(joints - centre, axis=-1).max()
  distance = 2 * focal * radius / fill
  target = np.repeat(centre[None], frames, 0)
  full = np.full(frames, 1.0)
  return look_at(orbit(target, azimuth * full, elevation * full, distance * full), target, focal)


def tracking_view(
  joints: np.ndarray,
  azimuth: float,
  elevation: float,
  fill: float,
  drift: np.ndarray,
  height: float,
  focal: float = 1.0,
) -> Camera:
  """A close hand-held camera that follows the pelvis with a lag; `drift` float[3] turns it by radians over the clip."""
  frames = len(joints)
  pelvis = joints[:, 0]
  target = pelvis.copy()
  for t in range(1, frames):
    target[t] = 0.5 * target[t - 1] + 0.5 * pelvis[t]
  target[:, 2] = 0.6 * target[:, 2] + 0.4 * target[:, 2].mean() + 0.05 * height
  phase = np.linspace(-0.5, 0.5, frames)
  shake = 0.03 * np.sin(2 * np.pi * (phase * 3 + drift[2]))
  distance = np.full(frames, 1.15 * height * focal / fill)
  position = orbit(target, azimuth + drift[0] * phase, elevation + drift[1] * phase + shake, distance)
  return look_at(position, target, focal)
