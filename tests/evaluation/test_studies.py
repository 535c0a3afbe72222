"""Conditions beside each other: values, paired differences and their intervals."""

import json

import pytest

from crosstrainer_jax.evaluation import studies
from crosstrainer_jax.evaluation.bootstrap import Interval
from crosstrainer_jax.evaluation.report import Report


def report(seed, f1, level=None):
  def one(value):
    return Interval(value, value - 1, value + 1, 10, 5)

  rows = {'CrossTrainer': {'headline/attribute F1': one(f1), 'headline/feedback F1': one(f1 / 2)}}
  if level is not None:
    rows['level from v and attributes'] = {'all/level accuracy': one(level)}
  return Report('t', 'ZS-3', 'soccer', seed, 'command', 'CPU', 10, 5, 8, ['attribute F1'], rows)


RUNS = {
  'as it is': [report(0, 40), report(1, 50), report(2, 45)],
  'one view': [report(0, 36, 30), report(1, 45, 40), report(2, 42, 35)],
}


def test_differences_are_paired_by_seed():
  found = {(f.condition, f.score): f for f in studies.findings(RUNS, 'as it is')}
  one = found['one view', 'attribute F1']
  assert (one.value.mean, one.difference.mean) == (pytest.approx(41), pytest.approx(-4))
  # the seeds differ by 5 points, their differences by 1: pairing takes the former away
  assert one.difference.high - one.difference.low < one.value.high - one.value.low
  assert found['as it is', 'attribute F1'].difference.mean == 0
  assert found['one view', 'level, by v and attributes'].value.mean == pytest.approx(35)
  assert found['as it is', 'level, by v and attributes'].value.n_runs == 0


def test_a_table_and_what_it_is_read_from():
  text = studies.to_markdown(RUNS, 'as it is', ['fact'])
  assert text.startswith('fact\n\n**Points of 100; differences from “as it is” with their 95 % interval**')
  assert '| as it is | 45.0 | 22.5 | – | – | – |' in text
  assert '| one view | 41.0 (-4.0 [-6.5, -1.5]) |' in text
  values = json.loads(studies.to_json(studies.findings(RUNS, 'as it is')))
  assert len(values) == 2 * len(studies.SCORES)


def test_a_run_without_its_partner_is_named():
  with pytest.raises(ValueError, match="'one view': the run of soccer, seed 7, has no partner"):
    studies.findings(RUNS | {'one view': [report(7, 1)]}, 'as it is')
