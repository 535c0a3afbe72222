import random

import pytest

from crosstrainer_jax.input import prompts


def test_attribute_prompt_has_one_video_the_sport_and_k():
  prompt = prompts.attribute_prompt('rock climbing', 2)
  assert prompt.startswith('<video> Here is a video of a person doing rock climbing.')
  assert prompt.count(prompts.VIDEO) == 1
  assert 'up to 2 key concept areas' in prompt
  assert 'comma-separated, or none' in prompt
  assert 'up to 3 ' in prompts.attribute_prompt('soccer')


def test_feedback_prompt_names_the_attributes():
  prompt = prompts.feedback_prompt('soccer', ['Balance', 'knee bend'])
  assert prompt.count(prompts.VIDEO) == 1
  assert '(may contain mistakes): balance, knee bend. Give feedback' in prompt
  assert '(may contain mistakes): none. ' in prompts.feedback_prompt('soccer', [])


def test_direct_prompt_asks_without_attributes():
  prompt = prompts.direct_prompt('soccer')
  assert prompt.count(prompts.VIDEO) == 1
  assert 'doing soccer. Give feedback' in prompt
  assert 'axes' not in prompt


def test_generated_attributes_cannot_forge_a_placeholder():
  assert prompts.feedback_prompt('soccer', ['<video> balance', '</s>']).count('<video>') == 1


@pytest.mark.parametrize('sport', ['', '  ', 'soccer <video>'])
def test_a_sport_without_a_usable_name_is_refused(sport):
  with pytest.raises(ValueError, match='name of a sport'):
    prompts.attribute_prompt(sport)


def test_k_must_be_positive():
  with pytest.raises(ValueError, match='k must be at least 1'):
    prompts.attribute_prompt('soccer', 0)


def test_braces_in_values_are_left_alone():
  assert 'doing {k}.' in prompts.attribute_prompt('{k}')


@pytest.mark.parametrize(
  ('attributes', 'text'),
  [
    ([], 'none'),
    (['none'], 'none'),
    (['', '  '], 'none'),
    (['Balance', 'knee  bend', 'balance'], 'balance, knee bend'),
    (['hands, feet'], 'hands feet'),
    (['follow-through', '180 degree turn'], 'follow-through, 180 degree turn'),
    (['speed, 2. control', 'a\nb;c'], 'speed control, a b c'),
  ],
)
def test_serialize(attributes, text):
  assert prompts.serialize_attributes(attributes) == text


@pytest.mark.parametrize(
  ('text', 'attributes'),
  [
    ('', []),
    ('none', []),
    (' None. ', []),
    ('N/A', []),
    ('balance', ['balance']),
    (' Balance ,knee bend,, timing.', ['balance', 'knee bend', 'timing']),
    ('1. Balance\n2. Timing\n', ['balance', 'timing']),
    ('1) balance 2) timing', ['balance', 'timing']),
    ('- balance\n- knee bend', ['balance', 'knee bend']),
    ('balance, timing, and head position.', ['balance', 'timing', 'head position']),
    ('none, balance', ['balance']),
    ('balance; Balance; "timing"', ['balance', 'timing']),
    ('balance, <video>', ['balance', 'video']),
    ('3.5 turns', ['3.5 turns']),
  ],
)
def test_parse(text, attributes):
  assert prompts.parse_attributes(text) == attributes


def test_round_trip_over_random_lists():
  rng = random.Random(0)
  pieces = ['balance', 'Knee', 'none', 'n/a', 'and', '1.', '<video>', 'İ', *' -,;\n.(2)"•\t']
  for _ in range(5000):
    attributes = [''.join(rng.choices(pieces, k=rng.randrange(5))) for _ in range(rng.randrange(5))]
    text = prompts.serialize_attributes(attributes)
    parsed = prompts.parse_attributes(text)
    assert prompts.serialize_attributes(parsed) == text
    assert parsed == [] if text == 'none' else ', '.join(parsed) == text
    assert len(parsed) <= len(attributes)
    assert len(set(parsed)) == len(parsed)
