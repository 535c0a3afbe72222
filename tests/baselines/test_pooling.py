"""Features of many clips as one matrix."""

import numpy as np
import pytest

from crosstrainer_jax.baselines.pooling import checked, concatenate, mean_pool


def test_mean_pool_is_over_views_and_seconds_in_float32():
  clips = [np.full((3, 4, 5), 60000, np.float16), np.ones((1, 2, 5), np.float16)]
  pooled = mean_pool(clips)
  assert pooled.dtype == np.float32
  assert pooled.shape == (2, 5)
  assert np.allclose(pooled[:, 0], [60000, 1], rtol=1e-3)  # the sum of 12 would overflow float16


def test_concatenate_keeps_the_order_and_wants_one_shape():
  clips = [np.arange(12, dtype=np.float16).reshape(1, 3, 4), np.zeros((1, 3, 4), np.float16)]
  assert concatenate(clips)[0].tolist() == list(range(12))
  with pytest.raises(ValueError, match='pool them with mean_pool'):
    concatenate([clips[0], np.zeros((2, 3, 4), np.float16)])


@pytest.mark.parametrize(
  ('shape', 'message'),
  [
    ((3, 2), r'Features are \(3, 2\), but 2 clips need \(2, D\)'),
    ((2,), r'\(2, D\)'),
    ((2, 0), 'There are no features'),
  ],
)
def test_wrong_shapes(world, shape, message):
  with pytest.raises(ValueError, match=message):
    checked(np.zeros(shape, np.float32), world(2, 0)[0])
