"""Several processes, which are killed, stopped and held up: none is waited for in vain, and no example is lost."""

import dataclasses
import signal
import time

import jax
import numpy as np
import pytest

from crosstrainer_jax.training import peers, preemption, watchdog
from tests.training import processes
from tests.training.processes import EXAMPLES, Job, started


def require_every_example_once_per_epoch(found: dict[int, list[int]], steps: int) -> None:
  assert list(found) == list(range(steps))
  numbers = [number for update in range(steps) for number in found[update]]
  for start in range(0, len(numbers) - EXAMPLES + 1, EXAMPLES):
    assert sorted(numbers[start : start + EXAMPLES]) == list(range(EXAMPLES))


def require_the_same(job: Job, params: dict[str, np.ndarray], whole: tuple[Job, dict[str, np.ndarray]]) -> None:
  require_every_example_once_per_epoch(processes.seen(job.directory), job.steps)
  assert processes.seen(job.directory) == processes.seen(whole[0].directory)
  for name, value in whole[1].items():
    np.testing.assert_allclose(params[name], value, rtol=1e-5)


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
  """A job that was left alone, and the parameters that it ended with."""
  job = Job(tmp_path_factory.mktemp('whole'), steps=40)
  with (job.directory / 'seen-0-0').open('w') as note:
    return job, processes.train(job, note, devices=jax.devices()[:1]).params


def test_one_of_four_is_killed_two_are_stopped_and_one_ends_it(whole, tmp_path, record_property):
  """4 → 2 → 1 processes: every example exactly once per epoch, and the parameters of a run left alone."""
  job = Job(tmp_path / 'killed', steps=40, pause=0.05)
  with started(job, 0, 4) as first:
    first.reach(8)
    first.signal(2, signal.SIGKILL)
    killed = time.monotonic()
    codes = first.wait(60)
    record_property('a dead process is noticed after, s', round(time.monotonic() - killed, 1))
  assert codes[2] == -signal.SIGKILL
  for index in (0, 1, 3):
    assert codes[index] in (peers.LOST_PEER, -signal.SIGABRT), first.said(index)
    assert 'lost another one' in first.said(index) or codes[index] == -signal.SIGABRT
    assert 'Traceback' not in first.said(index)

  with started(dataclasses.replace(job, pause=0.2), 1, 2, devices=2) as second:
    second.reach(12)
    second.signal(1, signal.SIGTERM)  # to one of them: they agree
    assert second.wait(60) == [preemption.PREEMPTED] * 2, second.said(0)
  assert 'resumed at update' in second.said(0)
  assert 'saved; the same command goes on from there (exit code 75)' in second.said(0)
  assert second.updates(0) == second.updates(1) < 40

  with started(dataclasses.replace(job, pause=0.0), 2, 1, devices=4) as third:
    assert third.wait() == [0], third.said(0)
  assert f'resumed at update {second.updates(0)} of 40' in third.said(0)

  require_the_same(job, processes.trained(job), whole)


def test_eight_four_two_and_one_device(whole, tmp_path):
  """On other meshes the same examples come in the same order, and the parameters agree to rounding."""
  job = Job(tmp_path, steps=40)
  for start, count in enumerate((8, 4, 2, 1)):
    with (job.directory / f'seen-{start}-0').open('w') as note:
      part = dataclasses.replace(job, steps=10 * (start + 1))
      state = processes.train(part, note, devices=jax.devices()[:count])
  require_the_same(job, state.params, whole)


def test_one_that_is_stuck_is_ended_by_its_watchdog(tmp_path, record_property):
  """A process that hangs ends within its limit, and says where it hangs; so do those that wait for it."""
  job = Job(tmp_path, steps=20, watchdog=5.0, stuck_at=4)
  with started(job, 0, 2) as start:
    start.reach(3)
    begun = time.monotonic()
    codes = start.wait(60)
    record_property('a stuck process is ended after, s (limit 5)', round(time.monotonic() - begun, 1))
  said = start.said(1)
  assert codes[1] == watchdog.HUNG, said
  assert 'toy: the batch of update 4 took longer than 5 s' in said
  assert '__next__' in said
  assert 'Thread 0x' in said
  assert codes[0] in (watchdog.HUNG, peers.LOST_PEER), start.said(0)
