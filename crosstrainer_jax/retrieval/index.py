"""Exact search over a library: all cosines of a query, a block of the library at a time, on whatever device there is.

638,399 clips of 512 numbers are 1.3 GB in float32 and half of that in bfloat16; one matrix product reads them once, so
that nothing approximate is needed at this size. `benchmarks/index_latency.py` says what that takes.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np

# Vectors of the library that are compared at a time: so many scores for each query are in memory beside the best.
BLOCK = 65_536


class Index:
  """Unit vectors float[N, E] on the default device.

  Args:
    dtype: in which they are kept; scores are float32.

  Raises:
    ValueError: no vectors, or none that are vectors.
  """

  def __init__(self, vectors: np.ndarray, dtype: str = 'float32', block: int = BLOCK):
    if vectors.ndim != 2 or not len(vectors):
      raise ValueError(f'an index of vectors {vectors.shape}: at least one vector is needed')
    self.size = len(vectors)
    self._block = min(block, self.size)
    blocks = -(-self.size // self._block)
    # A block at a time, so that a second copy of all is never there.
    self._parts = [
      jnp.asarray(_padded(vectors[n * self._block : (n + 1) * self._block], self._block), jnp.dtype(dtype))
      for n in range(blocks)
    ]

  def search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The best of each query, best first: scores float32[Q, k] and numbers int32[Q, k]; of equals the first.

    Args:
      queries: float[Q, E], unit vectors.

    Raises:
      ValueError: more are asked for than there are.
    """
    if not 0 < k <= self.size:
      raise ValueError(f'k={k}: from 1 to {self.size}, the size of the library')
    best = jnp.full((len(queries), k), -jnp.inf), jnp.full((len(queries), k), -1, jnp.int32)
    vectors = jnp.asarray(queries, self._parts[0].dtype)
    for number, part in enumerate(self._parts):
      begin = number * self._block
      best = _better(*best, vectors, part, begin, min(self._block, self.size - begin), k)
    return np.asarray(best[0]), np.asarray(best[1])


def _padded(vectors: np.ndarray, rows: int) -> np.ndarray:
  return np.pad(vectors, ((0, rows - len(vectors)), (0, 0)))


@functools.partial(jax.jit, static_argnames='k')
def _better(
  scores: jax.Array, numbers: jax.Array, queries: jax.Array, part: jax.Array, begin: int, real: int, k: int
) -> tuple[jax.Array, jax.Array]:
  """The best of what was found before and of one more block, of which the first `real` rows count."""
  found = jnp.matmul(queries, part.T, preferred_element_type=jnp.float32, precision=jax.lax.Precision.HIGHEST)
  places = jnp.arange(part.shape[0], dtype=jnp.int32)
  found = jnp.where(places < real, found, -jnp.inf)
  # What came before stands first, so that of equals it stays.
  own, chosen = jax.lax.top_k(found, min(k, part.shape[0]))
  scores = jnp.concatenate([scores, own], 1)
  numbers = jnp.concatenate([numbers, chosen.astype(jnp.int32) + begin], 1)
  scores, order = jax.lax.top_k(scores, k)
  return scores, jnp.take_along_axis(numbers, order, 1)
