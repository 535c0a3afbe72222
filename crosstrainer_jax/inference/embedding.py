"""Clips and texts as unit vectors, by the towers of a finished contrastive training."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from flax import nnx
from jax.experimental import multihost_utils

from crosstrainer_jax.training.stages import Blueprint


class Embedder:
  """The towers on one device of this process; of several processes each comes to the same vectors.

  Args:
    blueprint, params: of a `TwoTowers`.
    batch_size: rows at a time; one shape is compiled for each tower.
  """

  def __init__(self, blueprint: Blueprint, params: nnx.State, batch_size: int = 128):
    self._blueprint, self._params, self._batch_size = blueprint, jax.tree.map(_whole, params), batch_size

  def clips(self, count: int, read: Callable[[slice], dict[str, np.ndarray]]) -> np.ndarray:
    """float32[N, E] of `count` clips; `read` gives the video tower's arrays of a slice of them."""
    return self._embed('clips', count, read)

  def texts(self, ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """float32[N, E] of texts, ids int32[N, L] and mask bool[N, L]."""
    return self._embed('texts', len(ids), lambda part: {'ids': ids[part], 'mask': mask[part]})

  def _embed(self, tower: str, count: int, read: Callable[[slice], dict[str, np.ndarray]]) -> np.ndarray:
    found: list[np.ndarray] = []
    for start in range(0, count, self._batch_size):
      rows = min(self._batch_size, count - start)
      missing = self._batch_size - rows
      arrays = {
        name: np.pad(value, [(0, missing), *[(0, 0)] * (value.ndim - 1)])
        for name, value in read(slice(start, start + rows)).items()
      }
      found.append(
        np.asarray(_vectors(self._blueprint.graph, self._params, self._blueprint.rest, arrays, tower))[:rows]
      )
    return np.concatenate(found) if found else np.zeros((0, 0), np.float32)


@functools.partial(jax.jit, static_argnames=('graph', 'tower'))
def _vectors(
  graph: nnx.GraphDef[Any], params: nnx.State, rest: nnx.State, arrays: dict[str, jax.Array], tower: str
) -> jax.Array:
  vectors: jax.Array = getattr(nnx.merge(graph, params, rest), tower)(**arrays)
  return vectors


def _whole(leaf: jax.Array) -> np.ndarray:
  """The whole of an array that may lie over the devices of several processes."""
  if leaf.is_fully_addressable:
    return np.asarray(leaf)
  return np.asarray(multihost_utils.process_allgather(leaf, tiled=True))
