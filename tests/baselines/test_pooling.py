"""Features of many clips as one matrix."""

import numpy as np
import pytest

from crosstrainer_jax.baselines.pooling import checked, concatenate, mean_pool


def test_mean_pool_is_over_real_views_and_seconds_in_float32():
  features = np.stack([np.full((3, 4, 5), 60000, np.float16), np.ones((3, 4, 5), np.float16)])
  valid = np.ones((2, 3, 4), bool)
  # a view that is absent, and the end of one that is cut short
  features[1, 2], valid[1, 2] = 0, False
  features[1, 0, 3], valid[1, 0, 3] = 0, False
  pooled = mean_pool(features, valid)
  assert pooled.dtype == np.float32
  assert np.allclose(pooled, [[60000] * 5, [1] * 5], rtol=1e-3)  # the sum of 12 would overflow float16
  assert not mean_pool(features, np.zeros_like(valid)).any()


def test_concatenate_keeps_the_order():
  features = np.arange(24, dtype=np.float16).reshape(2, 1, 3, 4)
  valid = np.ones((2, 1, 3), bool)
  valid[1, 0, 2] = False
  joined = concatenate(features, valid)
  assert joined.dtype == np.float32
  assert joined[0].tolist() == list(range(12))
  assert joined[1].tolist() == [*range(12, 20), 0, 0, 0, 0]


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
