"""Draws joints as a clothed figure, 64 x 64 pixels, with OpenCV's anti-aliased polygons.

Limbs are tapered capsules (octagons) painted from far to near; left limbs are darker than right ones; face and chest
badge are discs in front of head and chest, so that depth order alone tells front from back. The background is one
canvas per camera with a fixed pattern of light noise: consecutive frames repeat it, hence zlib finds it again.
"""

import dataclasses
from collections.abc import Sequence

import cv2
import numpy as np

from crosstrainer_jax.datasets.skillsim.body import INDEX, facing
from crosstrainer_jax.datasets.skillsim.camera import Camera

SIZE = 64
VIEWS = ('close', 'left', 'right')
FRAMES = 16
FPS = 4
IMPLEMENTS = ('ball', 'bar', 'hold', 'none')

Colour = tuple[int, int, int]
_SHIFT = 4
_LINE = cv2.LINE_AA
# Octagon around a capsule, as (along, across) in radii, for its first and its second end.
_CAP_A = np.array([(0.0, 1.0), (-0.75, 0.65), (-0.75, -0.65), (0.0, -1.0)])
_CAP_B = np.array([(0.0, -1.0), (0.75, -0.65), (0.75, 0.65), (0.0, 1.0)])

# Derived points, appended to the joints in this order.
_FACE, _BADGE, _LEFT_HAND, _RIGHT_HAND, _IMPLEMENT_A, _IMPLEMENT_B = range(19, 25)


def _limbs() -> list[tuple[int, int, float, float, str]]:
  """(first point, second point, their radii in standing heights, part of the clothing)."""
  j = INDEX
  limbs: list[tuple[int, int, float, float, str]] = []
  for side, hand in (('left', _LEFT_HAND), ('right', _RIGHT_HAND)):
    limbs += [
      (j[f'{side} hip'], j[f'{side} knee'], 0.050, 0.034, f'{side} thigh'),
      (j[f'{side} knee'], j[f'{side} ankle'], 0.034, 0.022, f'{side} shin'),
      (j[f'{side} ankle'], j[f'{side} toe'], 0.026, 0.020, f'{side} shoe'),
      (j[f'{side} shoulder'], j[f'{side} elbow'], 0.032, 0.026, f'{side} sleeve'),
      (j[f'{side} elbow'], j[f'{side} wrist'], 0.025, 0.018, f'{side} forearm'),
      (j[f'{side} wrist'], hand, 0.022, 0.020, f'{side} hand'),
      (j[f'{side} hip'], j[f'{side} shoulder'], 0.046, 0.036, 'shirt'),
    ]
  limbs += [
    (j['left hip'], j['right hip'], 0.050, 0.050, 'shorts'),
    (j['left shoulder'], j['right shoulder'], 0.036, 0.036, 'shirt'),
    (j['pelvis'], j['neck'], 0.054, 0.042, 'shirt'),
    (j['neck'], j['head'], 0.028, 0.030, 'skin'),
    (j['head'], j['head'], 0.062, 0.062, 'hair'),
    (_FACE, _FACE, 0.048, 0.048, 'skin'),
    (_FACE, j['nose'], 0.014, 0.012, 'nose'),
    (_BADGE, _BADGE, 0.032, 0.032, 'badge'),
    (_IMPLEMENT_A, _IMPLEMENT_B, 1.0, 1.0, 'implement'),
  ]
  return limbs


_LIMBS = _limbs()
_FIRST = np.array([limb[0] for limb in _LIMBS])
_SECOND = np.array([limb[1] for limb in _LIMBS])
_RADII = np.array([limb[2:4] for limb in _LIMBS])
_PARTS = [limb[4] for limb in _LIMBS]


@dataclasses.dataclass(frozen=True)
class Look:
  """Colours (RGB) and build of one athlete."""

  skin: Colour = (224, 172, 140)
  hair: Colour = (60, 40, 30)
  shirt: Colour = (40, 90, 200)
  shorts: Colour = (30, 30, 40)
  shoes: Colour = (230, 230, 230)
  badge: Colour = (250, 240, 120)
  long_sleeves: bool = False
  long_trousers: bool = False
  girth: float = 1.0

  def colours(self, implement: Colour) -> list[Colour]:
    """One colour for each limb of the figure, left limbs darkened."""
    base = {
      'thigh': self.shorts,
      'shin': self.shorts if self.long_trousers else self.skin,
      'shoe': self.shoes,
      'sleeve': self.shirt,
      'forearm': self.shirt if self.long_sleeves else self.skin,
      'hand': self.skin,
    }
    whole = {
      'shirt': self.shirt,
      'shorts': self.shorts,
      'skin': self.skin,
      'hair': self.hair,
      'nose': _shade(self.skin, 0.55),
      'badge': self.badge,
      'implement': implement,
    }
    colours = []
    for part in _PARTS:
      side, _, name = part.rpartition(' ')
      colours.append(whole[part] if part in whole else _shade(base[name], 0.62 if side == 'left' else 1.12))
    return colours


@dataclasses.dataclass(frozen=True)
class Scene:
  """Everything but the athlete: backdrop above the horizon, floor below, props standing around, and the implement."""

  wall: Colour = (170, 190, 205)
  floor: Colour = (120, 140, 100)
  accent: Colour = (150, 165, 180)
  pattern: str = 'stripes'  # 'stripes', 'gradient' or 'plain'
  noise: int = 2
  texture_seed: int = 0
  implement: str = 'ball'
  implement_colour: Colour = (240, 130, 40)
  implement_size: float = 0.06  # radius, in standing heights
  # Segments in world metres drawn behind the athlete: (start, end, radius in metres, colour).
  props: tuple[tuple[tuple[float, float, float], tuple[float, float, float], float, Colour], ...] = ()


def _shade(colour: Sequence[int], factor: float) -> Colour:
  r, g, b = (int(min(255, max(0, c * factor))) for c in colour)
  return r, g, b


def random_look(rng: np.random.Generator) -> Look:
  """Varied skin, hair, clothes and build."""
  skin = _mix((245, 205, 175), (85, 52, 35), float(rng.uniform()))
  hair = [(35, 25, 20), (110, 70, 35), (215, 175, 95), (150, 150, 150), (150, 55, 30)][rng.integers(5)]
  shirt, shorts, shoes, badge = (_random_colour(rng) for _ in range(4))
  sleeves, trousers = rng.uniform(size=2) < 0.3
  return Look(skin, hair, shirt, shorts, shoes, badge, bool(sleeves), bool(trousers), float(rng.uniform(0.85, 1.2)))


def random_scene(rng: np.random.Generator, implement: str, props: tuple = ()) -> Scene:
  """Varied backdrop, floor and implement colours."""
  wall, floor, ball = (_random_colour(rng, 0.55) for _ in range(3))
  return Scene(
    wall=wall,
    floor=floor,
    accent=_shade(wall, float(rng.uniform(0.75, 1.2))),
    pattern=('stripes', 'gradient', 'plain')[rng.integers(3)],
    noise=int(rng.integers(1, 4)),
    texture_seed=int(rng.integers(2**31)),
    implement=implement,
    implement_colour=ball,
    implement_size=float(rng.uniform(0.05, 0.075)),
    props=props,
  )


def _mix(a: Colour, b: Colour, weight: float) -> Colour:
  r, g, b_ = (int(x + (y - x) * weight) for x, y in zip(a, b, strict=True))
  return r, g, b_


def _random_colour(rng: np.random.Generator, saturation: float = 1.0) -> Colour:
  value = rng.uniform(0.4, 1.0)
  raw = rng.uniform(0, 255, 3)
  r, g, b = (int(value * (saturation * c + (1 - saturation) * 200)) for c in raw)
  return r, g, b


def _canvas(scene: Scene, size: int) -> np.ndarray:
  """uint8[3 size, 4 size, 3] with the horizon at row 1.5 size; cameras cut their backgrounds from it."""
  height, width, horizon = 3 * size, 4 * size, 3 * size // 2
  canvas = np.empty((height, width, 3), np.int16)
  canvas[:horizon] = scene.wall
  canvas[horizon:] = scene.floor
  if scene.pattern == 'stripes':
    step = size // 4
    for left in range(0, width, 2 * step):
      canvas[:horizon, left : left + step] = scene.accent
    for row in range(horizon + 2, height, step // 2):
      canvas[row : row + 2] = _shade(scene.floor, 0.9)
  elif scene.pattern == 'gradient':
    steps = np.arange(height) // 8
    canvas += ((steps % 24) * 2 - 24).astype(np.int16)[:, None, None]
  canvas[horizon - 1 : horizon + 1] = _shade(scene.floor, 0.7)
  if scene.noise:
    rng = np.random.default_rng(scene.texture_seed)
    grain = rng.integers(-scene.noise, scene.noise + 1, (size, size, 1), np.int16) * 2
    canvas += np.tile(grain, (3, 4, 1))
  return np.clip(canvas, 0, 255).astype(np.uint8)


def _backgrounds(camera: Camera, scene: Scene, canvas: np.ndarray, frames: int, size: int) -> np.ndarray:
  """uint8[T, size, size, 3], or T = 1 for a static camera."""
  count = 1 if camera.static else frames
  depth = camera.axes[:count, 2]
  slope = depth[:, 2] / (np.hypot(depth[:, 0], depth[:, 1]) + 1e-6)
  horizon = np.rint(size / 2 + camera.focal * size * slope)
  heading = np.unwrap(np.arctan2(depth[:, 1], depth[:, 0]))
  rows = np.clip(3 * size // 2 - horizon, 0, 2 * size).astype(int)
  columns = (np.rint(-heading * camera.focal * size).astype(int)) % (3 * size)
  images = np.stack([canvas[r : r + size, c : c + size] for r, c in zip(rows, columns, strict=True)])
  if scene.props:
    ends = np.array([[start, end] for start, end, _, _ in scene.props]).reshape(1, -1, 3)
    view = dataclasses.replace(camera, position=camera.position[:count], axes=camera.axes[:count])
    pixels, distance = view.project(np.repeat(ends, count, 0), size)
    radius = np.repeat([prop[2] for prop in scene.props], 2) * camera.focal * size / distance
    shapes = _capsules(pixels[:, 0::2], pixels[:, 1::2], radius[:, 0::2], radius[:, 1::2])
    for t in range(count):
      image = np.ascontiguousarray(images[t])
      for k, prop in enumerate(scene.props):
        cv2.fillConvexPoly(image, shapes[t, k], prop[3], _LINE, _SHIFT)
      images[t] = image
  return images


def _capsules(a: np.ndarray, b: np.ndarray, radius_a: np.ndarray, radius_b: np.ndarray) -> np.ndarray:
  """Fixed-point octagons int32[..., 8, 2] around segments a-b float[..., 2] with end radii float[...]."""
  along = b - a
  length = np.sqrt((along**2).sum(-1, keepdims=True))
  along = np.where(length > 1e-3, along / np.maximum(length, 1e-3), np.array([1.0, 0.0]))
  across = np.stack([-along[..., 1], along[..., 0]], -1)
  axes = np.stack([along, across], -2)  # [..., 2, 2]
  points = np.concatenate(
    [
      a[..., None, :] + radius_a[..., None, None] * (_CAP_A @ axes),
      b[..., None, :] + radius_b[..., None, None] * (_CAP_B @ axes),
    ],
    -2,
  )
  return np.rint(np.clip(points, -500, 500) * (1 << _SHIFT)).astype(np.int32)


def _figure_points(joints: np.ndarray, height: float, implement: np.ndarray, kind: str, size: float) -> np.ndarray:
  """Joints and derived points float[T, 25, 3]."""
  points = np.empty((len(joints), 25, 3))
  points[:, :19] = joints
  head, nose, chest, neck = (joints[:, INDEX[n]] for n in ('head', 'nose', 'chest', 'neck'))
  points[:, _FACE] = head + 0.45 * (nose - head)
  across = joints[:, INDEX['left shoulder']] - joints[:, INDEX['right shoulder']]
  front = np.cross(across, neck - joints[:, 0])
  front /= np.linalg.norm(front, axis=-1, keepdims=True) + 1e-9
  points[:, _BADGE] = chest + 0.075 * height * front
  for side, hand in (('left', _LEFT_HAND), ('right', _RIGHT_HAND)):
    wrist = joints[:, INDEX[f'{side} wrist']]
    points[:, hand] = wrist + 0.22 * (wrist - joints[:, INDEX[f'{side} elbow']])
  half = np.zeros_like(implement)
  if kind == 'bar':
    yaw = facing(joints)
    half = 4.5 * size * height * np.stack([-np.sin(yaw), np.cos(yaw), 0 * yaw], -1)
  points[:, _IMPLEMENT_A] = implement - half
  points[:, _IMPLEMENT_B] = implement + half
  return points


def draw(
  joints: np.ndarray,
  camera: Camera,
  look: Look,
  scene: Scene,
  implement: np.ndarray | None = None,
  height: float = 1.75,
  size: int = SIZE,
) -> np.ndarray:
  """uint8[T, size, size, 3]: `draw_views` for a single camera."""
  return draw_views(joints, [camera], look, scene, implement, height, size)[0]


def draw_views(
  joints: np.ndarray,
  cameras: Sequence[Camera],
  look: Look,
  scene: Scene,
  implement: np.ndarray | None = None,
  height: float = 1.75,
  size: int = SIZE,
) -> np.ndarray:
  """uint8[V, T, size, size, 3]: any joints float32[T, J, 3] (metres, order of `body.JOINTS`) seen by a camera.

  `implement` float32[T, 3] in metres is drawn as `scene.implement`; None or the kind 'none' draws none. `height`
  scales limb girths.
  """
  frames = len(joints)
  visible = implement is not None and scene.implement != 'none'
  where = implement if implement is not None else joints[:, 0]
  points = _figure_points(joints, height, where, scene.implement, scene.implement_size)
  radii = _RADII * (height * look.girth)
  radii[-1] = scene.implement_size * height * {'bar': 0.45, 'hold': 0.8}.get(scene.implement, 1.0)
  colours = look.colours(scene.implement_colour)
  canvas = _canvas(scene, size)
  images = np.empty((len(cameras), frames, size, size, 3), np.uint8)
  for view, camera in zip(images, cameras, strict=True):
    pixels, depth = camera.project(points, size)
    first, second = (camera.focal * size / depth[:, ends] * radii[:, i] for i, ends in enumerate((_FIRST, _SECOND)))
    shapes = _capsules(pixels[:, _FIRST], pixels[:, _SECOND], first, second)
    near = (depth[:, _FIRST] + depth[:, _SECOND]) / 2
    if not visible:
      near = near[:, :-1]  # the implement is the last limb
    order = np.argsort(-near, axis=1)
    view[:] = _backgrounds(camera, scene, canvas, frames, size)
    for image, shape, row in zip(view, shapes, order.tolist(), strict=True):
      for k in row:
        cv2.fillConvexPoly(image, shape[k], colours[k], _LINE, _SHIFT)
  return images
