"""Several processes, which are killed, stopped and held up: none is waited for in vain, and no example is lost."""

import contextlib
import dataclasses
import functools
import signal
import time

import jax
import numpy as np
import pytest

from crosstrainer_jax.input import examples, pipeline
from crosstrainer_jax.training import peers, preemption, watchdog
from tests.training import packed, processes
from tests.training.processes import Job, started

CLIPS, BATCH, UPDATES = 24, 12, 20


@pytest.fixture(scope='module')
def train(config, world):
  """Clips that share rows, with views and names dropped; 2 updates are an epoch."""
  config = config.copy_and_resolve_references().unlock()
  config.decoder.max_position = config.training.row_tokens = 512
  config.training.batch_size, config.training.optimizer.name = BATCH, 'adamw'
  stage = world.stage(pipeline.Task(examples.FEEDBACK, 1), train=range(CLIPS))
  wet = dataclasses.replace(stage, name_dropout=0.5)
  return functools.partial(packed.train, config=config, stage=wet, video=world.video)


def run_here(job: Job, start: int, devices: int, until: int | None = None) -> None:
  with (job.directory / f'seen-{start}-0').open('w') as note:
    job.train(job, note, devices=jax.devices()[:devices], until=until)


@pytest.fixture(scope='module')
def whole(train, tmp_path_factory):
  """A job that was left alone."""
  job = Job(tmp_path_factory.mktemp('whole'), UPDATES, train=train)
  run_here(job, 0, devices=4)
  return job


def require_the_same(job: Job, whole: Job, rows: bool, tolerance: float) -> float:
  """Every clip once per epoch, the same ones in every update, in the same `rows` too; the parameters agree."""
  found, expected = processes.seen(job.directory), processes.seen(whole.directory)
  assert list(found) == list(range(UPDATES))
  if rows:
    assert found == expected
  found, expected = ([sorted(clip for _, clip in pairs) for pairs in seen.values()] for seen in (found, expected))
  assert found == expected
  for epoch in zip(found[::2], found[1::2], strict=True):
    assert sorted(sum(epoch, [])) == list(range(CLIPS))
  one, other = jax.device_get((processes.trained(job), processes.trained(whole)))
  differences = jax.tree.map(lambda a, b: np.abs(a - b).max(), one, other)
  largest = float(max(jax.tree.leaves(differences)))
  assert largest <= tolerance
  return largest


def test_one_of_four_is_killed_two_are_stopped_and_one_ends_it(train, whole, tmp_path, record_property):
  """4 → 2 → 1 processes: every clip once per epoch, in the same row, and the parameters of one left alone."""
  job = Job(tmp_path / 'killed', UPDATES, train=train, pause=0.05)
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
  assert second.updates(0) == second.updates(1) < UPDATES

  with started(dataclasses.replace(job, pause=0.0), 2, 1, devices=4) as third:
    assert third.wait() == [0], third.said(0)
  assert f'resumed at update {second.updates(0)} of {UPDATES}' in third.said(0)

  largest = require_the_same(job, whole, rows=True, tolerance=1e-6)
  record_property('largest difference of parameters', f'{largest:.1e}')


def test_eight_four_two_and_one_device(train, whole, tmp_path, record_property):
  """On other meshes the same clips come in the same updates, and the parameters agree to rounding."""
  job = Job(tmp_path, UPDATES, train=train)
  for start, (devices, until) in enumerate(((8, 5), (4, 10), (2, 15), (1, None))):
    with contextlib.nullcontext() if until is None else pytest.raises(KeyboardInterrupt):
      run_here(job, start, devices, until)
  largest = require_the_same(job, whole, rows=False, tolerance=1e-6)
  record_property('largest difference of parameters', f'{largest:.1e}')


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
