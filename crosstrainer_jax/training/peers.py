"""The other processes of a run: what this one does when one of them is gone.

A process that dies takes its connections with it, and the next collective of every other one fails. What they have in
memory is of no use without it: they end, and the next start goes on from the last save. Where no collective is under
way, or where it hangs instead, JAX's heartbeats end them (exit code 134), or the watchdog (76).
"""

import contextlib
import os
import re
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
  except (jax.errors.JaxRuntimeError, ValueError, CheckpointError) as error:
    if jax.process_count() == 1 or not (_is_of_communication(error) or _is_of_communication(error.__cause__)):
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


def _is_of_communication(error: BaseException | None) -> bool:
  """Whether it is what a failed collective raises; memory that runs out, for example, is a mistake of this process."""
  return re.match(r'(UNKNOWN|UNAVAILABLE|INTERNAL|ABORTED|CANCELLED|DEADLINE_EXCEEDED): ', str(error)) is not None


def _first_line(error: Exception) -> str:
  return next(iter(str(error).splitlines()), '')[:200]
