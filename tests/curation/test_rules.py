import pytest

from crosstrainer_jax.curation import rules
from crosstrainer_jax.curation.videos import Segment


@pytest.mark.parametrize(
  'sentence',
  ['Bend your knees a little more.', 'So, keep the elbow close to the ribs.', 'You want to drive through the heel.',
   'The hips drop almost to the heels.', 'Don’t let the wrist collapse.', 'A common mistake is to rush.'],
)  # fmt: skip
def test_what_a_learner_can_act_on(sentence):
  assert rules.actionable(sentence).answer, rules.actionable(sentence).reason


@pytest.mark.parametrize(
  'sentence',
  ['Hit the like button and subscribe.', 'Welcome back to the channel.', 'Use the code TRAIN at checkout.',
   'Last summer we drove to the coast.', 'I started with judo when I was six.', 'The hall is full tonight.',
   'Click the link below to bend your budget.'],
)  # fmt: skip
def test_what_a_learner_cannot_act_on(sentence):
  verdict = rules.actionable(sentence)
  assert verdict.answer is False
  assert verdict.by == rules.BY
  assert verdict.reason


def shown(sentence, motion=5.0):
  verdict, execution = rules.demonstrated(Segment(0, sentence, (0.0, 2.0), motion=motion))
  return verdict.answer, execution


def test_without_motion_nothing_is_shown():
  assert shown('Watch this, bend your knees.', motion=0.2) == (False, 'none')
  assert shown('Watch this, bend your knees.') == (True, 'correct')


def test_words_of_another_time_are_no_demonstration():
  assert shown('Remember, bend your knees before your next session.') == (False, 'none')


def test_a_mistake_is_shown_wrong():
  assert shown('Do not do this, the knees fall in.') == (True, 'incorrect')
  assert shown('The knees are falling in.') == (True, 'incorrect')
  assert shown('Notice this, the knees stay out.') == (True, 'correct')
