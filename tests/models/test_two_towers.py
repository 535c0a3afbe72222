"""Towers: unit vectors that depend on what is seen alone."""

import jax
import numpy as np
import pytest
from flax import nnx

from crosstrainer_jax.models.bert import BertConfig
from crosstrainer_jax.models.two_towers import (
  LARGEST_SCALE,
  BertTower,
  TextTower,
  TowerConfig,
  TwoTowers,
  VideoTower,
  unit,
)

CONFIG = TowerConfig(width=16, layers=1, heads=2, dim=6)
BERT = BertConfig(vocab_size=20, position_rows=12, token_types=2, layers=1, width=8, heads=2, mlp=16)


@pytest.fixture(scope='module')
def towers():
  return TwoTowers(VideoTower(CONFIG, 5, 6, nnx.Rngs(0)), TextTower(CONFIG, 20, 12, nnx.Rngs(1)))


def test_clips_become_unit_vectors_of_what_is_seen(towers):
  features = np.random.default_rng(0).normal(size=(3, 2, 3, 5)).astype(np.float16)
  valid = np.ones((3, 2, 3), bool)
  valid[1, 1], valid[2] = False, False
  other = features.copy()
  other[1, 1] = np.nan
  run = nnx.jit(lambda tower, features, valid: tower(features, valid))
  vectors = run(towers.clips, features, valid)
  assert vectors.shape == (3, 6)
  np.testing.assert_allclose(np.linalg.norm(vectors[:2], axis=1), 1, rtol=1e-5)
  # what is not seen changes nothing, and a clip without any token gives no NaN
  np.testing.assert_array_equal(run(towers.clips, other, valid), vectors)
  assert np.isfinite(vectors).all()
  # seconds and views have places: their order counts
  assert np.abs(run(towers.clips, features[:, ::-1], valid[:, ::-1]) - vectors)[0].max() > 1e-3


@pytest.mark.parametrize('tower', ['own', 'bert'])
def test_texts_become_unit_vectors_of_their_tokens(towers, tower):
  text = towers.texts if tower == 'own' else BertTower(BERT, CONFIG, nnx.Rngs(0))
  run = nnx.jit(lambda tower, ids, mask: tower(ids, mask))
  short = np.array([[3, 4, 5, 0], [6, 7, 0, 0]], np.int32)
  mask = np.array([[1, 1, 1, 0], [1, 1, 0, 0]], bool)
  vectors = run(text, short, mask)
  np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
  hidden = np.where(mask, short, 9)
  np.testing.assert_allclose(run(text, np.pad(hidden, [(0, 0), (0, 4)]), np.pad(mask, [(0, 0), (0, 4)])), vectors,
                             atol=1e-6)  # fmt: skip
  assert np.abs(run(text, short[:, [1, 0, 2, 3]], mask) - vectors)[0].max() > 1e-4


def test_the_scale_of_cosines_is_capped(towers):
  assert float(towers.scale()) == pytest.approx(1 / 0.07)
  large = nnx.clone(towers)
  large.log_scale[...] = 50.0
  assert float(large.scale()) == pytest.approx(LARGEST_SCALE)


def test_a_zero_has_a_finite_gradient():
  assert np.isfinite(jax.grad(lambda x: unit(x).sum())(np.zeros(4, np.float32))).all()


def test_heads_must_divide_the_width():
  with pytest.raises(ValueError, match='does not divide into 3 heads'):
    VideoTower(TowerConfig(16, 1, 3, 6), 5, 6, nnx.Rngs(0))
