"""Signals: what a run does before it ends, in this process and with agreement among several."""

import contextlib
import os
import signal
import time

import numpy as np
import pytest

from crosstrainer_jax.training import preemption
from crosstrainer_jax.training.preemption import Agreement, Preempted, deferred, listening


def send(number: signal.Signals) -> None:
  os.kill(os.getpid(), number)


def ended_by(numbers: list[signal.Signals], training: bool = True) -> list[bool]:
  """What `Agreement` answers after each signal, until the program ends."""
  answers = []

  def program():
    with listening(), deferred() if training else contextlib.nullcontext():
      for number in numbers:
        send(number)
        time.sleep(0.2)
        answers.append(Agreement().reached(1))

  with pytest.raises(Preempted) as ended:
    program()
  assert ended.value.code == preemption.PREEMPTED == 75
  return answers


def test_outside_of_training_sigterm_ends_at_once(capfd):
  assert ended_by([signal.SIGTERM], training=False) == []
  assert 'SIGTERM: ends; the same command goes on' in capfd.readouterr().err


def test_training_is_asked_to_stop(capfd):
  assert ended_by([signal.SIGUSR1, signal.SIGTERM]) == [False, True]
  assert 'saves after this update and ends' in capfd.readouterr().err
  # the next program of this process starts afresh
  with listening(), deferred():
    assert not Agreement().reached(0)


def test_a_second_one_ends_at_once(monkeypatch, capfd):
  ended = []
  monkeypatch.setattr(preemption.os, '_exit', ended.append)
  ended_by([signal.SIGTERM, signal.SIGTERM])
  assert ended == [75]
  assert 'SIGTERM again: ends at once.' in capfd.readouterr().err


def test_a_profile_is_asked_for_once():
  with listening():
    assert not preemption.profile_asked()
    send(signal.SIGUSR1)
    assert preemption.profile_asked()
    assert not preemption.profile_asked()


def test_handlers_are_put_back():
  before = signal.getsignal(signal.SIGTERM)
  with listening():
    assert signal.getsignal(signal.SIGTERM) is not before
  assert signal.getsignal(signal.SIGTERM) is before


def test_several_processes_confer_now_and_then(monkeypatch):
  """By the first one's pace; one that was asked to stop stops all of them, at the same update."""
  others, asked = [[0, 7]], []

  def allgather(mine):
    asked.append(mine.tolist())
    return np.array([others[0], mine])

  monkeypatch.setattr(preemption.jax, 'process_count', lambda: 2)
  monkeypatch.setattr(preemption.multihost_utils, 'process_allgather', allgather)
  agreement = Agreement()
  assert [agreement.reached(update) for update in range(7)] == [False] * 7
  assert len(asked) == 1
  others[0] = [1, 7]
  assert agreement.reached(7)
  assert len(asked) == 2
  # before it ends they confer in any case
  assert agreement.reached(8, last=True)
  assert len(asked) == 3
