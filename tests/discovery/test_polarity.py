"""Each rule of judgement on its own; whole comments are in test_lexicon.py."""

import pytest

from crosstrainer_jax.discovery.lexicon import LexiconDiscoverer

GOOD, BAD, OPEN = 'good', 'bad', 'open'


def tone_of(text, concept='balance'):
  found = LexiconDiscoverer().discover(text)
  return GOOD if concept in found.correct else BAD if concept in found.incorrect else OPEN


@pytest.mark.parametrize(
  ('text', 'tone'),
  [
    ('Your balance', OPEN),
    ('Good balance', GOOD),
    ('Your balance is poor', BAD),
    ('Your balance is not good', BAD),
    ('Your balance is not bad', GOOD),
    ('Your balance is not too bad at all', GOOD),
    ('No problem with your balance', GOOD),
    ('There is a problem with your balance', BAD),
    ('There is no balance', BAD),
    ('Your balance could be better', BAD),
    ('Your balance could not be better', GOOD),
    ('I would like to see more balance', BAD),
    ('I like your balance', GOOD),
    ('You need to find your balance', BAD),
    ('You should be pleased with your balance', GOOD),
    ('Your balance is as it should be', GOOD),
    ('Room for improvement in your balance', BAD),
    ('There is hardly any balance', BAD),
  ],
)
def test_cues_decide_on_a_name(text, tone):
  assert tone_of(text) == tone


@pytest.mark.parametrize(
  ('text', 'tone'),
  [
    ('You wobble', BAD),
    ('You never wobble', GOOD),
    ('No sign of any wobble', GOOD),
    ('Try not to wobble', BAD),
    ('Do not wobble', BAD),
    ('You are stable', GOOD),
    ('You are not stable', BAD),
    ('Stay stable', BAD),
    ('You stay stable', GOOD),
    ('Less stable this time', BAD),
  ],
)
def test_a_sign_speaks_for_itself_unless_negated_or_advised(text, tone):
  assert tone_of(text) == tone


@pytest.mark.parametrize(
  ('text', 'concept', 'tone'),
  [
    ('Good timing, rhythm and balance', 'balance', GOOD),
    ('Balance and knee bend need work', 'balance', BAD),
    ('Watch this balance. It is poor', 'balance', BAD),
    ('Keep your knees bent and your balance', 'balance', BAD),
    ('All was well apart from the balance', 'balance', BAD),
    ('All was poor apart from the balance', 'balance', GOOD),
    ('Good balance at first, but it went missing', 'balance', BAD),
    ('Nice knee bend for better balance', 'balance', OPEN),
    ('Your knees are locked, so keep your balance', 'balance', OPEN),
    ('If you stay on balance you will jump higher', 'balance', BAD),
    ('You wobble and your body is poor', 'body positioning', OPEN),
    ('Your body is poor', 'body positioning', BAD),
    ('The hands are late', 'hand positioning', OPEN),
    ('Hands below the knees is wrong', 'knee bend', OPEN),
    ('The timing is rushed', 'timing', BAD),
    ('The timing is rushed', 'speed control', OPEN),
    ('Your feet are well outside the line', 'foot positioning', BAD),
    ('You stay low and keep your balance', 'balance', GOOD),
    ('Stay low and keep your balance', 'balance', BAD),
  ],
)
def test_neighbours_share_or_keep_their_judgement(text, concept, tone):
  assert tone_of(text, concept) == tone
