"""Intervals: coverage, clusters, pairs, and what is undefined."""

import math

import numpy as np
import pytest

from crosstrainer_jax.evaluation.bootstrap import Statistic, bootstrap, mean_statistic, paired_difference, ratio


def quotient(sums):
  return ratio(sums[..., 0], sums[..., 1])


def everywhere(values):
  return np.ones(len(values), bool)


def test_value_is_the_plain_mean_of_counted_clips():
  counted = np.array([True, True, False, True])
  interval = bootstrap(mean_statistic([1, 0, math.nan, 0.5], counted), ['a', 'a', 'b', 'c'])
  assert interval.value == pytest.approx(50)
  assert (interval.n_clips, interval.n_takes) == (3, 2)
  assert interval.low <= interval.value <= interval.high


def test_the_seed_decides():
  rng = np.random.default_rng(0)
  values, takes = rng.random(200), [f't{i // 4}' for i in range(200)]
  statistic = mean_statistic(values, everywhere(values))
  assert bootstrap(statistic, takes, seed=1) == bootstrap(statistic, takes, seed=1)
  assert bootstrap(statistic, takes, seed=1) != bootstrap(statistic, takes, seed=2)


def test_agrees_with_resampling_takes_one_by_one():
  rng = np.random.default_rng(3)
  hits, counts = rng.integers(0, 4, 60), rng.integers(4, 9, 60)
  takes = np.array([f't{i // 3}' for i in range(60)])
  statistic = Statistic(np.stack([hits, counts], axis=1).astype(float), everywhere(hits), quotient)
  names, naive = np.unique(takes), []
  for _ in range(2000):
    chosen = np.concatenate([np.flatnonzero(takes == name) for name in rng.choice(names, len(names))])
    naive.append(hits[chosen].sum() / counts[chosen].sum())
  interval = bootstrap(statistic, takes, resamples=2000)
  assert interval.value == pytest.approx(hits.sum() / counts.sum())
  assert [interval.low, interval.high] == pytest.approx(np.percentile(naive, [2.5, 97.5]), abs=0.01)


def test_coverage_is_near_95_percent_when_clips_depend_on_their_take():
  rng = np.random.default_rng(4)
  covered, naive, trials, takes = 0, 0, 300, np.repeat(np.arange(60), 5)
  for _ in range(trials):
    values = rng.normal(size=60)[takes] + 0.5 * rng.normal(size=300)  # the true mean is 0
    statistic = mean_statistic(values, everywhere(values))
    interval = bootstrap(statistic, [str(t) for t in takes], resamples=300, seed=int(rng.integers(1 << 30)))
    covered += interval.low <= 0 <= interval.high
    interval = bootstrap(statistic, [str(i) for i in range(300)], resamples=300, seed=5)
    naive += interval.low <= 0 <= interval.high
  assert 0.90 <= covered / trials <= 0.98
  assert naive / trials < 0.75  # clips drawn as if independent claim far too much


def test_clusters_widen_the_interval_of_dependent_clips():
  rng = np.random.default_rng(5)
  values = np.repeat(rng.random(40), 10)
  statistic = mean_statistic(values, everywhere(values))
  by_take = bootstrap(statistic, [f't{i // 10}' for i in range(400)])
  by_clip = bootstrap(statistic, [f't{i}' for i in range(400)])
  assert by_take.value == pytest.approx(by_clip.value)
  assert (by_take.high - by_take.low) > 2.5 * (by_clip.high - by_clip.low)  # √10 in theory


def test_paired_difference_sees_what_two_intervals_do_not():
  rng = np.random.default_rng(6)
  hard = rng.normal(size=100)
  takes = [f't{i}' for i in range(100)]
  better, worse = (mean_statistic(hard + shift, everywhere(hard)) for shift in (0.1 + 0.01 * rng.normal(size=100), 0.0))
  one, two = bootstrap(better, takes), bootstrap(worse, takes)
  assert one.low < two.high  # the two intervals overlap
  difference = paired_difference(better, worse, takes)
  assert difference.value == pytest.approx(one.value - two.value)
  assert 0 < difference.low < difference.value < difference.high


def test_paired_difference_of_a_row_with_itself_is_zero():
  statistic = mean_statistic([0.1, 0.7, 0.3], everywhere([0] * 3))
  difference = paired_difference(statistic, statistic, ['a', 'b', 'c'])
  assert (difference.value, difference.low, difference.high) == (0, 0, 0)


def test_paired_difference_takes_the_clips_that_both_count():
  one = mean_statistic([1, 1, 0], np.array([True, True, False]))
  two = mean_statistic([0, 0, 1], np.array([False, True, True]))
  difference = paired_difference(one, two, ['a', 'b', 'c'])
  assert (difference.value, difference.n_clips) == (100, 1)


@pytest.mark.parametrize(('values', 'counted', 'n_clips'), [([], [], 0), ([1.0], [False], 0)])
def test_no_clips_are_undefined(values, counted, n_clips):
  interval = bootstrap(mean_statistic(values, np.array(counted, bool)), ['a'] * len(values))
  assert all(map(math.isnan, (interval.value, interval.low, interval.high)))
  assert interval.n_clips == n_clips


def test_one_take_has_a_value_and_no_interval():
  interval = bootstrap(mean_statistic([1, 0], everywhere([1, 0])), ['a', 'a'])
  assert interval.value == 50
  assert math.isnan(interval.low)
  assert math.isnan(interval.high)


def needs_all(sums):
  """1 where every column occurs in the resample, else undefined."""
  return np.where((sums > 0).all(axis=-1), 1.0, math.nan)


def test_undefined_resamples_are_left_out_until_they_are_most():
  takes = [str(i) for i in range(40)]
  one = bootstrap(Statistic(np.eye(40)[:, :1], everywhere(takes), needs_all), takes)
  assert (one.value, one.low, one.high) == (1, 1, 1)  # a take is missing in 37 % of the resamples
  two = bootstrap(Statistic(np.eye(40)[:, :2], everywhere(takes), needs_all), takes)
  assert two.value == 1
  assert math.isnan(two.low)  # one of two takes is missing in 60 %
  assert math.isnan(two.high)


def test_as_many_takes_as_clips_or_an_error():
  with pytest.raises(ValueError, match='3 clips have statistics, but 2 have a take'):
    bootstrap(mean_statistic([1, 2, 3], everywhere([0] * 3)), ['a', 'b'])
