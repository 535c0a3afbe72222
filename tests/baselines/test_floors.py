"""Rows that never look at the video."""

import dataclasses
from collections import Counter

import numpy as np

from crosstrainer_jax.baselines.floors import AlwaysNone, Majority, RandomClip

NONE = np.zeros((0, 0), np.float32)


def test_always_none_says_only_none(world):
  references, features = world(5, 0)
  for answer in AlwaysNone().fit([], NONE).predict(features, references):
    assert (answer.attributes, answer.feedback, answer.level, answer.scores) == ([], None, None, None)


def test_random_copies_whole_training_clips_and_the_seed_decides(world):
  train, test = world(50, 0)[0], world(200, 1)[0]
  known = {(tuple(r.attributes), r.commentary, r.level) for r in train}
  answers = RandomClip(1).fit(train, NONE).predict(NONE, test)
  assert {(tuple(a.attributes), a.feedback, a.level) for a in answers} <= known
  assert len({a.feedback for a in answers}) > 3
  assert answers == RandomClip(1).fit(train, NONE).predict(NONE, test)
  assert answers != RandomClip(2).fit(train, NONE).predict(NONE, test)


def test_majority_is_the_most_frequent_set_with_its_commentary(world):
  train = world(300, 0)[0]
  sets = Counter(tuple(sorted(r.attributes)) for r in train)
  assert sets.most_common(1)[0][0] == ('balance',)
  rare = list(train)
  for i in range(0, 300, 3):
    rare[i] = dataclasses.replace(train[i], commentary='Rare words.')
  answer = Majority().fit(rare, NONE).predict(NONE, train[:1])[0]
  assert (answer.attributes, answer.feedback) == (['balance'], 'Work on balance.')
  assert answer.level == Counter(r.level for r in train).most_common(1)[0][0]


def test_majority_is_not_always_none_when_most_clips_are_faultless(world):
  train = [dataclasses.replace(r, attributes=[], commentary='Well done.') for r in world(50, 0)[0]]
  train[7] = dataclasses.replace(train[7], attributes=['timing', 'balance'], commentary='Too late.')
  answer = Majority().fit(train, NONE).predict(NONE, train[:1])[0]
  assert (answer.attributes, answer.feedback) == (['balance', 'timing'], 'Too late.')
  del train[7]
  answer = Majority().fit(train, NONE).predict(NONE, train[:1])[0]
  assert (answer.attributes, answer.feedback) == ([], 'Well done.')


def test_answers_do_not_share_one_list(world):
  train = world(20, 0)[0]
  for floor in (AlwaysNone(), RandomClip(0), Majority()):
    first, second = floor.fit(train, NONE).predict(NONE, train[:2])
    first.attributes.append('mine')
    assert 'mine' not in second.attributes
    assert all('mine' not in clip.attributes for clip in train)
