"""Preemption: what a run does when its machine is taken away, or when someone wants to look inside.

SIGTERM ends the program with code 75 (`PREEMPTED`). A stage of training first finishes its update and saves; whatever
else the program was at is begun again by the next start, as after a kill. A second SIGTERM ends it at once. SIGUSR1
asks for a profile of the next updates.
"""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType

import jax
import numpy as np
from jax.experimental import multihost_utils

# EX_TEMPFAIL of sysexits.h: nothing is wrong, the same command goes on.
PREEMPTED = 75


class Preempted(SystemExit):
  """The program ends because it was asked to; what it has done is saved."""

  def __init__(self) -> None:
    super().__init__(PREEMPTED)


class _Notice:
  """What the signals have asked for; there is one, as signals are for the whole process."""

  def __init__(self) -> None:
    self.stop, self.profile = threading.Event(), threading.Event()
    self.deferred = False
    self.heard = 0

  def forget(self) -> None:
    self.stop.clear()
    self.profile.clear()
    self.heard = 0


_notice = _Notice()


@contextlib.contextmanager
def listening() -> Iterator[None]:
  """Listens for SIGTERM and SIGUSR1. Signals belong to the main thread: in another one this does nothing."""
  if threading.current_thread() is not threading.main_thread():
    yield
    return
  # JAX would take SIGTERM for itself where processes find each other.
  jax.config.update('jax_enable_preemption_service', False)
  _notice.forget()
  inlet, outlet = os.pipe()
  os.set_blocking(outlet, False)
  handlers = {signal.SIGTERM: _on_terminate, signal.SIGUSR1: _on_profile}
  before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
  wakeup = signal.set_wakeup_fd(outlet, warn_on_full_buffer=False)
  listener = threading.Thread(target=_listen, args=(inlet,), name='signals', daemon=True)
  listener.start()
  try:
    yield
  finally:
    signal.set_wakeup_fd(wakeup)
    for number, handler in before.items():
      signal.signal(number, handler)
    os.close(outlet)
    listener.join()
    os.close(inlet)
    _notice.forget()


def _listen(inlet: int) -> None:
  """Counts signals as they come: the handlers below must wait while the main thread is inside a library."""
  while number := os.read(inlet, 1):
    if number[0] != signal.SIGTERM:
      continue
    _notice.heard += 1
    _notice.stop.set()
    if _notice.heard > 1:
      _write('SIGTERM again: ends at once.')
      os._exit(PREEMPTED)


def _on_terminate(number: int, frame: FrameType | None) -> None:
  del number, frame
  _notice.stop.set()
  if not _notice.deferred:
    _write('SIGTERM: ends; the same command goes on from what is done.')
    raise Preempted
  _write('SIGTERM: saves after this update and ends; a second one ends at once.')


def _on_profile(number: int, frame: FrameType | None) -> None:
  del number, frame
  _notice.profile.set()


def _write(text: str) -> None:
  """Past Python's buffers, which the signal may have found in use."""
  os.write(2, f'{text}\n'.encode())


@contextlib.contextmanager
def deferred() -> Iterator[None]:
  """Inside, SIGTERM waits until `Agreement.reached` is asked; one that nobody asked about ends the program after it."""
  _notice.deferred = True
  try:
    yield
  finally:
    _notice.deferred = False
  if _notice.stop.is_set():
    raise Preempted


def profile_asked() -> bool:
  """Whether a profile was asked for since the last call."""
  asked = _notice.profile.is_set()
  _notice.profile.clear()
  return asked


class Agreement:
  """Whether to stop before an update: the same answer in every process, whichever of them got the signal.

  Every process must ask before every update. They confer about every `seconds`, by the first one's clock.
  """

  def __init__(self, seconds: float = 2.0):
    self._seconds = seconds
    self._next: int | None = None
    self._asked_at = 0
    self._time = time.monotonic()

  def reached(self, update: int, last: bool = False) -> bool:
    """Whether to stop before `update`; the `last` time they confer in any case."""
    if jax.process_count() == 1:
      return _notice.stop.is_set()
    if self._next is not None and update < self._next and not last:
      return False
    votes = multihost_utils.process_allgather(np.array([_notice.stop.is_set(), self._pause(update)], np.int32))
    self._next = update + int(votes[0, 1])
    return bool(votes[:, 0].any())

  def _pause(self, update: int) -> int:
    """Updates until the next conference, from the speed since the last one."""
    now = time.monotonic()
    speed = (update - self._asked_at) / max(now - self._time, 1e-3) if self._next is not None else 0.0
    self._asked_at, self._time = update, now
    return int(np.clip(speed * self._seconds, 1, 1000))
