import json
import threading

import pytest

from crosstrainer_jax.discovery import instructions, two_lines
from crosstrainer_jax.discovery.answers import AnswerStore
from crosstrainer_jax.discovery.asking import Asker
from crosstrainer_jax.discovery.backend import Attributes
from crosstrainer_jax.discovery.language import LanguageDiscoverer
from crosstrainer_jax.discovery.language_model import Sampling, ServerError, Unreadable
from crosstrainer_jax.discovery.server import Server
from tests.discovery.chat_server import Reply, serving, text_of


def say(request):
  """What a model says of a comment: its last word is wrong, and one comment is never understood."""
  text = text_of(request)
  if 'gibberish' in text:
    return 'I am not sure what you mean.'
  comment = text.split('The expert says:')[1].splitlines()[0].split()
  return f'Correct - none\nIncorrect - {comment[-1]}'


def discoverer(server, folder, retries=2, prompt='paper', **settings):
  model = Server('fake', server.url, first_pause=0.01, timeout=5.0, **settings)
  return LanguageDiscoverer(
    'openai', Asker(model, AnswerStore(folder / 'answers.sqlite'), retries), instructions.load(prompt)
  )


@pytest.fixture
def server():
  with serving(say) as running:
    yield running


def test_one_comment(server, tmp_path):
  backend = discoverer(server, tmp_path)
  assert backend.discover('Look at the knees', 'soccer') == Attributes([], ['knees'])
  assert 'soccer' in text_of(server.requests[0])
  assert backend.discover('  ', 'soccer') == Attributes()
  assert len(server.requests) == 1
  with pytest.raises(Unreadable, match='no line Correct and no line Incorrect: I am not sure'):
    backend.discover('gibberish', 'soccer')


def test_the_fingerprint_holds_all_that_decides_an_answer(server, tmp_path):
  first = discoverer(server, tmp_path).fingerprint
  prompt = instructions.load('paper')
  assert first == f'openai:fake:paper-{prompt.sha}:t0n300s0:{two_lines.fingerprint()}'
  warmer = discoverer(server, tmp_path, sampling=Sampling(0.5)).fingerprint
  assert len({discoverer(server, tmp_path, prompt='form').fingerprint, warmer, first}) == 3
  # speed and patience do not
  assert discoverer(server, tmp_path, retries=1, concurrency=9).fingerprint == first


def test_many_comments_at_a_time_with_all_that_goes_wrong(server, tmp_path):
  """Every comment comes back once, whatever the server does on the way, and what is not understood says so."""
  server.replies = [
    Reply(429, {'error': {'message': 'slow'}}, {'Retry-After': '0.02'}),
    Reply(500, b'oops'),
    Reply(200, b'{"choi', promised=99),
    {'choices': []},
    'Correct - a',
  ]
  comments = [(f'comment about part{number}', 'soccer') for number in range(40)]
  comments += [('gibberish', 'soccer'), comments[0], (comments[0][0], 'fitness')]
  backend = discoverer(server, tmp_path, concurrency=8)
  found = dict(backend.discover_many(comments))
  assert sorted(found) == list(range(43))
  for number, (text, _) in enumerate(comments):
    if text == 'gibberish':
      assert isinstance(found[number], Unreadable)
    else:
      assert found[number] == Attributes([], [text.split()[-1]])
  assert 2 <= server.most_at_once <= 8
  # 42 different comments, one of them asked 3 times and one twice, and 4 calls that failed
  assert len(server.requests) == 42 + 2 + 1 + 4
  # nothing is asked again
  dict(discoverer(server, tmp_path).discover_many(comments))
  assert len(server.requests) == 49


def test_a_run_that_is_cut_off_repeats_no_call(server, tmp_path):
  """The server goes away in the middle; the second run asks for the rest alone."""
  comments = [(f'comment about part{number}', 'soccer') for number in range(30)]
  lock, left = threading.Lock(), [12]

  def until_it_goes(request):
    with lock:
      left[0] -= 1
      return say(request) if left[0] >= 0 else Reply(403, {'error': {'message': 'expired'}})

  server.behaviour = until_it_goes
  with pytest.raises(ServerError, match='expired'):
    dict(discoverer(server, tmp_path).discover_many(comments))
  refused = sum('soccer' in json.dumps(request) for request in server.requests) - 12
  before = len(server.requests)
  server.behaviour = say
  assert len(dict(discoverer(server, tmp_path).discover_many(comments))) == 30
  assert len(server.requests) - before == 30 - 12
  assert refused <= 4
