"""Seconds from counts, by hand."""

import pytest

from crosstrainer_jax.planning import calibration, estimate, machines
from crosstrainer_jax.planning.costs import Collective, Costs

V5E = machines.parse('v5e:2x4')


def test_the_methods():
  gather = Collective('all-gather', 8e9, 8, 10.0, (1,))
  costs = Costs(197e12, 3e9, 0.819e12 / 2, (gather,), {})
  timed = estimate.of_costs(costs, V5E)
  # at the peak, at the bandwidth, by the clock, over two links
  assert (timed.products, timed.memory, timed.cycles) == (1.0, 0.5, 2.0)
  assert timed.exchange == pytest.approx(10 * 8e9 * 7 / 8 / 90e9 + 10 * estimate.LATENCY)
  assert timed.roofline == 1.0
  # the longer hides the shorter, but for a share
  assert timed.raw == pytest.approx(2.0 + estimate.UNHIDDEN * timed.exchange)
  assert timed.seconds == timed.raw * calibration.CONSTANT
  assert timed.bound == 'matrix products'


def test_without_cycles_the_roofline_stands_for_computation():
  timed = estimate.of_costs(Costs(197e12 / 8, 0.0, 2 * 0.819e12, (), {}), V5E)
  assert (timed.computation, timed.bound) == (2.0, 'memory')
  long = estimate.of_costs(Costs(197e12, 0.0, 0.819e12, (), {}), V5E)
  # at a half of the peak; what was compared with published runs is the kind with cycles alone
  assert (long.computation, long.bound) == (1 / estimate.SHARE_OF_PEAK, 'matrix products')
  assert long.seconds == long.raw
  assert not long.is_calibrated


def test_exchange_can_be_the_bound():
  reduce = Collective('all-reduce', 900e9, 8, 1.0, (1,))
  timed = estimate.of_costs(Costs(197e12, 3e9, 0.0, (reduce,), {}), V5E)
  assert timed.bound == 'exchange between chips'
  # there and back
  assert timed.exchange == pytest.approx(2 * 900e9 * 7 / 8 / 90e9, rel=0.001)


def test_kernels_are_timed_by_their_flops():
  plain = estimate.of_costs(Costs(0.0, 3e9, 0.0, (), {'splash': 1}), V5E)
  kernel = estimate.of_costs(Costs(0.0, 3e9, 0.0, (), {'splash': 1}), V5E, kernel_flops=197e12)
  assert kernel.cycles - plain.cycles == pytest.approx(1 / estimate.KERNEL_SHARE)
  assert kernel.products == 1.0
