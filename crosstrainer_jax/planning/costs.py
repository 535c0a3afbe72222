"""What a compiled program does: matmul FLOPs, cycles by the compiler's own estimate, bytes to memory, collectives."""

import dataclasses
import math
import re
from collections.abc import Iterable, Mapping

import numpy as np

from crosstrainer_jax.planning.hlo import Computation, Instruction, Module

COLLECTIVES = ('all-gather', 'reduce-scatter', 'all-reduce', 'all-to-all', 'collective-permute', 'ragged-all-to-all')

# Custom calls that compute nothing.
_MARKS = {'Sharding', 'AllocateBuffer', 'AssumeGatherIndicesInBound', 'MoveToHost', 'MoveToDevice'}
# Nothing moves for these.
_FREE = {
  'parameter', 'constant', 'tuple', 'get-tuple-element', 'bitcast', 'while', 'conditional', 'call', 'after-all',
  'partition-id', 'replica-id', 'opt-barrier', 'add-dependency', 'iota',
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Collective:
  """An exchange between chips.

  Attributes:
    kind: of `COLLECTIVES`.
    bytes: of the whole array on one side: what an all-gather or all-reduce gives, what a reduce-scatter takes.
    group: chips that take part together.
    ends: the first and the last of them, by their places in the mesh.
    times: how often it runs.
    dims: sizes of that array, of the largest where there are several.
    op_name: where it comes from.
  """

  kind: str
  bytes: float
  group: int
  times: float
  dims: tuple[int, ...]
  op_name: str = ''
  ends: tuple[int, int] = (0, 0)

  @property
  def received(self) -> float:
    """Bytes that each chip must receive at least, over all runs."""
    share = (self.group - 1) / self.group
    each = {'all-reduce': 2 * share, 'collective-permute': 1.0}.get(self.kind, share)
    return self.bytes * each * self.times


@dataclasses.dataclass(frozen=True)
class Costs:
  """Of one run of a program, on one chip.

  Attributes:
    flops: of matrix products, two for a multiplication with addition.
    cycles: the compiler's estimates; 0 where it gives none.
    bytes: read from and written to memory.
    kernels: hand-written kernels (custom calls) by name, with how often they run: no count has them.
  """

  flops: float
  cycles: float
  bytes: float
  collectives: tuple[Collective, ...]
  kernels: Mapping[str, float]

  def minus(self, other: 'Costs') -> 'Costs':
    """What is left when `other`, of the same program with fewer runs of some loops, is taken away."""
    before = {_key(c): c.times for c in other.collectives}
    rest = [dataclasses.replace(c, times=c.times - before.get(_key(c), 0.0)) for c in self.collectives]
    kernels = {name: times - other.kernels.get(name, 0.0) for name, times in self.kernels.items()}
    return Costs(
      self.flops - other.flops,
      self.cycles - other.cycles,
      self.bytes - other.bytes,
      tuple(c for c in rest if c.times > 0),
      {name: times for name, times in kernels.items() if times > 0},
    )


def _key(c: Collective) -> tuple[object, ...]:
  return c.kind, c.bytes, c.group, c.ends, c.op_name


def of_program(module: Module, chips: int, unknown: float = 1.0) -> Costs:
  """Counts a compiled program.

  Args:
    chips: in all, for collectives that name no groups.
    unknown: times that loops run whose count the compiler does not know.
  """
  flops = cycles = traffic = 0.0
  kernels: dict[str, float] = {}
  exchanges: dict[str, Collective] = {}
  runs = module.runs(unknown)
  for name, computation in module.computations.items():
    times = runs[name]
    if not times:
      continue
    fused = name in module.fused
    for instruction in computation.values():
      flops += times * matmul_flops(instruction, computation)
      # What is inside a fusion is in the fusion's own numbers.
      if not fused:
        cycles += times * instruction.estimated_cycles
        traffic += times * memory_traffic(instruction, computation, module)
        if instruction.opcode == 'custom-call' and (kernel := _kernel_name(instruction)):
          kernels[kernel] = kernels.get(kernel, 0.0) + times
      if (found := collective(instruction, computation, chips)) is not None:
        # On TPUs one exchange stands in several fusions that it goes on beside; its channel is the same in all.
        channel = re.search(r'channel_id=(\d+)', instruction.attributes)
        exchanges[channel[1] if channel else f'{name}/{instruction.name}'] = dataclasses.replace(found, times=times)
  return Costs(flops, cycles, traffic, _together(exchanges.values()), kernels)


def _together(exchanges: Iterable[Collective]) -> tuple[Collective, ...]:
  """Those that are alike as one."""
  found: dict[tuple[object, ...], Collective] = {}
  for exchange in exchanges:
    known = found.get(_key(exchange))
    found[_key(exchange)] = dataclasses.replace(exchange, times=exchange.times + (known.times if known else 0.0))
  return tuple(found.values())


def _kernel_name(instruction: Instruction) -> str:
  """Of a custom call that computes; '' for marks that XLA leaves."""
  target = re.search(r'custom_call_target="([^"]*)"', instruction.attributes)
  if not target or target[1] in _MARKS:
    return ''
  named = re.search(r'([\w.]+)/?$', instruction.op_name)
  return f'{target[1]}: {named[1]}' if named else target[1]


# --- Matrix products


def matmul_flops(instruction: Instruction, computation: Computation) -> float:
  """FLOPs of a `dot`; a `convolution`, which is what it becomes on TPUs; a call of cuBLAS; 0 of anything else."""
  if instruction.opcode == 'dot':
    left = computation[instruction.operands[0]].shapes[0].dims
    contracted = _numbers(instruction.attributes, 'lhs_contracting_dims')
    return 2.0 * instruction.shapes[0].size * math.prod(left[dim] for dim in contracted)
  if instruction.opcode == 'convolution':
    return _convolution_flops(instruction, computation)
  if instruction.opcode == 'custom-call' and '__cublas$' in instruction.attributes:
    left = computation[instruction.operands[0]].shapes[0].dims
    named = re.search(r'"lhs_contracting_dimensions":\[([^\]]*)\]', instruction.attributes)
    inner = [left[int(dim)] for dim in re.findall(r'\d+', named[1] if named else '')]
    # Beside the product it returns its workspace.
    return 2.0 * instruction.shapes[0].size * math.prod(inner)
  return 0.0


def _numbers(attributes: str, name: str) -> list[int]:
  found = re.search(rf'\b{name}=\{{([\d,]*)\}}', attributes)
  return [int(number) for number in found[1].split(',') if number] if found else []


def _convolution_flops(instruction: Instruction, computation: Computation) -> float:
  """Only products of two numbers that are there count: batched products are written as convolutions over padding."""
  left, kernel = (computation[name].shapes[0].dims for name in instruction.operands[:2])
  result = instruction.shapes[0].dims
  labels = re.search(r'dim_labels=(\w+)_(\w+)->(\w+)', instruction.attributes)
  if not labels:
    return 0.0
  spatial = sorted(label for label in labels[3] if label.isdigit())
  pairs = 1.0
  for number, label in enumerate(spatial):
    pairs *= _valid_pairs(
      left[labels[1].index(label)],
      kernel[labels[2].index(label)],
      result[labels[3].index(label)],
      _window(instruction.attributes, len(spatial), number),
    )
  batch, features = result[labels[3].index('b')], result[labels[3].index('f')]
  inputs = kernel[labels[2].index('i')]
  groups = re.search(r'batch_group_count=(\d+)', instruction.attributes)
  return 2.0 * batch * features * inputs * pairs / (int(groups[1]) if groups and int(groups[1]) > 1 else 1)


def _window(attributes: str, dimensions: int, number: int) -> dict[str, tuple[int, int]]:
  """stride, pad (low, high), lhs_dilate and rhs_dilate of one dimension of a convolution."""
  text = re.search(r'window=\{([^}]*)\}', attributes)
  found = {'stride': (1, 1), 'pad': (0, 0), 'lhs_dilate': (1, 1), 'rhs_dilate': (1, 1)}
  for field in text[1].split() if text else ():
    name, _, value = field.partition('=')
    parts = value.split('x')
    if name in found and len(parts) == dimensions:
      low, _, high = parts[number].partition('_')
      found[name] = int(low), int(high or low)
  return found


def _valid_pairs(left: int, kernel: int, result: int, window: dict[str, tuple[int, int]]) -> int:
  """Pairs of an output and a kernel position of one dimension that meet a number of the input."""
  outputs = np.arange(result)[:, None] * window['stride'][0]
  places = outputs + np.arange(kernel)[None] * window['rhs_dilate'][0] - window['pad'][0]
  dilation = window['lhs_dilate'][0]
  return int(((places >= 0) & (places % dilation == 0) & (places // dilation < left)).sum())


# --- Memory


def memory_traffic(instruction: Instruction, computation: Computation, module: Module) -> float:
  """Bytes that an instruction outside of fusions reads from and writes to the chip's memory.

  A slice of a large array counts as the slice. What lies beside the cores, or on the host, does not count.
  """
  if instruction.opcode in _FREE or instruction.opcode.endswith('-done'):
    return 0.0
  read = {name: _in_memory(computation[name]) for name in instruction.operands if name in computation}
  written = _in_memory(instruction)
  if instruction.opcode in ('dynamic-slice', 'gather'):
    return 2 * written
  if instruction.opcode == 'dynamic-update-slice':
    return 2 * _in_memory(computation[instruction.operands[1]])
  if instruction.opcode == 'fusion':
    for called in instruction.called('calls'):
      read, written = _of_fusion(instruction, module.computations.get(called, {}), read, written)
  return sum(read.values()) + written


def _in_memory(instruction: Instruction) -> float:
  return sum(shape.bytes for shape in instruction.shapes if shape.memory == 0)


def _of_fusion(
  fusion: Instruction, inside: Computation, read: dict[str, float], written: float
) -> tuple[dict[str, float], float]:
  """Reads and writes of a fusion, with those of which only a slice is touched cut down to it."""
  read = dict(read)
  users: dict[str, list[Instruction]] = {}
  for instruction in inside.values():
    for name in instruction.operands:
      users.setdefault(name, []).append(instruction)
  for parameter in (i for i in inside.values() if i.opcode == 'parameter'):
    number = parameter.number
    uses = users.get(parameter.name, [])
    if number is None or not uses or number >= len(fusion.operands):
      continue
    operand = fusion.operands[number]
    if operand not in read:
      continue
    if all(use.opcode in ('dynamic-slice', 'gather') and use.operands[0] == parameter.name for use in uses):
      read[operand] = min(read[operand], sum(use.bytes for use in uses))
    elif all(use.opcode == 'dynamic-update-slice' and use.operands[0] == parameter.name for use in uses):
      updated = sum(inside[use.operands[1]].bytes for use in uses if use.operands[1] in inside)
      # Written in place: of the whole array only the slice.
      read[operand], written = 0.0, max(0.0, written - parameter.bytes) + updated
  return read, written


# --- Between chips


def collective(instruction: Instruction, computation: Computation, chips: int) -> Collective | None:
  """The exchange that an instruction begins; None of anything else."""
  kind = instruction.opcode.removesuffix('-start')
  if kind not in COLLECTIVES:
    return None
  shapes = instruction.shapes
  if kind == 'reduce-scatter':
    shapes = tuple(shape for name in instruction.operands if name in computation for shape in computation[name].shapes)
  elif instruction.opcode == 'all-gather-start':
    # What it takes, and what it gives.
    shapes = shapes[len(shapes) // 2 :]
  elif instruction.opcode.endswith('-start') and len(shapes) > 1:
    shapes = shapes[1:2]
  if not shapes:
    return None
  largest = max(shapes, key=lambda shape: shape.bytes)
  group = group_of(instruction.attributes, chips)
  return Collective(
    kind, sum(shape.bytes for shape in shapes), len(group), 1.0, largest.dims, instruction.op_name,
    (min(group), max(group)),
  )  # fmt: skip


def group_of(attributes: str, chips: int) -> list[int]:
  """The chips of the first group that takes part together, by their places in the mesh; in each form that XLA writes.

  Of a collective-permute they are one that sends and one that receives.
  """
  pair = re.search(r'source_target_pairs=\{\{(\d+),(\d+)\}', attributes)
  if pair:
    return [int(pair[1]), int(pair[2])]
  named = re.search(r'replica_groups=mesh\[([^\]]*)\] \{([^}]*)\}', attributes)
  if named:
    sizes = {name: int(size) for name, size in re.findall(r"'(\w+)'=(\d+)", named[1])}
    along = re.findall(r"'(\w+)'", named[2])
    places = np.arange(math.prod(sizes.values())).reshape(tuple(sizes.values()))
    return places[tuple(slice(None) if name in along else 0 for name in sizes)].reshape(-1).tolist()
  listed = re.search(r'replica_groups=\[([\d,]+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?', attributes)
  if listed:
    shape, dims, order = ([int(n) for n in part.split(',')] if part else [] for part in listed.groups())
    places = np.arange(math.prod(dims)).reshape(dims)
    return (places.transpose(order) if order else places).reshape(shape)[0].tolist()
  plain = re.search(r'replica_groups=\{\{([\d,]+)\}', attributes)
  return [int(n) for n in plain[1].split(',')] if plain else list(range(chips))


def gathers_of_sequences(costs: Costs, rows: int, tokens: int) -> list[Collective]:
  """All-gathers that give every chip the activations of whole rows of all chips: work that is done by all, not shared.

  Args:
    rows, tokens: of the whole batch. No parameter may have a dimension of either.
  """
  whole = {rows, tokens, rows * tokens}
  gathers = (c for c in costs.collectives if c.kind == 'all-gather')
  # Ids and masks of all rows are small.
  return [c for c in gathers if whole & set(c.dims) and math.prod(c.dims) >= rows * tokens * 64]
