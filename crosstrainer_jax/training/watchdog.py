"""A watchdog over a run: what takes longer than it may ends the program, with the stacks of all its threads.

A collective waits for ever for a process that hangs, and a reader for a file system that does. A run that ends can be
started again by a machine; one that hangs costs until a person looks.
"""

import faulthandler
import os
import sys
import threading
import time
from types import TracebackType

import jax

# Beside preemption's 75, among the codes of sysexits.h that nothing here uses otherwise.
HUNG = 76
# The default of the configs.
SECONDS = 900.0
# A program that is compiled, or a checkpoint that is read, may take as many times longer than an update.
PATIENCE = 4
# The interpreter itself is held up by a library: a thread without Python waits so much longer, and ends with code 1.
GRACE = 60.0
# The first process of several ends so much later than its limit at most: what waits for it, JAX would end at once, and
# the one that hangs could not say where.
LAST_WORDS = 10.0


class Watchdog:
  """Watches one stage of training.

      with Watchdog('stage1', 900.0) as watchdog:
        watchdog.expect('update 7')   # within 900 s something else is to be expected

  Args:
    name: of the stage, for the message.
    seconds: what one step may take; 0 switches the watchdog off.
  """

  def __init__(self, name: str, seconds: float):
    self._name, self._seconds = name, seconds
    self._what, self._limit, self._since = '', 0.0, time.monotonic()
    self._last_words = 0.0
    self._ended = threading.Event()
    self._thread: threading.Thread | None = None

  def expect(self, what: str, patience: float = 1.0) -> None:
    """From now on the program is at `what`, which may take `patience` times the limit."""
    self._what, self._limit, self._since = what, patience * self._seconds, time.monotonic()

  def __enter__(self) -> 'Watchdog':
    if self._seconds > 0:
      if jax.distributed.is_initialized() and jax.process_index() == 0:
        self._last_words = min(LAST_WORDS, self._seconds)
      self._thread = threading.Thread(target=self._watch, name='watchdog', daemon=True)
      self._thread.start()
    return self

  def __exit__(
    self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
  ) -> None:
    del kind, error, trace
    self._ended.set()
    if self._thread is not None:
      self._thread.join()
      faulthandler.cancel_dump_traceback_later()

  def _watch(self) -> None:
    pause = min(1.0, self._seconds / 5)
    while not self._ended.wait(pause):
      left = self._since + self._limit - time.monotonic() if self._limit else self._seconds
      if left < 0:
        self._end()
        return
      # While this thread runs it puts that off again and again.
      faulthandler.dump_traceback_later(max(left, 0.0) + GRACE, exit=True, file=2)

  def _end(self) -> None:
    sys.stdout.flush()
    print(
      f'{self._name}: {self._what} took longer than {self._limit:g} s (config.training.watchdog). If this process '
      'waits for another one, that one is stuck or gone. Where every thread stands:',
      file=sys.stderr,
      flush=True,
    )
    faulthandler.dump_traceback(file=2, all_threads=True)
    print(
      f'{self._name}: ends with exit code {HUNG}; the same command goes on from the last save. Where it is only slow, '
      'raise config.training.watchdog (0 switches it off).',
      file=sys.stderr,
      flush=True,
    )
    time.sleep(self._last_words)
    os._exit(HUNG)
