"""Which of some items stands at each place of an endless stream: epoch after epoch, each in an order of its own."""

from __future__ import annotations

import numpy as np


class Shuffled:
  """All follows from seed and place; readers get a copy.

  Args:
    count: of items, at least one.
  """

  def __init__(self, count: int, seed: int):
    self._count, self._seed = count, seed
    self._epochs: dict[int, np.ndarray] = {}

  def __getitem__(self, place: int) -> int:
    epoch, within = divmod(place, self._count)
    if epoch not in self._epochs:
      # Readers run ahead of each other by less than an epoch or two.
      self._epochs = {n: order for n, order in self._epochs.items() if abs(n - epoch) < 3}
      self._epochs[epoch] = np.random.default_rng([self._seed, epoch]).permutation(self._count)
    return int(self._epochs[epoch][within])
