import pytest

from crosstrainer_jax.curation import prompts
from crosstrainer_jax.discovery.language_model import Answer, Unreadable


def test_slots_are_filled_once():
  question = prompts.load('actionable').filled(narration='keep {sport} low', sport='judo', skill='throw')
  said = question.messages[1]['content']
  assert 'keep {sport} low' in said
  assert 'throw in judo' in said
  assert question.purpose == 'actionable'


def test_images_come_before_the_words():
  question = prompts.load('demonstrated').filled(['data:a', 'data:b'], narration='x', sport='judo', skill='throw')
  kinds = [part['type'] for part in question.messages[1]['content']]
  assert kinds == ['image_url', 'image_url', 'text']
  assert question.images == 2


def test_other_words_have_another_name():
  assert prompts.load('actionable').sha != prompts.load('demonstrated').sha


def test_fields_are_read_tolerantly():
  text = prompts.plain(Answer('<think>hm</think>**Actionable**: Yes\n- Reason: it says   what to do'))
  assert prompts.field(text, 'actionable', ('yes', 'no')) == 'yes'
  assert prompts.reason(text) == 'it says what to do'
  assert prompts.reason('nothing') == ''


@pytest.mark.parametrize('text', ['maybe', 'Actionable: perhaps', ''])
def test_what_is_no_answer_is_told(text):
  with pytest.raises(Unreadable):
    prompts.field(prompts.plain(Answer(text)), 'actionable', ('yes', 'no'))
