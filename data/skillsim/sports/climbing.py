"""Rock climbing: static reach, dynamic move, foot swap, on the first holds of a wall."""

from crosstrainer_jax.datasets.skillsim.sports.skill import Skill

_GREYS = ((205, 120, 60), (70, 150, 90), (190, 60, 110), (220, 200, 80))


def _wall(*holds: tuple[float, float]) -> tuple:
  """A panel behind holds at (y, z), 0.42 in front of the climber."""
  panel = tuple(
    ((0.62, -1.0 + 0.5 * i, 0.1), (0.62, -1.0 + 0.5 * i, 1.9), 0.3, (158 - 6 * (i % 2), 148, 135)) for i in range(5)
  )
  lumps = tuple(((0.4, y, z), (0.4, y, z), 0.035, _GREYS[i % 4]) for i, (y, z) in enumerate(holds))
  return panel + lumps


_START = {
  'pelvis': (0.08, 0.0, 0.58),
  'lean': 0.05,
  'head_pitch': -0.15,
  'lh': (0.37, 0.14, 1.08),
  'rh': (0.37, -0.14, 1.02),
  'la': (0.28, 0.1, 0.13),
  'ra': (0.28, -0.1, 0.13),
  'toe_pitch': (0.2, 0.2),
  'toe_yaw': (0.35, 0.35),
  'knee_out': (0.55, 0.55),
}
_SINK = {'pelvis': (0.0, 0.0, 0.505), 'lean': 0.12, 'head_pitch': -0.25}

STATIC_REACH = Skill(
  name='static reach',
  implement='hold',
  limb='right hand',
  anchored=True,
  props=_wall((0.14, 1.08), (-0.14, 1.02), (0.1, 0.1), (-0.1, 0.1), (0.3, 1.4)),
  keys=(
    (-1.6, _START),
    (-1.1, {'pelvis': (0.06, 0.01, 0.57), 'head_pitch': -0.2}),
    (-0.6, {**_SINK, 'rh': (0.33, -0.14, 1.0)}),
    (-0.25, {'rh': (0.28, -0.16, 1.12)}),
    (0.0, {'pelvis': (0.16, -0.01, 0.6), 'lean': 0.08, 'rh': (0.36, -0.15, 1.2)}),
    (0.45, {'pelvis': (0.13, -0.02, 0.59), 'head_pitch': -0.1, 'ra': (0.28, -0.1, 0.14)}),
    (0.8, {'ra': (0.22, -0.1, 0.19), 'pelvis': (0.12, -0.02, 0.585)}),
    (1.2, {'ra': (0.28, -0.11, 0.23), 'pelvis': (0.09, -0.01, 0.565), 'lh': (0.37, 0.14, 1.08)}),
    (1.7, {'pelvis': (0.11, 0.0, 0.6), 'head_pitch': -0.15}),
  ),
)

DYNAMIC_MOVE = Skill(
  name='dynamic move',
  implement='hold',
  limb='hands',
  anchored=True,
  props=_wall((0.12, 0.98), (-0.12, 0.98), (0.1, 0.1), (-0.1, 0.1), (-0.3, 1.5)),
  keys=(
    (-1.6, {**_START, 'lh': (0.37, 0.12, 0.98), 'rh': (0.37, -0.12, 0.98)}),
    (-1.1, {'pelvis': (0.05, 0.0, 0.57), 'head_pitch': -0.2}),
    (-0.6, {**_SINK, 'pelvis': (-0.03, 0.0, 0.495)}),
    (-0.2, {'lh': (0.34, 0.1, 1.02), 'rh': (0.34, -0.1, 1.02)}),
    (
      0.0,
      {
        'pelvis': (0.14, 0.0, 0.655),
        'lean': 0.05,
        'lh': (0.37, 0.1, 1.24),
        'rh': (0.37, -0.1, 1.24),
        'la': (0.22, 0.1, 0.18),
        'ra': (0.22, -0.1, 0.18),
        'toe_pitch': (0.7, 0.7),
      },
    ),
    (0.45, {'pelvis': (0.06, 0.0, 0.62), 'la': (0.12, 0.09, 0.2), 'ra': (0.12, -0.09, 0.2), 'head_pitch': -0.1}),
    (1.1, {'pelvis': (0.1, 0.0, 0.62), 'la': (0.28, 0.1, 0.17), 'ra': (0.26, -0.1, 0.19), 'toe_pitch': (0.2, 0.2)}),
    (1.7, {'pelvis': (0.12, 0.0, 0.64), 'la': (0.28, 0.1, 0.17), 'ra': (0.28, -0.1, 0.17)}),
  ),
)

FOOT_SWAP = Skill(
  name='foot swap',
  implement='hold',
  limb='right foot',
  anchored=True,
  props=_wall((0.14, 1.05), (-0.14, 1.05), (0.09, 0.1), (0.3, 1.4), (-0.35, 0.6)),
  keys=(
    (-1.6, {**_START, 'lh': (0.37, 0.14, 1.05), 'rh': (0.37, -0.14, 1.05), 'ra': (0.2, -0.09, 0.07)}),
    (-1.1, {'pelvis': (0.06, 0.02, 0.57), 'ra': (0.16, -0.09, 0.09), 'head_pitch': 0.1}),
    (-0.6, {**_SINK, 'head_pitch': 0.2, 'ra': (0.14, -0.09, 0.12)}),
    (-0.25, {'ra': (0.17, -0.1, 0.2)}),
    (0.0, {'pelvis': (0.14, 0.02, 0.6), 'lean': 0.06, 'ra': (0.27, -0.09, 0.17), 'la': (0.26, 0.1, 0.14)}),
    (0.45, {'pelvis': (0.12, -0.02, 0.585), 'la': (0.18, 0.1, 0.1), 'head_pitch': 0.0}),
    (0.8, {'la': (0.15, 0.1, 0.16)}),
    (1.2, {'pelvis': (0.09, 0.0, 0.56), 'la': (0.28, 0.1, 0.17), 'head_pitch': -0.15}),
    (1.7, {'pelvis': (0.11, 0.0, 0.6)}),
  ),
)

SKILLS = (STATIC_REACH, DYNAMIC_MOVE, FOOT_SWAP)
