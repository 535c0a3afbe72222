"""Rotary positions: what they are for, and how frequencies are stretched."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from crosstrainer_jax.models.rotary import RopeScaling, rotary_angles, rotary_frequencies, rotate


def test_rotation_keeps_norms_and_depends_on_distance_only() -> None:
  q, k = jax.random.normal(jax.random.key(0), (2, 1, 1, 1, 8))
  frequencies = rotary_frequencies(8, 10_000.0)

  def score(i: int, j: int) -> jax.Array:
    turned = [rotate(x, rotary_angles(jnp.full((1, 1), place), frequencies)) for x, place in ((q, i), (k, j))]
    return jnp.sum(turned[0] * turned[1])

  np.testing.assert_allclose(score(7, 3), score(104, 100), atol=2e-5)
  assert abs(score(7, 3) - score(7, 4)) > 1e-3
  angles = rotary_angles(jnp.arange(5)[None], frequencies)
  x = jax.random.normal(jax.random.key(1), (1, 5, 3, 8))
  np.testing.assert_allclose(
    jnp.linalg.norm(rotate(x, angles), axis=-1), jnp.linalg.norm(x, axis=-1), atol=2e-5, rtol=2e-5
  )
  np.testing.assert_allclose(rotate(x, angles)[:, 0], x[:, 0], atol=2e-5)


def test_rotation_pairs_halves_as_hugging_face_does() -> None:
  x = jnp.zeros((1, 1, 1, 4)).at[..., 1].set(1.0)
  turned = rotate(x, rotary_angles(jnp.full((1, 1), 50), rotary_frequencies(4, 10_000.0)))[0, 0, 0]
  # The second pair is (1, 3), and its frequency is theta ** (-2 / 4) = 0.01.
  np.testing.assert_allclose(turned, [0.0, np.cos(0.5), 0.0, np.sin(0.5)], atol=2e-5)


def test_a_token_with_equal_places_turns_as_a_word_does() -> None:
  frequencies = rotary_frequencies(8, 100.0)
  words = jnp.arange(5)[None]
  for plain, split in zip(
    rotary_angles(words, frequencies), rotary_angles(jnp.stack([words] * 3, -1), frequencies, (1, 2, 1)), strict=True
  ):
    np.testing.assert_array_equal(plain, split)


def test_each_axis_turns_its_own_frequencies() -> None:
  frequencies = rotary_frequencies(8, 100.0)
  _, sine = rotary_angles(jnp.asarray([[[3, 5, 7]]]), frequencies, (1, 2, 1))
  np.testing.assert_allclose(sine[0, 0, 0], np.sin(np.asarray([3, 5, 5, 7]) * frequencies), atol=1e-6)


def test_linear_scaling_divides_every_frequency() -> None:
  plain = rotary_frequencies(8, 10_000.0)
  np.testing.assert_allclose(rotary_frequencies(8, 10_000.0, RopeScaling('linear', 4.0)), plain / 4)


def test_llama3_scaling_keeps_fast_turns_and_stretches_slow_ones() -> None:
  """The published values of Llama 3.1 (factor 8, 1, 4, 8192, theta 500,000), by the rule's three cases."""
  plain = rotary_frequencies(128, 500_000.0)
  scaled = rotary_frequencies(128, 500_000.0, RopeScaling('llama3', 8.0, 1.0, 4.0, 8192))
  wavelengths = 2 * np.pi / plain
  fast, slow = wavelengths < 8192 / 4, wavelengths > 8192 / 1
  np.testing.assert_allclose(scaled[fast], plain[fast], rtol=1e-6)
  np.testing.assert_allclose(scaled[slow], plain[slow] / 8, rtol=1e-6)
  between = ~fast & ~slow
  assert between.sum() >= 5
  assert np.all(np.diff(scaled) < 0)
  assert np.all((scaled[between] < plain[between]) & (scaled[between] > plain[between] / 8))


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    (('yarn', 4.0), "rope scaling 'yarn' is not supported"),
    (('linear', 0.5), 'not possible'),
    (('llama3', 8.0, 4.0, 4.0), 'not possible'),
  ],
)
def test_impossible_scalings_are_refused(arguments: tuple, message: str) -> None:
  with pytest.raises(ValueError, match=message):
    RopeScaling(*arguments)
