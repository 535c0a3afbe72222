"""Both forms of a submission: order of classes, order of takes, and everything that the server would refuse."""

import json

import numpy as np
import pytest

from crosstrainer_jax.evaluation.submission import (
  CLASSES,
  PLACES,
  average_views,
  label_form,
  logits_form,
  official_accuracy,
  write_submission,
)
from crosstrainer_jax.input.record import LEVELS

TAKES = ['take_c', 'take_a', 'take_b']


@pytest.fixture
def logits():
  """Ego and exo logits of three takes, in the order of LEVELS."""
  rng = np.random.default_rng(0)
  return {take: rng.normal(size=4) for take in sorted(TAKES)}, {take: rng.normal(size=(4, 4)) for take in sorted(TAKES)}


def test_every_level_goes_to_the_class_of_its_name():
  assert [LEVELS[place] for place in PLACES] == ['novice', 'early expert', 'intermediate', 'late expert']
  assert sorted(PLACES) == [0, 1, 2, 3]
  for level, name in enumerate(LEVELS):
    sent = label_form({'take': level}, ['take'])['predictions'][0]
    assert sent.lower().startswith(name)
    one_hot = np.eye(4)[level]
    form = logits_form({'take': one_hot}, {'take': np.tile(one_hot, (4, 1))}, ['take'])
    assert CLASSES[int(np.argmax(form['ego_model_predictions'][0]))] == sent
    assert [CLASSES[int(np.argmax(row))] for row in form['exo_model_predictions'][0]] == [sent] * 4


def test_takes_stand_in_the_order_of_the_test_list(logits, tmp_path):
  ego, exo = logits
  form = logits_form(ego, exo, TAKES)
  assert list(form) == ['videos', 'ego_model_predictions', 'exo_model_predictions']
  assert form['videos'] == TAKES
  assert form['ego_model_predictions'][0] == pytest.approx(ego['take_c'][list(PLACES)])
  read = json.loads(write_submission(tmp_path / 'submission.json', form).read_text())
  assert read == form
  assert (np.shape(read['ego_model_predictions']), np.shape(read['exo_model_predictions'])) == ((3, 4), (3, 4, 4))
  assert label_form({'take_a': 1, 'take_b': 0, 'take_c': 3}, TAKES) == {
    'videos': TAKES, 'predictions': ['Late Expert', 'Intermediate Expert', 'Novice'],
  }  # fmt: skip


def test_accuracy_is_the_mean_of_softmaxes(logits):
  rng = np.random.default_rng(1)
  takes = [f't{i}' for i in range(60)]
  ego, exo = ({take: 3 * rng.normal(size=shape) for take in takes} for shape in ((4,), (4, 4)))
  truth = {take: str(rng.choice(CLASSES)) for take in takes}
  form = logits_form(ego, exo, takes)

  def softmax(x):
    return np.exp(x) / np.exp(x).sum()

  right = {'ego': 0, 'exo': 0, 'combined': 0}
  for take, one, four in zip(takes, form['ego_model_predictions'], form['exo_model_predictions'], strict=True):
    views = [softmax(np.array(view)) for view in four]
    label = CLASSES.index(truth[take])
    right['ego'] += np.argmax(one) == label
    right['exo'] += np.argmax(np.mean(views, 0)) == label
    right['combined'] += np.argmax(np.mean([softmax(np.array(one)), *views], 0)) == label
  assert official_accuracy(form, truth) == pytest.approx({name: 100 * n / 60 for name, n in right.items()})
  assert average_views(np.array([[[1000.0, 0, 0, 0], [0, 0, 0, 0]]])).tolist() == [[0.625, 0.125, 0.125, 0.125]]
  with pytest.raises(ValueError, match='1 takes have no class of Novice'):
    official_accuracy(form, truth | {'t3': 'Expert'})


def test_what_the_server_would_refuse_is_said_at_once(logits):
  ego, exo = logits
  broken = ego | {'take_a': np.array([0, np.nan, 0, 0]), 'take_x': ego['take_a']}
  with pytest.raises(ValueError) as caught:
    logits_form(broken, {**exo, 'take_b': exo['take_b'][:3]}, [*TAKES, 'take_d'])
  said = str(caught.value)
  for problem in (
    "1 of 4 takes have no ego answer, first 'take_d'",
    "1 takes with ego answers are not in the test list, first 'take_x'",
    "1 takes have ego logits that are not finite, first 'take_a'",
    "1 takes have exo logits of another shape than (4, 4), 'take_b' (3, 4)",
  ):
    assert problem in said
  with pytest.raises(ValueError, match='1 takes stand in the test list twice'):
    logits_form(ego, exo, [*TAKES, 'take_a'])
  with pytest.raises(ValueError, match=r"no level of 0 … 3, 'take_a' has -1"):
    label_form({'take_a': -1, 'take_b': 0, 'take_c': 3}, TAKES)
  with pytest.raises(ValueError, match='no takes'):
    label_form({}, [])
