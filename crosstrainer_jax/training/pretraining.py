"""Pretraining of f_v on generic motion: from each second of one view, predict where the body is.

Targets are regressed per frame from the second's feature (3-D joints in camera and body axes, implement, contact,
velocities); nothing of the world's sports is seen. Clips are cut to a random whole number of seconds per update, so
that short windows are not foreign to the encoder.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from crosstrainer_jax.training.step import Loss


class MotionHead(nnx.Module):
  """Linear read-out of a second: float[..., D] -> float[..., frames, K]. Thrown away after pretraining."""

  def __init__(self, feature_dim: int, frames: int, targets: int, rngs: nnx.Rngs):
    self.frames = frames
    self.linear = nnx.Linear(feature_dim, frames * targets, rngs=rngs)

  def __call__(self, features: jax.Array) -> jax.Array:
    return self.linear(features).reshape(*features.shape[:-1], self.frames, -1)


class Pretrainer(nnx.Module):
  """Encoder and head."""

  def __init__(self, encoder: nnx.Module, frames_per_token: int, feature_dim: int, targets: int, rngs: nnx.Rngs):
    self.encoder = encoder
    self.head = MotionHead(feature_dim, frames_per_token, targets, rngs)


def target_statistics(targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """float32[K] mean and standard deviation of targets float32[..., K]; a constant target gets standard deviation 1."""
  flat = targets.reshape(-1, targets.shape[-1])
  deviation = flat.std(0)
  return flat.mean(0), np.where(deviation < 1e-3, 1.0, deviation).astype(np.float32)


def make_loss(
  graph: nnx.GraphDef,
  mean: np.ndarray,
  deviation: np.ndarray,
  weights: np.ndarray,
  pixels: Sequence[int],
  seconds: Sequence[int],
  fps: int,
  localisation: float,
) -> Loss:
  """Huber loss on standardised targets and on their change from frame to frame, and where the first maps must look.

  Batch: {'frames': uint8[B, V, T, H, W, 3], 'targets': float32[B, V, T, K]}. One of `seconds` is drawn per update.

  Args:
    weights: float32[K] of the targets.
    pixels: the columns of the targets that are x and y of each joint, in image widths: map j is to look at joint j.
    localisation: weight of that.
  """

  def cut_loss(params: nnx.State, batch: dict[str, jax.Array], length: int) -> tuple[jax.Array, ...]:
    model = nnx.merge(graph, params)
    frames = batch['frames'][:, :, : length * fps]
    wanted = batch['targets'][:, :, : length * fps]
    b, v, t = frames.shape[:3]
    features, logits, positions = model.encoder.observe(frames.reshape(b * v, *frames.shape[2:]))
    predicted = model.head(features).reshape(b * v, t, -1)
    standard = ((wanted - mean) / deviation).reshape(b * v, t, -1)
    error = predicted - standard
    change = jnp.diff(predicted, axis=1) - jnp.diff(standard, axis=1)
    joints = wanted[..., np.asarray(pixels)].reshape(b * v, t, -1, 2)
    looks, distance = localise(logits[:, :, : joints.shape[2]], positions[:, :, : joints.shape[2]], joints)
    total = (
      (weights * _huber(error)).mean()
      + 0.5 * (weights * _huber(change)).mean()
      + localisation * (looks + 10.0 * distance)
    )
    return total, jnp.square(error).mean(), distance

  def loss(params: nnx.State, _: Any, batch: dict[str, jax.Array], key: jax.Array) -> Any:
    choice = jax.random.randint(key, (), 0, len(seconds))
    branches = [lambda p, b, n=n: cut_loss(p, b, n) for n in seconds]
    total, squared, distance = jax.lax.switch(choice, branches, params, batch)
    one = jnp.ones(())
    return total, one, {'unexplained_variance': (squared, one), 'joint_distance': (distance, one)}

  return loss


def localise(logits: jax.Array, positions: jax.Array, joints: jax.Array) -> tuple[jax.Array, jax.Array]:
  """How far maps are from looking at joints, over the joints that lie in the image.

  Args:
    logits: float32[..., J, cells] of a square grid. positions: float32[..., J, 2], joints: float32[..., J, 2], in image
      widths.

  Returns:
    Mean cross-entropy of the cell that holds the joint, and mean distance |dx| + |dy| in image widths.
  """
  grid = round(logits.shape[-1] ** 0.5)
  inside = ((joints >= 0) & (joints < 1)).all(-1).astype(jnp.float32)
  cell = jnp.clip(jnp.floor(joints * grid), 0, grid - 1).astype(jnp.int32)
  chosen = cell[..., 1] * grid + cell[..., 0]
  count = jnp.maximum(inside.sum(), 1.0)
  entropy = optax.softmax_cross_entropy_with_integer_labels(logits, chosen)
  return (entropy * inside).sum() / count, (jnp.abs(positions - joints).sum(-1) * inside).sum() / count


def _huber(x: jax.Array) -> jax.Array:
  size = jnp.abs(x)
  return jnp.where(size < 1.0, 0.5 * x * x, size - 0.5)
