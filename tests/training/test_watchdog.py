import time

import pytest

from crosstrainer_jax.training import watchdog
from crosstrainer_jax.training.watchdog import Watchdog


@pytest.fixture
def ended(monkeypatch):
  """Codes with which the process would have ended."""
  codes = []
  monkeypatch.setattr(watchdog.os, '_exit', codes.append)
  return codes


def test_what_takes_too_long_ends_the_process_with_all_stacks(ended, capfd):
  with Watchdog('stage1', 0.3) as dog:
    dog.expect('the batch of update 7')
    time.sleep(0.8)
  said = capfd.readouterr().err
  assert ended == [watchdog.HUNG] == [76]
  assert 'stage1: the batch of update 7 took longer than 0.3 s (config.training.watchdog)' in said
  assert 'test_what_takes_too_long' in said, 'the stack of the main thread'
  assert 'exit code 76; the same command goes on' in said


def test_what_goes_on_is_left_alone(ended):
  with Watchdog('stage1', 0.4) as dog:
    for update in range(8):
      dog.expect(f'update {update}')
      time.sleep(0.1)
    dog.expect('a compilation', patience=4)
    time.sleep(0.8)
  assert ended == []


def test_the_time_between_two_stages_is_not_watched(ended):
  with Watchdog('stage1', 0.2) as dog:
    dog.expect('update 1')
  time.sleep(0.5)
  assert ended == []


def test_a_library_that_holds_the_interpreter_is_ended_too(monkeypatch):
  armed, cancelled = [], []
  monkeypatch.setattr(
    watchdog.faulthandler, 'dump_traceback_later', lambda *args, **options: armed.append((args, options))
  )
  monkeypatch.setattr(watchdog.faulthandler, 'cancel_dump_traceback_later', lambda: cancelled.append(1))
  with Watchdog('stage1', 0.5) as dog:
    dog.expect('update 1')
    time.sleep(0.3)
  assert armed[0][1]['exit']
  assert watchdog.GRACE < armed[0][0][0] < watchdog.GRACE + 0.5
  assert cancelled


def test_zero_is_no_watchdog(ended):
  with Watchdog('stage1', 0) as dog:
    dog.expect('update 1')
    time.sleep(0.2)
  assert ended == []
