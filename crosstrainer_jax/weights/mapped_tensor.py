"""One tensor in a file, mapped: nothing is read before it is used, and pages that were read can be given back."""

import dataclasses
import math
from pathlib import Path

import numpy as np


@dataclasses.dataclass(frozen=True)
class Tensor:
  """One tensor of a file: `read()` gives it as an array that is backed by the file."""

  file: Path
  shape: tuple[int, ...]
  dtype: np.dtype
  offset: int
  strides: tuple[int, ...] | None = None  # in bytes; None for row after row

  @property
  def nbytes(self) -> int:
    return math.prod(self.shape) * self.dtype.itemsize

  def read(self) -> np.ndarray:
    """dtype[shape], read only, mapped."""
    if not self.nbytes:
      return np.zeros(self.shape, self.dtype)
    mapped = np.memmap(self.file, np.uint8, 'r')
    return np.ndarray(self.shape, self.dtype, mapped, self.offset, self.strides)
