"""Means over seeds and held-out sports."""

import io
import json
import math

import numpy as np
import pytest
from scipy import stats

from crosstrainer_jax.evaluation.aggregate import aggregate
from crosstrainer_jax.evaluation.bootstrap import Interval
from crosstrainer_jax.evaluation.report import Report

NAN = math.nan


def run(held_out, seed, score, **changes):
  interval = Interval(score, score - 1, score + 1, 10, 5)
  values = {
    'title': 't',
    'setting': 'ZS-3',
    'held_out': held_out,
    'seed': seed,
    'command': 'python -m crosstrainer_jax.eval',
    'hardware': '2 CPU cores',
    'n_clips': 10,
    'n_takes': 5,
    'n_headline': 8,
    'columns': ['attribute F1', 'BLEU-4'],
    'rows': {
      'CrossTrainer': {'headline/attribute F1': interval},
      'always none': {'headline/BLEU-4': Interval(NAN, NAN, NAN, 0, 0, 'writes no feedback')},
    },
    'differences': {'a − b': {'headline/attribute F1': interval}},
    'variants': ['one line'],
  }
  return Report(**(values | changes))


def test_sports_are_the_unit_however_many_seeds_they_have():
  reports = [
    run('soccer', 0, 10),
    run('soccer', 1, 20),
    run('soccer', 2, 30),
    run('tennis', 0, 50),
    run('climbing', 0, 40),
  ]
  summary = aggregate(reports)
  spread = summary.rows['CrossTrainer']['headline/attribute F1']
  units = [40, 20, 50]
  half = stats.t.ppf(0.975, 2) * np.std(units, ddof=1) / math.sqrt(3)
  assert spread.mean == pytest.approx(np.mean(units))
  assert (spread.low, spread.high) == pytest.approx((np.mean(units) - half, np.mean(units) + half))
  assert (spread.lowest, spread.highest, spread.n_runs, spread.n_units) == (10, 50, 5, 3)
  assert summary.differences['a − b']['headline/attribute F1'] == spread
  assert summary.by_held_out['soccer']['CrossTrainer']['headline/attribute F1'].mean == 20
  assert list(summary.by_held_out) == ['climbing', 'soccer', 'tennis']


def test_in_domain_runs_are_their_own_unit():
  summary = aggregate([run('', seed, 10.0 * seed) for seed in range(3)])
  spread = summary.rows['CrossTrainer']['headline/attribute F1']
  assert (spread.mean, spread.n_units) == (10, 3)
  assert spread.low < 0 < 20 < spread.high
  assert 'over runs' in '\n'.join(summary.facts(ranges=True))
  assert 'for each held-out sport' not in summary.to_markdown()


def test_one_run_has_no_interval():
  spread = aggregate([run('soccer', 0, 10)]).rows['CrossTrainer']['headline/attribute F1']
  assert spread.mean == 10
  assert math.isnan(spread.low)


def test_runs_that_lack_a_score_are_counted():
  other = run('tennis', 0, 5, rows={'CrossTrainer': {'headline/attribute F1': Interval(NAN, NAN, NAN, 0, 0)}})
  text = aggregate([run('soccer', 0, 10), other]).to_markdown()
  assert '| CrossTrainer | 10.0³ | –¹ |' in text
  assert '³ from 1 of 2 runs' in text
  assert 'writes no feedback' in text


def test_markdown_json_and_terminal():
  reports = [run('soccer', 0, 10), run('tennis', 0, 20)]
  summary = aggregate(reports)
  text = summary.to_markdown()
  assert '| CrossTrainer | 15.0 [-48.5, 78.5] (10.0–20.0) |' in text
  assert '| | soccer | tennis |' in text
  assert 'All clips' in text
  brief = summary.to_markdown(['attribute F1'])
  assert '| CrossTrainer | 15.0 [-49, 79] |' in brief
  assert '| | soccer | tennis |' in brief
  assert 'BLEU-4' not in brief
  assert 'All clips' not in brief
  assert json.loads(summary.to_json())['rows']['always none']['headline/BLEU-4']['mean'] is None
  stream = io.StringIO()
  summary.print(stream)
  assert '15.0 [-49, 79]' in stream.getvalue()


@pytest.mark.parametrize(
  ('reports', 'message'),
  [
    ([], 'no reports to aggregate'),
    ([run('soccer', 0, 1), run('soccer', 0, 2)], r'The run \(soccer, seed 0\) is given twice'),
    ([run('soccer', 0, 1), run('tennis', 0, 2, setting='FS')], r'differ in their setting.*FS \| ZS-3'),
    ([run('soccer', 0, 1), run('tennis', 0, 2, columns=['METEOR'])], 'differ in their metric columns'),
  ],
)
def test_what_cannot_be_averaged(reports, message):
  with pytest.raises(ValueError, match=message):
    aggregate(reports)
