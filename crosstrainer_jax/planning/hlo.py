"""A compiled program as text (`compiled.as_text()`), read: computations, their instructions, and how often each runs.

XLA's own counts pass over a loop's body once, however often it runs, so that a scan over 32 layers counts as one. Here
trip counts are multiplied in.
"""

import dataclasses
import functools
import math
import re
from collections.abc import Iterator

_BYTES = {
  'pred': 1, 's4': 0.5, 'u4': 0.5, 's8': 1, 'u8': 1, 's16': 2, 'u16': 2, 's32': 4, 'u32': 4, 's64': 8, 'u64': 8,
  'f16': 2, 'bf16': 2, 'f32': 4, 'f64': 8, 'c64': 8, 'c128': 16,
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Shape:
  """One array.

  Attributes:
    memory: number of the memory space that its layout names; 0 for HBM, or what the device has. A TPU's own memory
      beside its cores is 1, the host's 5.
  """

  dtype: str
  dims: tuple[int, ...]
  memory: int = 0

  @property
  def size(self) -> int:
    return math.prod(self.dims)

  @property
  def bytes(self) -> float:
    return self.size * _BYTES.get(self.dtype, 1 if self.dtype.startswith('f8') else 0)


@dataclasses.dataclass(frozen=True)
class Instruction:
  """One line of a computation.

  Attributes:
    shapes: of its result; several for a tuple.
    operands: names in the same computation.
    attributes: what stands behind the operands.
  """

  name: str
  opcode: str
  shapes: tuple[Shape, ...]
  operands: tuple[str, ...]
  attributes: str
  is_root: bool = False

  @property
  def bytes(self) -> float:
    return sum(shape.bytes for shape in self.shapes)

  def called(self, *roles: str) -> list[str]:
    """Names of the computations that it calls as `roles`, such as body or calls."""
    found = []
    for role in roles:
      for one, several in re.findall(rf'\b{role}=(?:%([\w.\-]+)|\{{([^}}]*)\}})', self.attributes):
        found += [one] if one else re.findall(r'%([\w.\-]+)', several)
    return found

  @property
  def number(self) -> int | None:
    """The value of an integer constant; the index of a parameter or of an element of a tuple."""
    found = re.match(r'\((\d+)\)', self.attributes) or re.search(r'\bindex=(\d+)', self.attributes)
    return int(found[1]) if found else None

  @property
  def estimated_cycles(self) -> int:
    """The TPU compiler's own estimate for one run; 0 where it gives none."""
    found = re.search(r'"estimated_cycles":"(\d+)"', self.attributes)
    return int(found[1]) if found else 0

  @property
  def op_name(self) -> str:
    """Where in the traced function it comes from."""
    found = re.search(r'op_name="((?:[^"\\]|\\.)*)"', self.attributes)
    return found[1] if found else ''


Computation = dict[str, Instruction]


@dataclasses.dataclass(frozen=True)
class Module:
  """A compiled program.

  Attributes:
    computations: by name; instructions by name, in order.
    entry: name of the computation that runs.
  """

  computations: dict[str, Computation]
  entry: str

  @functools.cached_property
  def fused(self) -> frozenset[str]:
    """Computations inside a fusion, whose intermediate results never reach memory."""
    found: set[str] = set()
    waiting = [name for _, i in self.instructions() if i.opcode == 'fusion' for name in i.called('calls')]
    while waiting:
      name = waiting.pop()
      if name not in found:
        found.add(name)
        inner = self.computations.get(name, {}).values()
        waiting += [called for i in inner for called in i.called('calls', 'to_apply')]
    return frozenset(found)

  def instructions(self) -> Iterator[tuple[str, Instruction]]:
    """All instructions, each with the name of its computation."""
    for name, computation in self.computations.items():
      for instruction in computation.values():
        yield name, instruction

  def runs(self, unknown: float = 1.0) -> dict[str, float]:
    """How often each computation runs when the program runs once.

    Args:
      unknown: times that a loop runs whose count the compiler does not know, such as one that ends by a condition on
        data.
    """
    counts = dict.fromkeys(self.computations, 0.0)

    def visit(name: str, times: float) -> None:
      if name not in counts or not times:
        return
      counts[name] += times
      for instruction in self.computations[name].values():
        if instruction.opcode == 'while':
          trips = self.trip_count(instruction)
          inner = times * (unknown if trips is None else trips)
          for part in instruction.called('body', 'condition'):
            visit(part, inner)
        else:
          # Reducers and the like (`to_apply`) run for every element; they cost nothing beside what calls them.
          roles = ('calls', 'called_computations', 'branch_computations', 'true_computation', 'false_computation')
          for called in instruction.called(*roles, *(('to_apply',) if instruction.opcode == 'call' else ())):
            visit(called, times)

    visit(self.entry, 1.0)
    return counts

  def trip_count(self, loop: Instruction) -> int | None:
    """How often a `while` runs; None where that depends on data.

    On CPUs and GPUs the compiler writes it down. On TPUs it is what a counter that begins at 0 is compared with, over
    what every turn adds: products that are joined with an exchange take two parts in a turn.
    """
    known = re.search(r'"known_trip_count":\{"n":"(\d+)"', loop.attributes)
    if known:
      return int(known[1])
    condition = next((self.computations.get(name, {}) for name in loop.called('condition')), {})
    test = next((i for i in condition.values() if i.is_root), None)
    if test is None or test.opcode != 'compare' or 'direction=LT' not in test.attributes:
      return None
    counter, limit = (condition.get(name) for name in test.operands)
    if counter is None or limit is None or (counter.opcode, limit.opcode) != ('get-tuple-element', 'constant'):
      return None
    step = self._step(loop, counter.number or 0)
    return None if limit.number is None else -(-limit.number // step)

  def _step(self, loop: Instruction, index: int) -> int:
    """What a loop adds to element `index` of its state in each turn; 1 where that cannot be read."""
    body = next((self.computations.get(name, {}) for name in loop.called('body')), {})
    root = next((i for i in body.values() if i.is_root), None)
    if root is None or root.opcode != 'tuple' or index >= len(root.operands):
      return 1
    added = body.get(root.operands[index])
    if added is None or added.opcode != 'add':
      return 1
    constants = (body[name].number for name in added.operands if name in body and body[name].opcode == 'constant')
    return next((number for number in constants if number), 1)


def parse(text: str) -> Module:
  """Reads the text of a compiled program.

  Raises:
    ValueError: it has no entry.
  """
  computations: dict[str, Computation] = {}
  current: Computation | None = None
  entry = latest = ''
  for line in text.splitlines():
    header = _HEADER.match(line)
    if header:
      current = computations[header[2]] = {}
      entry = header[2] if header[1] else entry
    elif line == '}':
      current = None
    elif current is not None:
      instruction = _instruction(line)
      if instruction is not None:
        current[instruction.name], latest = instruction, instruction.name
      elif latest in current:
        # What a kernel says of itself goes over several lines.
        current[latest] = dataclasses.replace(current[latest], attributes=current[latest].attributes + line)
  if not entry:
    raise ValueError('this is not the text of a compiled program: no computation is its ENTRY')
  return Module(computations, entry)


_HEADER = re.compile(r'^(ENTRY )?%?([\w.\-]+) \(.*\{$')
_START = re.compile(r'^\s+(ROOT )?%?([\w.\-]+) = ')
_SHAPE = re.compile(r'([a-z]\w*)\[([\d,<=]*)\](?:\{([^{}]*)\})?')


def _instruction(line: str) -> Instruction | None:
  start = _START.match(line)
  if not start:
    return None
  rest = line[start.end() :]
  end = _closing(rest, 0) + 1 if rest.startswith('(') else rest.index(' ')
  shapes = tuple(_shapes(rest[:end]))
  opcode, parenthesis, _ = rest[end:].strip().partition('(')
  if not parenthesis:
    return None
  opened = rest.index('(', end)
  closed = _closing(rest, opened)
  operands = tuple(re.findall(r'%([\w.\-]+)', rest[opened:closed]))
  # Operands of a parameter or a constant are numbers, which some attributes are told by.
  attributes = rest[closed + 1 :] if operands or opcode not in ('parameter', 'constant') else rest[opened:]
  return Instruction(start[2], opcode, shapes, operands, attributes, bool(start[1]))


def _shapes(text: str) -> Iterator[Shape]:
  for dtype, dims, layout in _SHAPE.findall(text):
    memory = re.search(r'S\((\d+)\)', layout)
    sizes = tuple(int(size.removeprefix('<=')) for size in dims.split(',') if size)
    yield Shape(dtype, sizes, int(memory[1]) if memory else 0)


def _closing(text: str, opened: int) -> int:
  """Place of the parenthesis that closes the one at `opened`."""
  depth = 0
  for place in range(opened, len(text)):
    depth += {'(': 1, ')': -1}.get(text[place], 0)
    if not depth:
      return place
  return len(text) - 1
