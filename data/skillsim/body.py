"""The articulated figure: 19 joints, proportions, and poses by analytic two-bone inverse kinematics.

A `Motion` says what the figure should do, in the *stage frame*: x forward (the athlete's initial facing), y to the
athlete's left, z up, the ground at z = 0, lengths in standing heights. `pose` turns it into joints in metres in the
world frame (z up). Everything is vectorised over the frames T. Sports, faults and generic motion all speak `Motion`,
so they share one body.
"""

import dataclasses

import numpy as np

JOINTS = (
  'pelvis',
  'chest',
  'neck',
  'head',
  'nose',
  'left shoulder',
  'right shoulder',
  'left elbow',
  'right elbow',
  'left wrist',
  'right wrist',
  'left hip',
  'right hip',
  'left knee',
  'right knee',
  'left ankle',
  'right ankle',
  'left toe',
  'right toe',
)
INDEX = {name: i for i, name in enumerate(JOINTS)}
LEFT = np.array([i for i, name in enumerate(JOINTS) if name.startswith('left')])
RIGHT = LEFT + 1
ANKLE_HEIGHT = 0.045
_SIDES = np.array([1.0, -1.0])  # y of the left and the right side


@dataclasses.dataclass(frozen=True)
class Body:
  """Proportions in standing heights; `height` in metres."""

  height: float = 1.75
  thigh: float = 0.245
  shin: float = 0.245
  upper_arm: float = 0.172
  forearm: float = 0.157
  trunk: float = 0.29
  shoulder: float = 0.115
  hip: float = 0.055
  foot: float = 0.115

  @property
  def leg(self) -> float:
    return self.thigh + self.shin

  @property
  def arm(self) -> float:
    return self.upper_arm + self.forearm


REFERENCE = Body()


def random_body(rng: np.random.Generator) -> Body:
  """A plausible adult: height 1.50-1.95 m, every proportion varied by a few per cent."""
  factor = rng.uniform(0.94, 1.06, 8)
  names = [field.name for field in dataclasses.fields(Body)][1:]
  parts = {name: getattr(REFERENCE, name) * float(f) for name, f in zip(names, factor, strict=True)}
  return Body(height=float(rng.uniform(1.5, 1.95)), **parts)


@dataclasses.dataclass
class Motion:
  """Targets over T frames in the stage frame (standing heights, radians); pairs are (left, right).

  Angles: `yaw` pelvis about z; `twist` chest yaw relative to the pelvis; `lean` trunk forward from vertical; `side`
  trunk to the left; `head_yaw` relative to the chest; `head_pitch` of the gaze below the horizon; `head_roll` to the
  left; `toe_yaw` outwards relative to the pelvis; `toe_pitch` toes below horizontal; `knee_out` how far knees point
  outwards; `elbow_out` likewise.
  """

  pelvis: np.ndarray  # [T, 3]
  yaw: np.ndarray  # [T]
  lean: np.ndarray  # [T]
  side: np.ndarray  # [T]
  twist: np.ndarray  # [T]
  head_yaw: np.ndarray  # [T]
  head_pitch: np.ndarray  # [T]
  head_roll: np.ndarray  # [T]
  wrist: np.ndarray  # [T, 2, 3]
  ankle: np.ndarray  # [T, 2, 3]
  toe_yaw: np.ndarray  # [T, 2]
  toe_pitch: np.ndarray  # [T, 2]
  knee_out: np.ndarray  # [T, 2]
  elbow_out: np.ndarray  # [T, 2]

  def copy(self) -> 'Motion':
    return Motion(**{f.name: np.array(getattr(self, f.name)) for f in dataclasses.fields(self)})

  def mirrored(self) -> 'Motion':
    """The same motion by a left-handed twin: reflected at the x-z plane."""
    flip = np.array([1.0, -1.0, 1.0])
    return Motion(
      pelvis=self.pelvis * flip,
      yaw=-self.yaw,
      lean=self.lean,
      side=-self.side,
      twist=-self.twist,
      head_yaw=-self.head_yaw,
      head_pitch=self.head_pitch,
      head_roll=-self.head_roll,
      wrist=self.wrist[:, ::-1] * flip,
      ankle=self.ankle[:, ::-1] * flip,
      toe_yaw=self.toe_yaw[:, ::-1],
      toe_pitch=self.toe_pitch[:, ::-1],
      knee_out=self.knee_out[:, ::-1],
      elbow_out=self.elbow_out[:, ::-1],
    )


@dataclasses.dataclass(frozen=True)
class Placement:
  """Where the stage stands in the world: origin in metres and heading in radians."""

  origin: tuple[float, float] = (0.0, 0.0)
  heading: float = 0.0


def rotation(yaw: np.ndarray, pitch: np.ndarray, roll: np.ndarray) -> np.ndarray:
  """float[T, 3, 3], columns forward, left, up: yaw about z, then pitch forward, then roll to the left."""
  cy, sy, cp, sp, cr, sr = np.cos(yaw), np.sin(yaw), np.cos(pitch), np.sin(pitch), np.cos(roll), np.sin(roll)
  out = np.empty((*np.shape(yaw), 3, 3))
  out[..., 0, 0], out[..., 1, 0], out[..., 2, 0] = cy * cp, sy * cp, -sp
  out[..., 0, 1] = -sy * cr - cy * sp * sr
  out[..., 1, 1] = cy * cr - sy * sp * sr
  out[..., 2, 1] = -cp * sr
  out[..., 0, 2] = -sy * sr + cy * sp * cr
  out[..., 1, 2] = cy * sr + sy * sp * cr
  out[..., 2, 2] = cp * cr
  return out


def two_bone(
  root: np.ndarray, target: np.ndarray, upper: float, lower: float, pole: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  """Middle joint and reached end of a two-bone chain bent towards `pole`; all `[..., 3]`. Far targets are pulled into
  reach.
  """
  reach = target - root
  distance = np.linalg.norm(reach, axis=-1, keepdims=True) + 1e-9
  axis = reach / distance
  distance = np.clip(distance, abs(upper - lower) + 0.03, (upper + lower) * 0.999)
  along = (upper**2 - lower**2 + distance**2) / (2 * distance)
  across = np.sqrt(np.maximum(upper**2 - along**2, 0))
  bend = pole - (pole * axis).sum(-1, keepdims=True) * axis
  bend /= np.linalg.norm(bend, axis=-1, keepdims=True) + 1e-9
  return root + along * axis + across * bend, root + distance * axis


def pose(motion: Motion, body: Body, placement: Placement = Placement()) -> np.ndarray:
  """Joints float32[T, J, 3] in metres, world frame."""
  frames = len(motion.yaw)
  joints = np.empty((frames, len(JOINTS), 3))
  leg_ratio = body.leg / REFERENCE.leg
  pelvis = motion.pelvis.copy()
  pelvis[:, 2] = ANKLE_HEIGHT + (pelvis[:, 2] - ANKLE_HEIGHT) * leg_ratio
  hips = rotation(motion.yaw, 0.35 * motion.lean, 0.35 * motion.side)
  trunk = rotation(motion.yaw + motion.twist, motion.lean, motion.side)
  head = rotation(motion.yaw + motion.twist + motion.head_yaw, motion.head_pitch, motion.head_roll)

  def at(base: np.ndarray, frame: np.ndarray, x: float, y: float, z: float) -> np.ndarray:
    return base + frame @ np.array([x, y, z])

  joints[:, 0] = pelvis
  joints[:, 1] = at(pelvis, trunk, 0, 0, 0.6 * body.trunk)
  joints[:, 2] = at(pelvis, trunk, 0, 0, body.trunk)
  joints[:, 3] = at(at(joints[:, 2], trunk, 0, 0, 0.03), head, 0.01, 0, 0.07)
  joints[:, 4] = at(joints[:, 3], head, 0.075, 0, -0.005)
  joints[:, 5] = at(pelvis, trunk, 0, body.shoulder, 0.93 * body.trunk)
  joints[:, 6] = at(pelvis, trunk, 0, -body.shoulder, 0.93 * body.trunk)
  joints[:, 11] = at(pelvis, hips, 0, body.hip, -0.01)
  joints[:, 12] = at(pelvis, hips, 0, -body.hip, -0.01)

  pole = np.stack([-0.45 + 0 * motion.elbow_out, _SIDES * (0.5 + motion.elbow_out), -0.6 + 0 * motion.elbow_out], -1)
  pole = np.einsum('tij,tsj->tsi', trunk, pole)
  joints[:, 7:9], joints[:, 9:11] = two_bone(joints[:, 5:7], motion.wrist, body.upper_arm, body.forearm, pole)

  out = _SIDES * motion.knee_out
  heading = motion.yaw[:, None] + out
  pole = np.stack([np.cos(heading), np.sin(heading), 0.3 + 0 * heading], -1)
  joints[:, 13:15], joints[:, 15:17] = two_bone(joints[:, 11:13], motion.ankle, body.thigh, body.shin, pole)
  heading = motion.yaw[:, None] + _SIDES * motion.toe_yaw
  flat = np.cos(motion.toe_pitch)
  toe = np.stack([np.cos(heading) * flat, np.sin(heading) * flat, -np.sin(motion.toe_pitch)], -1)
  joints[:, 17:19] = joints[:, 15:17] + body.foot * toe
  return to_world(joints, body.height, placement)


def to_world(points: np.ndarray, height: float, placement: Placement) -> np.ndarray:
  """Stage coordinates `[..., 3]` in standing heights -> world coordinates in metres, float32."""
  c, s = np.cos(placement.heading), np.sin(placement.heading)
  turn = np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]])
  return (height * points @ turn + np.array([*placement.origin, 0.0])).astype(np.float32)


def facing(joints: np.ndarray) -> np.ndarray:
  """Yaw of the pelvis float[T], from the line between the hips of `joints` [T, J, 3]."""
  across = joints[:, INDEX['left hip']] - joints[:, INDEX['right hip']]
  return np.arctan2(-across[:, 0], across[:, 1])
