"""Two-stage minus end-to-end over the dials."""

import io
import json
import math
import sys

import cv2
import numpy as np
import pytest
from scipy import stats

from crosstrainer_jax.evaluation import dials
from crosstrainer_jax.evaluation.bootstrap import Interval
from crosstrainer_jax.evaluation.report import Report

NAN = math.nan


def report(attribute, feedback=0.0, seed=0, held_out='soccer', name=dials.DIFFERENCE):
  scores = {
    f'headline/{score}': Interval(value, value - 2, value + 1, 10, 5)
    for score, value in zip(dials.SCORES, (attribute, feedback), strict=True)
  }
  return Report('t', 'ZS-3', held_out, seed, 'the command', 'cpu', 10, 5, 8, ['attribute F1'], {}, {name: scores})


GRID = {
  'entanglement': {1.0: [report(-7.0)], 0.0: [report(5.0, 1.5)]},
  'camera_shift': {0.0: [report(5.0, 1.5)], 0.5: [report(NAN, -3)]},
}


def test_one_run_keeps_its_interval_and_values_are_in_order():
  found = dials.gaps(GRID)
  assert [(gap.dial, gap.setting, gap.score) for gap in found[:3]] == [
    ('entanglement', 0.0, 'attribute F1'),
    ('entanglement', 0.0, 'feedback F1'),
    ('entanglement', 1.0, 'attribute F1'),
  ]
  assert (found[0].value, found[0].low, found[0].high, found[0].runs) == (5.0, 3.0, 6.0, (5.0,))
  assert 'bootstrap by take' in dials.interval_note(GRID)


def test_several_runs_have_students_interval():
  values = [1.0, 4.0, 7.0]
  grid = {'entanglement': {0.0: [report(value, seed=seed) for seed, value in enumerate(values)]}}
  gap = dials.gaps(grid)[0]
  half = stats.t.ppf(0.975, 2) * np.std(values, ddof=1) / math.sqrt(3)
  assert (gap.value, gap.low, gap.high) == pytest.approx((4.0, 4 - half, 4 + half))
  assert gap.runs == (1.0, 4.0, 7.0)
  assert dials.interval_note(grid).endswith('over runs')


def test_several_sports_are_the_unit():
  runs = [report(0.0, seed=0), report(2.0, seed=1), report(9.0, held_out='fitness')]
  grid = {'entanglement': {0.0: runs}}
  assert dials.gaps(grid)[0].value == pytest.approx(5.0)
  assert dials.interval_note(grid).endswith('over held-out sports')


def test_verdicts_name_the_losses():
  ahead, behind, undecided = dials.verdicts(dials.gaps(GRID))
  assert ahead.endswith(': attribute F1 at entanglement 0, attribute F1 at camera_shift 0.')
  assert behind.endswith(': attribute F1 at entanglement 1, feedback F1 at camera_shift 0.5.')
  assert undecided.count(' at ') == 4  # an interval around 0, and no score at all
  assert 'attribute F1 at camera_shift 0.5' in undecided


def test_a_run_without_the_difference_is_named():
  with pytest.raises(ValueError, match=r'the run \(the command\) has no attribute F1'):
    dials.gaps({'entanglement': {0.0: [report(1.0, name='another')]}})


def test_markdown_json_and_terminal():
  text = dials.to_markdown(GRID, ['Command: c'], ['plots/dials-entanglement.png'])
  assert '| entanglement 0 | +5.0 [3.0, 6.0] | +1.5 [-0.5, 2.5] |' in text
  assert '| camera_shift 0.5 | – | -3.0 [-5.0, -2.0] |' in text
  assert '(plots/dials-entanglement.png)' in text
  assert 'Command: c' in text
  values = json.loads(dials.to_json(dials.gaps(GRID)))
  assert values[0]['value'] == 5.0
  assert values[0]['verdict'] == dials.AHEAD
  assert None in [value['value'] for value in values]
  shown = io.StringIO()
  dials.print_table(GRID, shown)
  assert '+5.0 [3.0, 6.0]' in shown.getvalue()
  assert max(map(len, shown.getvalue().splitlines()[:8])) <= 120


def test_plot_draws_the_scores(tmp_path):
  pytest.importorskip('matplotlib', reason='the extra `plot` is not installed')
  grid = {
    dial: {
      x: [report(r.differences[dials.DIFFERENCE]['headline/attribute F1'].value, 1, s) for r in runs for s in (0, 1)]
    }
    for dial, points in GRID.items()
    for x, runs in points.items()
  }
  pictures = []
  for number, source in enumerate((GRID, grid)):
    path = tmp_path / 'plots' / f'{number}.png'
    dials.plot('camera_shift', dials.gaps(source), 'soccer held out', path)
    pictures.append(cv2.imread(str(path)))
  assert pictures[0].shape == pictures[1].shape
  assert (pictures[0] != pictures[1]).any()
  blue = pictures[0].astype(int) - (180, 119, 31)  # tab:blue, as OpenCV orders it
  assert (np.abs(blue).sum(-1) < 6).sum() > 20


def test_plots_without_matplotlib_say_what_to_install(monkeypatch):
  monkeypatch.setitem(sys.modules, 'matplotlib', None)
  with pytest.raises(ValueError, match=r"pip install 'crosstrainer_jax\[plot\]'"):
    dials.need_matplotlib()
