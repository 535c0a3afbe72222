"""Scores over the number of labelled clips: which run stands where, and what is said of it."""

import io
import json

import pytest
from PIL import Image

from crosstrainer_jax.evaluation import shots
from crosstrainer_jax.evaluation.bootstrap import Interval
from crosstrainer_jax.evaluation.report import Report

COLUMNS = ['attribute F1', 'feedback F1']


def report(seed, ours, classifier=30.0):
  def scored(value):
    return {f'headline/{name}': Interval(value, value - 2, value + 2, 10, 5) for name in COLUMNS}

  rows = {shots.ROW: scored(ours), shots.CLASSIFIER: scored(classifier)}
  return Report('t', 'K-shot', 'soccer', seed, 'command', 'cpu', 10, 5, 8, COLUMNS, rows)


@pytest.fixture
def runs():
  def several(value):
    return [report(seed, value + 3 * (seed - 1)) for seed in range(3)]

  return {
    shots.TRANSFER: {0: several(40.0), 10: several(42.0), 100: several(50.0)},
    shots.SCRATCH: {10: several(20.0), 100: several(52.0)},
  }


def test_each_way_has_its_runs(runs):
  found = {(p.way, p.shots): p for p in shots.points(runs) if p.score == 'attribute F1'}
  transfer, scratch, classifier = shots.WAYS
  assert set(found) == {
    (transfer, 0), (transfer, 10), (transfer, 100), (scratch, 10), (scratch, 100), (classifier, 10), (classifier, 100),
  }  # fmt: skip
  point = found[transfer, 10]
  assert (point.value, point.runs) == (42.0, (39.0, 42.0, 45.0))
  # Student's t over three runs of standard deviation 3
  assert point.high - point.value == pytest.approx(4.3027 * 3 / 3**0.5, abs=1e-3)
  assert found[classifier, 10].value == 30


def test_one_run_has_its_bootstrap(runs):
  single = {start: {k: reports[:1] for k, reports in by_k.items()} for start, by_k in runs.items()}
  point = next(p for p in shots.points(single) if p.shots == 10)
  assert (point.low, point.high) == (point.value - 2, point.value + 2)
  assert 'bootstrap by take of one run' in shots.interval_note(single)
  assert "Student's t over runs" in shots.interval_note(runs)


def test_how_many_are_enough(runs):
  lines = shots.enough(shots.points(runs))
  assert (
    lines[0] == 'attribute F1 from nothing reaches what the other sports give without a clip (40.0) with 100 clips.'
  )
  assert lines[1] == 'Starting from the other sports is ahead of starting from nothing with 10 clips.'
  runs[shots.SCRATCH][100] = runs[shots.SCRATCH][10]
  assert 'nowhere up to 100 clips' in shots.enough(shots.points(runs))[0]


def test_page_json_terminal_and_plot(runs, tmp_path):
  page = shots.to_markdown(runs, ['fact'], ['kshot.png'])
  assert '| 0 clips | 40.0 [' in page
  assert '![F1 over the number of labelled clips](kshot.png)' in page
  row = next(line for line in page.splitlines() if line.startswith('| 0 clips'))
  assert row.count('–') == 4  # nothing to begin the other ways with
  found = shots.points(runs)
  assert json.loads(shots.to_json(found))[0]['runs'] == [37.0, 40.0, 43.0]
  out = io.StringIO()
  shots.print_table(runs, out)
  assert '100 clips' in out.getvalue()
  shots.plot(found, 'new sport: soccer', tmp_path / 'plots' / 'kshot.png')
  with Image.open(tmp_path / 'plots' / 'kshot.png') as picture:
    assert picture.size == (1008, 480)
