"""Real processes that train together, a toy unless they are told otherwise, to be killed, stopped and held up.

They are forked from one process that has imported everything and has done nothing with it, since the imports are most
of what such a process costs.
"""

import contextlib
import dataclasses
import functools
import json
import multiprocessing
import os
import pathlib
import signal
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import grain
import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp

from crosstrainer_jax.training import preemption, sharding
from crosstrainer_jax.training.checkpoints import Checkpoints
from crosstrainer_jax.training.ledger import TimeLedger
from crosstrainer_jax.training.loop import fit
from crosstrainer_jax.training.step import TrainState, init_state, make_step
from tests.compile_flags import FAST

EXAMPLES, BATCH = 40, 8
TX = optax.chain(optax.scale_by_adam(), optax.scale(-1.0))


@dataclasses.dataclass(frozen=True)
class Job:
  """What the processes do.

  Attributes:
    directory: of checkpoints, of `seen-*` (which examples each process of each start saw) and of `said-*` (output).
    pause: seconds that every update takes longer.
    stuck_at: update whose batch does not come to the last process.
    train: what a process trains, by default the toy, as the function `train` of this file; it must be picklable.
  """

  directory: pathlib.Path
  steps: int
  save_every: int = 3
  pause: float = 0.0
  watchdog: float = 0.0
  stuck_at: int = -1
  train: Callable[..., Any] | None = None


class Examples:
  """Grain's elastic iterator, which notes what it gave; an example is its own number."""

  def __init__(self, job: Job, note: Any, last: bool):
    dataset = grain.MapDataset.range(EXAMPLES).seed(0).shuffle().repeat()
    dataset = dataset.map(lambda number: {'id': np.int32(number), 'weight': np.float32(1)})
    self._elastic = grain.experimental.ElasticIterator(dataset, BATCH, grain.sharding.ShardByJaxProcess())
    self._iterator, self._job, self._note, self._last = iter(self._elastic), job, note, last

  def __iter__(self) -> 'Examples':
    return self

  def __next__(self) -> dict[str, np.ndarray]:
    update = self.get_state()['global_next_index'] // BATCH
    if self._last and update == self._job.stuck_at:
      time.sleep(3600)
    batch = next(self._iterator)
    time.sleep(self._job.pause)
    self._note.write(json.dumps([update, batch['id'].tolist()]) + '\n')
    self._note.flush()
    x = np.stack([np.random.default_rng(int(number)).normal(size=3) for number in batch['id']]).astype(np.float32)
    return {'x': x, 'y': x @ np.array([1.0, -2.0, 0.5], np.float32), 'weight': batch['weight']}

  def get_state(self) -> dict[str, int]:
    return self._elastic.get_state()

  def set_state(self, state: dict[str, int]) -> None:
    self._elastic.set_state(state)
    self._iterator = iter(self._elastic)


def loss(params: Any, _: Any, batch: Any, key: jax.Array) -> Any:
  noise = 0.01 * jax.random.normal(key)
  error = batch['x'] @ params['kernel'][:, 0] + params['bias'][0] - batch['y'] + noise
  return (jnp.square(error) * batch['weight']).sum(), batch['weight'].sum(), {}


def train(job: Job, note: Any, last: bool = False) -> TrainState:
  """The job in this process, on all the devices that JAX has."""
  mesh = sharding.make_mesh((1, -1, 1))
  params = {'kernel': jnp.array([[0.1], [0.2], [0.3]]), 'bias': jnp.zeros(1)}
  params = jax.tree.map(lambda leaf: jax.make_array_from_callback(
    leaf.shape, sharding.replicated(mesh), functools.partial(lambda whole, part: whole[part], np.asarray(leaf))
  ), params)  # fmt: skip
  return fit(
    'toy', make_step(loss, TX, mesh), init_state(params, TX, 0), Examples(job, note, last), job.steps,
    lambda update: 0.1 / (1 + update), mesh=mesh, checkpoints=Checkpoints(job.directory / 'checkpoints', keep=2),
    save_every=job.save_every, log_every=2, watchdog=job.watchdog, ledger=TimeLedger(job.directory / 'ledger.jsonl'),
  )  # fmt: skip


def _main(job: Job, start: int, index: int, count: int, devices: int, port: int) -> None:
  job.directory.mkdir(parents=True, exist_ok=True)
  said = os.open(job.directory / f'said-{start}-{index}', os.O_WRONLY | os.O_CREAT | os.O_APPEND)
  os.dup2(said, 1)
  os.dup2(said, 2)
  os.environ['XLA_FLAGS'] = ' '.join([f'--xla_force_host_platform_device_count={devices}', *FAST])
  with preemption.listening():
    if count > 1:
      jax.distributed.initialize(f'localhost:{port}', count, index, heartbeat_timeout_seconds=10)
    with (job.directory / f'seen-{start}-{index}').open('a') as note:
      (job.train or train)(job, note, last=index == count - 1)
  print('done', flush=True)


@functools.cache
def _context() -> Any:
  context = multiprocessing.get_context('forkserver')
  context.set_forkserver_preload(['tests.training.processes', 'tests.training.packed'])
  return context


class Start:
  """One start of the job, in `count` processes with `devices` each."""

  def __init__(self, job: Job, number: int, count: int = 1, devices: int = 1):
    self.job, self.number = job, number
    with socket.socket() as free:
      free.bind(('localhost', 0))
      port = free.getsockname()[1]
    arguments = [(job, number, index, count, devices, port) for index in range(count)]
    self.processes = [_context().Process(target=_main, args=given, daemon=True) for given in arguments]
    for process in self.processes:
      process.start()

  def wait(self, seconds: float = 120.0) -> list[int]:
    """Exit codes, once all have ended."""
    end = time.monotonic() + seconds
    for process in self.processes:
      process.join(max(0.0, end - time.monotonic()))
    return [process.exitcode for process in self.processes]

  def reach(self, update: int, seconds: float = 120.0) -> None:
    """Waits until the first process has the batch of `update`."""
    end = time.monotonic() + seconds
    while self.updates(0) <= update:
      assert time.monotonic() < end, self.said(0)
      assert self.processes[0].exitcode is None, self.said(0)
      time.sleep(0.01)

  def wait_for_updates(self, count: int, seconds: float = 120.0) -> None:
    """Waits until the first process has had so many batches in this start; at the second one its update is compiled."""
    path, end = self.job.directory / f'seen-{self.number}-0', time.monotonic() + seconds
    while not path.exists() or len(_lines(path)) < count:
      assert time.monotonic() < end, self.said(0)
      assert self.processes[0].exitcode is None, self.said(0)
      time.sleep(0.01)

  def updates(self, index: int) -> int:
    """One more than the last update whose batch a process has had."""
    path = self.job.directory / f'seen-{self.number}-{index}'
    lines = _lines(path) if path.exists() else []
    return lines[-1][0] + 1 if lines else 0

  def signal(self, index: int, number: signal.Signals) -> None:
    os.kill(self.processes[index].pid, number)

  def said(self, index: int) -> str:
    path = self.job.directory / f'said-{self.number}-{index}'
    return path.read_text() if path.exists() else ''

  def close(self) -> None:
    for process in self.processes:
      process.kill()
      process.join()


@contextlib.contextmanager
def started(job: Job, number: int, count: int = 1, devices: int = 1) -> Iterator[Start]:
  start = Start(job, number, count, devices)
  try:
    yield start
  finally:
    start.close()


def seen(directory: pathlib.Path, last: int | None = None) -> dict[int, list[Any]]:
  """The examples of every update, of the newest start (up to `last`) that made it: what earlier ones did was lost."""
  found: dict[int, tuple[int, list[int]]] = {}
  for path in directory.glob('seen-*'):
    start = int(path.name.split('-')[1])
    if last is not None and start > last:
      continue
    for update, numbers in _lines(path):
      before, listed = found.get(update, (start, []))
      if start >= before:
        found[update] = (start, (listed if start == before else []) + numbers)
  return {update: sorted(numbers) for update, (_, numbers) in sorted(found.items())}


def _lines(path: pathlib.Path) -> list[Any]:
  return [json.loads(line) for line in path.read_text().splitlines(keepends=True) if line.endswith('\n')]


def trained(job: Job) -> dict[str, np.ndarray]:
  """The parameters that a finished job left."""
  with ocp.StandardCheckpointer() as checkpointer:
    return checkpointer.restore(job.directory / 'checkpoints' / str(job.steps) / 'state')['params']
