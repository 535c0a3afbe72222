"""The one training loop: evaluate → save → next batch → step.

The iterator moves only after the save, so that a checkpoint's iterator state names exactly the batch that comes next.
"""

import math
import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import jax
import numpy as np
from jax.sharding import Mesh

from crosstrainer_jax.training import sharding
from crosstrainer_jax.training.checkpoints import Checkpoints
from crosstrainer_jax.training.step import Step, TrainState
from crosstrainer_jax.training.telemetry import MetricWriter, Progress, say


class Batches(Protocol):
  """An endless iterator over host batches whose whole position is `get_state()`."""

  def __iter__(self) -> Iterator[Any]: ...
  def __next__(self) -> Any: ...
  def get_state(self) -> Any: ...
  def set_state(self, state: Any) -> None: ...


class NonFiniteLoss(RuntimeError):
  """The loss is NaN or infinite; the last good checkpoint is kept."""


def fit(
  name: str,
  step: Step,
  state: TrainState,
  batches: Batches,
  steps: int,
  learning_rate: Callable[[int], Any],
  *,
  mesh: Mesh,
  checkpoints: Checkpoints | None = None,
  writer: MetricWriter | None = None,
  save_every: int = 200,
  log_every: int = 20,
  clips_per_step: int = 1,
  evaluate: Callable[[Any], dict[str, float]] | None = None,
  evaluate_every: int = 0,
) -> TrainState:
  """Trains from the newest checkpoint (or from `state`) to `steps` updates and returns the last state.

  Args:
    name: shown in the progress bar and as prefix of the TensorBoard tags.
    step: from `make_step`.
    state: freshly initialised, already placed on the mesh.
    batches: host batches (numpy), leading dimension divisible by the mesh's data axes.
    steps: total number of updates, counted from 0 over all restarts.
    learning_rate: of update i, from `optimizer.schedule`.
    evaluate: params -> scalars, called every `evaluate_every` updates when that is positive.

  Raises:
    NonFiniteLoss: names the steps since the last logged one and the norms.
  """
  if checkpoints is not None and checkpoints.latest() is not None:
    state, position = checkpoints.restore(state)
    batches.set_state(position)
    say(f'  {name}: resumed at update {int(state.step)} of {steps}')
  start = int(state.step)
  progress = Progress(name, steps, start)
  iterator = iter(batches)
  scalars: dict[str, jax.Array] = {}
  pending: tuple[int, dict[str, jax.Array]] | None = None
  reported, waited, window = start - 1, 0.0, time.monotonic()

  def report(index: int, scalars: dict[str, jax.Array]) -> None:
    nonlocal reported, waited, window
    host, now = _finite(name, reported + 1, index, scalars), time.monotonic()
    host |= _rates(host, waited, now - window, index - reported, clips_per_step)
    host['learning_rate'] = float(learning_rate(index))
    if writer is not None:
      writer.write_scalars(index, {f'{name}/{key}': value for key, value in host.items()})
    progress.update(0, loss=host['loss'])
    reported, waited, window = index, 0.0, now

  try:
    for index in range(start, steps):
      if evaluate is not None and evaluate_every and index and index % evaluate_every == 0 and writer is not None:
        writer.write_scalars(index, {f'{name}/{key}': value for key, value in evaluate(state.params).items()})
      if checkpoints is not None and index > start and index % save_every == 0:
        # What diverged must not take the place of the last good checkpoint.
        _finite(name, reported + 1, index - 1, scalars)
        checkpoints.save(state, batches.get_state())
      before = time.monotonic()
      batch = sharding.put_batch(next(iterator), mesh)
      waited += time.monotonic() - before
      state, scalars = step(state, batch, np.float32(learning_rate(index)))
      if pending is not None:
        # The metrics of one logged update are read while the next one runs.
        report(*pending)
        pending = None
      if (index + 1) % log_every == 0 or index + 1 == steps:
        pending = (index, scalars)
      progress.update()
    if pending is not None:
      report(*pending)
    if checkpoints is not None and int(state.step) > start:
      checkpoints.save(state, batches.get_state())
  finally:
    progress.close()
    if checkpoints is not None:
      checkpoints.close()
    if writer is not None:
      writer.flush()
  return state


def _rates(
  values: dict[str, float], waited: float, seconds: float, updates: int, clips_per_step: int
) -> dict[str, float]:
  seconds = max(seconds, 1e-9)
  rates = {'clips_per_second': clips_per_step * updates / seconds, 'data_wait_share': min(waited / seconds, 1.0)}
  if 'tokens' in values:
    rates['tokens_per_second'] = values['tokens'] * updates / seconds
  return rates


def _finite(name: str, first: int, last: int, scalars: dict[str, jax.Array]) -> dict[str, float]:
  """The scalars of update `last` on the host; `first` is the earliest update that was not looked at."""
  values = {key: float(np.asarray(value)) for key, value in jax.device_get(scalars).items()}
  if all(math.isfinite(values[key]) for key in ('loss', 'grad_norm', 'param_norm')):
    return values
  norms = ', '.join(f'{key}={values[key]:.3g}' for key in ('loss', 'grad_norm', 'update_norm', 'param_norm'))
  raise NonFiniteLoss(
    f'{name}: not finite between updates {first} and {last} ({norms}). '
    'The last checkpoint is good; lower the learning rate or config.clip_norm and start again to resume from it.'
  )
