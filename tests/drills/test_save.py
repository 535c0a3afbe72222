"""A kill after any file operation of a save, a full disk, and kills at random times: a run is never lost."""

import ctypes
import dataclasses
import errno
import hashlib
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from crosstrainer_jax.training import sharding
from crosstrainer_jax.training.checkpoints import CheckpointError, Checkpoints
from crosstrainer_jax.training.step import TrainState, init_state
from tests.training import processes

HERE = pathlib.Path(__file__).resolve().parent
TX = optax.scale_by_adam()


def state(step: int) -> TrainState:
  """A state that says of which step it is."""
  mesh = sharding.make_mesh((1, 1, 1), jax.devices()[:1])
  params = {'kernel': jnp.full((16, 2), float(step)), 'bias': jnp.full(8, float(step))}
  made = init_state(jax.device_put(params, sharding.replicated(mesh)), TX, 0)
  return made._replace(step=jax.device_put(jnp.asarray(step, jnp.int32), made.step.sharding))


# --- The program whose file operations are watched


def save(directory: str, to: int, answer: int) -> None:
  """Step 3 stands; step 6 is saved in its place, watched. Then the disk is full, and then it takes nothing at all."""
  watch = ctypes.CDLL(None).watch_files
  checkpoints = Checkpoints(directory, keep=1)
  checkpoints.save(3, state(3), {'k': 3}, {'step': 3.0})
  checkpoints.wait()
  watch(directory.encode(), to, answer, 0)
  checkpoints.save(6, state(6), {'k': 6}, {'step': 6.0}, loss=0.5)
  checkpoints.wait()
  watch(b'', -1, -1, 0)
  for number in (errno.ENOSPC, errno.EROFS):
    watch(directory.encode(), -1, -1, number)
    for attempt in (
      lambda: checkpoints.save(9, state(9), {'k': 9}),
      checkpoints.wait,
      lambda: checkpoints.prepare(state(9)),
    ):
      try:
        attempt()
      except CheckpointError as error:
        print(f'{errno.errorcode[number]}: {error}', flush=True)
    watch(b'', -1, -1, 0)
  checkpoints.close()


@pytest.fixture(scope='module')
def watched(tmp_path_factory):
  """(The operations of that save, folder -> number of operations after which its files stood so, what was printed)."""
  compiler = shutil.which('cc')
  if compiler is None or not sys.platform.startswith('linux'):
    pytest.skip('needs a C compiler, and Linux')
  home = tmp_path_factory.mktemp('watched')
  library = home / 'file_operations.so'
  subprocess.run([compiler, '-O1', '-shared', '-fPIC', '-o', library, HERE / 'file_operations.c', '-ldl'], check=True)
  (request, to), (answer_from, answer) = os.pipe(), os.pipe()
  program = subprocess.Popen(
    [sys.executable, '-m', 'tests.drills.test_save', home / 'checkpoints', str(to), str(answer_from)],
    env={**os.environ, 'LD_PRELOAD': str(library)}, cwd=HERE.parent.parent,
    pass_fds=(to, answer_from), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
  )  # fmt: skip
  os.close(to)
  os.close(answer_from)
  operations, states, before = [], {}, ''
  with os.fdopen(request) as lines:
    for line in lines:
      operations.append(line.strip())
      now = digest(home / 'checkpoints')
      if now != before:
        states[shutil.copytree(home / 'checkpoints', home / f'{len(operations)}')] = len(operations)
      before = now
      os.write(answer, b'.')
  said = program.communicate()[0]
  os.close(answer)
  assert program.returncode == 0, said
  return operations, states, said


def digest(directory: pathlib.Path) -> str:
  files = sorted(directory.rglob('*'))
  contents = [(str(path), path.read_bytes() if path.is_file() else b'') for path in files]
  return hashlib.sha256(repr(contents).encode()).hexdigest()


def test_a_kill_after_any_file_operation_of_a_save(watched, record_property, capsys):
  """Whatever stands in the folder can be read: the step before, or the new one; and the run goes on over it."""
  operations, states, _ = watched
  found = {}
  for directory, number in states.items():
    checkpoints = Checkpoints(directory, keep=1)
    restored = checkpoints.restore(state(0))
    found[number] = restored.step
    assert restored.iterator == {'k': restored.step}, operations[number - 1]
    for leaf, wanted in zip(jax.tree.leaves(restored.state), jax.tree.leaves(state(restored.step)), strict=True):
      np.testing.assert_array_equal(leaf, wanted)
    if number % 10 == 0:
      checkpoints.save(9, state(9), {'k': 9})
      checkpoints.close()
      assert Checkpoints(directory).restore(state(0)).step == 9
  steps = list(found.values())
  assert steps == sorted(steps)
  assert set(steps) == {3, 6}
  assert 'cannot be read' not in capsys.readouterr().out
  kinds = {operation.partition(' ')[0] for operation in operations}
  assert kinds >= {'mkdir', 'open', 'write', 'rename', 'unlinkat'}, kinds
  record_property('file operations', len(operations))
  record_property('different states', len(states))


def test_a_full_disk_and_one_that_takes_nothing_are_clear_errors(watched):
  """What failed, where, why and what mends it; the step before stays."""
  *_, said = watched
  assert 'nothing was noticed' not in said
  assert 'Traceback' not in said
  full, _, closed, never = [line for line in said.splitlines() if line.startswith(('ENOSPC', 'EROFS'))]
  assert 'a checkpoint could not be written' in full
  assert 'No space left on device' in full
  assert 'the last good one is that of update 6' in full
  assert 'choose another --workdir' in full
  assert 'Read-only file system' in closed
  assert 'cannot be written to' in never


# --- Kills at random times


@pytest.mark.parametrize('kills', [3, pytest.param(60, marks=pytest.mark.slow)])
def test_kills_at_random_times(tmp_path, kills, record_property):
  """A run that is killed again and again loses the save in flight at most, and ends as one that was left alone."""
  draw = random.Random(kills)
  job, start, met, lost = processes.Job(tmp_path / 'killed', steps=100_000, pause=0.01), 0, 0, []
  for start in range(kills):
    with processes.started(job, start) as run:
      if draw.random() < 0.9:  # the others fall into the start, mostly
        run.wait_for_updates(draw.randint(2, 2 * job.save_every + 1))
      time.sleep(draw.uniform(0, 0.1))
      run.signal(0, signal.SIGKILL)
      assert run.wait() == [-signal.SIGKILL], run.said(0)
      said = run.said(0)
      met += run.updates(0) > 0
    assert 'cannot be read' not in said
    assert 'Traceback' not in said
    reached = max(processes.seen(job.directory, start - 1), default=-1) + 1
    resumed = re.search(r'resumed at update (\d+)', said)
    if resumed:
      lost.append(reached - int(resumed[1]))
      # saved before the last update at the latest, and then the save before that one had ended
      assert (reached - 1) // job.save_every * job.save_every - int(resumed[1]) <= job.save_every
  steps = max(processes.seen(job.directory)) + 5
  assert met > kills / 2, 'the kills hardly met a run that trained'
  last = dataclasses.replace(job, steps=steps)
  with processes.started(last, start + 1) as run:
    assert run.wait() == [0], run.said(0)
  whole = dataclasses.replace(last, directory=tmp_path / 'whole', pause=0.0)
  with processes.started(whole, 0) as run:
    assert run.wait() == [0], run.said(0)
  assert processes.seen(job.directory) == processes.seen(whole.directory)
  for name, value in processes.trained(whole).items():
    np.testing.assert_array_equal(processes.trained(last)[name], value)
  record_property('kills', kills)
  record_property('updates', steps)
  record_property('most updates lost by a kill (saved every 3)', max(lost, default=0))


if __name__ == '__main__':
  save(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
