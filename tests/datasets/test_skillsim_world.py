"""The embedded world: deterministic specs, truth, cameras and records."""

import dataclasses

import numpy as np
import pytest

from crosstrainer_jax.datasets.skillsim import faults
from crosstrainer_jax.datasets.skillsim.body import INDEX, JOINTS
from crosstrainer_jax.datasets.skillsim.sports import SKILLS, SPORTS
from crosstrainer_jax.datasets.skillsim.world import World
from crosstrainer_jax.input import record


def _with(world, sport, *present):
  return dataclasses.replace(world.spec(sport, 'test', 3), faults=present)


def test_a_clip_depends_on_seed_split_sport_and_index_alone():
  one, two = World(seed=5).clip('fitness', 'train', 17), World(seed=5).clip('fitness', 'train', 17)
  np.testing.assert_array_equal(one.frames, two.frames)
  assert (one.commentary, one.faults, one.clip_id) == (two.commentary, two.faults, two.clip_id)
  assert (World(seed=6).clip('fitness', 'train', 17).frames != one.frames).any()


def test_the_record_is_complete():
  clip = World().clip('rock climbing', 'test', 8)
  assert clip.frames.shape == (3, 16, 64, 64, 3)
  assert clip.has_faults
  assert set(clip.faults) <= set(faults.NAMES)
  assert 0 <= clip.window[0] <= clip.commentary_time <= clip.window[1] <= 4
  assert 0 <= clip.proficiency < len(record.LEVELS)
  again = record.Clip.from_example(clip.to_example())
  assert again.commentary == clip.commentary
  world = World()
  assert world.spec_of(clip.clip_id) == world.spec('rock climbing', 'test', 8)


def test_participants_are_disjoint_and_levels_follow_hidden_skill():
  world = World()
  seen = {split: [world.spec('soccer', split, i) for i in range(0, 1200, 4)] for split in ('train', 'test')}
  people = {split: {spec.participant for spec in specs} for split, specs in seen.items()}
  assert not people['train'] & people['test']
  assert len(people['train']) + len(people['test']) >= 40
  for specs in seen.values():
    assert {spec.level for spec in specs} == {0, 1, 2, 3}
    assert {spec.skill for spec in specs} == {skill.name for skill in SPORTS['soccer']}
  level, count = np.array([(s.level, len(s.faults)) for s in seen['train']]).T
  assert count[level == 0].mean() > count[level == 3].mean() + 0.8
  assert count.max() <= 3


def test_clips_of_a_take_share_person_skill_and_static_cameras():
  world = World()
  specs = [world.spec('basketball', 'train', i) for i in range(8, 12)]
  assert len({(s.take, s.participant, s.skill) for s in specs}) == 1
  left = [world.cameras(spec)[1] for spec in specs]
  assert left[0].static
  np.testing.assert_array_equal(left[0].position, left[3].position)


def test_the_clean_twin_differs_only_by_the_fault():
  world = World()
  spec = _with(world, 'soccer', faults.Fault('head position', 'down', 0.8))
  gap = np.linalg.norm(world.joints(spec).joints - world.joints(spec, faults=False).joints, axis=-1)
  nose, ankle = gap[:, INDEX['nose']], gap[:, INDEX['left ankle']]
  assert nose.max() > 0.05
  assert ankle.max() == 0
  clean = dataclasses.replace(spec, faults=())
  np.testing.assert_array_equal(world.joints(clean).joints, world.joints(spec, faults=False).joints)


@pytest.mark.parametrize('skill', SKILLS)
def test_implement_and_limb_meet_at_the_event(skill):
  world = World()
  sport = next(name for name, skills in SPORTS.items() if skill in {s.name for s in skills})
  spec = next(s for s in (world.spec(sport, 'train', i) for i in range(0, 400, 4)) if s.skill == skill)
  truth = world.joints(dataclasses.replace(spec, event=2.0), faults=False)  # the event falls on frame 8
  assert truth.contact.sum() == 1
  at = int(truth.contact.argmax())
  assert at == 8
  limbs = [i for i, name in enumerate(JOINTS) if 'wrist' in name or 'toe' in name]
  ends = truth.joints[at, limbs]
  middle = (truth.joints[at, INDEX['left wrist']] + truth.joints[at, INDEX['right wrist']]) / 2
  assert np.linalg.norm(np.vstack([ends, middle]) - truth.implement[at], axis=-1).min() < 0.1


def test_limbs_keep_their_length():
  world = World()
  for sport in SPORTS:
    for i in range(20):
      spec = world.spec(sport, 'train', i)
      joints = world.joints(spec).joints
      shin = np.linalg.norm(joints[:, INDEX['left knee']] - joints[:, INDEX['left ankle']], axis=-1)
      np.testing.assert_allclose(shin, spec.body.shin * spec.body.height, rtol=1e-4)


def test_entanglement_makes_looks_differ_between_sports():
  fault = faults.Fault('knee bend', 'too deep', 0.8)
  same = {faults.looks(0, sport, fault, 0.0) for sport in range(4)}
  assert same == {faults.Looks()}
  assert len({faults.looks(0, sport, fault, 1.0) for sport in range(4)}) == 4
  joints = []
  for entanglement in (0.0, 1.0):
    world = World(entanglement=entanglement)
    spec = _with(world, 'soccer', fault)
    joints.append(world.joints(spec).joints)
  assert np.abs(joints[0] - joints[1]).max() > 0.02


def test_camera_shift_moves_test_cameras_only():
  usual, shifted = World(), World(camera_shift=1.0)
  for split, moved in (('train', False), ('test', True)):
    gap = np.abs(
      usual.view_angles(usual.spec('soccer', split, 0)) - shifted.view_angles(usual.spec('soccer', split, 0))
    )
    assert (gap.max() > 0.3) == moved
  np.testing.assert_array_equal(
    usual.joints(usual.spec('soccer', 'test', 0)).joints, shifted.joints(shifted.spec('soccer', 'test', 0)).joints
  )


def test_wrong_questions_are_refused():
  with pytest.raises(ValueError, match='entanglement is 2'):
    World(entanglement=2)
  with pytest.raises(ValueError, match="no sport 'chess'"):
    World().spec('chess', 'train', 0)
  with pytest.raises(ValueError, match="no split 'dev'"):
    World().spec('soccer', 'dev', 0)
