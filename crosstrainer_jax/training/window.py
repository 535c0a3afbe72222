"""The scalars of the updates since the last report, added up on the devices; and the end of a run that diverges."""

import jax
import jax.numpy as jnp

# Averaged over updates; every other scalar over what was learnt from, Σ(w·x)/Σw, with the update's `weight`.
NORMS = ('grad_norm', 'update_norm', 'param_norm')
# Σ over updates, by scalar.
Sums = dict[str, jax.Array]


class NonFiniteLoss(FloatingPointError):
  """The loss or a norm is NaN or infinite; the last good checkpoint is kept."""


def is_norm(name: str) -> bool:
  """Whether a scalar is a norm, of all parameters or (`grad_norm/mapper`) of a group."""
  return name.partition('/')[0] in NORMS


class Window:
  """Updates from `first` on, of several kinds.

  Nothing is read back before `means`, so that the host runs ahead of the devices.
  """

  def __init__(self, first: int):
    self.first, self.last = first, first - 1
    self._sums: dict[str, Sums] = {}
    # In which update of the window, of whatever kind, each scalar was no number for the first time.
    self._broke: Sums | None = None

  def __bool__(self) -> bool:
    return bool(self._sums)

  def add(self, update: int, kind: str, scalars: dict[str, jax.Array]) -> None:
    self.last = update
    self._sums[kind], self._broke = _add(self._sums.get(kind), self._broke, scalars)

  def means(self, name: str) -> dict[str, dict[str, float]]:
    """Means on the host, by kind; '' holds those of all kinds together.

    Raises:
      NonFiniteLoss: names the update, and what was not finite in it.
    """
    sums, broke = jax.device_get((self._sums, self._broke))
    kinds = {kind: {key: float(value) for key, value in values.items()} for kind, values in sums.items()}
    together = {key: sum(values[key] for values in kinds.values()) for key in next(iter(kinds.values()))}
    found = {kind: _mean(values) for kind, values in {**kinds, '': together}.items()}
    self._require_finite(name, {key: int(value) for key, value in broke.items() if key != 'updates'}, found[''])
    return found

  def _require_finite(self, name: str, broke: dict[str, int], means: dict[str, float]) -> None:
    counted = {key: place for key, place in broke.items() if place >= 0 and (key == 'loss' or is_norm(key))}
    if not counted:
      return
    first = min(counted.values())
    # As one follows from the other.
    order = ('loss', *NORMS)
    groups = sorted((order.index(key.partition('/')[0]), key) for key, place in counted.items() if place == first)
    named = ', '.join(key for _, key in groups[:8]) + (' and others' if len(groups) > 8 else '')
    norms = ', '.join(f'{key}={means[key]:.3g}' for key in ('loss', *NORMS))
    raise NonFiniteLoss(
      f'{name}: not finite between updates {self.first} and {self.last} ({norms}). It began at update '
      f'{self.first + first} with {named}. '
      'The last checkpoint is good, but the same settings lead to the same end: start in another --workdir with a '
      'lower learning rate or clip_norm of the optimizer.'
    )


@jax.jit
def _add(sums: Sums | None, broke: Sums | None, scalars: dict[str, jax.Array]) -> tuple[Sums, Sums]:
  """`sums` with one more update; and for each scalar the number of the first update that was not finite, or -1."""
  weight = scalars['weight']
  added = {key: value * (1.0 if is_norm(key) else weight) for key, value in scalars.items() if key != 'weight'}
  added |= {'weight': weight, 'updates': jnp.ones(())}
  here = jnp.zeros((), jnp.int32) if broke is None else broke['updates']
  seen = {key: -jnp.ones((), jnp.int32) if broke is None else broke[key] for key in scalars}
  seen = {key: jnp.where((seen[key] < 0) & ~jnp.isfinite(scalars[key]), here, seen[key]) for key in scalars}
  return added if sums is None else jax.tree.map(jnp.add, sums, added), {**seen, 'updates': here + 1}


def _mean(sums: dict[str, float]) -> dict[str, float]:
  weight, updates = sums['weight'], sums['updates']
  means = {key: value / (updates if is_norm(key) else max(weight, 1e-6)) for key, value in sums.items()}
  # `weight` is that of one update, like the norms.
  return {key: value for key, value in means.items() if key != 'updates'} | {'weight': weight / updates}
