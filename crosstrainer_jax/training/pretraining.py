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


def make_loss(graph: nnx.GraphDef, mean: np.ndarray, deviation: np.ndarray, seconds: Sequence[int], fps: int) -> Loss:
  """Huber loss on standardised targets and on their change from frame to frame.

  Batch: {'frames': uint8[B, V, T, H, W, 3], 'targets': float32[B, V, T, K]}. One of `seconds` is drawn per update.
  """

  def cut_loss(params: nnx.State, batch: dict[str, jax.Array], length: int) -> tuple[jax.Array, jax.Array]:
    model = nnx.merge(graph, params)
    frames = batch['frames'][:, :, : length * fps]
    targets = ((batch['targets'] - mean) / deviation)[:, :, : length * fps]
    b, v, t = frames.shape[:3]
    predicted = model.head(model.encoder(frames.reshape(b * v, *frames.shape[2:]))).reshape(b * v, t, -1)
    targets = targets.reshape(b * v, t, -1)
    error = predicted - targets
    change = jnp.diff(predicted, axis=1) - jnp.diff(targets, axis=1)
    return _huber(error).mean() + _huber(change).mean(), jnp.square(error).mean()

  def loss(params: nnx.State, batch: dict[str, jax.Array], key: jax.Array) -> Any:
    choice = jax.random.randint(key, (), 0, len(seconds))
    branches = [lambda p, b, n=n: cut_loss(p, b, n) for n in seconds]
    total, squared = jax.lax.switch(choice, branches, params, batch)
    return total, jnp.ones(()), {'unexplained_variance': (squared, jnp.ones(()))}

  return loss


def _huber(x: jax.Array) -> jax.Array:
  size = jnp.abs(x)
  return jnp.where(size < 1.0, 0.5 * x * x, size - 0.5)
