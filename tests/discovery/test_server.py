"""The client against a real server that misbehaves on purpose."""

import email.utils
import threading
import time

import pytest

from crosstrainer_jax.discovery import server as servers
from crosstrainer_jax.discovery.language_model import CUT, REFUSED, Answer, Question, Sampling, ServerError, Unreadable
from crosstrainer_jax.discovery.server import Pace, Server, pause_asked, read_completion
from tests.discovery.chat_server import Reply, completion, serving

QUESTION = Question(({'role': 'user', 'content': 'How was it?'},), 'test')
FINE = Answer('fine', 'stop', 100, 20)


def client(at, **settings):
  settings = {'first_pause': 0.01, 'timeout': 5.0, 'tries': 4, **settings}
  return Server('fake', at.url, **settings)


def ask(model, count=1):
  found = model.complete([QUESTION] * count)
  return found[0] if count == 1 else found


@pytest.fixture
def server():
  with serving(lambda _: 'fine') as running:
    yield running


def test_what_is_sent(server):
  assert ask(client(server, sampling=Sampling(0.5, 7, 3), api_key='secret')) == FINE
  (request,) = server.requests
  assert request == {
    'model': 'fake', 'messages': [{'role': 'user', 'content': 'How was it?'}],
    'max_tokens': 7, 'temperature': 0.5, 'seed': 3,
  }  # fmt: skip
  assert server.headers[0]['Authorization'] == 'Bearer secret'


def test_a_temperature_below_0_is_left_to_the_server(server):
  ask(client(server, sampling=Sampling(-1)))
  assert not {'temperature', 'seed'} & server.requests[0].keys()


WHOLE = completion('fine')
MISBEHAVIOUR = {
  'overload': Reply(503, {'error': {'message': 'busy'}}),
  'internal error in HTML': Reply(500, b'<html>oops</html>', {'Content-Type': 'text/html'}),
  'too many requests': Reply(429, {'error': {'message': 'slow down'}}, {'Retry-After': '0.02'}),
  'breaks off': Reply(200, b'{"choices": [{"mess', promised=500),
  'breaks off in chunks': Reply(200, b'{"choices": [{"mess', chunked=True),
  'half of the JSON': Reply(200, b'{"choices": [{"message": {"content": "fi'),
  'no JSON': Reply(200, b'<html>welcome</html>', {'Content-Type': 'text/html'}),
  'no UTF-8': Reply(200, b'{"choices": "\xff\xfe"}'),
  'nothing at all': Reply(200, b''),
  'no choices': {'choices': []},
  'choices that are none': {'choices': None},
  'no message': {'choices': [{'finish_reason': 'stop'}]},
  'a list': Reply(200, b'[]'),
  'an error with status 200': {'error': {'message': 'worker died'}},
  'a number as text': completion(7),
}


@pytest.mark.parametrize('name', MISBEHAVIOUR)
def test_misbehaviour_is_survived(server, name):
  server.replies = [MISBEHAVIOUR[name]] * 2
  assert ask(client(server)) == FINE
  assert len(server.requests) == 3


@pytest.mark.parametrize('name', ['overload', 'breaks off', 'no choices'])
def test_where_it_goes_on_the_question_is_given_up_and_says_why(server, name):
  server.replies = [MISBEHAVIOUR[name]] * 9
  lost = ask(client(server, tries=3))
  assert isinstance(lost, Unreadable)
  assert 'no answer after 3 calls' in str(lost)
  assert len(server.requests) == 3


def test_a_call_that_takes_too_long_is_made_again(server):
  server.replies = [Reply(200, WHOLE, seconds=0.5)]
  assert ask(client(server, timeout=0.2)) == FINE
  server.replies = [Reply(200, WHOLE, seconds=0.4)] * 2
  assert 'no answer within 0.2 s' in str(ask(client(server, timeout=0.2, tries=2)))


def test_retry_after_holds_all_threads(server):
  server.replies = [Reply(429, {'error': {'message': 'slow down'}}, {'Retry-After': '0.3'})]
  model = client(server, first_pause=30.0)
  ask_first = threading.Thread(target=ask, args=(model,))
  ask_first.start()
  while not server.requests:
    time.sleep(0.005)
  time.sleep(0.05)
  ask(model)
  ask_first.join()
  assert len(server.times) == 3
  assert server.times[1] - server.times[0] >= 0.29


def test_a_pause_of_hours_ends_the_run(server):
  server.replies = [Reply(429, {'error': {'message': 'daily limit'}}, {'Retry-After': '7200'})]
  with pytest.raises(ServerError, match='come back in 7200 s .*daily limit.*what is answered is kept'):
    ask(client(server))


@pytest.mark.parametrize(
  ('reply', 'message'),
  [
    (Reply(401, {'error': {'message': 'bad key'}}), r'refuses the key of MY_KEY \(401: .*bad key'),
    (Reply(403, {'error': {'message': 'not you'}}), r'refuses the key of MY_KEY \(403: .*not you'),
    (Reply(404, {'error': {'message': 'no such model'}}), r'no such model.*--model fake; .* offers fake'),
    (Reply(429, {'error': {'message': 'pay', 'code': 'insufficient_quota'}}), 'no credit left'),
    (Reply(400, {'error': {'message': "'temperature' must be 1"}}), '--temperature -1'),
  ],
)
def test_what_no_further_call_can_mend_ends_the_run(server, reply, message):
  server.replies = [reply]
  with pytest.raises(ServerError, match=message):
    ask(client(server, key_from='MY_KEY'))
  assert len(server.requests) == 1


def test_a_question_that_is_refused_as_such_is_not_asked_again(server):
  server.replies = [Reply(400, {'error': {'message': 'context too long'}})]
  lost, answered = ask(client(server), 2)
  assert 'context too long' in str(lost)
  assert answered == FINE
  assert len(server.requests) == 2


def test_the_newer_name_of_the_limit_is_learned(server):
  server.replies = [Reply(400, {'error': {'message': "use 'max_completion_tokens' instead"}})]
  assert ask(client(server), 2) == [FINE, FINE]
  assert ['max_tokens' in request for request in server.requests] == [True, False, False]
  assert server.requests[2]['max_completion_tokens'] == 300


def test_ten_questions_in_a_row_without_an_answer_end_the_run(server):
  server.replies = [Reply(500, b'')] * 99
  with pytest.raises(ServerError, match='10 questions in a row'):
    ask(client(server, tries=1), 50)
  assert len(server.requests) == servers.GIVE_UP


def test_an_answer_in_between_begins_the_count_anew(server):
  broken = [Reply(500, b'')] * (servers.GIVE_UP - 1)
  server.replies = [*broken, WHOLE, *broken]
  found = ask(client(server, tries=1), 2 * servers.GIVE_UP)
  assert [isinstance(one, Answer) for one in found].count(True) == 2


def test_a_server_that_is_not_there_is_said_so(server):
  gone = client(server, tries=2)
  gone._client.base_url = 'http://127.0.0.1:9/v1'
  with pytest.raises(ServerError, match='cannot be reached'):
    ask(gone)


def test_the_rate_is_kept():
  pace = Pace(1200)
  begin = time.monotonic()
  for _ in range(5):
    pace.turn()
  assert 0.2 <= time.monotonic() - begin < 2


def test_stop_ends_waiting():
  pace = Pace(1)
  pace.turn()
  waiting = threading.Thread(target=lambda: pytest.raises(servers._Stopped, pace.turn))
  waiting.start()
  pace.stop()
  waiting.join(5)
  assert not waiting.is_alive()


def test_settings_that_cannot_be(server):
  with pytest.raises(ValueError, match=r'--model is missing; .* offers fake'):
    Server('', server.url)
  with pytest.raises(ValueError, match='begins with http'):
    Server('fake', 'localhost:8000/v1')
  with pytest.raises(ValueError, match='concurrency=0'):
    Server('fake', server.url, concurrency=0)
  with pytest.raises(ValueError, match='requests_per_minute'):
    Server('fake', server.url, requests_per_minute=-1)


@pytest.mark.parametrize(
  ('content', 'answer'),
  [
    (completion('Correct', 'length'), Answer('Correct', CUT, 100, 20)),
    (completion(None, refusal='I cannot'), Answer('I cannot', REFUSED, 100, 20)),
    (completion('', 'content_filter'), Answer('', REFUSED, 100, 20)),
    (completion(None), Answer('', 'stop', 100, 20)),
    (completion([{'type': 'text', 'text': 'fi'}, {'type': 'text', 'text': 'ne'}]), FINE),
    ({'choices': [{'message': {'content': 'fine'}}], 'usage': None}, Answer('fine')),
    ({'choices': [{'message': {'content': 'fine'}}], 'usage': {'prompt_tokens': 'many'}}, Answer('fine')),
  ],
)
def test_what_an_answer_may_look_like(content, answer):
  assert read_completion(Reply(body=content).body) == answer


def test_pauses_that_servers_ask_for():
  assert pause_asked({'retry-after': '3'}) == 3
  assert pause_asked({'retry-after-ms': '250', 'retry-after': '3'}) == 0.25
  assert pause_asked({'retry-after': email.utils.formatdate(1000, usegmt=True)}, now=lambda: 990.0) == 10
  assert pause_asked({'retry-after': email.utils.formatdate(1000, usegmt=True)}, now=lambda: 2000.0) == 0
  for useless in ({}, {'retry-after': 'soon'}, {'retry-after': 'nan'}, {'retry-after': 'inf'}, {'retry-after': '-1'}):
    assert pause_asked(useless) is None
