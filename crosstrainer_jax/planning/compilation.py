"""Programs compiled ahead of time for a TPU that is not there; that one does not fit is an answer, not an error."""

import dataclasses
import re
import sys
import time
from collections.abc import Mapping
from typing import Any

import jax

from crosstrainer_jax.planning import costs, hlo
from crosstrainer_jax.planning.machines import GIB, Machine
from crosstrainer_jax.planning.programs import Program

# Tells the compiler to look less long for a fast program: a tenth of its time. What lies where, what is exchanged and
# which products are computed stay the same; cycles do not, and memory only about.
QUICK: dict[str, Any] = {'exec_time_optimization_effort': -1.0}


@dataclasses.dataclass(frozen=True)
class Memory:
  """Bytes on one chip.

  Attributes:
    kinds: what the program is given, by kind; what is temporary; code.
    needed: at its peak.
    available: what the chip has for a program.
  """

  kinds: dict[str, float]
  needed: float
  available: float

  @property
  def short(self) -> float:
    """What is lacking; 0 where it fits."""
    return max(0.0, self.needed - self.available)


@dataclasses.dataclass(frozen=True)
class Compiled:
  """What the compiler says of a program.

  Attributes:
    module: the compiled text, read; None where the compiler found that it does not fit.
    looked: whether the compiler looks at the memory itself; that of GPUs does not.
    quick: whether it was compiled as `QUICK` says; then `costs` has no cycles, which would be those of a slow program.
    xla_flops: what XLA counts itself, with every loop's body once.
    seconds: that compiling took.
  """

  name: str
  memory: Memory
  module: hlo.Module | None
  xla_flops: float
  seconds: float
  looked: bool = True
  quick: bool = False

  @property
  def fits(self) -> bool:
    return self.module is not None and (self.looked or not self.memory.short)

  def costs(self, chips: int, unknown: float = 1.0) -> costs.Costs:
    """As `costs.of_program`."""
    if self.module is None:
      raise ValueError(f'the {self.name} does not fit: nothing was compiled that could be counted')
    counted = costs.of_program(self.module, chips, unknown)
    return dataclasses.replace(counted, cycles=0.0) if self.quick else counted


def compile_program(
  program: Program, machine: Machine, options: Mapping[str, str] | None = None, quick: bool = False
) -> Compiled:
  """Traces and compiles a program.

  Args:
    options: of the compiler.
    quick: see `QUICK`; where the compiler has no such way, the full one is taken and that is said.

  Raises:
    ValueError: the compiler refuses it for another reason than memory.
  """
  start = time.monotonic()
  lowered = program.lower()
  try:
    compiled = lowered.compile(compiler_options=dict(options or {}) | (QUICK if quick else {}) or None)
  except jax.errors.JaxRuntimeError as error:
    if quick and 'No such compile option' in str(error):
      # Of jaxlib 0.10; the compiler of 0.12 does not know it.
      print(f'  this compiler has no quick way: the {program.name} takes its full time', file=sys.stderr)
      return compile_program(program, machine, options)
    found = _out_of_memory(str(error), machine, sum(program.arguments.values()))
    if found is None:
      raise ValueError(
        f'the compiler refuses the {program.name} for {machine.name}: {str(error).strip().splitlines()[0][:400]}'
      ) from error
    needed, available = found
    kinds = dict(program.arguments) | {'temporary': max(0.0, needed - sum(program.arguments.values()))}
    return Compiled(program.name, Memory(kinds, needed, available), None, 0.0, time.monotonic() - start, quick=quick)
  return Compiled(
    program.name,
    _memory(program, compiled, machine),
    hlo.parse(compiled.as_text() or ''),
    float((compiled.cost_analysis() or {}).get('flops', 0.0)),
    time.monotonic() - start,
    machine.chip.is_tpu,
    quick,
  )


def _memory(program: Program, compiled: Any, machine: Machine) -> Memory:
  stats = compiled.memory_analysis()
  given = {name: size for name, size in program.arguments.items() if 'temporary' not in name}
  # A TPU keeps small arrays in whole tiles.
  padding = max(0.0, stats.argument_size_in_bytes - sum(given.values()))
  results = max(0, stats.output_size_in_bytes - stats.alias_size_in_bytes)
  kinds = given | {
    'padding of arguments': padding,
    'temporary (activations, gradients, gathered weights)': float(stats.temp_size_in_bytes),
    "results that take no argument's place": float(results),
    'code': float(stats.generated_code_size_in_bytes),
  }
  needed, available = float(sum(kinds.values())), machine.chip.memory
  if machine.chip.is_tpu and needed > available:
    # It compiled, so it fits: some of what is listed as temporary lies in the same place.
    kinds['in a place twice, at least'] = available - needed
    needed = available
  return Memory(kinds, needed, available)


_UNITS = {'': 1, 'K': 2**10, 'M': 2**20, 'G': GIB, 'T': 2**40}


def _out_of_memory(message: str, machine: Machine, given: float) -> tuple[float, float] | None:
  """Bytes needed and available by the compiler's message; None where it is about something else.

  Args:
    given: bytes of the program's arguments.
  """
  used = re.search(r'Used ([\d.]+)([KMGT]?)i?B? of ([\d.]+)([KMGT]?)i?B? hbm', message)
  if used:
    return float(used[1]) * _UNITS[used[2]], float(used[3]) * _UNITS[used[4]]
  # It gives up early where what is temporary is too large already.
  early = re.search(r'\(([\d.]+)([KMGT]?)\) exceeds available HBM \(([\d.]+)([KMGT]?)\)', message)
  if early:
    return given + float(early[1]) * _UNITS[early[2]], float(early[3]) * _UNITS[early[4]]
  if 'RESOURCE_EXHAUSTED' in message or 'Ran out of memory' in message:
    return machine.chip.memory, machine.chip.memory
  return None
