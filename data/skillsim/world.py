"""The embedded world: participants with a hidden skill practise four sports before three cameras, and an expert
comments.

A `Spec` says all about one clip; it is drawn from (seed, split, sport, index) alone, so any clip can be made anywhere
in any order. Faults come from a random stream of their own that knows the hidden skill and nothing else.
"""

import dataclasses
import functools
from typing import NamedTuple

import numpy as np

from crosstrainer_jax.datasets.skillsim import faults as fault_module
from crosstrainer_jax.datasets.skillsim import grammar, render
from crosstrainer_jax.datasets.skillsim.body import INDEX, Body, Placement, pose, random_body, to_world
from crosstrainer_jax.datasets.skillsim.camera import Camera, static_view, tracking_view
from crosstrainer_jax.datasets.skillsim.faults import Fault
from crosstrainer_jax.datasets.skillsim.sports import SKILLS, SPORTS
from crosstrainer_jax.datasets.skillsim.sports.skill import SLICES, Skill, contact_channels, to_motion
from crosstrainer_jax.input import record

SPLITS = ('train', 'test')
CLIPS_PER_TAKE = 4
SECONDS = render.FRAMES / render.FPS
TIMES = np.arange(render.FRAMES) / render.FPS
GRAVITY = 9.81 / 1.75  # standing heights per second squared
LICENCE = 'Apache-2.0'


@dataclasses.dataclass(frozen=True)
class Style:
  """How somebody performs: small, harmless differences; lengths in standing heights, angles in radians."""

  tempo: float
  depth: float
  lean: float
  width: float
  hands: tuple[float, float]
  side: float
  head: float
  yaw: float
  crouch: float


@dataclasses.dataclass(frozen=True)
class Spec:
  """Everything about one clip but its pixels."""

  sport: str
  skill: str
  split: str
  index: int
  clip_id: str
  participant: str
  take: str
  hidden_skill: float
  level: int
  body: Body
  left_handed: bool
  style: Style
  event: float  # seconds in the clip
  faults: tuple[Fault, ...]
  commentary_time: float


class Performance(NamedTuple):
  """What truly happens: joints float32[T, J, 3] and implement float32[T, 3] in metres, contact float32[T] (1 in the
  frame after it).
  """

  joints: np.ndarray
  implement: np.ndarray
  contact: np.ndarray


@functools.cache
def _curve(skill: str):
  return SKILLS[skill].curve()


class World:
  """A seeded world.

  Args:
    seed: everything follows from it.
    entanglement: 0, a fault moves the body the same way in every sport ... 1, differently in each.
    commentary_noise: probability that the expert omits a fault, and half of it that one is imagined.
    camera_shift: 0, test clips are filmed like training clips ... 1, from other heights, sides and places.
    participants: how many there are; the first three quarters train, the others test.
  """

  def __init__(
    self,
    seed: int = 0,
    entanglement: float = 0.3,
    commentary_noise: float = 0.1,
    camera_shift: float = 0.0,
    participants: int = 64,
  ):
    dials = {'entanglement': entanglement, 'commentary_noise': commentary_noise, 'camera_shift': camera_shift}
    for name, value in dials.items():
      if not 0 <= value <= 1:
        raise ValueError(f'skillsim: {name} is {value}, but must lie in [0, 1].')
    if participants < 8:
      raise ValueError(f'skillsim: {participants} participants are too few, use 8 or more.')
    self.seed = seed
    self.entanglement = entanglement
    self.commentary_noise = commentary_noise
    self.camera_shift = camera_shift
    self._latest: tuple[str, np.ndarray] = ('', np.empty(0))
    train = 3 * participants // 4
    self.people = {'train': range(train), 'test': range(train, participants)}
    rng = np.random.default_rng([seed, 11])
    # Stratified, so that both splits hold the whole range of skill.
    self.hidden = np.concatenate([rng.permutation((np.arange(n) + 0.5) / n) for n in (train, participants - train)])

  def spec(self, sport: str, split: str, index: int) -> Spec:
    """The clip of that index; indices are unbounded, `CLIPS_PER_TAKE` consecutive ones share a take."""
    if sport not in SPORTS:
      raise ValueError(f'skillsim has no sport {sport!r}; it has {", ".join(SPORTS)}.')
    if split not in SPLITS:
      raise ValueError(f'skillsim has no split {split!r}; it has {", ".join(SPLITS)}.')
    people = self.people[split]
    take_index = index // CLIPS_PER_TAKE
    person = people[take_index % len(people)]
    turn = take_index // len(people)
    skill = SPORTS[sport][(turn + person) % 3]
    hidden = float(self.hidden[person])
    rng = self._stream('clip', sport, split, index)
    style = self._style(self._stream('take', sport, split, take_index), rng)
    participant = f'{split}-p{person:03d}'
    event = float(rng.uniform(1.75, 2.25))
    handed = self._stream('person', sport, split, person)
    body = random_body(np.random.default_rng([self.seed, 23, person]))
    return Spec(
      sport=sport,
      skill=skill.name,
      split=split,
      index=index,
      clip_id=f'{sport.replace(" ", "_")}-{split}-{index:05d}',
      participant=participant,
      take=f'{participant}-{skill.name.replace(" ", "_")}-{take_index:04d}',
      hidden_skill=hidden,
      level=min(3, int(hidden * 4)),
      body=body,
      left_handed=bool(handed.uniform() < 0.3),
      style=style,
      event=event,
      faults=fault_module.draw(self._stream('fault', sport, split, index), hidden),
      commentary_time=float(np.clip(event + rng.uniform(-0.2, 1.0), 0, SECONDS)),
    )

  def spec_of(self, clip_id: str) -> Spec:
    """The spec behind a record's clip id."""
    sport, split, index = clip_id.rsplit('-', 2)
    return self.spec(sport.replace('_', ' '), split, int(index))

  def joints(self, spec: Spec, faults: bool = True) -> Performance:
    """Noise-free performance; with `faults=False` the clean twin, equal in everything else."""
    return self._perform(spec, TIMES, faults)

  def _perform(self, spec: Spec, times: np.ndarray, faults: bool) -> Performance:
    skill = SKILLS[spec.skill]
    placement = self._placement(spec)
    # One frame more, at the very event, tells where hand and implement part.
    seconds = np.append(times, spec.event)
    joints = self._body(spec, skill, seconds, placement, faults)
    clean = joints[-1:] if not faults else self._body(spec, skill, seconds[-1:], placement, False)
    joints, at_event = joints[:-1], joints[-1]
    implement = _implement(skill, spec, placement, times - spec.event, joints, at_event, clean[0])
    passed = times - spec.event
    contact = ((passed >= 0) & (passed < 1 / render.FPS)).astype(np.float32)
    return Performance(joints, implement.astype(np.float32), contact)

  def _body(self, spec: Spec, skill: Skill, seconds: np.ndarray, placement: Placement, faults: bool) -> np.ndarray:
    u = (seconds - spec.event) * spec.style.tempo
    sport = list(SPORTS).index(spec.sport)
    present = spec.faults if faults else ()
    active = tuple((f, fault_module.looks(self.seed, sport, f, self.entanglement)) for f in present)
    body, limb = fault_module.warp(u, active)
    values = _curve(skill.name)(body)
    if (limb != body).any():
      other = _curve(skill.name)(limb)
      for name in contact_channels(skill.limb):
        values[:, SLICES[name]] = other[:, SLICES[name]]
    values = fault_module.bend(_styled(values, spec.style, skill), u, skill, active)
    motion = to_motion(values, skill.anchored)
    return pose(motion.mirrored() if spec.left_handed else motion, spec.body, placement)

  def view_angles(self, spec: Spec) -> np.ndarray:
    """Azimuth in the athlete's frame, elevation (radians) and fill of each view: float[V, 3]; the same for all clips
    of a take.
    """
    rng = self._stream('camera', spec.sport, spec.split, spec.index // CLIPS_PER_TAKE)
    shift = self.camera_shift if spec.split == 'test' else 0.0
    front = np.pi if SKILLS[spec.skill].anchored else 0.0  # a wall hides its climber from the front
    azimuth = front + np.array([0.0, 0.85, -0.85]) + rng.uniform(-0.35, 0.35, 3) + shift * rng.uniform(0.5, 1.1, 3)
    elevation = rng.uniform(0.02, 0.3, 3) + shift * rng.uniform(0.2, 0.5, 3)
    fill = rng.uniform([0.88, 0.98, 0.98], [1.0, 1.1, 1.1]) * (1 - 0.2 * shift)
    return np.stack([azimuth, elevation, fill], -1)

  def cameras(self, spec: Spec) -> list[Camera]:
    """One camera per view of `render.VIEWS`; static ones are placed for the take, whatever goes wrong in a clip."""
    return self._cameras(spec, self.joints(spec).joints)

  def _cameras(self, spec: Spec, joints: np.ndarray) -> list[Camera]:
    close, left, right = self.view_angles(spec) + np.array([self._placement(spec).heading, 0, 0])
    stage = self._usual(spec)
    drift = self._stream('clip', spec.sport, spec.split, spec.index).uniform(-1, 1, 3) * np.array([0.5, 0.1, 1])
    return [
      tracking_view(joints, close[0], close[1], close[2], drift, spec.body.height),
      static_view(stage, *left),
      static_view(stage, *right),
    ]

  def _usual(self, spec: Spec) -> np.ndarray:
    """Joints float32[T, J, 3] of the take's skill in its plainest form; kept while clips of one take follow."""
    if self._latest[0] != spec.take:
      plain = dataclasses.replace(spec, style=_PLAIN, event=2.0)
      self._latest = (spec.take, self._perform(plain, TIMES, False).joints)
    return self._latest[1]

  def scene(self, spec: Spec) -> render.Scene:
    """Place and implement, the same for all clips of a take."""
    rng = self._stream('scene', spec.sport, spec.split, spec.index // CLIPS_PER_TAKE)
    shift = self.camera_shift if spec.split == 'test' else 0.0
    skill = SKILLS[spec.skill]
    return _scene(rng, spec.sport, skill, self._props(spec, skill), shift)

  def look(self, spec: Spec) -> render.Look:
    """Skin, hair, build and clothes, the same for all clips of a take."""
    return render.random_look(self._stream('look', spec.sport, spec.split, spec.index // CLIPS_PER_TAKE))

  def render(self, spec: Spec) -> np.ndarray:
    """Frames uint8[V, T, H, W, 3]."""
    truth = self.joints(spec)
    cameras, height = self._cameras(spec, truth.joints), spec.body.height
    return render.draw_views(truth.joints, cameras, self.look(spec), self.scene(spec), truth.implement, height)

  def clip(self, sport: str, split: str, index: int) -> record.Clip:
    """The record of one clip, frames included."""
    spec = self.spec(sport, split, index)
    comment = grammar.render(spec, noise=self.commentary_noise, rng=self._stream('words', sport, split, index))
    middle = spec.commentary_time
    return record.Clip(
      clip_id=spec.clip_id,
      dataset='skillsim',
      sport=spec.sport,
      skill=spec.skill,
      participant=spec.participant,
      take=spec.take,
      views=list(render.VIEWS),
      frames=self.render(spec),
      frame_times=np.repeat(TIMES[None].astype(np.float32), len(render.VIEWS), 0),
      commentary=comment,
      commentary_time=middle,
      window=np.array([max(0.0, middle - 2), min(SECONDS, middle + 2)], np.float32),
      faults=[fault.name for fault in spec.faults],
      has_faults=True,
      proficiency=spec.level,
      provenance=f'skillsim seed {self.seed}, {split} clip {index} of {sport}',
      licence=LICENCE,
    )

  def _stream(self, purpose: str, sport: str, split: str, index: int) -> np.random.Generator:
    """Independent random numbers for one purpose."""
    kind = ('clip', 'take', 'person', 'fault', 'camera', 'look', 'words', 'scene').index(purpose)
    return np.random.default_rng([self.seed, 101 + kind, list(SPORTS).index(sport), SPLITS.index(split), index])

  def _placement(self, spec: Spec) -> Placement:
    rng = self._stream('take', spec.sport, spec.split, spec.index // CLIPS_PER_TAKE)
    return Placement(heading=float(rng.uniform(0, 2 * np.pi)))

  def _props(self, spec: Spec, skill: Skill) -> tuple:
    placement = self._placement(spec)
    flip = np.array([1, -1 if spec.left_handed else 1, 1])

    def at(point: tuple[float, float, float]) -> tuple[float, float, float]:
      x, y, z = to_world(np.array(point) * flip, spec.body.height, placement)
      return float(x), float(y), float(z)

    return tuple((at(a), at(b), radius * spec.body.height, colour) for a, b, radius, colour in skill.props)

  @staticmethod
  def _style(take: np.random.Generator, clip: np.random.Generator) -> Style:
    """Mostly the take's habit, a little of the moment."""
    wide = take.uniform(-1, 1, 10) * 0.6 + clip.uniform(-1, 1, 10) * 0.4
    return Style(
      tempo=1 + 0.13 * wide[0],
      depth=0.012 * wide[1],
      lean=0.09 * wide[2],
      width=0.012 * wide[3],
      hands=(0.02 * wide[4], 0.02 * wide[5]),
      side=0.04 * wide[6],
      head=0.1 * wide[7],
      yaw=0.15 * wide[8],
      crouch=0.025 * (1 + wide[9]),
    )


_PLAIN = Style(1.0, 0.0, 0.0, 0.0, (0.0, 0.0), 0.0, 0.0, 0.0, 0.025)


def _styled(values: np.ndarray, style: Style, skill: Skill) -> np.ndarray:
  values = values.copy()
  values[:, SLICES['lean']] += style.lean
  values[:, SLICES['pelvis']][:, 2] -= style.crouch
  values[:, SLICES['side']] += style.side
  values[:, SLICES['head_pitch']] += style.head
  values[:, SLICES['head_yaw']] += style.yaw
  values[:, SLICES['la']][:, 1] += style.width
  values[:, SLICES['ra']][:, 1] -= style.width
  dip = np.maximum(0, skill.keys[0][1].get('pelvis', (0, 0, 0.52))[2] - values[:, SLICES['pelvis']][:, 2])
  values[:, SLICES['pelvis']][:, 2] -= style.depth / 0.1 * dip
  if not skill.anchored:
    for name, sign in (('lh', 1), ('rh', -1)):
      values[:, SLICES[name]][:, 1] += sign * style.hands[0]
      values[:, SLICES[name]][:, 2] += style.hands[1]
  return values


def _touch(skill: Skill, joints: np.ndarray, left_handed: bool) -> np.ndarray:
  """Where the implement sits on the limb: float[T, 3] of joints float[T, J, 3]."""
  if skill.limb == 'hands':
    return (joints[:, INDEX['left wrist']] + joints[:, INDEX['right wrist']]) / 2
  side = 'left' if left_handed else 'right'
  if skill.limb == 'right foot':
    return joints[:, INDEX[f'{side} toe']]
  wrist = joints[:, INDEX[f'{side} wrist']]
  return wrist + 0.25 * (wrist - joints[:, INDEX[f'{side} elbow']])


def _implement(
  skill: Skill,
  spec: Spec,
  placement: Placement,
  passed: np.ndarray,
  joints: np.ndarray,
  at_event: np.ndarray,
  clean: np.ndarray,
) -> np.ndarray:
  """Path of the implement float[T, 3] in metres; `passed` float[T] is the time since the event."""
  hand = _touch(skill, joints, spec.left_handed)
  if skill.kept:
    return hand
  meeting = _touch(skill, (at_event if skill.held else clean)[None], spec.left_handed)[0]
  flip = np.array([1, -1 if spec.left_handed else 1, 1])
  still = Placement(heading=placement.heading)

  def flight(seconds: np.ndarray, course: tuple[float, float, float, float]) -> np.ndarray:
    away = seconds[:, None] * np.array(course[:3]) * flip
    away[:, 2] -= 0.5 * course[3] * GRAVITY * seconds**2
    return meeting + to_world(away, spec.body.height, still)

  before = hand if skill.held else flight(passed, skill.arrival)
  path = np.where(passed[:, None] < 0, before, flight(passed, skill.departure))
  if skill.implement == 'ball':
    path[:, 2] = np.maximum(path[:, 2], 0.06 * spec.body.height)
  return path


_PALETTE: dict[str, tuple[render.Colour, render.Colour, render.Colour]] = {
  'soccer': ((165, 195, 220), (85, 145, 75), (235, 235, 230)),
  'basketball': ((150, 140, 135), (190, 140, 90), (230, 115, 40)),
  'rock climbing': ((120, 125, 135), (95, 95, 105), (240, 200, 40)),
  'fitness': ((190, 190, 200), (75, 80, 90), (45, 45, 55)),
}


def _scene(rng: np.random.Generator, sport: str, skill: Skill, props: tuple, shift: float) -> render.Scene:
  """The sport's usual place in varied light and colour; other places under camera shift."""
  base = render.random_scene(rng, skill.implement, props)
  blend = float(rng.uniform(0.1, 0.35)) + 0.55 * shift

  def tint(usual: render.Colour, other: render.Colour) -> render.Colour:
    r, g, b = (int(u + (o - u) * blend) for u, o in zip(usual, other, strict=True))
    return r, g, b

  wall, floor, thing = _PALETTE[sport]
  wall = tint(wall, base.wall)
  size = {'ball': 0.068, 'bar': 0.062, 'hold': 0.05}[skill.implement]
  return dataclasses.replace(
    base,
    wall=wall,
    floor=tint(floor, base.floor),
    accent=tint(wall, base.accent),
    implement_colour=tint(thing, base.implement_colour),
    implement_size=size * float(rng.uniform(0.92, 1.08)),
  )
