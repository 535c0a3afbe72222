"""The records of image-text models, for tests without PyTorch."""

from collections.abc import Mapping

import numpy as np


def recorded(golden: Mapping[str, np.ndarray], tower: str) -> tuple[tuple[np.ndarray, ...], np.ndarray]:
  """What a tower ('vision' or 'text') of the model on record was given, and the features that it gave."""
  if tower == 'text':
    return (golden['tokens'], golden['mask']), golden['text_features']
  return (np.moveaxis(golden['pixels'].astype(np.float32), 1, -1),), golden['image_features']
