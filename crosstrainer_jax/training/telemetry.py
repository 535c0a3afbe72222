"""What a run tells its user: TensorBoard through clu's interface, and progress on the terminal."""

import contextlib
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from tqdm import tqdm


def is_first_process() -> bool:
  """Whether this process is the only one of the run, or the one that speaks and writes for all."""
  # Not asked of JAX where nobody has initialised it: the answer would settle which devices there are.
  return not jax.distributed.is_initialized() or jax.process_index() == 0


class MetricWriter:
  """clu's `MetricWriter` methods over tensorboardX: clu's own writers import TensorFlow, 1.3 GB without use here.

  Of several processes the first one writes.
  """

  def __init__(self, directory: str | Path):
    # takes half a second to import, which --help should not
    from tensorboardX import SummaryWriter

    self.directory = directory
    self._writer = SummaryWriter(str(directory), flush_secs=10, write_to_disk=is_first_process())

  def write_scalars(self, step: int, scalars: Mapping[str, Any]) -> None:
    for name, value in scalars.items():
      self._writer.add_scalar(name, float(value), step)

  def write_images(self, step: int, images: Mapping[str, np.ndarray]) -> None:
    """Images are uint8[N, H, W, 3]."""
    for name, value in images.items():
      self._writer.add_images(name, value, step, dataformats='NHWC')

  def write_texts(self, step: int, texts: Mapping[str, str]) -> None:
    for name, value in texts.items():
      self._writer.add_text(name, value, step)

  def flush(self) -> None:
    self._writer.flush()

  def close(self) -> None:
    self._writer.close()


class Progress:
  """A bar with the time left on a terminal; elsewhere one line about every `seconds`."""

  def __init__(self, name: str, total: int, initial: int = 0, seconds: float = 10.0, unit: str = 'step'):
    self._name, self._total, self._done, self._seconds = name, total, initial, seconds
    terminal = sys.stderr.isatty() and is_first_process()
    self._bar = tqdm(total=total, initial=initial, desc=name, unit=unit, leave=False) if terminal else None
    self._start = self._last = time.monotonic()
    self._first = initial
    self._shown: dict[str, float] = {}

  def update(self, count: int = 1, **shown: float) -> None:
    self._done += count
    self._shown |= shown
    if self._bar is not None:
      if shown:
        self._bar.set_postfix({name: f'{value:.3g}' for name, value in shown.items()}, refresh=False)
      self._bar.update(count)
      return
    now = time.monotonic()
    if now - self._last >= self._seconds:
      self._last = now
      left = (now - self._start) / max(self._done - self._first, 1) * (self._total - self._done)
      values = ''.join(f'  {name} {value:.3g}' for name, value in self._shown.items())
      say(f'  {self._name}: {self._done}/{self._total}{values}  {left:.0f} s left')

  def close(self) -> None:
    if self._bar is not None:
      self._bar.close()


def say(text: str) -> None:
  """One plain line for the user, above any progress bar; of several processes the first one says it."""
  if not is_first_process():
    return
  if sys.stderr.isatty():
    tqdm.write(text)
  else:
    print(text, flush=True)


@contextlib.contextmanager
def timed(name: str) -> Iterator[None]:
  """Prints the name of a step, and afterwards its seconds."""
  say(f'— {name}')
  start = time.monotonic()
  yield
  say(f'  {name}: {time.monotonic() - start:.1f} s')
