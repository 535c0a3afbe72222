"""Intervals: coverage, clusters, pairs, and what is undefined."""

import dataclasses
import math

import numpy as np
import pytest

from crosstrainer_jax.evaluation.bootstrap import (
  Run,
  Statistic,
  bootstrap,
  hierarchical,
  hierarchical_difference,
  mean_statistic,
  paired_difference,
  ratio,
)


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


def runs_of(seeds, sports, takes=12, per_take=3, seed_effect=0.0, shift=0.0, salt=0):
  """Runs of a mean, whose takes are hard or easy alike for every seed."""
  rng = np.random.default_rng(salt)
  found = []
  hard = {sport: rng.normal(0, 1, takes) + place for place, sport in enumerate(sports)}
  for seed in range(seeds):
    effect = rng.normal(0, seed_effect) if seed_effect else 0.0
    for sport in sports:
      values = np.repeat(hard[sport], per_take) + effect + shift + 0.1 * rng.normal(size=takes * per_take)
      names = [f'{sport}{i // per_take}' for i in range(takes * per_take)]
      found.append(Run(seed, sport, mean_statistic(values, everywhere(values)), names))
  return found


def test_several_runs_are_averaged_over_seeds_and_then_over_sports():
  runs = runs_of(2, ['a', 'b'])
  means = {(run.seed, run.sport): 100 * run.statistic.sums[:, 0].mean() for run in runs}
  del runs[0]  # one sport has one seed
  interval = hierarchical(runs)
  assert interval.value == pytest.approx(((means[0, 'b'] + means[1, 'b']) / 2 + means[1, 'a']) / 2)
  assert interval.low < interval.value < interval.high
  assert (interval.n_clips, interval.n_takes) == (72, 24)
  assert interval.note == ''


def test_one_run_has_the_interval_of_its_takes():
  run = runs_of(1, ['a'], takes=60)[0]
  alone, plain = hierarchical([run], 4000), bootstrap(run.statistic, run.takes, 4000)
  assert (alone.value, alone.n_takes) == (pytest.approx(plain.value), 60)
  width = plain.high - plain.low
  assert (alone.low, alone.high) == (
    pytest.approx(plain.low, abs=width / 10),
    pytest.approx(plain.high, abs=width / 10),
  )
  assert 'one seed' in alone.note
  assert 'one sport' in alone.note


def test_agrees_with_drawing_seeds_sports_and_takes_one_by_one():
  runs = runs_of(3, ['a', 'b', 'c'], takes=5, seed_effect=1.0)
  values = {
    (run.seed, run.sport, take): run.statistic.sums[np.asarray(run.takes) == take, 0]
    for run in runs
    for take in run.takes
  }
  rng, naive = np.random.default_rng(1), []
  for _ in range(3000):
    seeds, sports = rng.choice(3, 3), rng.choice(['a', 'b', 'c'], 3)
    means = []
    for sport in sports:
      takes = [f'{sport}{i}' for i in rng.choice(5, 5)]  # the same for every seed
      means.append(np.mean([np.concatenate([values[seed, sport, take] for take in takes]).mean() for seed in seeds]))
    naive.append(100 * np.mean(means))
  interval = hierarchical(runs, 3000)
  spread = np.std(naive)
  assert interval.low == pytest.approx(np.percentile(naive, 2.5), abs=0.25 * spread)
  assert interval.high == pytest.approx(np.percentile(naive, 97.5), abs=0.25 * spread)


def test_seeds_and_sports_widen_the_interval():
  def width(runs):
    interval = hierarchical(runs)
    return interval.high - interval.low

  assert width(runs_of(5, ['a'], seed_effect=3.0)) > 2 * width(runs_of(5, ['a'], seed_effect=0.0))
  same = runs_of(1, ['a'], takes=24)[0]
  assert width(runs_of(1, ['a', 'b', 'c', 'd'], takes=24)) > 1.5 * width([same])
  # more seeds on the same takes are not more takes
  assert width(runs_of(10, ['a'])) > 0.8 * width(runs_of(1, ['a']))


def test_a_difference_over_runs_is_paired():
  first, second = runs_of(3, ['a', 'b'], shift=0.3), runs_of(3, ['a', 'b'], shift=0.0)
  one, two = hierarchical(first), hierarchical(second)
  assert one.low < two.high
  difference = hierarchical_difference(first, second)
  assert difference.value == pytest.approx(one.value - two.value)
  assert 0 < difference.low < difference.value < difference.high
  assert hierarchical_difference(first, first).high == 0
  with pytest.raises(ValueError, match=r"differ in their seeds and sports: \[\(2, 'b'\)\]"):
    hierarchical_difference(first, second[:-1])
  with pytest.raises(ValueError, match='7 runs of 6 pairs of seed and sport'):
    hierarchical([*first, first[0]])


def test_undefined_runs_are_left_out():
  runs = runs_of(2, ['a', 'b'])
  runs[0] = dataclasses.replace(runs[0], statistic=runs[0].statistic.keep(np.zeros(36, bool)))
  assert hierarchical(runs).value == pytest.approx(hierarchical(runs[1:]).value)
