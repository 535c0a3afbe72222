"""The machines that can be planned for: chips with their published peaks, and how they are wired.

    parse('v5e:2x4')     a slice of a TPU by its topology
    parse('v5litepod-8') the same by its name in the cloud; v5p and v4 count cores there, two to a chip
    parse('h100:8')      one host with GPUs; 24gb:1, 48gb:1 and 80gb:1 stand for a usual card of that memory

Peaks are the published ones, not measured ones. TPUs: cloud.google.com/tpu/docs/v5e, /v5p, /v6e, /v4, with bandwidths
of links and clocks from "How to Scale Your Model" (Austin et al. 2025, chapter 2). What a program may use of the memory
is what the TPU compiler says itself (libtpu 0.0.42.1: "… of 15.75G hbm"). GPUs: NVIDIA's data sheets, bf16 without
sparsity.
"""

import dataclasses
import math
import re
from collections.abc import Sequence

GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Chip:
  """One accelerator.

  Attributes:
    memory: bytes of its high-bandwidth memory that a program may use.
    flops: bf16 operations a second, at most.
    bandwidth: bytes a second between the chip and its memory.
    link: bytes a second in one direction of one link to a neighbour; of a GPU all its links together.
    network: bytes a second that a chip has between slices, in one direction.
    clock: cycles a second, by which the TPU compiler's cycles become seconds; 0 where it gives none.
    dimensions: of the torus; 0 where every chip reaches every other (GPUs).
    ring: so many chips in a row, or a multiple, are closed to a ring.
  """

  name: str
  memory: float
  flops: float
  bandwidth: float
  link: float
  network: float
  clock: float = 0.0
  dimensions: int = 0
  ring: int = 0

  @property
  def is_tpu(self) -> bool:
    return self.dimensions > 0


# memory, flops, bandwidth, link, network, clock, dimensions, ring
TPUS = {
  chip.name: chip
  for chip in (
    Chip('v4', 30.75 * GIB, 275e12, 1.228e12, 45e9, 6.25e9, 1.05e9, 3, 4),
    Chip('v5e', 15.75 * GIB, 197e12, 0.819e12, 45e9, 3.125e9, 1.5e9, 2, 16),
    Chip('v5p', 95.74 * GIB, 459e12, 2.765e12, 90e9, 6.25e9, 1.75e9, 3, 4),
    Chip('v6e', 31.25 * GIB, 918e12, 1.638e12, 90e9, 12.5e9, 1.75e9, 2, 16),
  )
}

# Of a GPU's memory so much is left beside the driver's context and what the allocator cannot join.
FREE_OF_A_GPU = 0.92
GPUS = {
  name: Chip(name, FREE_OF_A_GPU * memory * 1e9, flops, bandwidth, link, network=25e9)
  for name, memory, flops, bandwidth, link in (
    # without NVLink: PCIe 4.0 x16
    ('rtx4090', 24, 165e12, 1.008e12, 32e9),
    ('l40s', 48, 362e12, 0.864e12, 32e9),
    ('a100', 80, 312e12, 2.039e12, 300e9),
    ('h100', 80, 989e12, 3.35e12, 450e9),
  )
}
_GPU_BY_MEMORY = {'24gb': 'rtx4090', '48gb': 'l40s', '80gb': 'h100'}

# Slices by the number in their name. v5p and v4 count cores.
_FLAT = {1: (1, 1), 4: (2, 2), 8: (2, 4), 16: (4, 4), 32: (4, 8), 64: (8, 8), 128: (8, 16), 256: (16, 16)}
_DEEP = {
  8: (2, 2, 1), 16: (2, 2, 2), 32: (2, 2, 4), 64: (2, 4, 4), 128: (4, 4, 4), 256: (4, 4, 8), 512: (4, 8, 8),
  1024: (8, 8, 8), 2048: (8, 8, 16),
}  # fmt: skip
_NAMES_IN_THE_CLOUD = {'v5litepod': 'v5e', 'v5e': 'v5e', 'v5p': 'v5p', 'v6e': 'v6e', 'v4': 'v4'}


@dataclasses.dataclass(frozen=True)
class Machine:
  """Chips, and how they are wired.

  Attributes:
    shape: of a slice of TPUs, or the number of GPUs in a host.
    slices: how many of them are joined by the network of the data centre.
  """

  chip: Chip
  shape: tuple[int, ...]
  slices: int = 1

  @property
  def chips(self) -> int:
    return math.prod(self.shape) * self.slices

  @property
  def name(self) -> str:
    sizes = 'x'.join(map(str, self.shape))
    return f'{self.chip.name}:{sizes}' + (f' x {self.slices} slices' if self.slices > 1 else '')

  def group_bandwidth(self, size: int, ends: tuple[int, int] = (0, 0)) -> float:
    """Bytes a second at which a chip receives in a collective of `size` chips, at most.

    A dimension of the torus brings two links where it is closed to a ring, else one; a group lies along as few
    dimensions as hold it. A group over several slices is bounded by the network.

    Args:
      ends: the first and the last chip of the group; a slice is as many in succession as it has chips.
    """
    within = math.prod(self.shape)
    if size > within or ends[0] // within != ends[1] // within:
      return self.chip.network
    if not self.chip.is_tpu:
      return self.chip.link
    total, held = 0.0, 1
    for length in sorted(self.shape, reverse=True):
      if held >= size or length == 1:
        break
      closed = length % self.chip.ring == 0 and held * length <= size
      total, held = total + self.chip.link * (2 if closed else 1), held * length
    return total or self.chip.link


def parse(name: str, slices: int = 1) -> Machine:
  """The machine that a user names.

  Raises:
    ValueError: no such machine; the message lists those that are known.
  """
  if slices < 1:
    raise ValueError(f'--slices is {slices}, not at least 1')
  kind, colon, size = name.strip().lower().partition(':')
  if colon and kind in TPUS and re.fullmatch(r'\d+(x\d+)+', size):
    return Machine(TPUS[kind], _checked_shape(name, TPUS[kind], tuple(map(int, size.split('x')))), slices)
  if colon and size.isdigit() and (kind in GPUS or kind in _GPU_BY_MEMORY):
    if not 1 <= int(size) <= 8:
      raise ValueError(f'{name}: a host has 1 to 8 GPUs')
    return Machine(GPUS[_GPU_BY_MEMORY.get(kind, kind)], (int(size),), slices)
  kind, dash, size = name.strip().lower().rpartition('-')
  if dash and kind in _NAMES_IN_THE_CLOUD and size.isdigit():
    chip = TPUS[_NAMES_IN_THE_CLOUD[kind]]
    shapes = _FLAT if chip.dimensions == 2 else _DEEP
    if int(size) not in shapes:
      raise ValueError(f'{name}: slices of {chip.name} have the numbers {", ".join(map(str, shapes))}')
    return Machine(chip, shapes[int(size)], slices)
  raise ValueError(
    f'{name!r} is no machine that is known here: give a TPU by its topology ({", ".join(TPUS)} as in v5e:2x4, '
    f'v5p:2x2x1) or its name (v5e-8, v5litepod-16, v6e-256, v5p-8), or GPUs of one host '
    f'({", ".join((*GPUS, *_GPU_BY_MEMORY))} as in h100:8)'
  )


def _checked_shape(name: str, chip: Chip, shape: tuple[int, ...]) -> tuple[int, ...]:
  shapes = list((_FLAT if chip.dimensions == 2 else _DEEP).values())
  if len(shape) != chip.dimensions:
    raise ValueError(f'{name}: the chips of {chip.name} lie in {chip.dimensions} dimensions, as in {text(shapes[3])}')
  if chip.dimensions == 2 and shape not in shapes:
    raise ValueError(f'{name}: there is no such slice of {chip.name}; there are {", ".join(map(text, shapes))}')
  # Larger slices are made of cubes of 4 x 4 x 4.
  if chip.dimensions == 3 and shape not in shapes and any(size % 4 for size in shape):
    raise ValueError(f'{name}: there is no such slice of {chip.name}; above 2x4x4 each side is a multiple of 4')
  return shape


def text(shape: Sequence[int]) -> str:
  """2x4 of (2, 4)."""
  return 'x'.join(map(str, shape))
