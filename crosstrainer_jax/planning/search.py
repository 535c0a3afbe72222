"""The best that fits: turns and clips of an update × rematerialisation × mesh, ordered by formulas, compiled a few at a
time.
"""

import dataclasses
import itertools
from collections.abc import Callable, Iterator

import ml_collections

from crosstrainer_jax.models.decoder_config import REMAT_POLICIES
from crosstrainer_jax.planning import analytic
from crosstrainer_jax.planning.machines import Machine
from crosstrainer_jax.planning.programs import Model, train_step
from crosstrainer_jax.planning.workload import Clip, make_workload
from crosstrainer_jax.training import sharding

# Compiles of one search at most, minutes each at 8B.
COMPILES = 8
# What formulas say of memory is right to about a fifth; what they find larger than this is not compiled.
MARGIN = 1.2


@dataclasses.dataclass(frozen=True)
class Candidate:
  """A change of a config.

  Attributes:
    clips: of an update.
    accumulate: turns in which an update is computed.
    quantize: of the frozen base; '' leaves it as it is.
    seconds, memory: of its train step by formulas; bytes on a chip.
  """

  clips: int
  accumulate: int
  remat: str
  mesh: tuple[int, int, int]
  quantize: str = ''
  seconds: float = 0.0
  memory: float = 0.0

  def settings(self, config: ml_collections.ConfigDict) -> list[str]:
    """What differs from `config`, as a user writes it for a shell."""
    changed = self.apply(config)
    # A -1 stands for what the rest leaves.
    if all(old in (-1, new) for old, new in zip(config.mesh, self.mesh, strict=True)):
      changed.mesh = config.mesh
    names = ('training.batch_size', 'training.accumulate', 'decoder.remat', 'decoder.quantize', 'mesh')
    differ = ((name, _setting(config, name), _setting(changed, name)) for name in names)
    return [f'--config.{name}={_quoted(new)}' for name, old, new in differ if new is not None and old != new]

  def apply(self, config: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
    """`config` with the change."""
    changed = config.copy_and_resolve_references()
    with changed.unlocked():
      changed.training.batch_size = self.clips
      changed.decoder.remat = self.remat
      changed.mesh = self.mesh
      if 'accumulate' in changed.training:
        changed.training.accumulate = self.accumulate
      if self.quantize:
        changed.decoder.quantize = self.quantize
    return changed


def _quoted(value: object) -> str:
  text = str(value).replace(' ', '')
  return f'"{text}"' if '(' in text else text


def _setting(config: ml_collections.ConfigDict, name: str) -> object:
  group, _, leaf = name.rpartition('.')
  return (config[group] if group else config).get(leaf)


def candidates(
  config: ml_collections.ConfigDict,
  clip: Clip,
  machine: Machine,
  make: Callable[[ml_collections.ConfigDict], Model],
  margin: float = MARGIN,
) -> list[Candidate]:
  """Changes of `config` that may fit by formulas, best first.

  First come those that are the same training: with its clips, and its base as it is. Among these the fastest for a
  clip.

  Args:
    make: the abstract model of a config on the machine.
    margin: what needs so many times the memory by formulas is still worth a try.
  """
  keeps, found = config.training.batch_size, []
  for quantize, shape in itertools.product(_quantizations(config), _meshes(machine)):
    first = Candidate(keeps, 1, config.decoder.remat, shape, quantize)
    try:
      model = make(first.apply(config))
    except ValueError:  # a dimension that does not divide over this mesh
      continue
    # It depends on the model alone.
    shards = sharding.data_shards(model.mesh)
    optimiser = train_step(model, make_workload(config, clip, shards)).arguments['optimiser']
    for remat, (clips, accumulate) in itertools.product(REMAT_POLICIES, _batches(config)):
      candidate = Candidate(clips, accumulate, remat, shape, quantize)
      workload = make_workload(candidate.apply(config), clip, shards)
      memory = analytic.memory(model, workload, remat, optimiser, machine.chip.is_tpu).total
      if memory <= machine.chip.memory * margin:
        parts = analytic.step_seconds(machine, model, workload, remat)
        found.append(dataclasses.replace(candidate, seconds=max(parts.values()), memory=memory))
  return sorted(found, key=lambda c: (c.quantize, c.clips != keeps, c.seconds / c.clips, c.memory))


def _meshes(machine: Machine) -> Iterator[tuple[int, int, int]]:
  """Meshes within a slice: for `tensor` every power of two up to 8."""
  within = machine.chips // machine.slices
  for tensor in (1, 2, 4, 8):
    if within % tensor == 0:
      yield 1, within // tensor, tensor


def _batches(config: ml_collections.ConfigDict) -> Iterator[tuple[int, int]]:
  """Clips of an update and turns: all of them in up to 16 turns, and halves of them."""
  keeps = config.training.batch_size
  if 'accumulate' in config.training:
    yield from ((keeps, turns) for turns in (1, 2, 4, 8, 16))
  else:
    yield keeps, 1
  yield from ((keeps >> shift, 1) for shift in range(1, 8) if keeps >> shift)


def _quantizations(config: ml_collections.ConfigDict) -> tuple[str, ...]:
  """As it is; and in 4 bits, where a frozen base under adapters allows that."""
  possible = config.lora.rank and config.decoder.get('quantize') == ''
  return ('', 'nf4') if possible else ('',)
