import pytest

from crosstrainer_jax.discovery.answers import AnswerStore
from crosstrainer_jax.discovery.asking import Asker, estimate
from crosstrainer_jax.discovery.language_model import Answer, Question, ServerError, Unreadable
from tests.discovery.fake_model import FakeModel, text_of


def question(text, purpose='test'):
  return Question(({'role': 'user', 'content': text},), purpose, 'Again, please.')


def read(answer):
  if answer.whole() == 'ramble':
    raise Unreadable('it rambles')
  return answer.text.upper()


@pytest.fixture
def store(tmp_path):
  return AnswerStore(tmp_path / 'answers.sqlite')


def test_nothing_is_asked_twice(store):
  model = FakeModel(text_of)
  asker = Asker(model, store)
  assert asker.ask([question('a'), question('b'), question('a')], read) == ['A', 'B', 'A']
  assert (len(model.questions), asker.called, asker.reused) == (2, 2, 1)
  later = FakeModel(text_of)
  assert Asker(later, AnswerStore(store.path)).ask([question('b')], read) == ['B']
  assert not later.questions


def test_what_cannot_be_read_is_asked_again_with_the_answer_and_a_reminder(store):
  model = FakeModel(lambda question: 'ramble' if len(question.messages) < 5 else 'fine')
  assert Asker(model, store, retries=2).ask([question('a')], read) == ['FINE']
  assert [message['content'] for message in model.questions[-1].messages] == [
    'a', 'ramble', 'Again, please.', 'ramble', 'Again, please.',
  ]  # fmt: skip


def test_retries_are_limited_and_kept_too(store):
  model = FakeModel(lambda _: 'ramble')
  (lost,) = Asker(model, store, retries=1).ask([question('a')], read)
  assert isinstance(lost, Unreadable)
  assert str(lost) == 'it rambles'
  assert len(model.questions) == 2
  later = FakeModel(lambda _: 'fine')
  Asker(later, store, retries=1).ask([question('a')], read)
  assert not later.questions
  # more retries go on where the others ended
  assert Asker(later, store, retries=2).ask([question('a')], read) == ['FINE']
  assert len(later.questions) == 1


def test_a_failure_is_not_kept(store):
  asker = Asker(FakeModel(lambda _: Unreadable('no connection')), store)
  (lost,) = asker.ask([question('a')], read)
  assert str(lost) == 'no connection'
  assert len(asker.model.questions) == 1
  assert len(store) == 0


def test_each_asks_groups_and_takes_items_as_they_are_needed(store):
  asker = Asker(FakeModel(text_of, group=2, concurrency=2), store)
  taken = []

  def items():
    for number in range(11):
      taken.append(number)
      yield f'{number}'

  results = asker.each(lambda group: asker.ask([question(text) for text in group], read), items())
  first = next(results)
  assert len(taken) <= 2 * 2 * 2
  rest = [text for group in (first, *results) for text in group]
  assert sorted(rest, key=int) == [f'{number}' for number in range(11)]
  assert sorted(asker.model.groups) == [1, 2, 2, 2, 2, 2]


def test_an_interruption_keeps_what_is_under_way_and_begins_nothing_further(store, capsys):
  model = FakeModel(text_of, concurrency=1)
  asker = Asker(model, store)
  results = asker.each(lambda group: asker.ask([question(text) for text in group], read), map(str, range(50)))
  next(results)
  with pytest.raises(KeyboardInterrupt):
    results.throw(KeyboardInterrupt)
  assert model.stopped
  assert 1 <= len(model.questions) <= 4
  assert len(store) == len(model.questions)


def test_an_error_of_the_server_ends_all(store):
  def behaviour(asked):
    if text_of(asked) == '3':
      raise ServerError('gone')
    return text_of(asked)

  asker = Asker(FakeModel(behaviour), store)
  with pytest.raises(ServerError, match='gone'):
    list(asker.each(lambda group: asker.ask([question(text) for text in group], read), map(str, range(50))))
  assert asker.model.stopped
  assert 3 <= len(store) < 10


def test_one_prompt(store):
  asker = Asker(
    FakeModel(lambda question: Answer(text_of(question), 'length' if 'x' in text_of(question) else 'stop')), store
  )
  assert asker.complete('Judge this.') == 'Judge this.'
  assert asker.complete('Judge this.') == 'Judge this.'
  assert len(asker.model.questions) == 1
  asker.retries = 0
  with pytest.raises(Unreadable, match='cut'):
    asker.complete('x')


def test_an_estimate_asks_nobody(store):
  asker = Asker(FakeModel(text_of), store)
  asker.ask([question('x' * 8)], read)

  def ask(dry):
    return dry.ask([question('x' * 8), question('y' * 40), question('z' * 40, 'other')], read)

  text = estimate(asker, ask, price_in=2.0, price_out=10.0)
  assert len(asker.model.questions) == 1
  assert '2 calls to make; 1 answers are kept already' in text
  # the one kept answer has cost 100 tokens for 8 characters, and 20 tokens of answer
  assert 'test: 1 calls, about 500 tokens in and 20 out (by the 1 answers of fake that are kept)' in text
  # no answer of this kind is kept
  assert 'other: 1 calls, about 10 tokens in and 300 out (prompts: a token is 4 characters; answers: as long' in text
  assert 'in all about 510 tokens in and 320 out; nothing was asked' in text
  assert f'price: about {(510 * 2 + 320 * 10) / 1e6:.2f}, at 2 and 10' in text


def test_images_are_part_of_an_estimate(store):
  image = {'type': 'image_url', 'image_url': {'url': 'data:,'}}
  look = Question(({'role': 'user', 'content': [{'type': 'text', 'text': 'Look'}, image, image]},), 'look')
  asker = Asker(FakeModel(lambda _: Answer('fine', 'stop', 700, 20)), store)
  text = estimate(asker, lambda dry: dry.ask([look], read), pixels=56)
  assert 'look: 1 calls, 2 images, about 9 tokens in' in text
