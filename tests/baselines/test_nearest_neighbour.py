"""Cosine similarity by hand, and against scikit-learn."""

import numpy as np
from sklearn.metrics.pairwise import cosine_similarity

from crosstrainer_jax.baselines.nearest_neighbour import NearestNeighbour, unit


def test_a_training_clip_finds_itself(world):
  train, features = world(60, 0)
  for answer, clip in zip(NearestNeighbour().fit(train, features).predict(features, train), train, strict=True):
    assert (answer.attributes, answer.feedback, answer.level) == (clip.attributes, clip.commentary, clip.level)


def test_agrees_with_scikit_learn_on_centred_features(world):
  train, features = world(60, 0)
  test, others = world(30, 1)
  nearest = cosine_similarity(others - features.mean(axis=0), features - features.mean(axis=0)).argmax(axis=1)
  answers = NearestNeighbour().fit(train, features).predict(others, test)
  assert [a.attributes for a in answers] == [train[i].attributes for i in nearest]


def test_length_and_a_constant_part_do_not_matter(world):
  train, features = world(60, 0)
  test, others = world(30, 1)
  plain = NearestNeighbour().fit(train, features).predict(others, test)
  shifted = NearestNeighbour().fit(train, 10 * features + 100).predict(10 * others + 100, test)
  assert sum(a == b for a, b in zip(plain, shifted, strict=True)) >= 29  # float32 may turn a tie


def test_equal_features_take_the_first_training_clip(world):
  train = world(5, 0)[0]
  same = np.ones((5, 4), np.float32)
  answers = NearestNeighbour().fit(train, same).predict(same, train)
  assert {a.feedback for a in answers} == {train[0].commentary}
  assert np.array_equal(unit(np.zeros((1, 4), np.float32)), np.zeros((1, 4)))
