"""Sport-agnostic faults: what can go wrong in any skill, applied to the targets before inverse kinematics.

Each fault leaves its cue inside the clip and means the same in all sports:

| fault | directions | cue |
|---|---|---|
| balance | swaying, tipping | trunk sways from side to side, or leans over to one side of the feet |
| hand positioning | too low, too wide | the off hand hangs below the hips, or flares away from the body |
| foot positioning | too wide, too narrow | feet far apart sideways, or nearly crossed |
| knee bend | too stiff, too deep | the legs hardly bend in the load, or sink far below it |
| timing | early, late | contact before the body has driven up, or after the drive is over |
| follow-through | cut short, overrun | everything freezes soon after contact, or trunk and hips spin on |
| head position | down, away | the face points at the ground, or aside |
| speed control | rushed, hesitant | twice the tempo with stillness around it, or a pause in the load |

Entanglement e makes a fault's looks depend on the sport: its strength is scaled by 1 - 0.7 e r, its moment shifted by
e s, and sport-specific by-products (lean, elbows, knees, head roll) are added, where r, s and the by-products are
drawn once per sport, fault and direction.
"""

import dataclasses

import numpy as np

from crosstrainer_jax.datasets.skillsim.sports.skill import SLICES, Skill, contact_channels

FAULTS: dict[str, tuple[str, str]] = {
  'balance': ('swaying', 'tipping'),
  'hand positioning': ('too low', 'too wide'),
  'foot positioning': ('too wide', 'too narrow'),
  'knee bend': ('too stiff', 'too deep'),
  'timing': ('early', 'late'),
  'follow-through': ('cut short', 'overrun'),
  'head position': ('down', 'away'),
  'speed control': ('rushed', 'hesitant'),
}
NAMES = tuple(FAULTS)
MAX_FAULTS = 3
MILDEST = 0.3  # severity
SCATTER = 0.06  # of severity about its mean
LOAD = -0.6  # u of the deepest knee bend in every skill
Number = float | np.ndarray
_BY_PRODUCTS = (('lean', 0.3), ('elbow_out', 0.5), ('knee_out', 0.4), ('toe_yaw', 0.4), ('head_roll', 0.35))


@dataclasses.dataclass(frozen=True)
class Fault:
  """One fault of a clip; severity in (0, 1]; `sign` chooses the side (+1 or -1) where the fault has one."""

  name: str
  direction: str
  severity: float
  sign: int = 1
  phase: float = 0.0


@dataclasses.dataclass(frozen=True)
class Looks:
  """How one fault shows in one sport: a factor on its strength, a shift of its moment in seconds, and by-products."""

  strength: float = 1.0
  shift: float = 0.0
  by_products: tuple[float, ...] = (0.0,) * len(_BY_PRODUCTS)


def looks(seed: int, sport: int, fault: Fault, entanglement: float) -> Looks:
  """The looks of `fault` in the sport of that index; the same in all sports at entanglement 0."""
  kind = NAMES.index(fault.name) * 2 + FAULTS[fault.name].index(fault.direction)
  rng = np.random.default_rng([seed, 7701, sport, kind])
  strength = 1 - 0.7 * entanglement * float(rng.uniform())
  shift = entanglement * float(rng.uniform(-0.4, 0.4))
  return Looks(strength, shift, tuple(entanglement * float(x) for x in rng.uniform(-1, 1, len(_BY_PRODUCTS))))


def rate(hidden_skill: Number) -> Number:
  """Probability of each of the three faults that a clip may have."""
  return 0.95 - 0.9 * hidden_skill


def mean_severity(hidden_skill: Number) -> Number:
  """Severity about which the faults scatter, before it is clipped to [`MILDEST`, 1]."""
  return 1 - 0.7 * hidden_skill


def draw(rng: np.random.Generator, hidden_skill: float) -> tuple[Fault, ...]:
  """0-3 different faults; fewer and milder the higher the hidden skill in [0, 1]. Knows nothing else of the clip.

  Severities scatter little, so that one clip shows its level (`fairness.best_levels`).
  """
  count = int(rng.binomial(MAX_FAULTS, rate(hidden_skill)))
  names = rng.permutation(len(NAMES))[:count]
  faults = []
  for k in sorted(names):
    direction = FAULTS[NAMES[k]][rng.integers(2)]
    severity = float(np.clip(mean_severity(hidden_skill) + rng.normal(0, SCATTER), MILDEST, 1.0))
    faults.append(Fault(NAMES[k], direction, severity, int(rng.choice([-1, 1])), float(rng.uniform(0, 2 * np.pi))))
  return tuple(faults)


def _window(u: np.ndarray, start: float, end: float, ramp: float = 0.3) -> np.ndarray:
  """Smooth 0-1-0 over [start, end] with ramps outside of it."""
  rise = np.clip((u - start) / ramp + 1, 0, 1)
  fall = np.clip((end - u) / ramp + 1, 0, 1)
  level = np.minimum(rise, fall)
  return level * level * (3 - 2 * level)


def warp(u: np.ndarray, faults: tuple[tuple[Fault, Looks], ...]) -> tuple[np.ndarray, np.ndarray]:
  """Time of the body and time of the contact limb, both float[T], from the plain time u."""
  body = u
  for fault, look in faults:
    if fault.name == 'speed control':
      if fault.direction == 'rushed':
        body = body * (1 + look.strength * (0.5 + 0.8 * fault.severity))
      else:
        pause = look.strength * (0.5 + 0.7 * fault.severity)
        middle = LOAD + 0.5 * look.shift
        body = np.where(body >= middle, body, np.minimum(middle, body + pause))
  limb = body
  for fault, look in faults:
    if fault.name == 'timing':
      gap = look.strength * (0.28 + 0.42 * fault.severity)
      body = body - gap if fault.direction == 'early' else body + gap
  for fault, look in faults:
    if fault.name == 'follow-through' and fault.direction == 'cut short':
      stop = 0.1 + 0.4 * (1 - fault.severity) + 0.25 * abs(look.shift)
      body = np.where(u > stop, body[np.argmin(np.abs(u - stop))], body)
      limb = np.where(u > stop, limb[np.argmin(np.abs(u - stop))], limb)
  return body, limb


def bend(values: np.ndarray, u: np.ndarray, skill: Skill, faults: tuple[tuple[Fault, Looks], ...]) -> np.ndarray:
  """Channels float[T, SIZE] with the faults that displace the body; u float[T] is the plain time."""
  values = values.copy()
  for fault, look in faults:
    _DISPLACE[fault.name](values, u - look.shift, skill, fault, look.strength)
    active = _window(u, -1.2, 1.2)
    for (name, scale), weight in zip(_BY_PRODUCTS, look.by_products, strict=True):
      values[:, SLICES[name]] += scale * weight * active[:, None]
  return values


def _balance(values: np.ndarray, u: np.ndarray, skill: Skill, fault: Fault, strength: float) -> None:
  side, across = values[:, SLICES['side']][:, 0], values[:, SLICES['pelvis']][:, 1]
  if fault.direction == 'swaying':
    wave = np.sin(2 * np.pi * 0.8 * u + fault.phase) * _window(u, -1.3, 1.4)
    side += strength * (0.14 + 0.42 * fault.severity) * wave
    across += strength * (0.03 + 0.06 * fault.severity) * wave
  else:
    tip = fault.sign * _window(u, -0.8, 1.5, 0.4)
    side += strength * (0.16 + 0.48 * fault.severity) * tip
    across += strength * (0.03 + 0.06 * fault.severity) * tip


def _hands(values: np.ndarray, u: np.ndarray, skill: Skill, fault: Fault, strength: float) -> None:
  place = np.array([0.08, 0.12, -0.13] if fault.direction == 'too low' else [0.12, 0.41, 0.22])
  hand = values[:, SLICES['lh']]  # the off hand of a right-handed athlete
  goal = place + (values[:, SLICES['pelvis']] if skill.anchored else 0)
  weight = strength * (0.5 + 0.5 * fault.severity) * _window(u, -1.2, 0.25)
  hand += weight[:, None] * (goal - hand)


def _feet(values: np.ndarray, u: np.ndarray, skill: Skill, fault: Fault, strength: float) -> None:
  wide = fault.direction == 'too wide'
  amount = strength * ((0.04 + 0.12 * fault.severity) if wide else -(0.06 + 0.08 * fault.severity))
  for name, side in (('la', 1), ('ra', -1)):
    active = _window(u, -1.2, 1.3)
    if name in contact_channels(skill.limb):  # the striking foot still finds the implement
      active = active * (1 - 0.6 * _window(u, -0.1, 0.1, 0.25))
    values[:, SLICES[name]][:, 1] += side * amount * active


def _knees(values: np.ndarray, u: np.ndarray, skill: Skill, fault: Fault, strength: float) -> None:
  height = values[:, SLICES['pelvis']][:, 2]
  if fault.direction == 'too stiff':
    standing = skill.curve()(-1.6)[SLICES['pelvis']][2]
    height += strength * (0.6 + 0.38 * fault.severity) * np.maximum(0, standing - height)
  else:
    height -= strength * (0.05 + 0.12 * fault.severity) * _window(u, LOAD - 0.2, LOAD + 0.15, 0.35)


def _follow(values: np.ndarray, u: np.ndarray, skill: Skill, fault: Fault, strength: float) -> None:
  if fault.direction == 'overrun':
    on = _window(u, 0.65, 9.0, 0.55) * strength * (0.4 + 0.75 * fault.severity)
    values[:, SLICES['twist']] += 0.75 * on[:, None]
    values[:, SLICES['yaw']] += 0.45 * on[:, None]
    values[:, SLICES['lean']] += 0.5 * on[:, None]
    if skill.anchored:  # the body swings open like a barn door and takes the hands with it
      for name in ('lh', 'rh'):
        _turn(values[:, SLICES[name]], values[:, SLICES['pelvis']], on)


def _turn(points: np.ndarray, centre: np.ndarray, angle: np.ndarray) -> None:
  """Turns float[T, 3] about the vertical through `centre` float[T, 3] by `angle` float[T], in place."""
  away = points - centre
  c, s = np.cos(angle), np.sin(angle)
  points[:, 0] = centre[:, 0] + c * away[:, 0] - s * away[:, 1]
  points[:, 1] = centre[:, 1] + s * away[:, 0] + c * away[:, 1]


def _head(values: np.ndarray, u: np.ndarray, skill: Skill, fault: Fault, strength: float) -> None:
  active = _window(u, -1.4, 1.3) * strength
  if fault.direction == 'down':
    values[:, SLICES['head_pitch']] += ((0.55 + 0.75 * fault.severity) * active)[:, None]
  else:
    values[:, SLICES['head_yaw']] += (fault.sign * (0.6 + 0.8 * fault.severity) * active)[:, None]


def _in_time_only(values: np.ndarray, u: np.ndarray, skill: Skill, fault: Fault, strength: float) -> None:
  """Timing and speed act through `warp`."""


_DISPLACE = {
  'balance': _balance,
  'hand positioning': _hands,
  'foot positioning': _feet,
  'knee bend': _knees,
  'timing': _in_time_only,
  'follow-through': _follow,
  'head position': _head,
  'speed control': _in_time_only,
}
