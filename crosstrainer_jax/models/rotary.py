"""Rotary position embedding (Su et al. 2021), and how it is stretched for long contexts.

Halves of a head are rotated as in Hugging Face's layout, so that a checkpoint's weights need transposing only.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np


@dataclasses.dataclass(frozen=True)
class RopeScaling:
  """How rotary frequencies are stretched for contexts longer than those of pretraining.

  `linear` divides every frequency by `factor`. `llama3` (Llama 3.1) divides those whose wavelength is longer than
  original_max_position / low_freq_factor, keeps those shorter than original_max_position / high_freq_factor, and goes
  smoothly from one to the other between.
  """

  kind: str
  factor: float
  low_freq_factor: float = 1.0
  high_freq_factor: float = 4.0
  original_max_position: int = 8192

  def __post_init__(self) -> None:
    if self.kind not in ('linear', 'llama3'):
      raise ValueError(f'decoder: rope scaling {self.kind!r} is not supported; supported: default, linear, llama3')
    if self.factor < 1 or self.high_freq_factor <= self.low_freq_factor:
      raise ValueError(f'decoder: rope scaling is not possible: {self}')


def rotary_frequencies(head_dim: int, theta: float, scaling: RopeScaling | None = None) -> np.ndarray:
  """float32[head_dim / 2]: radians a position, theta^(-2i / head_dim) before scaling (Su et al. 2021, eq. 15)."""
  frequencies = 1.0 / theta ** (np.arange(0, head_dim, 2, dtype=np.float32) / head_dim)
  if scaling is None:
    return frequencies.astype(np.float32)
  if scaling.kind == 'linear':
    return (frequencies / scaling.factor).astype(np.float32)
  # How often a frequency turns within the context of pretraining decides how far it is stretched.
  turns = scaling.original_max_position * frequencies / (2 * np.pi)
  low, high = scaling.low_freq_factor, scaling.high_freq_factor
  kept = np.clip((turns - low) / (high - low), 0.0, 1.0)
  return (frequencies * (kept + (1 - kept) / scaling.factor)).astype(np.float32)


def rotary_angles(
  positions: jax.Array, frequencies: np.ndarray, sections: tuple[int, ...] = ()
) -> tuple[jax.Array, jax.Array]:
  """Cosine and sine of the rotary angles of `positions` (Su et al. 2021, eq. 34).

  Args:
    positions: int32[B, L]; or int32[B, L, A], where a token has a place on A axes (Qwen2-VL, arXiv:2409.12191,
      section 2.1: time, row and column).
    frequencies: float32[head_dim / 2], radians a position.
    sections: how many of the frequencies turn with each axis, in their order.

  Returns:
    Two float32[B, L, 1, head_dim / 2].
  """
  places = positions[:, :, None, None]
  if positions.ndim == 3:
    places = positions[:, :, None, np.repeat(np.arange(len(sections)), sections)]
  angles = places.astype(jnp.float32) * frequencies
  return jnp.cos(angles), jnp.sin(angles)


def rotate(x: jax.Array, angles: tuple[jax.Array, jax.Array]) -> jax.Array:
  """Rotates each pair (x[i], x[i + head_dim / 2]) of `x` float[B, L, heads, head_dim] by its angle, in float32."""
  cos, sin = angles
  a, b = jnp.split(x.astype(jnp.float32), 2, axis=-1)
  return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1).astype(x.dtype)
