"""Taking turns: one process makes what others want as well, a dataset or a cache of features, and those wait for it."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import filelock

from crosstrainer_jax.input.buckets import in_bucket


@contextlib.contextmanager
def take_turns(place: str | Path, what: str) -> Iterator[None]:
  """Holds the right to make `place`; waits, and says so, while another process has it.

  The right ends with its process, however that ends. Look again whether `place` is there once it is yours.

  Args:
    place: a file or folder; the lock lies beside it.
    what: what is being made, for the message.
  """
  if in_bucket(place):  # which has no locks; the processes of one run take turns by `distributed.first`
    yield
    return
  lock = filelock.FileLock(f'{place}.lock')
  try:
    lock.acquire(timeout=0)
  except filelock.Timeout:
    print(f'  another process is making {what}; waiting for it', flush=True)
    lock.acquire()
  try:
    yield
  finally:
    lock.release()
