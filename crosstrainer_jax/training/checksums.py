"""Checksums of a state: whether what was read is what was written.

What checkpoints are written with does not notice a bit that flips in the storage. A sum is made on the devices, of
integers, so that it is the same on every mesh.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from crosstrainer_jax.training.optimizer import path_name


def checksums(tree: Any) -> dict[str, int]:
  """Of every array of `tree`, by its path."""
  sums = jax.device_get(_sums(tree))
  return {path_name(path): int(value) for path, value in jax.tree_util.tree_leaves_with_path(sums)}


def require_same(tree: Any, recorded: Mapping[str, int]) -> None:
  """Compares with the checksums that were recorded when `tree` was written.

  Raises:
    ValueError: names the arrays that are not what they were.
  """
  found = checksums(tree)
  changed = [name for name, value in recorded.items() if found.get(name) != value]
  if changed:
    listed = ', '.join(changed[:3])
    raise ValueError(f'its checksums say that bits have flipped, in {len(changed)} of {len(found)} arrays: {listed}')


@jax.jit
def _sums(tree: Any) -> Any:
  return jax.tree.map(_sum, tree)


def _sum(array: jax.Array) -> jax.Array:
  """Σ of an array's bits as numbers, each times an odd number of its place: no single flip leaves it as it was."""
  if array.dtype == jnp.bool_:
    array = array.astype(jnp.uint8)
  bits = jax.lax.bitcast_convert_type(array, jnp.dtype(f'uint{8 * array.dtype.itemsize}')).astype(jnp.uint32)
  place = jnp.zeros(array.shape, jnp.uint32)
  for axis in range(array.ndim):
    place = place * jnp.uint32(0x9E3779B1) + jax.lax.broadcasted_iota(jnp.uint32, array.shape, axis)
  return jnp.sum(bits * (2 * place + 1), dtype=jnp.uint32)
