"""A config on a machine: shapes, programs, memory, seconds; and what to change where it does not fit."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any, cast

import ml_collections
from flax import nnx
from jax.sharding import AbstractMesh, AxisType, Mesh

from crosstrainer_jax.planning import analytic, estimate, machines, programs, search, topologies
from crosstrainer_jax.planning.compilation import Compiled, compile_program
from crosstrainer_jax.planning.costs import Costs
from crosstrainer_jax.planning.machines import Machine
from crosstrainer_jax.planning.workload import Clip, Workload, make_workload
from crosstrainer_jax.training import sharding

FULLY, QUICKLY, FORMULAS = 'fully', 'quickly', 'formulas'


@dataclasses.dataclass(frozen=True)
class Part:
  """One program, or a part of one that is timed alone.

  Attributes:
    name: `train step`, `prefill`, `decode step`.
    costs: counted in the compiled program, on one chip.
  """

  name: str
  costs: Costs
  estimate: estimate.Estimate


@dataclasses.dataclass(frozen=True)
class Built:
  """A program and what was found.

  Attributes:
    compiled: None where formulas are all there is.
    needed, available: bytes on a chip.
    kinds: of `needed`.
    parts: timed; by formulas alone there is one without costs.
    batch: clips of a run, and `tokens` that are written for each, of generation.
  """

  name: str
  compiled: Compiled | None
  needed: float
  available: float
  kinds: dict[str, float]
  parts: tuple[Part, ...]
  batch: int = 0
  tokens: int = 0

  @property
  def fits(self) -> bool:
    return self.needed <= self.available if self.compiled is None else self.compiled.fits

  @property
  def short(self) -> float:
    """Bytes that a chip lacks."""
    return max(0.0, self.needed - self.available)


@dataclasses.dataclass(frozen=True)
class Proposal:
  """A change that fits.

  Attributes:
    settings: as a user writes them.
  """

  candidate: search.Candidate
  settings: list[str]
  train: Built


@dataclasses.dataclass(frozen=True)
class Plan:
  """What `fit` found.

  Attributes:
    parameters: of L, its adapters and f_m.
    by_formula: memory of the train step by formulas, beside what the compiler says.
    proposal: what to change, where the config does not fit or something faster was looked for; its train step.
    searched: whether changes were looked for.
    tried: how many of them were built.
  """

  machine: Machine
  mesh: dict[str, int]
  workload: Workload
  flops: analytic.Flops
  by_formula: analytic.Memory
  parameters: dict[str, int]
  train: Built
  generation: Built | None
  warning: str
  proposal: Proposal | None = None
  searched: bool = False
  tried: int = 0


def mesh_of(config: ml_collections.ConfigDict, machine: Machine, devices: Sequence[Any] | None) -> Mesh:
  """The mesh of `config` over the chips of a machine; without devices one that only shapes can be laid on."""
  across = config.get('mesh_across', sharding.ACROSS)
  if devices is not None:
    return sharding.make_mesh(config.mesh, devices, across)
  sizes = [
    inner * outer
    for inner, outer in zip(
      _filled('mesh', config.mesh, machine.chips // machine.slices, machine),
      _filled('mesh_across', across, machine.slices, machine),
      strict=True,
    )
  ]
  abstract = AbstractMesh(tuple(sizes), sharding.MESH_AXES, axis_types=(AxisType.Auto,) * len(sizes))
  # To shapes and places it is a mesh.
  return cast(Mesh, abstract)


def _filled(name: str, shape: Sequence[int], count: int, machine: Machine) -> list[int]:
  """`shape` with its -1 replaced by what is left of `count`."""
  known = math.prod(size for size in shape if size != -1)
  sizes = [count // known if size == -1 else size for size in shape]
  if math.prod(sizes) != count:
    what = 'chips' if name == 'mesh' else 'slices'
    raise ValueError(f'{name}={tuple(shape)} does not cover the {count} {what} of {machine.name}')
  return sizes


def make_plan(
  config: ml_collections.ConfigDict,
  machine: Machine,
  clip: Clip,
  feature_dim: int,
  *,
  how: str = FULLY,
  generate: bool = True,
  search_for: str = 'fit',
  most_compiles: int = search.COMPILES,
  report: Callable[[str], None] = lambda _: None,
) -> Plan:
  """Compiles (or computes) the programs of `config` on `machine`.

  Args:
    how: programs are looked at: `FULLY`, `QUICKLY` (see `compilation.QUICK`), or by `FORMULAS` alone.
    generate: prefill and decoding as well.
    search_for: 'fit' looks for changes where the config does not fit, 'speed' in any case, '' never.
    most_compiles: of the search.
    report: told what is being compiled.

  Raises:
    ValueError: mesh and machine do not go together, a dimension does not divide, or there is no compiler.
  """
  devices = None if how == FORMULAS else topologies.devices(machine)

  def make(changed: ml_collections.ConfigDict) -> programs.Model:
    return programs.make_model(changed, mesh_of(changed, machine, devices), feature_dim)

  model = make(config)
  workload = make_workload(config, clip, sharding.data_shards(model.mesh))
  remat = config.decoder.get('remat', 'none')
  counted = analytic.flops(model, workload, remat)
  train = _train(model, workload, remat, machine, how, report)
  generation = None
  if generate:
    written = max(config.eval.max_attribute_tokens, config.eval.max_feedback_tokens)
    generation = _generation(model, clip, config.eval.batch_size, written, machine, how, report)
  found, tried = None, 0
  searched = search_for == 'speed' or (search_for == 'fit' and not train.fits)
  if searched:
    found, tried = _search(config, machine, clip, make, how, most_compiles, report)
  return Plan(
    machine,
    dict(model.mesh.shape),
    workload,
    counted,
    _memory_by_formula(model, workload, remat, machine),
    _parameters(model),
    train,
    generation,
    workload.warning(machine.chips),
    found,
    searched,
    tried,
  )


def _train(
  model: programs.Model, workload: Workload, remat: str, machine: Machine, how: str, report: Callable[[str], None]
) -> Built:
  program = programs.train_step(model, workload)
  counted = analytic.flops(model, workload, remat)
  if how == FORMULAS:
    memory = _memory_by_formula(model, workload, remat, machine)
    seconds = analytic.step_seconds(machine, model, workload, remat)
    flops = counted.computed / machine.chips
    timed = estimate.Estimate(flops / machine.chip.flops, 0.0, 0.0, seconds['between chips'])
    part = Part(programs.TRAIN, Costs(flops, 0.0, 0.0, (), {}), timed)
    return Built(programs.TRAIN, None, memory.total, machine.chip.memory, memory.kinds, (part,))
  compiled = _compiled(program, machine, how, report)
  parts: tuple[Part, ...] = ()
  if compiled.module is not None:
    costs = compiled.costs(machine.chips)
    kernels = _kernel_flops(model, workload, remat) / machine.chips if costs.kernels else 0.0
    parts = (Part(programs.TRAIN, costs, estimate.of_costs(costs, machine, kernels)),)
  return Built(program.name, compiled, compiled.memory.needed, compiled.memory.available, compiled.memory.kinds, parts)


def _generation(
  model: programs.Model,
  clip: Clip,
  rows: int,
  written: int,
  machine: Machine,
  how: str,
  report: Callable[[str], None],
) -> Built:
  program = programs.generation(model, clip, rows, written)
  size = rows, written
  if how == FORMULAS:
    needed = sum(program.arguments.values())
    return Built(program.name, None, needed, machine.chip.memory, program.arguments, (), *size)
  compiled = _compiled(program, machine, how, report)
  memory = compiled.memory
  parts: tuple[Part, ...] = ()
  if compiled.module is not None:
    once, prefill = compiled.costs(machine.chips, 1.0), compiled.costs(machine.chips, 0.0)
    parts = tuple(
      Part(name, costs, estimate.of_costs(costs, machine))
      for name, costs in (('prefill', prefill), ('decode step', once.minus(prefill)))
    )
  return Built(program.name, compiled, memory.needed, memory.available, memory.kinds, parts, *size)


def _compiled(program: programs.Program, machine: Machine, how: str, report: Callable[[str], None]) -> Compiled:
  report(f'compiling the {program.name} for {machine.name}')
  compiled = compile_program(program, machine, quick=how == QUICKLY)
  needed = f'{compiled.memory.needed / machines.GIB:.1f} of {compiled.memory.available / machines.GIB:.1f} GiB'
  report(f'  {needed}, {compiled.seconds:.0f} s')
  return compiled


def _search(
  config: ml_collections.ConfigDict,
  machine: Machine,
  clip: Clip,
  make: Callable[[ml_collections.ConfigDict], programs.Model],
  how: str,
  most: int,
  report: Callable[[str], None],
) -> tuple[Proposal | None, int]:
  """The fastest of the first candidates that fit, and how many were built."""
  found: list[Proposal] = []
  tried, too_large = 0, math.inf
  for candidate in search.candidates(config, clip, machine, make, 1.0 if how == FORMULAS else search.MARGIN):
    # Two that fit are compared, of the same training; more hardly ever change the answer.
    done = len(found) == 2 or (found and _training_of(candidate) != _training_of(found[0].candidate))
    if done or tried == most:
      break
    # What needs about as much by formulas as one that did not fit will not fit either.
    if candidate.memory > 0.9 * too_large:
      continue
    changed, settings = candidate.apply(config), candidate.settings(config)
    model = make(changed)
    workload = make_workload(changed, clip, sharding.data_shards(model.mesh))
    report(f'trying {" ".join(settings) or "the config as it is"}')
    built = _train(model, workload, candidate.remat, machine, how, report)
    tried += 1
    if built.fits:
      found.append(Proposal(candidate, settings, built))
    else:
      too_large = candidate.memory
  return min(found, key=lambda p: p.train.parts[0].estimate.raw / p.candidate.clips, default=None), tried


def _training_of(candidate: search.Candidate) -> tuple[int, str]:
  """What of a change makes it another training."""
  return candidate.clips, candidate.quantize


def _memory_by_formula(model: programs.Model, workload: Workload, remat: str, machine: Machine) -> analytic.Memory:
  optimiser = programs.train_step(model, workload).arguments['optimiser']
  return analytic.memory(model, workload, remat, optimiser, machine.chip.is_tpu)


def _kernel_flops(model: programs.Model, workload: Workload, remat: str) -> float:
  """Attention by a kernel: of whole rows under the diagonal, backward two and a half times as much as forward."""
  decoder = programs.decoder_of(model)
  forward = 4 * decoder.num_layers * decoder.num_heads * decoder.head_dim * workload.shape.tokens / 2
  passes = 1 + 2.5 + (1 if remat in ('full', 'dots') else 0)
  return forward * passes * workload.positions


def _parameters(model: programs.Model) -> dict[str, int]:
  found = {'L': 0, 'adapters': 0, 'f_m': 0}
  for path, leaf in nnx.to_flat_state(model.params):
    name = '/'.join(map(str, path))
    kind = 'f_m' if name.startswith('mapper/') else 'adapters' if 'lora_' in name else 'L'
    found[kind] += math.prod(leaf.shape)
  return found
