"""The one training loop: evaluate → save → next batch → step.

The iterator moves only after the save, so that a checkpoint's iterator state names exactly the batch that comes next.
"""

import collections
import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from crosstrainer_jax.training import peers, preemption, sharding
from crosstrainer_jax.training.checkpoints import Checkpoints
from crosstrainer_jax.training.ledger import TimeLedger
from crosstrainer_jax.training.profiling import Profiler
from crosstrainer_jax.training.step import Step, TrainState
from crosstrainer_jax.training.telemetry import MetricWriter, Progress, say
from crosstrainer_jax.training.watchdog import PATIENCE, Watchdog
from crosstrainer_jax.training.window import Window

# Updates that the host may be ahead of the devices: enough to keep them busy, and few batches in their memory.
AHEAD = 2
# Share of an update that the devices may wait for its batch; more is said.
WAIT = 0.02


class Batches(Protocol):
  """An iterator over host batches whose whole position is `get_state()`."""

  def __iter__(self) -> Iterator[Any]: ...
  def __next__(self) -> Any: ...
  def get_state(self) -> Any: ...
  def set_state(self, state: Any) -> None: ...


def fit(
  name: str,
  step: Step,
  state: TrainState,
  batches: Batches,
  steps: int,
  learning_rate: Callable[[Any], Any],
  *,
  mesh: Mesh,
  checkpoints: Checkpoints | None = None,
  writer: MetricWriter | None = None,
  save_every: int = 200,
  log_every: int = 20,
  clips_per_step: int = 1,
  evaluate: Callable[[Any], dict[str, float]] | None = None,
  evaluate_every: int = 0,
  kind_of: Callable[[int], str] | None = None,
  watchdog: float = 0.0,
  profiler: Profiler | None = None,
  ledger: TimeLedger | None = None,
) -> TrainState:
  """Trains from the newest checkpoint (or from `state`) to `steps` updates and returns the last state.

  Args:
    name: shown in the progress bar and as prefix of the TensorBoard tags.
    step: from `make_step`.
    state: freshly initialised, already placed on the mesh; its buffers are used up.
    batches: host batches (numpy), leading dimension divisible by the mesh's data axes.
    steps: total number of updates, counted from 0 over all restarts.
    learning_rate: of update i, a number or an array of numbers, from `optimizer.schedule`.
    evaluate: params -> scalars, called every `evaluate_every` updates when that is positive. Their mean is the loss by
      which the best checkpoint is known.
    kind_of: names the kind of update i, its task for example; the kinds' scalars are logged apart as well.
    watchdog: seconds that an update, a batch, a save or an evaluation may take; 0 for any.
    ledger: where the time goes, over all restarts.

  Raises:
    NonFiniteLoss: names the update and the norms.
    CheckpointError: a checkpoint cannot be written; earlier ones are as they were.
    Preempted: SIGTERM came, and the state is saved.
  """
  loop = _Loop(
    name, step, state, batches, steps, mesh, checkpoints, writer, clips_per_step, profiler, ledger or TimeLedger(),
    Watchdog(name, watchdog),
  )  # fmt: skip
  stopping = preemption.Agreement()
  with preemption.deferred(), loop.watchdog:
    try:
      with peers.needed(name):
        loop.begin(learning_rate)
        for index in range(loop.start, steps):
          loss = None
          if evaluate is not None and evaluate_every and index and index % evaluate_every == 0:
            loss = loop.evaluate(index, evaluate)
          if index % save_every == 0 or (loss is not None and loss < loop.best):
            loop.save(index, loss)
          if stopping.reached(index):
            loop.stop(index)
          loop.update(index, '' if kind_of is None else kind_of(index))
          if (index + 1) % log_every == 0 or index + 1 == steps:
            loop.close_window()
        loop.finish()
        if stopping.reached(steps, last=True):
          raise preemption.Preempted
    finally:
      loop.close()
  return loop.state


class _Loop:
  """What the parts of one call of `fit` share."""

  def __init__(
    self,
    name: str,
    step: Step,
    state: TrainState,
    batches: Batches,
    steps: int,
    mesh: Mesh,
    checkpoints: Checkpoints | None,
    writer: MetricWriter | None,
    clips_per_step: int,
    profiler: Profiler | None,
    ledger: TimeLedger,
    watchdog: Watchdog,
  ):
    self.name, self.state, self.steps, self.start = name, state, steps, 0
    self.watchdog, self.ledger = watchdog, ledger
    self.best = float('inf')
    self._step, self._batches, self._mesh = step, batches, mesh
    self._checkpoints, self._writer, self._profiler = checkpoints, writer, profiler
    self._clips_per_step = clips_per_step
    self._saved = -1
    self._done = 0
    # Shapes of batches for which the update is compiled.
    self._compiled: set[Any] = set()
    self._flying: collections.deque[Any] = collections.deque()  # arrays, of whose `is_ready` types know nothing
    # Of each update of this start, the share in which the devices waited for its batch.
    self._waits: list[float] = []
    self._progress: Progress | None = None
    self._pending: Window | None = None

  def _turn_to(self, account: str, what: str, patience: float = 1.0) -> None:
    self.ledger.turn_to(account)
    self.watchdog.expect(what, patience)

  def begin(self, learning_rate: Callable[[Any], Any]) -> None:
    """Goes on from the newest checkpoint, or begins."""
    self._turn_to('init', 'reading the checkpoint', PATIENCE)
    restored = None
    if self._checkpoints is not None:
      self._checkpoints.prepare(self.state)
      restored = self._checkpoints.restore(self.state)
      self.best = self._checkpoints.best_loss()
    if restored is None:
      self.start = int(self.state.step)
      self.ledger.resume(self.start, {})
    else:
      self.start, self.state = restored.step, restored.state
      self._saved = self.start
      self._batches.set_state(restored.iterator)
      self.ledger.resume(self.start, restored.seconds)
      say(f'  {self.name}: resumed at update {self.start} of {self.steps}')
    # On the host before anything runs: a rate that is computed in its turn waits for the update before it.
    self._rates = np.asarray(jax.vmap(learning_rate)(jnp.arange(self.steps)), np.float32)
    self._iterator = iter(self._batches)
    self._progress = Progress(self.name, self.steps, self.start)
    self._done = self.start
    self._window = Window(self.start)
    self._reported, self._time, self._waited = self.start, time.monotonic(), self.ledger.seconds()['data']

  def evaluate(self, index: int, evaluate: Callable[[Any], dict[str, float]]) -> float | None:
    self._turn_to('eval', f'the evaluation before update {index}', PATIENCE)
    values = evaluate(self.state.params)
    if self._writer is not None:
      self._writer.write_scalars(index, {f'{self.name}/{key}': value for key, value in values.items()})
    return float(np.mean(list(values.values()))) if values else None

  def save(self, index: int, loss: float | None = None) -> None:
    """Begins a save of the state after `index` updates, unless it is there or is what the stage began with."""
    if self._checkpoints is None or index in (self._saved, self.start):
      return
    # What diverged must not take the place of the last good checkpoint; the updates under way end here.
    self._turn_to('step', f'update {index - 1}')
    for window in filter(None, (self._pending, self._window)):
      window.means(self.name)
    self._turn_to('save', f'the save of update {index}')
    self._checkpoints.save(index, self.state, self._batches.get_state(), self.ledger.seconds(), loss)
    self._saved = index
    if loss is not None:
      self.best = min(self.best, loss)
    self.ledger.record(self.name, index)

  def update(self, index: int, kind: str) -> None:
    if self._profiler is not None:
      self._profiler.before(index)
    first = index == self.start
    # With the first batch the readers begin.
    self._turn_to('init' if first else 'data', f'the batch of update {index}')
    begun = time.monotonic()
    host = next(self._iterator)
    shapes = tuple((leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(host))
    batch, rate = sharding.put_batch(host, self._mesh), on_mesh(self._rates[index], self._mesh)
    waited = 0.0 if first else time.monotonic() - begun
    if self._busy():
      self.ledger.rename('step')  # the devices had work all the while
      waited = 0.0
    if shapes in self._compiled:
      self._turn_to('step', f'update {index}')
    else:
      self._turn_to('compile', f'update {index} with its compilation', PATIENCE)
      self._compiled.add(shapes)
    # Nothing moves between host and devices but what was put there, and what is asked for.
    with jax.transfer_guard('disallow'):
      self.state, scalars = self._step(self.state, batch, rate)
      self._window.add(index, kind, scalars)
      self.ledger.turn_to('step')
      self._flying.append(scalars['loss'])
      if len(self._flying) > AHEAD:
        jax.block_until_ready(self._flying.popleft())
      self._done = index + 1
      # The metrics of one logged update are read while the next one runs.
      self._report()
    if self._profiler is not None:
      self._profiler.after(index, scalars)
    self._waits.append(waited / (time.monotonic() - begun))
    self._show()

  def _busy(self) -> bool:
    """Whether the devices have an update to do."""
    return bool(self._flying) and not self._flying[-1].is_ready()

  def _show(self, count: int = 1, **shown: float) -> None:
    if self._progress is not None:
      self._progress.update(count, **shown)

  def close_window(self) -> None:
    """The next update is the first one of a new window; this one is reported after it."""
    self._pending, self._window = self._window, Window(self._done)

  def _report(self) -> None:
    if self._pending is None:
      return
    means, last = self._pending.means(self.name), self._pending.last
    self._pending = None
    host, now, seconds = means.pop(''), time.monotonic(), self.ledger.seconds()
    waited = seconds['data'] - self._waited
    host |= _rates(host, waited, now - self._time, last + 1 - self._reported, self._clips_per_step)
    host['data_wait_p95'] = self._wait_p95(self._reported, last + 1)
    host['learning_rate'] = float(self._rates[last])
    if self._writer is not None:
      apart = {f'{kind}/{key}': value for kind, mean in means.items() for key, value in mean.items()}
      apart |= {f'time/{account}': value for account, value in seconds.items()}
      self._writer.write_scalars(last, {f'{self.name}/{key}': value for key, value in {**host, **apart}.items()})
    self.ledger.record(self.name, last + 1)
    self._show(0, loss=host['loss'])
    self._reported, self._time, self._waited = last + 1, now, seconds['data']

  def _wait_p95(self, first: int, end: int) -> float:
    """Of updates `first` to `end`: in 19 of 20 the devices waited for data for no greater share of the time."""
    return float(np.percentile(self._waits[first - self.start : end - self.start], 95))

  def stop(self, index: int) -> None:
    """Saves and ends the program, as SIGTERM asks."""
    self.save(index)
    if self._checkpoints is not None:
      self._checkpoints.wait()
    kept = '' if self._checkpoints is None else ', saved'
    say(
      f'  {self.name}: stopped before update {index} of {self.steps}{kept}; the same command goes on from there '
      f'(exit code {preemption.PREEMPTED})'
    )
    raise preemption.Preempted

  def finish(self) -> None:
    """Reads the last metrics and saves the last state."""
    if self._done == self.start:
      return
    self._turn_to('step', f'update {self._done - 1}')
    self._report()
    self.save(self._done)
    if self._checkpoints is not None:
      self._checkpoints.wait()
    self.ledger.record(self.name, self._done)
    self.ledger.describe(self.name, self._done, self._clips_per_step)
    wait = self._wait_p95(self.start, self._done)
    if wait > WAIT:
      say(f'  {self.name}: in 1 of 20 updates the devices waited for data for {wait:.1%} of it or more')

  def close(self) -> None:
    self._turn_to('save', 'the end of the save')
    if self._profiler is not None:
      self._profiler.close(self._done)
    if self._progress is not None:
      self._progress.close()
    if self._writer is not None:
      self._writer.flush()
    if self._checkpoints is not None:
      self._checkpoints.close()


def on_mesh(value: np.float32, mesh: Mesh) -> jax.Array:
  """A number that every process knows, on every device."""
  return jax.make_array_from_callback(np.shape(value), sharding.replicated(mesh), lambda _: value)


def _rates(
  values: dict[str, float], waited: float, seconds: float, updates: int, clips_per_step: int
) -> dict[str, float]:
  seconds = max(seconds, 1e-9)
  rates = {'clips_per_second': clips_per_step * updates / seconds, 'data_wait_share': min(waited / seconds, 1.0)}
  if 'tokens' in values:
    rates['tokens_per_second'] = values['tokens'] * updates / seconds
  return rates
