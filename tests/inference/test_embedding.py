"""Vectors of clips and texts do not depend on the batch that they are in."""

import numpy as np
import pytest
from flax import nnx

from crosstrainer_jax.inference.embedding import Embedder
from crosstrainer_jax.models.two_towers import TextTower, TowerConfig, TwoTowers, VideoTower
from crosstrainer_jax.training.stages import Blueprint


@pytest.fixture(scope='module')
def towers():
  config = TowerConfig(width=8, layers=1, heads=2, dim=6)
  return TwoTowers(VideoTower(config, 5, 6, nnx.Rngs(0)), TextTower(config, 20, 16, nnx.Rngs(1)))


def test_batches_change_nothing(towers):
  graph, params, *(rest,) = nnx.split(towers, nnx.Param, ...)
  random = np.random.default_rng(0)
  clips = {'features': random.normal(size=(5, 2, 3, 5)).astype(np.float16), 'valid': random.random((5, 2, 3)) > 0.2}
  ids, mask = random.integers(0, 20, (5, 16)).astype(np.int32), random.random((5, 16)) > 0.3
  for size in (2, 8):
    embedder = Embedder(Blueprint(graph, rest), params, size)
    seen = embedder.clips(5, lambda part: {name: value[part] for name, value in clips.items()})
    np.testing.assert_allclose(seen, towers.clips(**clips), atol=1e-5)
    np.testing.assert_allclose(embedder.texts(ids, mask), towers.texts(ids, mask), atol=1e-5)
  assert embedder.texts(ids[:0], mask[:0]).shape[0] == 0
