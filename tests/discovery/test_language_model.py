import dataclasses

import pytest

from crosstrainer_jax.discovery.language_model import CUT, REFUSED, Answer, Question, Sampling, Unreadable, key
from tests.discovery.fake_model import FakeModel

IMAGE = {'type': 'image_url', 'image_url': {'url': 'data:image/jpeg;base64,AAAA'}}
QUESTION = Question(({'role': 'user', 'content': [{'type': 'text', 'text': 'Hello'}, IMAGE, IMAGE]},), 'look', 'Again.')


def model(name='fake', **sampling):
  made = FakeModel(lambda _: '')
  made.name, made.sampling = name, Sampling(**sampling)
  return made


def test_an_answer_is_known_by_model_messages_images_and_sampling():
  first = key(model(), QUESTION)
  assert first == key(model(), dataclasses.replace(QUESTION, purpose='other', reminder='other'))
  other_image = {'type': 'image_url', 'image_url': {'url': 'data:image/jpeg;base64,AAAB'}}
  other = Question(({'role': 'user', 'content': [{'type': 'text', 'text': 'Hello'}, IMAGE, other_image]},), 'look')
  others = {
    key(model('other'), QUESTION), key(model(), other), key(model(temperature=1.0), QUESTION),
    key(model(seed=1), QUESTION), key(model(max_tokens=1), QUESTION),
  }  # fmt: skip
  assert len(others | {first}) == 6


def test_what_a_question_holds():
  assert (QUESTION.characters, QUESTION.images) == (5, 2)
  again = QUESTION.again('I see')
  assert [message['content'] for message in again.messages[1:]] == ['I see', 'Again.']
  assert (again.characters, again.images) == (16, 2)
  # servers refuse an empty answer of the assistant
  assert [message['role'] for message in QUESTION.again(' ').messages] == ['user', 'user']


def test_only_what_was_written_to_its_end_is_whole():
  assert Answer('fine').whole() == 'fine'
  with pytest.raises(Unreadable, match='cut'):
    Answer('fi', CUT).whole()
  with pytest.raises(Unreadable, match='refused: no reason given'):
    Answer('', REFUSED).whole()
