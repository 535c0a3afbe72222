"""Generic motion: shapes, determinism, coverage and geometry of the targets."""

import dataclasses
import subprocess
import sys

import numpy as np

from crosstrainer_jax.datasets.skillsim import generic
from crosstrainer_jax.datasets.skillsim.body import INDEX, JOINTS, facing, rotation
from crosstrainer_jax.datasets.skillsim.sports import SPORTS
from crosstrainer_jax.datasets.skillsim.world import World


def test_shapes_and_names():
  frames, targets = generic.batch(0, [3, 4])
  assert frames.shape == (2, 3, 16, 64, 64, 3)
  assert frames.dtype == np.uint8
  assert targets.shape == (2, 3, 16, len(generic.TARGET_NAMES))
  assert targets.dtype == np.float32
  assert len(set(generic.TARGET_NAMES)) == len(generic.TARGET_NAMES) == len(JOINTS) * 8 + 6
  assert np.isfinite(targets).all()


def test_a_clip_depends_on_seed_and_index_alone():
  frames, targets = generic.batch(7, [5, 9])
  again, same = generic.batch(7, [9])
  np.testing.assert_array_equal(frames[1], again[0])
  np.testing.assert_array_equal(targets[1], same[0])
  np.testing.assert_array_equal(targets, generic.batch_targets(7, [5, 9]))
  other, _ = generic.batch(8, [9])
  assert (other[0] != again[0]).any()


def test_camera_and_body_targets_describe_the_same_pose():
  _, targets = generic.batch(0, range(4))
  joints = len(JOINTS) * 3
  camera = targets[..., :joints].reshape(4, 3, 16, -1, 3)
  upright = targets[..., joints : 2 * joints].reshape(4, 3, 16, -1, 3)
  np.testing.assert_allclose(np.linalg.norm(camera, axis=-1), np.linalg.norm(upright, axis=-1), atol=1e-5)
  np.testing.assert_allclose(upright[:, 0], upright[:, 2], atol=1e-6)
  hips = upright[..., INDEX['left hip'], :] - upright[..., INDEX['right hip'], :]
  assert (hips[..., 1] > 0).all()
  np.testing.assert_allclose(hips[..., 0], 0, atol=1e-5)


def test_motion_is_wide():
  joints = np.stack([generic.joints(1, i) for i in range(300)])
  height = joints[..., 2]
  up = np.linalg.norm(joints - joints[:, :, :1], axis=-1).max((1, 2))
  legs = [INDEX['left hip'], INDEX['left knee'], INDEX['left ankle']]
  thigh, shin = (joints[:, :, legs[i]] - joints[:, :, legs[i + 1]] for i in (0, 1))
  cosine = (thigh * shin).sum(-1) / np.linalg.norm(thigh, axis=-1) / np.linalg.norm(shin, axis=-1)
  bend = np.degrees(np.arccos(np.clip(cosine, -1, 1)))
  assert (bend < 15).mean() > 0.02
  assert (bend > 100).mean() > 0.02
  assert (height[..., INDEX['left wrist']] > height[..., INDEX['head']]).mean() > 0.1
  assert (height[..., INDEX['head']] < height[..., INDEX['pelvis']]).mean() > 0.01
  assert height.min() > -0.6
  assert up.max() < 2.5


def test_a_body_is_drawn_and_moves():
  frames, _ = generic.batch(2, range(6))
  static = frames[:, 1:].astype(int)
  changed = np.abs(static - static[:, :, :1]).sum(-1) > 60
  assert (changed.mean((2, 3, 4)) > 0.001).any()


def test_generic_motion_imports_no_sport():
  code = (
    'import sys; from crosstrainer_jax.datasets.skillsim import generic; generic.batch(0, [0]); '
    'print([m for m in sys.modules if "skillsim" in m])'
  )
  loaded = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True).stdout
  assert 'skillsim.generic' in loaded
  for absent in ('sports', 'faults', 'world', 'grammar'):
    assert f'skillsim.{absent}' not in loaded


def _shape(joints: np.ndarray) -> np.ndarray:
  """Joints float[T, J, 3] centred on the pelvis, facing x, in trunk lengths."""
  yaw = facing(joints)
  upright = (joints - joints[:, :1]) @ rotation(yaw, 0 * yaw, 0 * yaw)
  return upright / np.linalg.norm(joints[:, INDEX['neck']] - joints[:, 0], axis=-1).mean()


def test_generic_motion_saw_no_sport():
  """No generic clip comes as close to a sport's nominal motion as other athletes doing that skill do."""
  seen = np.stack([_shape(generic.joints(0, i)) for i in range(1000)])
  world = World()
  for sport, skills in SPORTS.items():
    for skill in skills:
      specs = [s for s in (world.spec(sport, 'train', i) for i in range(0, 240, 4)) if s.skill == skill.name]
      # Same moment of the event and same hand, so that what is left is the athlete's style.
      specs = [dataclasses.replace(s, event=2.0, left_handed=False) for s in specs[:12]]
      nominal, *others = (_shape(world.joints(spec, faults=False).joints) for spec in specs)
      own = np.median([np.linalg.norm(other - nominal, axis=-1).mean() for other in others])
      nearest = np.linalg.norm(seen - nominal, axis=-1).mean((1, 2)).min()
      assert nearest > 1.5 * own, (skill.name, nearest, own)
