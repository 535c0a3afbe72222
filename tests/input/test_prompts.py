import random
import re

import numpy as np
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


def test_lists_are_read_by_the_rules_that_are_written():
  """What the example does with `lists` is what `parse_attributes` does, and one join makes text of it again."""
  rules, draw = prompts.list_rules(), np.random.default_rng(0)
  pieces = [
    'Balance', ' knee bend', ',', ', ', ';', '\n', '1. ', ' 2) ', '(3) ', '- ', '* ', 'and ', 'None', 'no faults', '.',
    '"', '<video>', '</s>', '，', ' nil', 'n/a', '!', ' ', '\t', 'İ', "'", '::', '- 1. ', 'and and ',
  ]  # fmt: skip

  def parse(text):
    names = []
    for name in re.split(rules['separators'], re.sub(r'[<>]', ' ', text).lower()):
      name, before = ' '.join(name.split()), None
      while name != before:
        before, name = name, re.sub(rules['bullets'], '', name).strip(rules['edges']).removeprefix('and ')
      names += [name] if name and name not in rules['nothing'] else []
    return list(dict.fromkeys(names))

  for _ in range(3000):
    text = ''.join(draw.choice(pieces, draw.integers(0, 12)))
    named = prompts.parse_attributes(text)
    assert parse(text) == named, text
    assert (', '.join(named) or rules['empty']) == prompts.serialize_attributes(named), text
