"""The one training loop: evaluate → save → next batch → step.

The iterator moves only after the save, so that a checkpoint's iterator state names exactly the batch that comes next.
"""

import math
import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import jax
import jax.numpy as jnp
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


# Averaged over updates; every other scalar over what was learnt from, Σ(w·x)/Σw, with the update's `weight`.
NORMS = ('grad_norm', 'update_norm', 'param_norm')
# Σ over the updates of a window.
Totals = dict[str, jax.Array]


class NonFiniteLoss(RuntimeError):
  """The loss is NaN or infinite; the last good checkpoint is kept."""


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
) -> TrainState:
  """Trains from the newest checkpoint (or from `state`) to `steps` updates and returns the last state.

  Args:
    name: shown in the progress bar and as prefix of the TensorBoard tags.
    step: from `make_step`.
    state: freshly initialised, already placed on the mesh.
    batches: host batches (numpy), leading dimension divisible by the mesh's data axes.
    steps: total number of updates, counted from 0 over all restarts.
    learning_rate: of update i, a number or an array of numbers, from `optimizer.schedule`.
    evaluate: params -> scalars, called every `evaluate_every` updates when that is positive.
    kind_of: names the kind of update i, its task for example; the kinds' scalars are logged apart as well.

  Raises:
    NonFiniteLoss: names the steps since the last logged one and the norms.
  """
  if checkpoints is not None and checkpoints.latest() is not None:
    state, position = checkpoints.restore(state)
    batches.set_state(position)
    say(f'  {name}: resumed at update {int(state.step)} of {steps}')
  start = int(state.step)
  # On the host before anything runs: a rate that is computed in its turn waits for the update before it.
  rates = np.asarray(jax.vmap(learning_rate)(jnp.arange(steps)), np.float32)
  progress = Progress(name, steps, start)
  iterator = iter(batches)
  # By kind, of the updates since those that were reported.
  totals: dict[str, Totals] = {}
  pending: tuple[int, dict[str, Totals]] | None = None
  reported, waited, window = start - 1, 0.0, time.monotonic()

  def report(index: int, totals: dict[str, Totals]) -> None:
    nonlocal reported, waited, window
    means, now = _means(name, reported + 1, index, totals), time.monotonic()
    host = means.pop('')
    host |= _rates(host, waited, now - window, index - reported, clips_per_step)
    host['learning_rate'] = float(rates[index])
    if writer is not None:
      apart = {f'{kind}/{key}': value for kind, mean in means.items() for key, value in mean.items()}
      writer.write_scalars(index, {f'{name}/{key}': value for key, value in {**host, **apart}.items()})
    progress.update(0, loss=host['loss'])
    reported, waited, window = index, 0.0, now

  try:
    for index in range(start, steps):
      if evaluate is not None and evaluate_every and index and index % evaluate_every == 0 and writer is not None:
        writer.write_scalars(index, {f'{name}/{key}': value for key, value in evaluate(state.params).items()})
      if checkpoints is not None and index > start and index % save_every == 0:
        # What diverged must not take the place of the last good checkpoint.
        _means(name, reported + 1, *(pending or (index - 1, totals)))
        checkpoints.save(state, batches.get_state())
      before = time.monotonic()
      batch = sharding.put_batch(next(iterator), mesh)
      waited += time.monotonic() - before
      state, scalars = step(state, batch, rates[index])
      kind = '' if kind_of is None else kind_of(index)
      totals[kind] = _add(totals.get(kind), scalars)
      if pending is not None:
        # The metrics of one logged update are read while the next one runs.
        report(*pending)
        pending = None
      if (index + 1) % log_every == 0 or index + 1 == steps:
        pending, totals = (index, totals), {}
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


@jax.jit
def _add(totals: Totals | None, scalars: dict[str, jax.Array]) -> Totals:
  """`totals` with one more update."""
  weight = scalars['weight']
  added = {key: value * (1.0 if key in NORMS else weight) for key, value in scalars.items() if key != 'weight'}
  added |= {'weight': weight, 'updates': jnp.ones(())}
  return added if totals is None else jax.tree.map(jnp.add, totals, added)


def _means(name: str, first: int, last: int, totals: dict[str, Totals]) -> dict[str, dict[str, float]]:
  """Scalars of the updates `first` to `last` on the host, by kind; '' holds those of all kinds together."""
  kinds = {kind: {key: float(value) for key, value in sums.items()} for kind, sums in jax.device_get(totals).items()}
  together = {key: sum(sums[key] for sums in kinds.values()) for key in next(iter(kinds.values()))}
  means = {kind: _mean(sums) for kind, sums in {**kinds, '': together}.items()}
  whole = means['']
  if not all(math.isfinite(whole[key]) for key in ('loss', 'grad_norm', 'param_norm')):
    norms = ', '.join(f'{key}={whole[key]:.3g}' for key in ('loss', *NORMS))
    raise NonFiniteLoss(
      f'{name}: not finite between updates {first} and {last} ({norms}). '
      'The last checkpoint is good, but the same settings lead to the same end: start in another --workdir with a '
      'lower learning rate or clip_norm of the optimizer.'
    )
  return means


def _mean(sums: dict[str, float]) -> dict[str, float]:
  weight, updates = sums['weight'], sums['updates']
  means = {key: value / (updates if key in NORMS else max(weight, 1e-6)) for key, value in sums.items()}
  # `weight` is that of one update, like the norms.
  return {key: value for key, value in means.items() if key != 'updates'} | {'weight': weight / updates}
