"""Seconds of a step from what a compiled program does, by three methods that are all shown.

- roofline: matmul FLOPs over the peak, bytes over the memory's bandwidth; the larger of the two. A lower bound.
- cycles: the TPU compiler's own estimate for every operation, over the clock. It knows tiles, padding and waiting for
  memory; it has no exchange between chips, and nothing of hand-written kernels, which are timed by their FLOPs at
  `KERNEL_SHARE` of the peak.
- exchange: bytes that a chip must receive over the bandwidth of the links that its group lies along
  (`Machine.group_bandwidth`), and `LATENCY` for every exchange.

Computation is what the cycles say, or where there are none (GPUs, formulas) the roofline at `SHARE_OF_PEAK` of the
peak. The step is the larger of computation and exchange, since the compiler hides one behind the other, and the smaller
one's `UNHIDDEN` share on top; by cycles times the constant of calibration.py, else not calibrated.
"""

import dataclasses

from crosstrainer_jax.planning import calibration
from crosstrainer_jax.planning.analytic import SHARE_OF_PEAK
from crosstrainer_jax.planning.costs import Collective, Costs
from crosstrainer_jax.planning.machines import Machine

# Share of the peak that attention in a hand-written kernel reaches: exponentials bound it, not products.
KERNEL_SHARE = 0.4
# Seconds from the start of an exchange to the first byte.
LATENCY = 2e-6
# Share of the smaller of computation and exchange that is not hidden behind the larger.
UNHIDDEN = 0.1


@dataclasses.dataclass(frozen=True)
class Estimate:
  """Seconds of one run of a program.

  Attributes:
    products, memory: of the roofline.
    cycles: by the compiler's estimates, kernels included; 0 where there are none.
    exchange: between chips, if nothing hid it.
    kernels: of hand-written kernels, a part of `cycles`.
  """

  products: float
  memory: float
  cycles: float
  exchange: float
  kernels: float = 0.0

  @property
  def roofline(self) -> float:
    return max(self.products, self.memory, self.exchange)

  @property
  def computation(self) -> float:
    """By cycles where there are any."""
    return self.cycles or max(self.products / SHARE_OF_PEAK, self.memory)

  @property
  def raw(self) -> float:
    """Before calibration."""
    larger, smaller = max(self.computation, self.exchange), min(self.computation, self.exchange)
    return larger + UNHIDDEN * smaller

  @property
  def seconds(self) -> float:
    return self.raw * (calibration.CONSTANT if self.is_calibrated else 1.0)

  @property
  def is_calibrated(self) -> bool:
    """Whether it is of the kind that was compared with published runs."""
    return self.cycles > 0

  @property
  def bound(self) -> str:
    """What takes the longest."""
    if self.exchange > self.computation:
      return 'exchange between chips'
    return 'memory' if self.memory > self.products / SHARE_OF_PEAK else 'matrix products'


def of_costs(costs: Costs, machine: Machine, kernel_flops: float = 0.0) -> Estimate:
  """The estimate for what `costs` says of one chip's run.

  Args:
    kernel_flops: on a chip, of kernels that no count has.
  """
  chip = machine.chip
  kernels = kernel_flops / (KERNEL_SHARE * chip.flops)
  cycles = costs.cycles / chip.clock + kernels if costs.cycles and chip.clock else 0.0
  return Estimate(
    (costs.flops + kernel_flops) / chip.flops,
    costs.bytes / chip.bandwidth,
    cycles,
    sum(exchange_seconds(collective, machine) for collective in costs.collectives),
    kernels,
  )


def exchange_seconds(collective: Collective, machine: Machine) -> float:
  """Seconds of all runs of one exchange."""
  return collective.received / machine.group_bandwidth(collective.group, collective.ends) + LATENCY * collective.times
