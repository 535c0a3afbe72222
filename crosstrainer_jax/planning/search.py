"""The best that fits: clips × rematerialisation × mesh, ordered by formulas, compiled a few at a time."""

import dataclasses
import itertools
from collections.abc import Callable, Iterator

import ml_collections

from crosstrainer_jax.planning import analytic
from crosstrainer_jax.planning.machines import Machine
from crosstrainer_jax.planning.programs import Model, train_step
from crosstrainer_jax.planning.workload import Clip, make_workload
from crosstrainer_jax.training import sharding

# Compiles of one search at most, a minute each at 8B.
COMPILES = 8
# What formulas say of memory is right to about a fifth; what they find larger than this is not compiled.
MARGIN = 1.2
# Least computing again first.
REMATS = ('none', 'dots', 'full')


@dataclasses.dataclass(frozen=True)
class Candidate:
  """A change of a config.

  Attributes:
    seconds, memory: of its train step by formulas; bytes on a chip.
  """

  clips: int
  remat: str
  mesh: tuple[int, int, int]
  seconds: float
  memory: float

  @property
  def settings(self) -> list[str]:
    """As a user writes them."""
    return [
      f'--config.training.batch_size={self.clips}',
      f'--config.decoder.remat={self.remat}',
      f'--config.mesh="{self.mesh}"'.replace(' ', ''),
    ]

  def apply(self, config: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
    """`config` with the change."""
    changed = config.copy_and_resolve_references()
    with changed.unlocked():
      changed.training.batch_size = self.clips
      changed.decoder.remat = self.remat
      changed.mesh = self.mesh
    return changed


def candidates(
  config: ml_collections.ConfigDict,
  clip: Clip,
  machine: Machine,
  make: Callable[[ml_collections.ConfigDict], Model],
) -> list[Candidate]:
  """Changes of `config` that may fit by formulas, best first: those that keep its clips, then by time for a clip.

  Args:
    make: the abstract model of a config on the machine.
  """
  found = []
  for shape in meshes(config, machine):
    for remat in REMATS:
      for clips in _batches(config.training.batch_size):
        candidate = Candidate(clips, remat, shape, 0.0, 0.0)
        changed = candidate.apply(config)
        try:
          model = make(changed)
          workload = make_workload(changed, clip, sharding.data_shards(model.mesh))
        except ValueError:  # a dimension that does not divide over this mesh
          break
        estimated = analytic.memory(
          model, workload, remat, train_step(model, workload).arguments['optimiser'], machine.chip.is_tpu
        )
        if estimated.total <= machine.chip.memory * MARGIN:
          parts = analytic.step_seconds(machine, model, analytic.flops(model, workload, remat))
          found.append(dataclasses.replace(candidate, seconds=max(parts.values()), memory=estimated.total))
  keeps = config.training.batch_size
  return sorted(found, key=lambda c: (c.clips != keeps, c.seconds / c.clips, c.memory))


def meshes(config: ml_collections.ConfigDict, machine: Machine) -> Iterator[tuple[int, int, int]]:
  """Meshes of the machine: across slices, and within one every power of two for `tensor` up to 8."""
  within = machine.chips // machine.slices
  for tensor in (1, 2, 4, 8):
    if within % tensor == 0:
      yield machine.slices, within // tensor, tensor


def _batches(clips: int) -> list[int]:
  """Clips of an update, and halves of them."""
  return list(itertools.takewhile(lambda n: n >= 1, (clips >> shift for shift in range(4))))
