"""The row of a vision-language model."""

import numpy as np
import pytest

from crosstrainer_jax.baselines import zero_shot as row
from crosstrainer_jax.baselines.prediction import Reference
from crosstrainer_jax.discovery.answers import AnswerStore
from crosstrainer_jax.discovery.asking import Asker
from crosstrainer_jax.discovery.language_model import ServerError
from crosstrainer_jax.inference.zero_shot import Eyes, ZeroShot
from crosstrainer_jax.input.record import Clip
from crosstrainer_jax.input.source import ClipSource
from tests.discovery.fake_model import FakeModel


def clip(number):
  frames = np.full((1, 2, 8, 8, 3), number, np.uint8)
  times = np.array([[0, 1]], np.float32)
  return Clip(f'c{number}', 'd', 'soccer', 'pass', 'p', f't{number}', ['a'], frames, times, commentary='Fine.')


@pytest.fixture(scope='module')
def source(write_dataset, tmp_path_factory):
  return ClipSource(write_dataset(tmp_path_factory.mktemp('data'), {'test': [clip(number) for number in range(6)]}))


def behaviour(question):
  """Rambles about one of the clips."""
  prompt = question.messages[0]['content'][-1]['text']
  if 'fitness' in str(question.messages):
    return 'This is a long sentence about everything that is to be seen.'
  return 'balance' if 'Highlight' in prompt else 'Stand still.'


def test_every_clip_has_a_prediction_and_failures_are_none(source, tmp_path):
  asker = Asker(FakeModel(behaviour, concurrency=3), AnswerStore(tmp_path / 'a.sqlite'), retries=0)
  model, indices = ZeroShot(asker, Eyes()), [4, 1, 2]
  references = [Reference.from_clip(source[i]) for i in indices]
  references[1] = Reference(**{**references[1].__dict__, 'sport': 'fitness'})
  said, done = [], []
  assert row.estimate(model, source, indices, references).startswith('6 calls to make; 0 answers')
  assert not asker.model.questions
  found = row.predict(model, source, indices, references, done.append, said.append)
  assert [one.clip_id for one in found] == ['c4', 'c1', 'c2']
  assert [(one.attributes, one.feedback) for one in found] == [
    (['balance'], 'Stand still.'), (None, None), (['balance'], 'Stand still.'),
  ]  # fmt: skip
  assert sum(done) == 3
  assert said[0].startswith('  fake: 6 of 6 frames')
  assert '1 of 3 clips have no readable answer of fake' in said[1]
  assert 'c1: attributes: a sentence' in said[2]
  calls = len(asker.model.questions)
  assert row.predict(model, source, indices, references, say=said.append) == found
  assert len(asker.model.questions) == calls == 5
  assert row.estimate(model, source, indices, references).startswith('1 calls to make; 5 answers')


def test_a_server_that_ends_keeps_what_was_answered(source, tmp_path):
  def dying(question):
    if len(asker.model.questions) > 5:
      raise ServerError('gone')
    return behaviour(question)

  store = AnswerStore(tmp_path / 'a.sqlite')
  asker = Asker(FakeModel(dying), store)
  references = [Reference.from_clip(source[i]) for i in range(6)]
  with pytest.raises(ServerError, match='gone'):
    row.predict(ZeroShot(asker), source, range(6), references)
  again = Asker(FakeModel(behaviour), store)
  assert all(one.feedback for one in row.predict(ZeroShot(again), source, range(6), references))
  assert len(again.model.questions) == 12 - 5
