"""Paired tests: against scipy, their error under the null hypothesis, and Holm by hand."""

import math

import numpy as np
import pytest
from scipy import stats

from crosstrainer_jax.evaluation.bootstrap import Statistic, mean_statistic, ratio
from crosstrainer_jax.evaluation.significance import bootstrap_test, compare, holm, permutation_test


def means(values):
  return mean_statistic(values, np.ones(len(values), bool))


def test_few_takes_are_exact_and_agree_with_scipy():
  rng = np.random.default_rng(0)
  first, second = rng.normal(0.4, 1, 9), rng.normal(0, 1, 9)
  takes = [f't{i}' for i in range(9)]
  public = stats.permutation_test(
    (first, second), lambda a, b, axis: np.mean(a - b, axis=axis), permutation_type='samples', n_resamples=np.inf
  )
  assert permutation_test(means(first), means(second), takes) == pytest.approx(public.pvalue)


def test_many_takes_are_sampled():
  rng = np.random.default_rng(1)
  first, second = rng.normal(0.15, 1, 120), rng.normal(0, 1, 120)
  takes = [f't{i}' for i in range(120)]
  found = permutation_test(means(first), means(second), takes, 10_000)
  assert found == pytest.approx(stats.ttest_rel(first, second).pvalue, abs=0.02)
  assert found == permutation_test(means(second), means(first), takes, 10_000)  # two-sided
  assert bootstrap_test(means(first), means(second), takes) == pytest.approx(found, abs=0.05)


def test_rows_that_are_alike_are_found_different_in_five_percent():
  """On clips that hang together: tests by clip would be wrong here."""
  rng, wrong, by_clip, trials = np.random.default_rng(2), 0, 0, 200
  takes = [f't{i // 5}' for i in range(100)]
  for trial in range(trials):
    first, second = (np.repeat(rng.normal(size=20), 5) + 0.1 * rng.normal(size=100) for _ in range(2))
    wrong += permutation_test(means(first), means(second), takes, 400, trial) < 0.05
    by_clip += permutation_test(means(first), means(second), [str(i) for i in range(100)], 400, trial) < 0.05
  assert wrong / trials == pytest.approx(0.05, abs=0.04)
  assert by_clip / trials > 0.2


def test_a_large_difference_is_seen_by_both_and_none_is_not():
  takes = [f't{i}' for i in range(40)]
  high, low = means(np.full(40, 0.9)), means(np.full(40, 0.1))
  assert permutation_test(high, low, takes) < 0.001
  assert bootstrap_test(high, low, takes) < 0.01
  assert permutation_test(high, high, takes) == bootstrap_test(high, high, takes) == 1


def test_scores_that_are_no_means_are_swapped_before_they_are_summed():
  """A ratio of sums: swapping the takes' sums, not their scores."""

  def quotient(sums):
    return ratio(sums[..., 0], sums[..., 1])

  one, two = np.array([[9.0, 10], [1, 1]]), np.array([[1.0, 10], [0, 1]])
  both = np.ones(2, bool)
  first, second = Statistic(one, both, quotient), Statistic(two, both, quotient)
  # swaps: none 9/11, the second take 8/11 as 9 + 0 against 1 + 1, and both of these turned round
  assert permutation_test(first, second, ['a', 'b']) == 0.5


def test_undefined():
  nothing = mean_statistic([1.0], np.zeros(1, bool))
  assert math.isnan(permutation_test(nothing, nothing, ['a']))
  assert math.isnan(bootstrap_test(means([1.0]), means([0.0]), ['a']))  # one take


def test_holm_by_hand():
  assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
  assert holm([0.6, 0.9]) == [1.0, 1.0]
  adjusted = holm([0.02, math.nan, 0.01])
  assert adjusted[0] == pytest.approx(0.02)
  assert math.isnan(adjusted[1])
  assert adjusted[2] == pytest.approx(0.02)
  assert holm([]) == []


def test_one_row_against_its_rivals():
  rng = np.random.default_rng(3)
  ours, takes = rng.normal(1, 1, 30), [f't{i}' for i in range(30)]
  rivals = {'worse': means(ours - 0.5 + 0.1 * rng.normal(size=30)), 'alike': means(ours + 0.1 * rng.normal(size=30))}
  found = compare(means(ours), rivals, takes, 200)
  assert found['worse'].adjusted == pytest.approx(2 * found['worse'].permutation)
  assert found['worse'].adjusted < 0.05 < found['alike'].adjusted
  assert (found['worse'].rows, found['worse'].n_takes) == (2, 30)
