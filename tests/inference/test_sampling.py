"""Sampling keeps the tokens that it should, ties and borders included, and draws them as often as it should."""

import functools
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from crosstrainer_jax.inference import sampling

INF = np.inf
LOGITS = jax.random.normal(jax.random.key(0), (5, 40)) * 3


def kept(logits: jax.Array) -> list[list[int]]:
  """The tokens of each row that are not cut."""
  return [np.flatnonzero(row > -INF).tolist() for row in np.asarray(logits)]


def probabilities(*values: float) -> jax.Array:
  return jnp.log(jnp.array([values]))


@pytest.mark.parametrize(
  ('row', 'k', 'expected'),
  [
    ([1, 3, 2, 0], 1, [1]),
    ([1, 3, 2, 0], 2, [1, 2]),
    ([1, 3, 2, 0], 4, [0, 1, 2, 3]),
    ([1, 3, 2, 0], 9, [0, 1, 2, 3]),
    # all that equal the last one stay
    ([1, 3, 1, 0], 2, [0, 1, 2]),
    ([2, 2, 2, 2], 1, [0, 1, 2, 3]),
    ([0.0, -0.0, -1, 3], 2, [0, 1, 3]),
    ([-INF, 3, -INF, -INF], 2, [1]),
  ],
)
def test_top_k(row: list[float], k: int, expected: list[int]) -> None:
  assert kept(sampling.top_k(jnp.array([row], jnp.float32), k)) == [expected]


@pytest.mark.parametrize(
  ('row', 'p', 'expected'),
  [
    ([0.1, 0.5, 0.15, 0.25], 0.4, [1]),
    ([0.1, 0.5, 0.15, 0.25], 0.6, [1, 3]),
    ([0.1, 0.5, 0.15, 0.25], 0.8, [1, 2, 3]),
    ([0.1, 0.5, 0.15, 0.25], 0.95, [0, 1, 2, 3]),
    ([0.1, 0.5, 0.15, 0.25], 1.0, [0, 1, 2, 3]),
    # at least one
    ([0.1, 0.5, 0.15, 0.25], 0.0, [1]),
    ([0.1, 0.5, 0.15, 0.25], 1e-9, [1]),
    # exactly p is enough; of equal ones the last stay
    ([0.25, 0.25, 0.25, 0.25], 0.5, [2, 3]),
    ([0.25, 0.25, 0.25, 0.25], 0.51, [1, 2, 3]),
    ([0.25, 0.25, 0.25, 0.25], 0.0, [3]),
    ([0.125, 0.5, 0.125, 0.25], 0.8, [1, 2, 3]),
    ([0.0, 0.5, 0.0, 0.5], 0.9, [1, 3]),
    ([0.0, 0.0, 1.0, 0.0], 0.9, [2]),
    # too little to count, but possible
    ([1e-30, 1.0, 1e-30, 1e-30], 1.0, [0, 1, 2, 3]),
  ],
)
def test_top_p(row: list[float], p: float, expected: list[int]) -> None:
  assert kept(sampling.top_p(probabilities(*row), p)) == [expected]
  assert kept(jax.jit(sampling.top_p)(probabilities(*row), p)) == [expected]


def test_a_row_of_impossible_tokens_stays_as_it_is() -> None:
  logits = jnp.full((2, 6), -INF).at[1, 2].set(1.0)
  for changed in (sampling.top_p(logits, 0.5), sampling.top_k(logits, 3)):
    np.testing.assert_array_equal(changed, logits)


@pytest.mark.parametrize('p', [0.05, 0.3, 0.7, 0.95, 0.999])
def test_top_p_is_the_smallest_set(p: float) -> None:
  """Its probability is at least p, and below p without its least probable token."""
  found = sampling.top_p(LOGITS, p)
  shares = np.asarray(jax.nn.softmax(LOGITS), np.float64)
  for row, tokens in zip(shares, kept(found), strict=True):
    mass = row[tokens].sum()
    assert mass >= p - 1e-6
    assert mass - row[tokens].min() < p + 1e-6
    assert row[tokens].min() >= np.delete(row, tokens).max(initial=0)


def test_what_is_kept_is_not_changed() -> None:
  for found in (sampling.top_k(LOGITS, 7), sampling.top_p(LOGITS, 0.8)):
    np.testing.assert_array_equal(np.where(found > -INF, LOGITS, -INF), found)
    assert found.dtype == jnp.float32
  assert [len(tokens) for tokens in kept(sampling.top_k(LOGITS, 7))] == [7] * 5


def test_rows_do_not_see_each_other() -> None:
  filters = functools.partial(sampling.filtered, temperature=0.7, top_k=20, top_p=0.9)
  found = filters(LOGITS)
  for row in range(5):
    np.testing.assert_array_equal(filters(LOGITS[row]), found[row])
  np.testing.assert_array_equal(filters(LOGITS.reshape(5, 1, 40)), found.reshape(5, 1, 40))
  order = jax.random.permutation(jax.random.key(1), 40)
  np.testing.assert_array_equal(filters(LOGITS[:, order]), found[:, order])


def test_a_shift_of_all_logits_changes_no_choice() -> None:
  assert kept(sampling.filtered(LOGITS + 8, top_k=20, top_p=0.9)) == kept(
    sampling.filtered(LOGITS, top_k=20, top_p=0.9)
  )


def test_the_order_is_temperature_top_k_top_p() -> None:
  logits = probabilities(0.4, 0.3, 0.2, 0.1)
  # top-p of what top-k left: 0.4 / 0.7 and 0.3 / 0.7
  assert kept(sampling.filtered(logits, top_p=0.55)) == [[0, 1]]
  assert kept(sampling.filtered(logits, top_k=2, top_p=0.55)) == [[0]]
  # at temperature 1/2 probabilities are squared: 16, 9, 4 and 1 of 30
  assert kept(sampling.filtered(logits, temperature=0.5, top_p=0.52)) == [[0]]
  found = sampling.filtered(logits, temperature=0.5)
  np.testing.assert_allclose(jax.nn.softmax(found), np.array([[16, 9, 4, 1]]) / 30, rtol=1e-6)
  np.testing.assert_array_equal(sampling.filtered(logits), logits)


def test_temperature_and_p_may_be_traced() -> None:
  @functools.partial(jax.jit, static_argnames='top_k')
  def compute(logits: jax.Array, temperature: Any, top_k: int, top_p: Any) -> jax.Array:
    return sampling.filtered(logits, temperature=temperature, top_k=top_k, top_p=top_p)

  for temperature, p in ((0.5, 0.5), (2.0, 0.9), (1.0, 1.0)):
    found = compute(LOGITS, temperature, 12, p)
    expected = sampling.filtered(LOGITS, temperature=temperature, top_k=12, top_p=p)
    assert kept(found) == kept(expected)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
  assert compute._cache_size() == 1


def test_no_gradient_of_what_is_cut_is_nan() -> None:
  def loss(logits: jax.Array) -> jax.Array:
    found = jax.nn.log_softmax(sampling.filtered(logits, temperature=0.8, top_k=9, top_p=0.8))
    return jnp.sum(jnp.max(found, axis=-1))

  gradient = jax.grad(loss)(LOGITS)
  assert np.isfinite(gradient).all()
  assert np.abs(gradient).max() > 0


def test_greedy() -> None:
  logits = jnp.array([[1.0, 3.0, 3.0], [-INF, -5.0, -6.0]])
  found = sampling.choose(logits, greedy=True, temperature=0.0, top_k=1, top_p=0.1)
  np.testing.assert_array_equal(found, [1, 1])
  assert found.dtype == jnp.int32
  np.testing.assert_array_equal(sampling.choose(LOGITS, jax.random.key(0), top_k=1), jnp.argmax(LOGITS, -1))
  np.testing.assert_array_equal(sampling.choose(LOGITS, jax.random.key(0), top_p=0.0), jnp.argmax(LOGITS, -1))


@pytest.mark.parametrize(
  'settings',
  [
    {},
    {'temperature': 0.6},
    {'temperature': 1.7},
    {'top_k': 5},
    {'top_p': 0.7},
    {'temperature': 1.5, 'top_k': 12, 'top_p': 0.8},
  ],
  ids=str,
)
def test_tokens_are_drawn_as_often_as_their_probability_says(settings: dict[str, Any]) -> None:
  """χ² of 50 000 draws lies within five standard deviations of its mean; what is cut never comes."""
  draws = 50_000
  logits = jax.random.normal(jax.random.key(2), (20,))
  found = sampling.choose(jnp.broadcast_to(logits, (draws, 20)), jax.random.key(3), **settings)
  assert found.shape == (draws,)
  counts = np.bincount(found, minlength=20)
  shares = np.asarray(logits, np.float64) / settings.get('temperature', 1.0)
  possible = np.asarray(sampling.filtered(logits, **settings)) > -INF
  expected = draws * np.where(possible, np.exp(shares), 0) / np.exp(shares[possible]).sum()
  assert not counts[~possible].any()
  freedom = possible.sum() - 1
  assert expected[possible].min() > 5
  statistic = np.sum((counts - expected)[possible] ** 2 / expected[possible])
  assert abs(statistic - freedom) < 5 * np.sqrt(2 * freedom)


def test_draws_are_independent_and_repeatable() -> None:
  logits = jnp.zeros((2000, 8))
  first, again, other = (sampling.choose(logits, jax.random.key(seed)) for seed in (0, 0, 1))
  np.testing.assert_array_equal(first, again)
  # two rows, or two keys, agree by chance alone: 1 in 8
  for agreement in (np.mean(first == other), np.mean(first[1:] == first[:-1])):
    assert abs(agreement - 1 / 8) < 5 * np.sqrt(1 / 8 * 7 / 8 / 2000)


def test_half_precision_is_computed_in_full() -> None:
  found = sampling.filtered(LOGITS.astype(jnp.bfloat16), temperature=0.7, top_k=9, top_p=0.9)
  assert found.dtype == jnp.float32
  exact = sampling.filtered(LOGITS.astype(jnp.bfloat16).astype(jnp.float32), temperature=0.7, top_k=9, top_p=0.9)
  np.testing.assert_array_equal(found, exact)


@pytest.mark.parametrize(
  'settings', [{'top_k': 5}, {'top_p': 0.5}, {'temperature': 0.7, 'top_k': 5, 'top_p': 0.5}], ids=str
)
def test_the_vocabulary_is_not_sorted(settings: dict[str, Any]) -> None:
  """In what XLA makes of it: with a sort it takes ten times as long, and more."""
  compute = jax.jit(functools.partial(sampling.choose, **settings))
  compiled = compute.lower(LOGITS, jax.random.key(0)).compile().as_text()
  assert 'fusion' in compiled
  assert not re.search(r'\bsort\(', compiled)


def test_the_order_of_floats() -> None:
  """Top-p finds its border among the bits of the logits: every float has its place, and zero one only."""
  numbers = jnp.array([-INF, -3e38, -1.5, -1.0, -1e-30, -0.0, 0.0, 1e-30, 1.0, 1.5, 3e38, INF], jnp.float32)
  rank = np.asarray(sampling._ordered(numbers)).astype(np.int64)
  assert np.sign(np.diff(rank)).tolist() == [1, 1, 1, 1, 1, 0, 1, 1, 1, 1, 1]
  assert kept(sampling.top_p(jnp.array([[0.0, -0.0, 0.0, -0.0]]), 0.5)) == [[2, 3]]


@pytest.mark.parametrize(
  ('settings', 'message'),
  [
    ({'top_k': 0}, 'top_k=0 must be at least 1'),
    ({'top_k': -3}, 'top_k=-3'),
    ({'top_p': -0.1}, 'top_p=-0.1 must lie between 0 and 1'),
    ({'top_p': 1.1}, 'top_p=1.1'),
    ({'temperature': 0.0}, 'temperature=0.0 must be above 0; greedy=True'),
    ({'temperature': -1}, 'temperature=-1'),
    ({'temperature': float('nan')}, 'temperature=nan'),
  ],
)
def test_settings_out_of_range(settings: dict[str, Any], message: str) -> None:
  with pytest.raises(ValueError, match=message):
    sampling.choose(LOGITS, jax.random.key(0), **settings)


def test_sampling_needs_a_key() -> None:
  with pytest.raises(ValueError, match='needs a key'):
    sampling.choose(LOGITS)
  with pytest.raises(TypeError):
    sampling.top_k(LOGITS, 2.5)  # type: ignore[arg-type]
