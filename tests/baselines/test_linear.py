"""The linear classifier on v."""

import dataclasses

import numpy as np
import pytest

from crosstrainer_jax.baselines.floors import Majority
from crosstrainer_jax.baselines.linear import LinearClassifier, best_cut, multi_hot, validation_split


def f1(answers, references):
  hit = sum(len(set(a.attributes) & set(r.faults)) for a, r in zip(answers, references, strict=True))
  return 2 * hit / sum(len(a.attributes) + len(r.faults) for a, r in zip(answers, references, strict=True))


def test_recovers_faults_that_are_linear_in_v(world):
  train, test = world(400, 0), world(100, 1)
  answers = LinearClassifier(0).fit(*train).predict(test[1], test[0])
  assert f1(answers, test[0]) > 0.9
  assert f1(answers, test[0]) > f1(Majority().fit(*train).predict(test[1], test[0]), test[0]) + 0.3
  right = [a.feedback == r.commentary for a, r in zip(answers, test[0], strict=True)]
  assert np.mean(right) > 0.7
  assert np.mean([a.level == r.level for a, r in zip(answers, test[0], strict=True)]) > 0.6


def test_learns_nothing_from_noise(world):
  train, test = world(400, 0), world(200, 1)
  rng = np.random.default_rng(5)
  noise = [rng.normal(size=part[1].shape).astype(np.float32) for part in (train, test)]
  answers = LinearClassifier(0).fit(train[0], noise[0]).predict(noise[1], test[0])
  everything = [r.answer(['balance', 'knee bend', 'timing']) for r in test[0]]
  assert f1(answers, test[0]) < f1(everything, test[0]) + 0.05


def test_attributes_come_surest_first_with_their_probability(world):
  train, test = world(200, 0), world(50, 1)
  for answer in LinearClassifier(0).fit(*train).predict(test[1], test[0]):
    assert set(answer.scores) == {'balance', 'knee bend', 'timing'}
    chances = [answer.scores[name] for name in answer.attributes]
    assert chances == sorted(chances, reverse=True)
    assert all(0 <= chance <= 1 for chance in answer.scores.values())


def test_rare_attributes_are_left_out(world):
  train, features = world(100, 0)
  train[0] = dataclasses.replace(train[0], attributes=['once'])
  assert LinearClassifier(0).fit(train, features).vocabulary == ['balance', 'timing', 'knee bend']
  assert LinearClassifier(0, max_attributes=1).fit(train, features).vocabulary == ['balance']


def test_an_attribute_that_every_clip_has_is_left_out(world):
  train, features = world(100, 0)
  train = [dataclasses.replace(r, attributes=[*r.attributes, 'always']) for r in train]
  assert 'always' not in LinearClassifier(0).fit(train, features).vocabulary


def test_validation_part_shares_no_participant(world):
  train = world(80, 0)[0]
  part, held = validation_split(train, 0)
  assert not {train[i].participant for i in part} & {train[i].participant for i in held}
  assert sorted([*part, *held]) == list(range(80))
  alone = [dataclasses.replace(r, participant='one') for r in train]
  part, held = validation_split(alone, 0)
  assert (len(part), len(held)) == (64, 16)


@pytest.mark.parametrize(
  ('chances', 'labels', 'expected'),
  [
    ([0.9, 0.8, 0.3, 0.1], [1, 1, 0, 0], 0.8),
    ([0.9, 0.8, 0.3, 0.1], [1, 0, 1, 0], 0.3),  # F1 0.8 against 0.67 for 0.9
    ([0.9, 0.1], [0, 0], 0.5),
    ([0.2, 0.2], [1, 0], 0.2),
    ([0.6, 0.4, 0.4, 0.4, 0.4], [0, 1, 0, 0, 0], 0.4),
  ],
)
def test_best_cut_by_hand(chances, labels, expected):
  assert best_cut(np.array(chances), np.array(labels, bool)) == pytest.approx(expected)


def test_a_cut_never_splits_equal_probabilities():
  rng = np.random.default_rng(0)
  for _ in range(50):
    chances, labels = rng.integers(0, 4, 12) / 4, rng.random(12) < 0.4
    if not labels.any():
      continue
    named = {cut: chances >= cut for cut in set(chances)}
    scores = {cut: 2 * (said & labels).sum() / (said.sum() + labels.sum()) for cut, said in named.items()}
    assert scores[best_cut(chances, labels)] == pytest.approx(max(scores.values()))


def test_multi_hot(world):
  train = world(6, 0)[0]
  assert multi_hot(train, []).shape == (6, 0)
  assert multi_hot([], ['balance']).shape == (0, 1)
  assert multi_hot(train, ['balance'])[:, 0].tolist() == ['balance' in r.attributes for r in train]
