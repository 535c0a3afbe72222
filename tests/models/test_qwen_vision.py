"""The tower of Qwen2.5-VL: which patch sees which, and that padding and neighbours in a batch change nothing."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from crosstrainer_jax.models.qwen_vision import QwenVision, QwenVisionConfig, linears, sources, windows
from crosstrainer_jax.weights.convert import flat
from tests.models import tiny_qwen

CONFIG = QwenVisionConfig(**tiny_qwen.VISION | {'fullatt_block_indexes': (1, 3)})
# Windows of 4 x 4 patches: this grid has four, of which one is full.
ROWS, COLUMNS = 6, 6


@functools.cache
def tower(*blocks: int) -> QwenVision:
  config = QwenVisionConfig(**tiny_qwen.VISION | {'fullatt_block_indexes': blocks})
  return nnx.jit(lambda: QwenVision(config, nnx.Rngs(0)))()


@nnx.jit
def encode(model: QwenVision, *given: jax.Array) -> jax.Array:
  return model(*given)


def given(rows: int = ROWS, columns: int = COLUMNS, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """patches, positions and valid of one picture."""
  slots = windows(rows, columns, CONFIG)
  patches = np.random.default_rng(seed).normal(size=(1, len(slots.valid), CONFIG.patch_dim)).astype(np.float32)
  return patches, slots.positions[None], slots.valid[None]


@pytest.mark.parametrize('shape', [(2, 2), (4, 4), (6, 6), (8, 4), (2, 14), (10, 6)])
def test_every_patch_has_one_slot_and_tokens_lie_row_after_row(shape: tuple[int, int]) -> None:
  slots = windows(*shape, CONFIG)
  rows, columns = shape
  assert sorted(slots.patches[slots.valid]) == list(range(rows * columns))
  assert (slots.positions[slots.valid] @ [columns, 1]).tolist() == slots.patches[slots.valid].tolist()
  assert len(slots.valid) % 16 == 0
  units = slots.positions.reshape(-1, 4, 2)[slots.tokens]
  corners = [(row, column) for row in range(0, rows, 2) for column in range(0, columns, 2)]
  assert units[:, 0].tolist() == [list(corner) for corner in corners]
  assert (units - units[:, :1]).tolist() == [[[0, 0], [0, 1], [1, 0], [1, 1]]] * len(corners)
  # a window is a square of 4 x 4 patches
  for window in range(len(slots.valid) // 16):
    part = slice(16 * window, 16 * window + 16)
    found = {tuple(place // 4) for place in slots.positions[part][slots.valid[part]]}
    assert len(found) == 1


def test_grids_that_cannot_be_merged_are_refused() -> None:
  with pytest.raises(ValueError, match='a grid of 3 x 4 patches cannot be merged 2 by 2'):
    windows(3, 4, CONFIG)
  with pytest.raises(ValueError, match='5 slots are no whole number of windows of 16'):
    tower(1)(jnp.zeros((1, 5, CONFIG.patch_dim)), jnp.zeros((1, 5, 2), jnp.int32), jnp.ones((1, 5), bool))


@pytest.mark.parametrize(('blocks', 'far'), [((), False), ((2,), True)])
def test_a_patch_sees_its_window_and_in_some_blocks_its_picture(blocks: tuple[int, ...], far: bool) -> None:
  patches, positions, valid = given()
  before = np.asarray(encode(tower(*blocks), patches, positions, valid))[0]
  changed = patches.copy()
  changed[0, 0] += 1.0
  moved = np.abs(np.asarray(encode(tower(*blocks), changed, positions, valid))[0] - before).max(-1) > 1e-6
  tokens = valid[0].reshape(-1, 4).any(1)
  inside = np.arange(len(tokens)) < 4
  assert moved[inside & tokens].all()
  assert moved[~inside & tokens].all() == far
  assert moved[~inside & tokens].any() == far


def test_padding_and_other_pictures_change_nothing() -> None:
  patches, positions, valid = given()
  alone = np.asarray(encode(tower(1, 3), patches, positions, valid))
  noisy = np.where(valid[..., None], patches, 9.0)
  other = given(2, 14, seed=1)
  wide = max(len(valid[0]), len(other[2][0]))

  def padded(array: np.ndarray) -> np.ndarray:
    return np.pad(array, ((0, 0), (0, wide - array.shape[1]), *[(0, 0)] * (array.ndim - 2)))

  batch = [np.concatenate([padded(a), padded(b)]) for a, b in zip((noisy, positions, valid), other, strict=True)]
  together = np.asarray(encode(tower(1, 3), *batch))[:1, : alone.shape[1]]
  tokens = valid[0].reshape(-1, 4).all(1)
  np.testing.assert_allclose(together[:, tokens], alone[:, tokens], rtol=0, atol=2e-5)
  assert np.isfinite(together).all()


def test_one_layout_for_all_pictures_of_a_shape() -> None:
  patches, positions, valid = given()
  both = np.concatenate([patches, given(seed=1)[0]])
  shared = encode(tower(1, 3), both, positions, valid)
  each = encode(tower(1, 3), both, np.repeat(positions, 2, 0), np.repeat(valid, 2, 0))
  np.testing.assert_allclose(shared, each, rtol=0, atol=1e-6)


def test_recomputed_blocks_have_the_same_gradient() -> None:
  patches, positions, valid = given()

  def gradient(remat: bool) -> dict[str, np.ndarray]:
    config = QwenVisionConfig(**tiny_qwen.VISION | {'fullatt_block_indexes': (1, 3), 'remat': remat})
    graph, _ = nnx.split(nnx.eval_shape(lambda: QwenVision(config, nnx.Rngs(0))))
    _, state = nnx.split(tower(1, 3))

    @jax.jit
    def loss(state: nnx.State) -> jax.Array:
      return jnp.sin(nnx.merge(graph, state)(patches, positions, valid)).sum()

    return {path: np.asarray(leaf[...]) for path, leaf in flat(jax.grad(loss)(state)).items()}

  plain, again = gradient(False), gradient(True)
  assert plain.keys() == again.keys()
  for path in plain:
    np.testing.assert_allclose(plain[path], again[path], rtol=1e-4, atol=1e-4, err_msg=path)


def test_every_parameter_has_a_source() -> None:
  state = nnx.state(nnx.eval_shape(lambda: QwenVision(CONFIG, nnx.Rngs(0))), nnx.Param)
  assert set(sources()) == set(flat(state))
  assert {path.partition('blocks/')[2].rpartition('/')[0] for path in sources() if path.endswith('kernel')} >= set(
    linears()
  )


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'hidden_act': 'tanh'}, "hidden_act='tanh' is not supported"),
    ({'num_heads': 3}, 'num_heads=3 does not divide hidden_size=32'),
    ({'window_size': 4}, 'window_size=4 has no room for 2 patches of 4 pixels'),
    ({'fullatt_block_indexes': (4,)}, r'fullatt_block_indexes names blocks \[4\], of 4'),
  ],
)
def test_configs_that_cannot_be(changes: dict, message: str) -> None:
  with pytest.raises(ValueError, match=message):
    QwenVisionConfig(**tiny_qwen.VISION | {'fullatt_block_indexes': (1, 3)} | changes)
