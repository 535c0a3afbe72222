"""Rock climbing: static reach, dynamic move, foot swap, on the first holds of a wall."""

from crosstrainer_jax.datasets.skillsim.sports.skill import Skill

_GREYS = ((205, 120, 60), (70, 150, 90), (190, 60, 110), (220, 200, 80))


def _wall(*holds: tuple[float, float]) -> tuple:
  """A panel behind holds at (y, z), 0.38 in front of the climber."""
  panel = tuple(
    ((0.62, -1.0 + 0.5 * i, 0.1), (0.62, -1.0 + 0.5 * i, 1.9), 0.3, (158 - 6 * (i % 2), 148, 135)) for i in range(5)
  )
  lumps = tuple(((0.38, y, z), (0.38, y, z), 0.035, _GREYS[i % 4]) for i, (y, z) in enumerate(holds))
  return panel + lumps


_START = {
  'pelvis': (0.08, 0.0, 0.59),
  'lean': 0.08,
  'head_pitch': -0.15,
  'lh': (0.34, 0.115, 0.99),
  'rh': (0.34, -0.115, 0.95),
  'la': (0.21, 0.1, 0.13),
  'ra': (0.21, -0.1, 0.13),
  'toe_pitch': (0.2, 0.2),
  'toe_yaw': (0.3, 0.3),
  'knee_out': (0.45, 0.45),
}
_SINK = {'pelvis': (0.07, 0.0, 0.505), 'lean': 0.12, 'head_pitch': -0.22}

STATIC_REACH = Skill(
  name='static reach',
  implement='hold',
  limb='right hand',
  anchored=True,
  props=_wall((0.115, 0.99), (-0.115, 0.95), (0.1, 0.1), (-0.1, 0.1), (0.3, 1.4)),
  keys=(
    (-1.6, _START),
    (-1.1, {'pelvis': (0.08, 0.01, 0.58), 'head_pitch': -0.2}),
    (-0.6, {**_SINK, 'rh': (0.31, -0.115, 0.94)}),
    (-0.25, {'rh': (0.28, -0.12, 1.06)}),
    (0.0, {'pelvis': (0.14, -0.01, 0.615), 'lean': 0.08, 'rh': (0.36, -0.12, 1.15)}),
    (0.45, {'pelvis': (0.12, -0.02, 0.595), 'head_pitch': -0.1, 'ra': (0.21, -0.1, 0.14)}),
    (0.8, {'ra': (0.15, -0.1, 0.18), 'pelvis': (0.1, -0.02, 0.585)}),
    (1.2, {'ra': (0.21, -0.11, 0.2), 'pelvis': (0.08, -0.01, 0.57)}),
    (1.7, {'pelvis': (0.1, 0.0, 0.6), 'head_pitch': -0.15}),
  ),
)

DYNAMIC_MOVE = Skill(
  name='dynamic move',
  implement='hold',
  limb='hands',
  anchored=True,
  props=_wall((0.12, 0.96), (-0.12, 0.96), (0.1, 0.1), (-0.1, 0.1), (-0.3, 1.5)),
  keys=(
    (-1.6, {**_START, 'lh': (0.34, 0.12, 0.96), 'rh': (0.34, -0.12, 0.96)}),
    (-1.1, {'pelvis': (0.07, 0.0, 0.58), 'head_pitch': -0.2}),
    (-0.6, {**_SINK, 'pelvis': (0.05, 0.0, 0.5)}),
    (-0.2, {'lh': (0.32, 0.1, 1.02), 'rh': (0.32, -0.1, 1.02)}),
    (
      0.0,
      {
        'pelvis': (0.13, 0.0, 0.655),
        'lean': 0.05,
        'lh': (0.36, 0.1, 1.19),
        'rh': (0.36, -0.1, 1.19),
        'la': (0.17, 0.1, 0.16),
        'ra': (0.17, -0.1, 0.16),
        'toe_pitch': (0.6, 0.6),
      },
    ),
    (0.45, {'pelvis': (0.07, 0.0, 0.63), 'la': (0.09, 0.09, 0.18), 'ra': (0.09, -0.09, 0.18), 'head_pitch': -0.1}),
    (1.1, {'pelvis': (0.08, 0.0, 0.6), 'la': (0.21, 0.1, 0.15), 'ra': (0.19, -0.1, 0.17), 'toe_pitch': (0.2, 0.2)}),
    (1.7, {'pelvis': (0.1, 0.0, 0.625), 'la': (0.21, 0.1, 0.15), 'ra': (0.21, -0.1, 0.15)}),
  ),
)

FOOT_SWAP = Skill(
  name='foot swap',
  implement='hold',
  limb='right foot',
  anchored=True,
  props=_wall((0.115, 0.97), (-0.115, 0.97), (0.09, 0.1), (0.3, 1.4), (-0.35, 0.6)),
  keys=(
    (-1.6, {**_START, 'lh': (0.34, 0.115, 0.97), 'rh': (0.34, -0.115, 0.97), 'ra': (0.15, -0.09, 0.08)}),
    (-1.1, {'pelvis': (0.08, 0.02, 0.58), 'ra': (0.11, -0.09, 0.1), 'head_pitch': 0.05}),
    (-0.6, {**_SINK, 'head_pitch': 0.15, 'ra': (0.1, -0.09, 0.12)}),
    (-0.25, {'ra': (0.12, -0.1, 0.19)}),
    (0.0, {'pelvis': (0.13, 0.02, 0.615), 'lean': 0.06, 'ra': (0.21, -0.09, 0.16), 'la': (0.2, 0.1, 0.14)}),
    (0.45, {'pelvis': (0.11, -0.02, 0.6), 'la': (0.13, 0.1, 0.12), 'head_pitch': 0.0}),
    (0.8, {'la': (0.1, 0.1, 0.15)}),
    (1.2, {'pelvis': (0.08, 0.0, 0.575), 'la': (0.21, 0.1, 0.16), 'head_pitch': -0.1}),
    (1.7, {'pelvis': (0.1, 0.0, 0.605)}),
  ),
)

SKILLS = (STATIC_REACH, DYNAMIC_MOVE, FOOT_SWAP)
