"""Generic motion: people who move at random, in no sport, to pretrain the video encoder on.

Every clip draws smooth curves for pelvis, trunk, head, hands and feet, a way to stand or travel, and a few events
(abrupt stop, pause, jump, contact with a random implement, sway). It shares body, camera and renderer with the sports
and imports nothing of them.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from crosstrainer_jax.datasets.skillsim import render
from crosstrainer_jax.datasets.skillsim.body import (
  ANKLE_HEIGHT,
  INDEX,
  JOINTS,
  REFERENCE,
  Motion,
  Placement,
  facing,
  pose,
  random_body,
  rotation,
)
from crosstrainer_jax.datasets.skillsim.camera import Camera, static_view, tracking_view

SECONDS = render.FRAMES / render.FPS
TIMES = np.arange(render.FRAMES) / render.FPS
_MODES = ('stand', 'step', 'travel', 'wall', 'floor', 'inverted')
_MODE_ODDS = (0.32, 0.24, 0.24, 0.12, 0.05, 0.03)
_SIDES = np.array([1.0, -1.0])

TARGET_NAMES: list[str] = [
  *(f'camera {joint} {axis}' for joint in JOINTS for axis in ('right', 'up', 'depth')),
  *(f'body {joint} {axis}' for joint in JOINTS for axis in ('forward', 'left', 'up')),
  *(f'camera implement {axis}' for axis in ('right', 'up', 'depth')),
  'contact',
  'vertical velocity',
  'horizontal speed',
  *(f'pixel {joint} {axis}' for joint in JOINTS for axis in ('x', 'y')),
]


def _curves(rng: np.random.Generator, tau: np.ndarray, low: npt.ArrayLike, high: npt.ArrayLike) -> np.ndarray:
  """Smooth random curves float[T, K] within low..high [K]: values held and eased between 2-6 random key times."""
  lower, upper = np.asarray(low, float), np.asarray(high, float)
  keys = int(rng.integers(2, 7))
  times = np.sort(rng.uniform(-0.5, SECONDS + 0.5, keys))
  centre = rng.uniform(lower, upper)
  spread = rng.uniform(0.1, 1.0) * (upper - lower)
  values = np.clip(centre + spread * rng.uniform(-1, 1, (keys, len(lower))), lower, upper)
  right = np.clip(np.searchsorted(times, tau), 1, keys - 1)
  share = np.clip((tau - times[right - 1]) / np.maximum(times[right] - times[right - 1], 0.15), 0, 1)[:, None]
  ease = share * share * (3 - 2 * share)
  return values[right - 1] * (1 - ease) + values[right] * ease


def _warp(rng: np.random.Generator) -> np.ndarray:
  """Body time float[T]: plain, with an abrupt stop, with a pause, or with a rush."""
  kind, start = rng.integers(6), rng.uniform(0.8, 3.2)
  if kind == 0:
    return np.minimum(TIMES, start)
  if kind == 1:
    length = rng.uniform(0.4, 1.2)
    return np.where(start > TIMES, TIMES, np.maximum(start, TIMES - length))
  if kind == 2:
    return np.where(start > TIMES, TIMES, start + (TIMES - start) * rng.uniform(1.4, 2.5))
  return TIMES * rng.uniform(0.6, 1.5)


def _hands(rng: np.random.Generator, tau: np.ndarray, elbows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Wrist offsets from the shoulders float[T, 2, 3] in the trunk frame, and elbow swivel float[T, 2]."""
  wide = _curves(rng, tau, [-1.4, -0.5, 0.15] * 2, [1.3, 1.75, 0.98] * 2).reshape(-1, 2, 3)
  if rng.uniform() < 0.35:  # both hands do the same
    wide[:, 1] = wide[:, 0]
  elevation, azimuth, radius = wide[..., 0], wide[..., 1] * _SIDES, wide[..., 2] * REFERENCE.arm
  flat = np.cos(elevation) * radius
  return np.stack([np.cos(azimuth) * flat, np.sin(azimuth) * flat, np.sin(elevation) * radius], -1), elbows


def _feet(
  rng: np.random.Generator, tau: np.ndarray, mode: str, pelvis: np.ndarray, yaw: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  """Ankles float[T, 2, 3] on the stage and toe pitch float[T, 2]."""
  frames = len(tau)
  width, fore = rng.uniform(-0.03, 0.2), rng.uniform(-0.3, 0.3) * rng.integers(0, 2)
  ankle = np.empty((frames, 2, 3))
  pitch = np.zeros((frames, 2))
  home = np.array([[fore / 2, width, ANKLE_HEIGHT], [-fore / 2, -width, ANKLE_HEIGHT]])
  ankle[:] = home
  if mode == 'travel':
    stride, rate, lift = rng.uniform(0.08, 0.3), rng.uniform(0, 1.0), rng.uniform(0.03, 0.25)
    travelled = np.cumsum(np.linalg.norm(np.diff(pelvis[:, :2], axis=0, prepend=pelvis[:1, :2]), axis=-1))
    phase = 2 * np.pi * ((rate * tau + travelled / (3 * stride))[:, None] + np.array([0.0, 0.5]))
    forward = np.stack([np.cos(yaw), np.sin(yaw)], -1)[:, None]
    left = np.stack([-np.sin(yaw), np.cos(yaw)], -1)[:, None]
    swing = stride * np.cos(phase)[..., None] * forward + (_SIDES * max(width, 0.03))[None, :, None] * left
    ankle[..., :2] = pelvis[:, None, :2] + swing
    ankle[..., 2] = ANKLE_HEIGHT + lift * np.maximum(0, -np.sin(phase))
    pitch = 0.8 * np.maximum(0, -np.sin(phase + 0.6))
  elif mode in ('step', 'wall'):
    high = 0.5 if mode == 'wall' else 0.35
    moves = _curves(rng, tau, [-0.3, -0.15, 0] * 2, [0.45, 0.15, high] * 2).reshape(frames, 2, 3)
    free = rng.integers(2)
    other = mode == 'wall' and rng.uniform() < 0.7
    ankle[:, free] += moves[:, free]
    if other:
      ankle[:, 1 - free] += 0.6 * moves[:, 1 - free]
    pitch[:, free] = 0.6 * rng.uniform(-1, 1) * np.clip(moves[:, free, 2] / 0.3, 0, 1)
  return ankle, pitch


def _jump(rng: np.random.Generator) -> np.ndarray:
  """Height of a jump float[T] in standing heights (often none)."""
  if rng.uniform() > 0.3:
    return np.zeros(len(TIMES))
  height, start = rng.uniform(0.05, 0.3), rng.uniform(0.3, 3.0)
  length = 2 * np.sqrt(2 * height * 1.75 / 9.81)
  share = np.clip((TIMES - start) / length, 0, 1)
  return 4 * height * share * (1 - share)


def motion(rng: np.random.Generator) -> Motion:
  """One random motion in the stage frame."""
  mode = _MODES[rng.choice(len(_MODES), p=_MODE_ODDS)]
  tau = _warp(rng)
  frames = len(tau)
  names = ('x', 'y', 'bend', 'yaw', 'lean', 'side', 'twist', 'head yaw', 'head pitch', 'head roll')
  low = np.array([-0.15, -0.15, 0.45, -0.5, -0.35, -0.4, -0.7, -0.9, -0.8, -0.4])
  high = np.array([0.15, 0.15, 1.0, 0.5, 1.1, 0.4, 0.7, 0.9, 1.0, 0.4])
  if mode == 'travel':
    low[2], high[3], low[3] = 0.75, 1.5, -1.5
  c = dict(zip(names, _curves(rng, tau, low, high).T, strict=True))
  swivel = _curves(rng, tau, [-0.2, -0.2, 0.0, 0.0, -0.1, -0.1], [0.7, 0.7, 0.9, 0.9, 0.8, 0.8])
  sway = rng.uniform(0, 0.25) * (rng.uniform() < 0.25) * np.sin(2 * np.pi * rng.uniform(0.5, 1.6) * tau)
  if mode == 'travel':
    reach = rng.uniform(0.2, 1.0)
    c['x'], c['y'] = 0.3 * np.stack([c['x'], c['y']]) + _curves(rng, tau, [-reach] * 2, [reach] * 2).T
  leg = 0.02 + REFERENCE.leg * c['bend']
  pelvis = np.stack([c['x'], c['y'], ANKLE_HEIGHT + leg], -1)
  lean, side = c['lean'], c['side'] + sway
  ankle, toe_pitch = _feet(rng, tau, mode, pelvis, c['yaw'])
  offsets, elbow_out = _hands(rng, tau, swivel[:, :2])
  if mode == 'wall':
    pelvis[:, 2] += 0.6 * ankle[..., 2].mean(1)
    lean = 0.3 * lean
  elif mode == 'floor':
    lean = np.clip(lean + 0.9, 0.8, 1.7)
    pelvis[:, 2] = np.minimum(pelvis[:, 2], 0.36)
  elif mode == 'inverted':
    lean = np.pi + 0.5 * lean * np.sin(tau)
    pelvis[:, 2] = 0.62 + 0.1 * (c['bend'] - 0.8)
  jump = _jump(rng)
  pelvis[:, 2] += jump
  ankle[..., 2] += jump[:, None]
  trunk = rotation(c['yaw'] + c['twist'], lean, side)
  shoulders = pelvis[:, None] + np.einsum('tij,sj->tsi', trunk, np.array([[0, 0.115, 0.27], [0, -0.115, 0.27]]))
  wrist = shoulders + np.einsum('tij,tsj->tsi', trunk, offsets)
  if mode in ('wall', 'floor', 'inverted'):
    wrist = _planted_hands(rng, mode, wrist, shoulders, tau)
  if mode == 'inverted':
    ankle = pelvis[:, None] + np.stack(
      [0.25 * (swivel[:, 2:4] - 0.4), 0.1 * _SIDES + 0 * swivel[:, 2:4], 0.3 + 0.18 * swivel[:, 4:6]], -1
    )
  return Motion(
    pelvis=pelvis,
    yaw=c['yaw'],
    lean=lean,
    side=side,
    twist=c['twist'],
    head_yaw=c['head yaw'],
    head_pitch=c['head pitch'] + (lean if mode == 'inverted' else 0.3 * lean),
    head_roll=c['head roll'] + 0.5 * side,
    wrist=wrist,
    ankle=ankle,
    toe_yaw=swivel[:, 4:6] * 0.8,
    toe_pitch=toe_pitch + np.zeros((frames, 2)),
    knee_out=swivel[:, 2:4] * 0.6,
    elbow_out=elbow_out,
  )


def _planted_hands(
  rng: np.random.Generator, mode: str, wrist: np.ndarray, shoulders: np.ndarray, tau: np.ndarray
) -> np.ndarray:
  """Hands that keep to places on a wall in front or on the floor; sometimes only one of them does."""
  wrist = wrist.copy()
  for side in (0, 1):
    if rng.uniform() < 0.2:
      continue
    shift = _curves(rng, tau, [-0.1, -0.2, -0.2], [0.1, 0.2, 0.2])
    place = shoulders.mean(0)[side] + shift
    if mode == 'wall':
      wrist[:, side] = place + np.array([0.2, 0.05 * _SIDES[side], 0.2])
    else:
      wrist[:, side] = np.stack([place[:, 0] + 0.1, place[:, 1], np.full(len(tau), 0.03)], -1)
  return wrist


def _implement(rng: np.random.Generator, joints: np.ndarray, height: float) -> tuple[np.ndarray, np.ndarray]:
  """A thing that arrives, meets a hand, a foot, the head or both hands, and leaves: float[T, 3] metres and contact
  float[T].
  """
  part = ('left wrist', 'right wrist', 'left toe', 'right toe', 'head', 'hands', 'hands', 'left knee')[rng.integers(8)]
  if part == 'hands':
    touch = (joints[:, INDEX['left wrist']] + joints[:, INDEX['right wrist']]) / 2
  else:
    touch = joints[:, INDEX[part]]
  first = rng.uniform(-0.5, 3.6)
  last = first + (rng.uniform(0.1, 0.3) if rng.uniform() < 0.5 else rng.uniform(0.3, 4))
  held = (first <= TIMES) & (last > TIMES)
  if not held.any():
    held[int(np.clip(np.rint(first * render.FPS), 0, render.FRAMES - 1))] = True
  begin, end = np.flatnonzero(held)[[0, -1]]
  arrive, leave = (rng.normal(0, 1.2, 3) * height * 0.6 for _ in range(2))
  if rng.uniform() < 0.3:
    arrive = np.zeros(3)
  if rng.uniform() < 0.3:
    leave = np.zeros(3)
  fall = 0.5 * 9.81 * 0.3 * (rng.uniform() < 0.5)
  path = touch.astype(float)
  before = (TIMES[:begin] - TIMES[begin])[:, None]
  after = (TIMES[end + 1 :] - TIMES[end])[:, None]
  path[:begin] = touch[begin] + arrive * before
  path[end + 1 :] = touch[end] + leave * after - np.array([0, 0, fall]) * after**2
  path[:, 2] = np.maximum(path[:, 2], 0.05 * height)
  return path, held.astype(np.float32)


def cameras(rng: np.random.Generator, joints: np.ndarray, height: float) -> list[Camera]:
  """A close moving camera and two static ones, from anywhere around."""
  azimuth = rng.uniform(0, 2 * np.pi, 3)
  elevation = rng.uniform(-0.1, 0.45, 3)
  fill = rng.uniform([0.75, 0.75, 0.75], [1.2, 1.05, 1.05])
  drift = rng.uniform(-1, 1, 3) * np.array([0.8, 0.2, 1])
  return [
    tracking_view(joints, azimuth[0], elevation[0], fill[0], drift, height, rng.uniform(0.8, 1.2)),
    static_view(joints, azimuth[1], elevation[1], fill[1], rng.uniform(1.0, 1.8)),
    static_view(joints, azimuth[2], elevation[2], fill[2], rng.uniform(1.0, 1.8)),
  ]


def targets(
  joints: np.ndarray, implement: np.ndarray, contact: np.ndarray, views: Sequence[Camera], height: float
) -> np.ndarray:
  """float32[V, T, K], named by `TARGET_NAMES`; lengths in body heights, speeds in body heights per second,
  pixels in image widths from the upper left corner."""
  centred = (joints - joints[:, :1]) / height
  yaw = facing(joints)
  zero = np.zeros_like(yaw)
  upright = centred @ rotation(yaw, zero, zero)
  velocity = np.gradient(joints[:, 0], 1 / render.FPS, axis=0) / height
  away = ((implement - joints[:, 0]) / height)[:, None]
  frames = len(joints)
  rows = [
    np.concatenate(
      [
        view.turn(centred).reshape(frames, -1),
        upright.reshape(frames, -1),
        view.turn(away)[:, 0],
        contact[:, None],
        velocity[:, 2:],
        np.linalg.norm(velocity[:, :2], axis=-1, keepdims=True),
        view.project(joints, 1)[0].reshape(frames, -1),
      ],
      -1,
    )
    for view in views
  ]
  return np.stack(rows).astype(np.float32)


def joints(seed: int, index: int) -> np.ndarray:
  """Joints float32[T, J, 3] of one clip, in metres, without rendering it."""
  return _sample(seed, index)[1]


def _sample(seed: int, index: int) -> tuple[np.random.Generator, np.ndarray, float]:
  rng = np.random.default_rng([seed, index])
  body = random_body(rng)
  placement = Placement(heading=float(rng.uniform(0, 2 * np.pi)))
  return rng, pose(motion(rng), body, placement), body.height


def clip(seed: int, index: int) -> tuple[np.ndarray, np.ndarray]:
  """Frames uint8[V, T, H, W, 3] and targets float32[V, T, K] of one clip; without an implement its target is the
  pelvis, no contact.
  """
  drawn, values = _clip(seed, index)
  return render.draw_views(*drawn), values


def _clip(seed: int, index: int) -> tuple[tuple[Any, ...], np.ndarray]:
  """What `render.draw_views` is given for a clip, and the clip's targets."""
  rng, skeleton, height = _sample(seed, index)
  implement, contact = _implement(rng, skeleton, height)
  look = render.random_look(rng)
  kind = render.IMPLEMENTS[rng.integers(len(render.IMPLEMENTS))]
  views = cameras(rng, skeleton, height)
  scene = render.random_scene(rng, kind, _props(rng))
  drawn = (skeleton, views, look, scene, implement, height)
  if kind == 'none':  # nothing to be seen: the target is the pelvis itself
    implement, contact = skeleton[:, 0], 0 * contact
  return drawn, targets(skeleton, implement, contact, views, height)


def _props(rng: np.random.Generator) -> tuple:
  """A few random posts, lines and lumps standing around."""
  props = []
  for _ in range(rng.integers(0, 5)):
    start = np.array([*rng.normal(0, 2.0, 2), rng.choice([0.0, rng.uniform(0, 2.5)])])
    end = start + rng.choice([0.0, 1.0]) * rng.normal(0, 1.0, 3) * np.array([1, 1, rng.integers(2)])
    colour = tuple(int(c) for c in rng.integers(40, 256, 3))
    props.append((tuple(start), tuple(end), float(rng.uniform(0.02, 0.12)), colour))
  return tuple(props)


def batch(seed: int, indices: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
  """Frames uint8[n, V, T, H, W, 3] and targets float32[n, V, T, K]; clip i depends on (seed, index i) alone."""
  clips = [clip(seed, int(index)) for index in indices]
  return np.stack([frames for frames, _ in clips]), np.stack([values for _, values in clips])


def batch_targets(seed: int, indices: Sequence[int]) -> np.ndarray:
  """The targets of `batch`, float32[n, V, T, K], without rendering."""
  return np.stack([_clip(seed, int(index))[1] for index in indices])
