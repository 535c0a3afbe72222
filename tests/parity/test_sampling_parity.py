"""Temperature, top-k and top-p against the warpers of `transformers`: the same tokens stay, with the same logits."""

import functools
import itertools
from typing import Any

import jax
import numpy as np
import pytest

from crosstrainer_jax.inference import sampling

pytestmark = pytest.mark.parity
torch = pytest.importorskip('torch')
transformers = pytest.importorskip('transformers')

# Temperature, top-k, top-p. A share p that equals some probabilities' sum but for its rounding has no one answer:
# 3 of 15 equal tokens are 0.2 here and not there.
SETTINGS = list(itertools.product([0.3, 1.0, 1.9], [None, 1, 3, 50, 1000], [None, 0.0, 0.21234, 0.87654, 0.99912, 1.0]))
# For equal tokens whose number is a power of two, sums are exact.
EXACT = [(1.0, None, p) for p in (0.25, 0.5, 0.515625, 0.75)]


def warped(logits: np.ndarray, temperature: float, top_k: int | None, top_p: float | None) -> np.ndarray:
  """As `generate` of `transformers` puts them in a row, without those that keep everything."""
  warpers: list[Any] = [transformers.TemperatureLogitsWarper(temperature)]
  if top_k is not None:
    warpers.append(transformers.TopKLogitsWarper(top_k))
  if top_p is not None and top_p < 1:
    warpers.append(transformers.TopPLogitsWarper(top_p))
  return transformers.LogitsProcessorList(warpers)(None, torch.tensor(logits)).numpy()


compiled = jax.jit(sampling.filtered, static_argnames='top_k')


def filtered(logits: np.ndarray, temperature: float, top_k: int | None, top_p: float | None) -> np.ndarray:
  return np.asarray(compiled(logits, temperature=temperature, top_k=top_k, top_p=top_p))


@pytest.mark.parametrize('spread', [0.5, 3.0, 12.0])
def test_random_logits(spread: float) -> None:
  logits = (np.random.default_rng(0).standard_normal((6, 200)) * spread).astype(np.float32)
  for settings in SETTINGS:
    np.testing.assert_allclose(filtered(logits, *settings), warped(logits, *settings), rtol=1e-6, err_msg=str(settings))


TIES = {
  # of few values: most borders lie between equals
  'few values': np.random.default_rng(1).integers(-2, 3, (30, 64)).astype(np.float32),
  'all equal': np.zeros((2, 64), np.float32),
}


@pytest.mark.parametrize('name', TIES)
def test_ties(name: str) -> None:
  """As many stay; which of equal ones top-p keeps is left open by torch.sort."""
  logits = TIES[name]
  for settings in [*SETTINGS, *EXACT]:
    found, expected = filtered(logits, *settings), warped(logits, *settings)
    np.testing.assert_allclose(np.sort(found), np.sort(expected), rtol=1e-6, err_msg=str(settings))


@pytest.mark.parametrize('name', TIES)
def test_ties_in_a_stable_sort(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
  """The very same stay, where torch is told to sort stably."""
  monkeypatch.setattr(torch, 'sort', functools.partial(torch.sort, stable=True))
  logits = TIES[name]
  for settings in [*SETTINGS, *EXACT]:
    np.testing.assert_allclose(filtered(logits, *settings), warped(logits, *settings), rtol=1e-6, err_msg=str(settings))


def test_impossible_tokens() -> None:
  rng = np.random.default_rng(2)
  logits = rng.standard_normal((8, 50)).astype(np.float32)
  logits[rng.random(logits.shape) < 0.7] = -np.inf
  logits[:, 7] = 0.5
  for settings in SETTINGS:
    np.testing.assert_allclose(filtered(logits, *settings), warped(logits, *settings), rtol=1e-6, err_msg=str(settings))


@pytest.mark.parametrize('top_p', [0.5, 0.9, 0.99])
def test_a_large_vocabulary(top_p: float) -> None:
  """128 256 tokens, as Llama 3 has: the sums are rounded differently, so tokens at the very border may differ.

  They are those whose sum lies within 2e-6 of the border, in float64.
  """
  logits = (np.random.default_rng(3).standard_normal((2, 128_256)) * 2).astype(np.float32)
  np.testing.assert_array_equal(filtered(logits, 1.0, 50, None), warped(logits, 1.0, 50, None))
  np.testing.assert_array_equal(filtered(logits, 1.0, 50, top_p), warped(logits, 1.0, 50, top_p))
  found, expected = filtered(logits, 1.0, None, top_p), warped(logits, 1.0, None, top_p)
  shares = np.exp(logits.astype(np.float64))
  shares /= shares.sum(1, keepdims=True)
  for row in range(2):
    order = np.argsort(logits[row], kind='stable')
    sums = np.empty(len(order))
    sums[order] = np.cumsum(shares[row][order])
    differ = (found[row] > -np.inf) != (expected[row] > -np.inf)
    assert np.abs(sums[differ] - (1 - top_p)).max(initial=0) < 2e-6
    same = ~differ
    np.testing.assert_array_equal(found[row][same], expected[row][same])
