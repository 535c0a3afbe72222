"""What every registered baseline promises."""

import dataclasses

import numpy as np
import pytest

from crosstrainer_jax.baselines import BASELINES, build


@pytest.mark.parametrize('name', BASELINES)
def test_one_answer_for_each_clip_whose_truth_is_not_looked_at(name, world):
  train, test = world(160, 0), world(24, 1)
  hidden = [dataclasses.replace(r, attributes=['x'], faults=None, commentary='x', level=-1) for r in test[0]]
  fitted = build(name, seed=3).fit(*train)
  answers = fitted.predict(test[1], test[0])
  assert [a.clip_id for a in answers] == [r.clip_id for r in test[0]]
  assert fitted.predict(test[1], hidden) == answers
  assert build(name, seed=3).fit(*train).predict(test[1], test[0]) == answers


@pytest.mark.parametrize('name', BASELINES)
def test_no_clips_to_answer_for(name, world):
  assert build(name).fit(*world(40, 0)).predict(np.zeros((0, 16), np.float32), []) == []


@pytest.mark.parametrize('name', [name for name in BASELINES if name != 'always none'])
def test_no_training_clips_is_a_clear_error(name):
  with pytest.raises(ValueError, match=f'{name} has no training clips: check the split'):
    build(name).fit([], np.zeros((0, 16), np.float32))


@pytest.mark.parametrize('name', ['nearest neighbour', 'linear classifier on v'])
def test_broken_features_name_the_clip(name, world):
  references, features = world(40, 0)
  broken = features.copy()
  broken[7, 3] = np.nan
  with pytest.raises(ValueError, match="Features of 1 clips hold NaN or infinity, first '0-7'"):
    build(name).fit(references, broken)
  with pytest.raises(ValueError, match='hold NaN'):
    build(name).fit(references, features).predict(broken, references)


@pytest.mark.parametrize('name', BASELINES)
def test_clips_without_levels_commentary_or_attributes(name, world):
  references, features = world(40, 0)
  bare = [dataclasses.replace(r, attributes=[], commentary='', level=-1) for r in references]
  for answer in build(name).fit(bare, features).predict(features, bare):
    assert (answer.attributes, answer.feedback, answer.level) == ([], None, None)


def test_unknown_names_are_refused_with_the_nearest():
  with pytest.raises(ValueError, match="did you mean 'nearest neighbour'"):
    build('nearest neighbor')
  with pytest.raises(ValueError, match='Known: always none, random'):
    build('zzz')
