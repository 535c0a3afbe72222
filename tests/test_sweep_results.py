"""What a sweep has found: which runs stand where, and what a block of a page may ask for (test_sweep has the rest)."""

import types
from pathlib import Path

import pytest

from crosstrainer_jax import sweep_results
from crosstrainer_jax.configs import sweeps
from crosstrainer_jax.settings import SettingsError


def test_every_sweep_that_has_pages_has_its_results():
  assert set(sweep_results.RESULTS) == set(sweeps.SWEEPS) - {'settings'}


def test_the_time_of_a_run_is_the_median_of_those_that_are_done():
  runs = [types.SimpleNamespace(done=True, seconds=s) for s in (500.0, 100.0, 120.0)]
  runs.append(types.SimpleNamespace(done=False, seconds=9e9))
  assert sweep_results.expected_seconds(runs, 1.0) == 120.0
  assert sweep_results.expected_seconds(runs[3:], 1.0) == 1.0


def test_a_block_without_a_choice_of_columns_refuses_one():
  render = sweep_results._whole('dials', lambda folder: 'text', [])
  with pytest.raises(SettingsError, match='no choice of columns: write <!-- sweep:dials -->'):
    render(['attribute F1'], Path())
