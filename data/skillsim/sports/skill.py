"""What a skill is: key poses around its event, an implement, and how the two meet.

Time u is in seconds relative to the event (the contact, release, catch or lock-out). Every skill of the world goes
through the same phases: ready (u = -1.6), preparation (-1.1), load (-0.6, legs bent), event (0, legs driven
straight), follow-through (0.45), recovery (1.1) and ready again (1.7). Sports differ in where hands, feet, trunk and
implement are meanwhile.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from crosstrainer_jax.datasets.skillsim.body import ANKLE_HEIGHT, Motion

if TYPE_CHECKING:
  from scipy.interpolate import PchipInterpolator

# Channels of a key pose and the place of each in the flat vector.
WIDTHS = {
  'pelvis': 3,
  'yaw': 1,
  'lean': 1,
  'side': 1,
  'twist': 1,
  'head_yaw': 1,
  'head_pitch': 1,
  'head_roll': 1,
  'lh': 3,  # left and right hand: from the pelvis in its yaw frame, or on the stage if the skill anchors hands
  'rh': 3,
  'la': 3,  # left and right ankle, on the stage
  'ra': 3,
  'toe_yaw': 2,
  'toe_pitch': 2,
  'knee_out': 2,
  'elbow_out': 2,
}
_STARTS = np.cumsum([0, *WIDTHS.values()])
SLICES = {
  name: slice(int(start), int(start + width)) for (name, width), start in zip(WIDTHS.items(), _STARTS, strict=False)
}
SIZE = int(_STARTS[-1])

STAND = {
  'pelvis': (0.0, 0.0, 0.52),
  'lean': 0.12,
  'head_pitch': 0.1,
  'lh': (0.17, 0.12, 0.2),
  'rh': (0.17, -0.12, 0.2),
  'la': (0.0, 0.085, ANKLE_HEIGHT),
  'ra': (0.0, -0.085, ANKLE_HEIGHT),
  'toe_yaw': (0.15, 0.15),
  'knee_out': (0.15, 0.15),
  'elbow_out': (0.25, 0.25),
}


@dataclasses.dataclass(frozen=True)
class Skill:
  """One skill: its key poses and its implement.

  `keys` lists (u, changes since the previous key pose). `limb` touches the implement at the event: 'hands', 'right
  hand' or
  'right foot'. `held` says whether the implement stays in the hands until the event, and `kept` whether it stays
  after it as well; otherwise it comes along `arrival` and goes along `departure` (velocities in standing heights per
  second, a gravity share last), or lies where the limb meets it.
  """

  name: str
  keys: tuple[tuple[float, dict], ...]
  implement: str
  limb: str
  held: bool = False
  kept: bool = False
  arrival: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
  departure: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
  anchored: bool = False
  # Segments standing around: start, end (standing heights, stage frame), radius, RGB.
  props: tuple[tuple[tuple[float, float, float], tuple[float, float, float], float, tuple[int, int, int]], ...] = ()

  def curve(self) -> PchipInterpolator:
    """Channels float[n, SIZE] as a function of u float[n]."""
    # takes half a second to import, which naming the sports should not
    from scipy.interpolate import PchipInterpolator

    times, rows = [], []
    pose: dict = dict(STAND)
    for u, changes in self.keys:
      pose = {**pose, **changes}
      row = np.zeros(SIZE)
      for name, value in pose.items():
        row[SLICES[name]] = value
      times.append(u)
      rows.append(row)
    first, last = rows[0], rows[-1]
    return PchipInterpolator([times[0] - 2, *times, times[-1] + 3], np.stack([first, *rows, last]), axis=0)


def contact_channels(limb: str) -> list[str]:
  """Channels that belong to the limb which meets the implement."""
  return {'hands': ['lh', 'rh'], 'right hand': ['rh'], 'left foot': ['la'], 'right foot': ['ra']}[limb]


def to_motion(values: np.ndarray, anchored: bool) -> Motion:
  """Channels float[T, SIZE] -> targets for the body."""

  def one(name: str) -> np.ndarray:
    return values[:, SLICES[name].start].copy()

  def pair(name: str) -> np.ndarray:
    return values[:, SLICES[name]].copy()

  pelvis, yaw = pair('pelvis'), one('yaw')
  wrist = np.stack([values[:, SLICES['lh']], values[:, SLICES['rh']]], 1)
  if not anchored:
    c, s = np.cos(yaw)[:, None], np.sin(yaw)[:, None]
    turned = np.stack([c * wrist[..., 0] - s * wrist[..., 1], s * wrist[..., 0] + c * wrist[..., 1], wrist[..., 2]], -1)
    wrist = pelvis[:, None] + turned
  return Motion(
    pelvis=pelvis,
    yaw=yaw,
    lean=one('lean'),
    side=one('side'),
    twist=one('twist'),
    head_yaw=one('head_yaw'),
    head_pitch=one('head_pitch'),
    head_roll=one('head_roll'),
    wrist=wrist,
    ankle=np.stack([values[:, SLICES['la']], values[:, SLICES['ra']]], 1),
    toe_yaw=pair('toe_yaw'),
    toe_pitch=pair('toe_pitch'),
    knee_out=pair('knee_out'),
    elbow_out=pair('elbow_out'),
  )
