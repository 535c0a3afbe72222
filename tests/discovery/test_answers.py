import signal
import subprocess
import sys
import threading

import pytest

from crosstrainer_jax.discovery.answers import AnswerStore, Usage
from crosstrainer_jax.discovery.language_model import CUT, Answer, Question

QUESTION = Question(({'role': 'user', 'content': 'private words'},), 'paper')


def test_answers_are_kept_and_found_by_their_keys(tmp_path):
  store = AnswerStore(tmp_path / 'new' / 'answers.sqlite')
  store.put('a', 'fake', QUESTION, Answer('eins', CUT, 3, 4))
  store.put('b', 'fake', QUESTION, Answer('zwei – ☃'))
  again = AnswerStore(store.path)
  assert again.get(['b', 'c', 'a']) == [Answer('zwei – ☃'), None, Answer('eins', CUT, 3, 4)]
  assert len(again) == 2


def test_questions_are_not_in_the_file(tmp_path):
  store = AnswerStore(tmp_path / 'answers.sqlite')
  store.put('a', 'fake', QUESTION, Answer('eins'))
  store.close()
  assert b'private words' not in store.path.read_bytes()


def test_what_questions_have_cost(tmp_path):
  store = AnswerStore(tmp_path / 'answers.sqlite')
  assert store.usage('fake', 'paper') is None
  store.put('a', 'fake', QUESTION, Answer('', 'stop', 10, 2))
  store.put('b', 'fake', QUESTION, Answer('', 'stop', 30, 4))
  store.put('c', 'fake', QUESTION, Answer(''))
  store.put('d', 'other', QUESTION, Answer('', 'stop', 999, 999))
  assert store.usage('fake', 'paper') == Usage(2, 20, 3, len('private words'))


PUT_AND_DIE = """
import os, signal, sys
from crosstrainer_jax.discovery.answers import AnswerStore
from crosstrainer_jax.discovery.language_model import Answer, Question
AnswerStore(sys.argv[1]).put('a', 'fake', Question(({'role': 'user', 'content': 'x'},), 'paper'), Answer('paid for'))
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_an_answer_survives_a_kill(tmp_path):
  ended = subprocess.run([sys.executable, '-c', PUT_AND_DIE, str(tmp_path / 'answers.sqlite')], timeout=60)
  assert ended.returncode == -signal.SIGKILL
  assert AnswerStore(tmp_path / 'answers.sqlite').get(['a']) == [Answer('paid for')]


def test_threads_and_runs_share_it(tmp_path):
  stores = [AnswerStore(tmp_path / 'answers.sqlite') for _ in range(2)]

  def put(number):
    for i in range(20):
      stores[number % 2].put(f'{number}-{i}', 'fake', QUESTION, Answer('x'))

  threads = [threading.Thread(target=put, args=(number,)) for number in range(4)]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  assert len(stores[0]) == len(stores[1]) == 80


def test_a_file_that_is_something_else(tmp_path):
  (tmp_path / 'answers.sqlite').write_text('{"clip_id": 1}\n' * 100)
  with pytest.raises(ValueError, match=r'answers.sqlite: answers cannot be kept here .*--answers'):
    AnswerStore(tmp_path / 'answers.sqlite')
  with pytest.raises(ValueError, match='must lie on this machine'):
    AnswerStore('gs://bucket/answers.sqlite')
