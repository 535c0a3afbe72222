"""The loss of next tokens, a piece at a time: logits of a vocabulary of 128 k never exist for all targets at once."""

import functools
from typing import Any

import jax
import jax.numpy as jnp

# Logits of a piece take about as much of each device, in float32.
PIECE_BYTES = 2**28


def pieces_of(targets: int, rows: int, vocab_size: int) -> int:
  """Into how many pieces the M targets of a row are cut, for the rows that lie on one device."""
  return min(targets, -(-4 * targets * rows * vocab_size // PIECE_BYTES))


@functools.partial(jax.custom_vjp, nondiff_argnums=(4,))
def cross_entropy(
  hidden: jax.Array, head: jax.Array, ids: jax.Array, weights: jax.Array, pieces: int
) -> tuple[jax.Array, jax.Array]:
  """Σ w·loss and Σ w·correct, where the logits are hidden @ head.

  The gradients are computed with the loss itself, as long as the logits of a piece are at hand, so that nothing is
  computed twice; that of the head only where it trains.

  Args:
    hidden: dtype[R, M, D].
    head: dtype[D, vocab].
    ids: int32[R, M].
    weights: float32[R, M].
    pieces: into how many the M targets are cut.
  """
  return _forward(hidden, head, ids, weights, pieces, hidden_trains=False, head_trains=False)[0]


def _forward(
  hidden: jax.Array,
  head: jax.Array,
  ids: jax.Array,
  weights: jax.Array,
  pieces: int,
  hidden_trains: bool,
  head_trains: bool,
) -> tuple[tuple[jax.Array, jax.Array], tuple[jax.Array | None, jax.Array | None]]:
  """The two sums, and the gradients of the first by hidden and by head."""
  rows, targets, width = hidden.shape
  size = -(-targets // pieces)

  def cut(x: jax.Array) -> jax.Array:
    padded = jnp.pad(x, [(0, 0), (0, pieces * size - targets), *[(0, 0)] * (x.ndim - 2)])
    return jnp.moveaxis(padded.reshape(rows, pieces, size, *x.shape[2:]), 1, 0)

  def piece(carry: Any, part: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[Any, jax.Array | None]:
    total, right, head_gradient = carry
    hidden, ids, weights = part
    logits = jnp.matmul(hidden, head, preferred_element_type=jnp.float32)
    largest = logits.max(-1)
    exponentials = jnp.exp(logits - largest[..., None])
    norm = exponentials.sum(-1)
    chosen = jnp.take_along_axis(logits, ids[..., None], axis=-1)[..., 0]
    total += ((jnp.log(norm) + largest - chosen) * weights).sum()
    # Right where no token is likelier.
    right += ((chosen >= largest) * weights).sum()
    if not (hidden_trains or head_trains):
      return (total, right, None), None
    surplus = exponentials / norm[..., None] - jax.nn.one_hot(ids, logits.shape[-1])
    surplus = (surplus * weights[..., None]).astype(hidden.dtype)
    if head_trains:
      head_gradient += jnp.einsum('rmd,rmv->dv', hidden, surplus, preferred_element_type=jnp.float32)
    return (total, right, head_gradient), jnp.matmul(surplus, head.T) if hidden_trains else None

  start = (jnp.zeros(()), jnp.zeros(()), jnp.zeros(head.shape, jnp.float32) if head_trains else None)
  parts = cut(hidden), cut(ids), cut(weights)
  if pieces == 1:
    carry, gradient = piece(start, jax.tree.map(lambda x: x[0], parts))
    gradient = None if gradient is None else gradient[None]
  else:
    carry, gradient = jax.lax.scan(piece, start, parts)
  if gradient is not None:
    gradient = jnp.moveaxis(gradient, 0, 1).reshape(rows, pieces * size, width)[:, :targets]
  return carry[:2], (gradient, None if carry[2] is None else carry[2].astype(head.dtype))


def _with_gradients(hidden: Any, head: Any, ids: Any, weights: Any, pieces: int) -> tuple[Any, Any]:
  values = (hidden.value, head.value, ids.value, weights.value)
  return _forward(*values, pieces, hidden.perturbed, head.perturbed)


def _backward(
  pieces: int, gradients: tuple[jax.Array | None, jax.Array | None], cotangents: Any
) -> tuple[jax.Array | None, ...]:
  del pieces
  # What is right is counted and not learnt from.
  scale = cotangents[0]
  scaled = (None if g is None else (g * scale).astype(g.dtype) for g in gradients)
  return (*scaled, None, None)


cross_entropy.defvjp(_with_gradients, _backward, symbolic_zeros=True)
