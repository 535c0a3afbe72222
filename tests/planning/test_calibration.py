"""The factor, and what is said of it."""

import pytest

from crosstrainer_jax.planning import calibration


def test_the_factor_is_right_on_average_over_the_published_runs():
  small, large = calibration.RUNS
  raw = {small.name: small.seconds / 2, large.name: large.seconds / 0.5}
  assert calibration.constant(raw) == pytest.approx(1.0)
  assert calibration.constant({small.name: small.seconds / 2}) == pytest.approx(2.0)
  assert calibration.constant({}) == 1.0
  said = calibration.summary(raw)
  assert 'Llama-3.1-8B 7,207 tokens/s a chip: -50% before, -50% after' in said
  assert 'of program plus estimator' in said


def test_rates_and_seconds_of_what_is_published_agree():
  for run in calibration.RUNS:
    assert run.sequences * calibration.TOKENS / run.seconds == pytest.approx(run.rate, rel=0.001), run.name


def test_the_estimator_is_within_a_fifth_of_every_published_run():
  assert set(calibration.RAW_SECONDS) == {run.name for run in calibration.RUNS}
  assert calibration.constant(calibration.RAW_SECONDS) == calibration.CONSTANT
  for run in calibration.RUNS:
    estimate = calibration.RAW_SECONDS[run.name] * calibration.CONSTANT
    assert estimate == pytest.approx(run.seconds, rel=0.2), run.name
    assert run.name in calibration.SUMMARY
