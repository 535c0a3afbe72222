"""f_p: a linear probe from frozen video tokens to the four levels of proficiency (paper, section 3.3).

The paper conditions P on the attributes too (eq. 3), but implements a linear layer on frozen v alone, and so does this.
For the comparison, `with_attributes` puts the attributes beside v.
"""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from crosstrainer_jax.input.files import replacing
from crosstrainer_jax.input.record import LEVELS


class Probe(NamedTuple):
  """kernel float32[D, 4], bias float32[4]."""

  kernel: jax.Array
  bias: jax.Array

  def logits(self, v: jax.Array | np.ndarray) -> jax.Array:
    """float32[N, D] (v, averaged over its tokens) -> float32[N, 4]."""
    return jnp.asarray(v) @ self.kernel + self.bias

  def save(self, path: Path) -> None:
    with replacing(path) as fresh:
      np.savez(fresh, kernel=np.asarray(self.kernel), bias=np.asarray(self.bias))

  @classmethod
  def load(cls, path: Path) -> 'Probe | None':
    """What `save` wrote; None when there is no such file."""
    if not path.is_file():
      return None
    with path.open('rb') as stream, np.load(stream) as file:
      return cls(jnp.asarray(file['kernel']), jnp.asarray(file['bias']))


@functools.partial(jax.jit, static_argnames=('steps', 'learning_rate', 'weight_decay'))
def _descend(
  v: jax.Array, levels: jax.Array, weights: jax.Array, steps: int, learning_rate: float, weight_decay: float
) -> Probe:
  schedule = optax.cosine_decay_schedule(learning_rate, steps)
  # the kernel decays, the bias does not
  tx = optax.adamw(schedule, weight_decay=weight_decay, mask=lambda probe: jax.tree.map(lambda x: x.ndim > 1, probe))
  probe = Probe(jnp.zeros((v.shape[1], len(LEVELS))), jnp.zeros(len(LEVELS)))

  def loss(probe: Probe) -> jax.Array:
    losses = optax.softmax_cross_entropy_with_integer_labels(probe.logits(v), levels)
    return (losses * weights).sum() / jnp.maximum(weights.sum(), 1e-6)

  def update(carry: tuple[Probe, optax.OptState], _: None) -> tuple[tuple[Probe, optax.OptState], None]:
    probe, state = carry
    updates, state = tx.update(jax.grad(loss)(probe), state, probe)
    return (optax.apply_updates(probe, updates), state), None

  (probe, _), _ = jax.lax.scan(update, (probe, tx.init(probe)), None, length=steps)
  return probe


def fit_probe(v: np.ndarray, levels: np.ndarray, steps: int, learning_rate: float, weight_decay: float) -> Probe:
  """Trains f_p by full-batch AdamW on cross-entropy.

  Features are standardised for the descent, and the standardisation is folded into the weights, so that the result is
  linear in v.

  Args:
    v: float32[N, D], averaged over tokens.
    levels: int[N], -1 where unknown: such clips weigh nothing.

  Raises:
    ValueError: no clip has a known level, or v is not finite.
  """
  known = levels >= 0
  if not known.any():
    raise ValueError(
      'no clip has a proficiency level: set config.probe.steps=0, or add the field proficiency to the data'
    )
  if not np.isfinite(v).all():
    raise ValueError('video tokens for the proficiency probe are not finite: did the mapper diverge?')
  mean, deviation = v[known].mean(0), v[known].std(0) + 1e-6
  probe = _descend(
    (v - mean) / deviation, np.where(known, levels, 0), known.astype(np.float32), steps, learning_rate, weight_decay
  )
  kernel = probe.kernel / deviation[:, None]
  return Probe(kernel, probe.bias - mean @ kernel)


def with_attributes(v: np.ndarray, lists: Sequence[Sequence[str]], vocabulary: Sequence[str]) -> np.ndarray:
  """float32[N, D + A]: v, and for each phrase of the vocabulary whether the clip's list has it (eq. 3's Ŝ)."""
  place = {phrase: number for number, phrase in enumerate(vocabulary)}
  named = np.zeros((len(lists), len(place)), np.float32)
  for row, phrases in zip(named, lists, strict=True):
    row[[place[phrase] for phrase in phrases if phrase in place]] = 1
  return np.concatenate([np.asarray(v, np.float32), named], axis=1)
