"""Intervals over seeds, sports and takes."""

import numpy as np
import pytest

from crosstrainer_jax.evaluation.bootstrap import bootstrap, mean_statistic
from crosstrainer_jax.evaluation.hierarchical import Part, hierarchical

TAKES = [f'take{i // 5}' for i in range(100)]
ONE_SPORT = ['golf'] * 100


def part(seed, values, sports=ONE_SPORT, counted=None):
  counted = np.ones(100, bool) if counted is None else counted
  return Part(seed, sports, TAKES, mean_statistic(values, counted))


def width(interval):
  return interval.high - interval.low


def test_with_one_seed_and_one_sport_it_is_the_bootstrap_by_take():
  values = np.random.default_rng(0).random(100)
  one = hierarchical([part(0, values)], resamples=4000)
  flat = bootstrap(mean_statistic(values, np.ones(100, bool)), TAKES, resamples=4000)
  assert one.value == pytest.approx(flat.value)
  assert (one.low, one.high) == pytest.approx((flat.low, flat.high), abs=0.3)
  assert (one.n_clips, one.n_takes) == (flat.n_clips, flat.n_takes) == (100, 20)


def test_seeds_that_differ_widen_the_interval():
  values = np.random.default_rng(0).random(100) / 10
  alike = hierarchical([part(seed, values) for seed in range(3)])
  apart = hierarchical([part(seed, values + 0.3 * seed) for seed in range(3)])
  assert apart.value == pytest.approx(alike.value + 30)
  assert width(apart) > 5 * width(alike)


def test_sports_that_differ_widen_the_interval():
  sports = ['golf'] * 50 + ['tennis'] * 50
  values = np.where(np.array(sports) == 'golf', 0.2, 0.8)
  by_sport = hierarchical([part(0, values, sports)])
  assert by_sport.value == pytest.approx(50)
  assert (by_sport.low, by_sport.high) == pytest.approx((20, 80))


def test_coverage():
  """Of intervals over three seeds and ten takes, most hold the truth: fewer than 95 %, since the levels are small."""
  random = np.random.default_rng(1)
  takes, held = [f't{i // 4}' for i in range(40)], 0
  for trial in range(100):
    parts = []
    for seed in range(3):
      values = 0.5 + random.normal(0, 0.05) + np.repeat(random.normal(0, 0.1, 10), 4)
      parts.append(Part(seed, ['golf'] * 40, takes, mean_statistic(values, np.ones(40, bool))))
    interval = hierarchical(parts, resamples=200, seed=trial)
    held += interval.low <= 50 <= interval.high
  assert held >= 80


def test_clips_that_are_not_counted_weigh_nothing():
  values = np.r_[np.full(50, 0.2), np.full(50, 0.9)]
  interval = hierarchical([part(0, values, counted=np.arange(100) < 50)])
  assert (interval.value, interval.n_clips, interval.n_takes) == (pytest.approx(20), 50, 10)
  none = hierarchical([part(0, values, counted=np.zeros(100, bool))])
  assert np.isnan([none.value, none.low, none.high]).all()
