"""The other processes of a run: what this one does when one of them is gone.

A process that dies takes its connections with it, and the next collective of every other one fails. What they have in
memory is of no use without it: they end, and the next start goes on from the last save. Where no collective is under
way, or where it hangs instead, JAX's heartbeats end them (exit code 134), or the watchdog (76).
"""

import contextlib
import os
import sys
from collections.abc import Iterator

import jax

from crosstrainer_jax.training.checkpoints import CheckpointError

# Beside preemption's 75 and the watchdog's 76.
LOST_PEER = 77


@contextlib.contextmanager
def needed(name: str) -> Iterator[None]:
  """Ends this process with code 77 and a clear message where a collective of stage `name` fails."""
  try:
    yield
  except (jax.errors.JaxRuntimeError, CheckpointError) as error:
    failed = isinstance(error, jax.errors.JaxRuntimeError) or isinstance(error.__cause__, jax.errors.JaxRuntimeError)
    if jax.process_count() == 1 or not failed:
      raise
    sys.stdout.flush()
    print(
      f'{name}: process {jax.process_index()} of {jax.process_count()} lost another one ({_first_line(error)}). '
      f'Its own output says why it ended. This one ends too, with exit code {LOST_PEER}; start all of them again, and '
      'the run goes on from its last save.',
      file=sys.stderr,
      flush=True,
    )
    # The usual end would wait minutes for all processes to say goodbye.
    os._exit(LOST_PEER)


def _first_line(error: Exception) -> str:
  return next(iter(str(error).splitlines()), '')[:200]
