"""How far long work is: a bar on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from typing import Self

from tqdm import tqdm

_SECONDS_BETWEEN_LINES = 10.0


class Progress:
  """Safe to advance from several threads; use it as a context.

  Args:
    total: None where nobody knows it.
    shown: False shows nothing.
  """

  def __init__(self, what: str, total: int | None, unit: str, shown: bool = True):
    self._bar = tqdm(desc=what, total=total, unit=f' {unit}', unit_scale=True, disable=None if shown else True)
    self._what, self._total, self._unit, self._shown = what, total, unit, shown
    self._done = 0
    self._begun = self._said = time.monotonic()
    self._lock = threading.Lock()

  def __enter__(self) -> Self:
    return self

  def __exit__(self, *_: object) -> None:
    self._bar.close()
    if time.monotonic() - self._begun > _SECONDS_BETWEEN_LINES:
      self._say()

  def advance(self, count: int = 1) -> None:
    """So many more are done."""
    with self._lock:
      self._done += count
      self._bar.update(count)
      if time.monotonic() - self._said > _SECONDS_BETWEEN_LINES:
        self._say()

  def _say(self) -> None:
    """The line, where there is no bar."""
    self._said = time.monotonic()
    if not (self._shown and self._bar.disable):
      return
    rate = self._done / max(self._said - self._begun, 1e-9)
    text = f'{self._what}: {self._done} {self._unit}, {rate:.3g}/s'
    if self._total is not None:
      left = (self._total - self._done) / max(rate, 1e-9)
      text = f'{self._what}: {self._done}/{self._total} {self._unit}, {rate:.3g}/s, {left:.0f} s left'
    print(text, file=sys.stderr, flush=True)
