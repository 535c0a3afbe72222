"""The sport-blind ceiling: what can be said about faults and level in a sport never seen, from noise-free joints
instead of pixels.

Kinematic features that know no sport (angles, spreads, tempo, and how they lie around the contact) feed one
gradient-boosted classifier per fault, and one per step between two levels. No model that watches pixels should hope
for more; its row stands at the end of the results table.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier
from threadpoolctl import threadpool_limits

from crosstrainer_jax.datasets.skillsim.body import INDEX
from crosstrainer_jax.datasets.skillsim.faults import NAMES
from crosstrainer_jax.datasets.skillsim.render import FPS
from crosstrainer_jax.datasets.skillsim.world import Performance, Spec, World
from crosstrainer_jax.input.record import LEVELS

# Frames relative to the contact: preparation, load, contact, follow-through, recovery.
_WINDOWS = ((-6, -4), (-4, -2), (-2, 0), (0, 1), (1, 3), (3, 6))
_REACH = 6
# A fault is one pattern of several features; a level adds up what each fault contributes, so its trees are smaller.
_LEAVES, _LEAVES_OF_LEVELS = 12, 4


class Answer(NamedTuple):
  """What the ceiling says of a clip: its faults, and its level as an index into `record.LEVELS`."""

  faults: set[str]
  level: int


def stack(performances: Sequence[Performance]) -> Performance:
  """Performances of one clip each -> one with a leading axis N."""
  return Performance(*(np.stack(parts) for parts in zip(*performances, strict=True)))


def channels(performance: Performance) -> dict[str, np.ndarray]:
  """Kinematic channels float[N, T] that no sport is needed for; lengths in leg lengths, angles in radians."""
  joints = performance.joints.astype(float)

  def at(name: str) -> np.ndarray:
    return joints[:, :, INDEX[name]]

  def length(a: np.ndarray) -> np.ndarray:
    return np.linalg.norm(a, axis=-1)

  leg = length(at('left hip') - at('left knee')) + length(at('left knee') - at('left ankle'))
  leg = leg.mean(1)[:, None]
  hips, shoulders = at('left hip') - at('right hip'), at('left shoulder') - at('right shoulder')
  hip_yaw, chest_yaw = (np.arctan2(-v[..., 0], v[..., 1]) for v in (hips, shoulders))
  trunk = at('neck') - at('pelvis')

  def lateral(vector: np.ndarray, yaw: np.ndarray) -> np.ndarray:
    return -np.sin(yaw) * vector[..., 0] + np.cos(yaw) * vector[..., 1]

  def forward(vector: np.ndarray, yaw: np.ndarray) -> np.ndarray:
    return np.cos(yaw) * vector[..., 0] + np.sin(yaw) * vector[..., 1]

  def wrapped(angle: np.ndarray) -> np.ndarray:
    return (angle + np.pi) % (2 * np.pi) - np.pi

  gaze = at('nose') - at('head')
  feet = at('left ankle') - at('right ankle')
  middle = (at('left ankle') + at('right ankle')) / 2
  hands = {}
  for side, sign in (('left', 1), ('right', -1)):
    from_pelvis = at(f'{side} wrist') - at('pelvis')
    hands[f'{side} out'] = sign * lateral(from_pelvis, chest_yaw) / leg
    hands[f'{side} up'] = from_pelvis[..., 2] / leg
  reach = {side: length(at(f'{side} hip') - at(f'{side} ankle')) / leg for side in ('left', 'right')}
  speed = length(np.diff(joints, axis=1)) * FPS / leg[..., None]
  speed = np.concatenate([speed[:, :1], speed], 1)
  height = (at('pelvis')[..., 2] - np.minimum(at('left ankle')[..., 2], at('right ankle')[..., 2])) / leg
  return {
    'height': height,
    'rise': np.gradient(at('pelvis')[..., 2] / leg, axis=1) * FPS,
    'straightest leg': np.maximum(reach['left'], reach['right']),
    'most bent leg': np.minimum(reach['left'], reach['right']),
    'side': np.arctan2(lateral(trunk, chest_yaw), trunk[..., 2]),
    'lean': np.arctan2(forward(trunk, chest_yaw), trunk[..., 2]),
    'twist': wrapped(chest_yaw - hip_yaw),
    'turn': wrapped(hip_yaw - hip_yaw.mean(1, keepdims=True)),
    'head pitch': np.arcsin(np.clip(-gaze[..., 2] / length(gaze), -1, 1)),
    'head yaw': wrapped(np.arctan2(gaze[..., 1], gaze[..., 0]) - chest_yaw),
    'highest hand': np.maximum(hands['left up'], hands['right up']),
    'lowest hand': np.minimum(hands['left up'], hands['right up']),
    'outer hand': np.maximum(hands['left out'], hands['right out']),
    'inner hand': np.minimum(hands['left out'], hands['right out']),
    'stance': lateral(feet, hip_yaw) / leg,
    'offset': lateral(at('pelvis') - middle, hip_yaw) / leg,
    'speed': speed.mean(-1),
    'trunk speed': speed[..., [INDEX[n] for n in ('pelvis', 'chest', 'head')]].mean(-1),
    'top speed': speed.max(-1),
  }


def features(performance: Performance) -> np.ndarray:
  """Features float[N, F] of stacked performances, aligned with the contact, blind to sport and to left and right."""
  values = channels(performance)
  contact = np.clip(performance.contact.argmax(1), _REACH, performance.contact.shape[1] - _REACH - 1)
  around = contact[:, None] + np.arange(-_REACH, _REACH + 1)
  rows: list[np.ndarray] = []
  for name, value in values.items():
    local = np.take_along_axis(value, around, 1)
    signed = name in ('side', 'twist', 'turn', 'head yaw', 'offset')
    if signed:  # sway is in the spread of the signed angle, everything else in its size
      rows += [local.std(1), np.ptp(local, 1), np.abs(np.diff(local, axis=1)).mean(1), np.abs(local.mean(1))]
      local = np.abs(local)
    rows += [local.min(1), local.max(1), local.mean(1), local.std(1)]
    rows += [local[:, start + _REACH : end + _REACH + 1].mean(1) for start, end in _WINDOWS]
  rows += list(_tempo(values, around).T)
  return np.stack(rows, 1)


def _tempo(values: dict[str, np.ndarray], around: np.ndarray) -> np.ndarray:
  """How the drive of the body and its pace lie around the contact, float[N, F]."""
  height = np.take_along_axis(values['height'], around, 1)
  low, high = height.min(1, keepdims=True), height.max(1, keepdims=True)
  relative = (height - low) / np.maximum(high - low, 0.03)
  rise = np.take_along_axis(values['rise'], around, 1)
  speed = np.take_along_axis(values['speed'], around, 1)
  trunk = np.take_along_axis(values['trunk speed'], around, 1)
  before = slice(0, _REACH + 3)
  bottom = _vertex(-height[:, before])
  drive = _vertex(rise)
  pace = speed / np.maximum(speed.mean(1, keepdims=True), 1e-3)
  still = (speed < 0.05).astype(float)
  columns = [
    relative,
    rise,
    pace,
    trunk,
    speed[:, 1:] - speed[:, :-1],
    np.stack([bottom, drive, drive - bottom], 1),
    np.stack([still[:, :_REACH].sum(1), still[:, _REACH + 1 :].sum(1), still[:, _REACH - 4 : _REACH].sum(1)], 1),
    np.stack([speed[:, :_REACH].min(1), speed[:, 2:_REACH].min(1), speed[:, _REACH + 1 :].min(1)], 1),
    speed[:, _REACH + 2 :].mean(1, keepdims=True) / np.maximum(speed[:, :_REACH].mean(1, keepdims=True), 1e-3),
  ]
  return np.concatenate(columns, 1)


def _vertex(values: np.ndarray) -> np.ndarray:
  """Place of the maximum of float[N, T], refined by the parabola through its neighbours."""
  peak = np.clip(values.argmax(1), 1, values.shape[1] - 2)
  row = np.arange(len(values))
  left, top, right = (values[row, peak + d] for d in (-1, 0, 1))
  curve = left - 2 * top + right
  return peak + np.where(np.abs(curve) > 1e-9, 0.5 * (left - right) / np.where(curve == 0, 1, curve), 0).clip(-1, 1)


def labels(specs: Sequence[Spec]) -> np.ndarray:
  """bool[N, faults], in the order of `faults.NAMES`."""
  return np.array([[name in {fault.name for fault in spec.faults} for name in NAMES] for spec in specs])


def perform(world: World, specs: Sequence[Spec], faults: bool = True) -> Performance:
  """Stacked noise-free performances of `specs`."""
  return stack([world.joints(spec, faults) for spec in specs])


def levels(specs: Sequence[Spec]) -> np.ndarray:
  """int[N], indices into `record.LEVELS`."""
  return np.array([spec.level for spec in specs])


def classifier(leaves: int = _LEAVES) -> HistGradientBoostingClassifier:
  """The classifier of one yes or no, with trees of that many leaves."""
  return HistGradientBoostingClassifier(
    max_iter=60, learning_rate=0.2, max_leaf_nodes=leaves, min_samples_leaf=15, max_features=0.3, random_state=0
  )


def fit_predict(train: np.ndarray, truth: np.ndarray, test: np.ndarray, leaves: int = _LEAVES) -> np.ndarray:
  """Probabilities float[N, K] on `test` of one classifier per column of `truth` bool[M, K].

  A column without both answers keeps its only one: few clips may lack a fault or a level.
  """

  def chance(y: np.ndarray) -> np.ndarray:
    if y.all() or not y.any():
      return np.full(len(test), float(y[0]))
    return classifier(leaves).fit(train, y).predict_proba(test)[:, 1]

  with threadpool_limits(1):  # OpenMP's spinning barriers cost far more than they gain on a shared machine
    return np.stack([chance(y) for y in truth.T], 1)


def predict_levels(train: np.ndarray, truth: np.ndarray, test: np.ndarray) -> np.ndarray:
  """Most probable level int[N] on `test`, from one classifier per "at least this level"; `truth` int[M]."""
  steps = np.arange(1, len(LEVELS))
  at_least = fit_predict(train, truth[:, None] >= steps, test, _LEAVES_OF_LEVELS)
  bounds = np.pad(at_least, ((0, 0), (1, 1)), constant_values=((0, 0), (1, 0)))
  return (bounds[:, :-1] - bounds[:, 1:]).argmax(1)


def predict(world: World, train: Sequence[str], test: Sequence[str]) -> list[Answer]:
  """Faults and levels of the clips `test`, learnt from the clips `train`; both are clip ids of this world.

  The learner is told neither sport nor skill. With the clips of three sports as `train` and those of the fourth as
  `test`, it is the ceiling of the held-out-sport setting.
  """
  known, asked = ([world.spec_of(clip_id) for clip_id in ids] for ids in (train, test))
  inputs, unseen = features(perform(world, known)), features(perform(world, asked))
  chance = fit_predict(inputs, labels(known), unseen)
  named = [{name for name, p in zip(NAMES, row, strict=True) if p >= 0.5} for row in chance]
  rated = predict_levels(inputs, levels(known), unseen)
  return [Answer(faults, int(level)) for faults, level in zip(named, rated, strict=True)]
