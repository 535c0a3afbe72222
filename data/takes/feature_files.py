"""Files of features that a dataset comes with, read as one feature for each second.

Such a file is a tensor float[N, D] of a frozen encoder that was slid over the whole video; it is read without PyTorch,
and nothing in it is run.
"""

import dataclasses
import math
import os
import pathlib
from collections.abc import Sequence

import numpy as np

from crosstrainer_jax.weights import torch_files


@dataclasses.dataclass(frozen=True)
class Family:
  """How an encoder was slid over a video, in frames: row i has seen [i·stride, i·stride + window)."""

  fps: float
  window: int
  stride: int

  def middle(self, row: int) -> float:
    """Seconds, of what a row has seen."""
    return (row * self.stride + self.window / 2) / self.fps


# Of Ego-Exo4D's release: Omnivore Swin-L (D 1536) over clips of 32 frames, MAWS CLIP ViT-2B frame by frame.
FAMILIES = {'omnivore_video': Family(30, 32, 16), 'maws_clip_2b': Family(30, 1, 1)}


class FeatureFileError(ValueError):
  """A file of features that cannot be used; `reason` is for counting."""

  def __init__(self, path: str | os.PathLike[str], reason: str, detail: str = ''):
    super().__init__(f'{os.fspath(path)}: {reason}' + (f' ({detail})' if detail else ''))
    self.reason, self.detail = reason, detail


class FeatureFile:
  """One file, opened: `rows` float[N, D] (mapped), `duration` in seconds of the video that it is of.

  Raises FeatureFileError.
  """

  def __init__(self, path: str | os.PathLike[str], encoder: str):
    self.family = FAMILIES[encoder]
    self.path = file = pathlib.Path(path)
    if not file.is_file():
      raise FeatureFileError(file, 'missing', 'no such file')
    if file.stat().st_size == 0:
      raise FeatureFileError(file, 'empty file', '0 bytes')
    try:
      tensors = list(torch_files.read(file).values())
    except ValueError as error:
      raise FeatureFileError(file, 'not a file of features', str(error).removeprefix(f'{file}: ')) from error
    if len(tensors) != 1 or len(tensors[0].shape) != 2 or 0 in tensors[0].shape:
      shapes = ', '.join(str(list(tensor.shape)) for tensor in tensors)
      raise FeatureFileError(file, 'not a file of features', f'one tensor [N, D] is expected, not {shapes}')
    self.rows = tensors[0].read()
    self.duration = ((len(self.rows) - 1) * self.family.stride + self.family.window) / self.family.fps

  def seconds(self, starts: Sequence[float]) -> np.ndarray:
    """float16[S, D]: for each second that begins at `starts` the mean of the rows whose middles lie in it.

    Where none does, as after the last middle, the nearest row. Raises FeatureFileError for numbers that are not finite.
    """
    family, last = self.family, len(self.rows) - 1
    found = []
    for start in starts:
      # middle(i) >= start, with room for rounding
      first = math.ceil((start * family.fps - family.window / 2) / family.stride - 1e-6)
      after = math.ceil(((start + 1) * family.fps - family.window / 2) / family.stride - 1e-6)
      first = min(max(first, 0), last)
      after = min(max(after, first + 1), last + 1)
      found.append(self.rows[first:after].astype(np.float32).mean(0))
    features = np.stack(found).astype(np.float16)
    if not np.isfinite(features).all():
      raise FeatureFileError(self.path, 'features that are not finite')
    return features
