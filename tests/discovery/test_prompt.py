import pytest

from crosstrainer_jax.discovery.instructions import Instruction
from crosstrainer_jax.discovery.prompt import Prompt

PROMPT = Prompt('x', 'You coach.', ' About {sport}, as {"json"}: {said}\n', 'Again.')


def test_slots_are_filled_once():
  question = PROMPT.filled(sport='judo', said='keep\n {sport}  low')
  assert question.messages[1]['content'] == 'About judo, as {"json"}: keep {sport} low'
  assert question.messages[0] == {'role': 'system', 'content': 'You coach.'}


def test_a_forgotten_slot_is_an_error():
  with pytest.raises(KeyError, match='said'):
    PROMPT.filled(sport='judo')


def test_in_a_prompt_of_ones_own_braces_may_be_its_own():
  own = Instruction('x', 'You coach.', '{commentary} as {json}', '')
  assert own.question('Look up.', 'judo').messages[1]['content'] == 'Look up. as {json}'


def test_images_come_first():
  content = PROMPT.filled(['data:a'], sport='judo', said='x').messages[1]['content']
  assert [part['type'] for part in content] == ['image_url', 'text']


@pytest.mark.parametrize('changed', [Prompt('x', 'You.', 'a', 'b'), Prompt('x', 'You coach.', PROMPT.user, '')])
def test_other_words_have_another_name(changed):
  assert changed.sha != PROMPT.sha
  assert Prompt('y', PROMPT.system, PROMPT.user, PROMPT.reminder).sha == PROMPT.sha
