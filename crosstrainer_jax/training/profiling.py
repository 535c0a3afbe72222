"""A profile of a few updates, for TensorBoard: in a window of the config, or when SIGUSR1 asks for one."""

import os
from pathlib import Path
from typing import Any

import jax

from crosstrainer_jax.training import preemption
from crosstrainer_jax.training.telemetry import say


class Profiler:
  """Writes what the host and the devices did during some updates to `<directory>/plugins/profile/`.

  Args:
    directory: TensorBoard's, of the run.
    first: the update with which the window of the config begins; 0 for none. The first update is mostly compilation.
    updates: how many a profile holds.
  """

  def __init__(self, directory: str | os.PathLike[str], first: int = 0, updates: int = 5):
    self._directory, self._first, self._updates = Path(directory), first, updates
    self._until: int | None = None

  def before(self, update: int) -> None:
    """Begins a profile if one is due."""
    due = preemption.profile_asked() or (self._first and update == self._first)
    if due and self._until is None:
      self._until = update + self._updates
      jax.profiler.start_trace(self._directory)

  def after(self, update: int, result: Any) -> None:
    """Ends the profile if `update` was its last one; `result` is what must have been computed by then."""
    if self._until is not None and update + 1 >= self._until:
      jax.block_until_ready(result)
      self._write(update)

  def close(self, update: int) -> None:
    """Ends a profile that the end of the stage has cut short."""
    if self._until is not None:
      self._write(update)

  def _write(self, update: int) -> None:
    self._until = None
    jax.profiler.stop_trace()
    say(
      f'  a profile up to update {update} lies in {self._directory}/plugins/profile; '
      'TensorBoard shows it (pip install xprof), or https://ui.perfetto.dev its trace.json.gz'
    )
