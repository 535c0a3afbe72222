"""Ours beside the paper's, from runs whose answers are right as often as they are told to be."""

import dataclasses
import types

import pytest

from crosstrainer_jax.configs.sweeps import SKILLS
from crosstrainer_jax.evaluation import comparison, panels, scores
from crosstrainer_jax.evaluation.finished import read_finished
from crosstrainer_jax.evaluation.panels import Place
from crosstrainer_jax.evaluation.table import Footnotes
from crosstrainer_jax.extraction import reading_of
from tests.evaluation.finished_runs import write_run

SOCCER = [('soccer', 'dribbling'), ('soccer', 'penalty kick')]
ALL = [*SOCCER, ('basketball', 'mikan layup')]
IOU = comparison.columns_of('IoU@1.0', 'egoexo4d')[0]


@pytest.fixture(scope='module')
def runs(tmp_path_factory):
  folder = tmp_path_factory.mktemp('sweep')
  rows = {'CrossTrainer': 6, 'nearest neighbour': 4, 'random': 2, '10 % noise': 5}
  write_run(folder / 'FS-0', 'configs/in_domain.py:seed=0', ALL, rows)
  write_run(folder / 'FS-1', 'configs/in_domain.py:seed=1', ALL, rows | {'CrossTrainer': 8})
  write_run(folder / 'ZS-3', 'configs/cross_sport.py:held_out=soccer', SOCCER, {'CrossTrainer': 3, 'random': 1})
  return [read_finished(path, reading_of) for path in sorted(folder.iterdir())]


def test_a_value_is_over_seeds_and_of_its_own_clips(runs):
  both = comparison.value(runs, Place('FS'), 'CrossTrainer', IOU)
  assert (both.value, both.n_clips) == (pytest.approx(87.5), 24)
  assert both.low < both.value < both.high
  one = comparison.value(runs, Place('ZS-3', '', 'dribbling'), 'CrossTrainer', IOU)
  assert (one.value, one.n_clips, one.n_takes) == (pytest.approx(37.5), 8, 4)
  text = comparison.value(runs, Place('FS'), 'random', comparison.columns_of('ROUGE-L', 'qevd')[0])
  assert 80 < text.value < 100


def test_what_is_missing_says_why(runs):
  assert comparison.value(runs, Place('ZS-1', '', 'dribbling'), 'CrossTrainer', IOU).note == (
    'no finished run of ZS-1 to dribbling'
  )
  assert comparison.value(runs, Place('FS'), 'zero-shot VLM', IOU).note == 'this row was not run'
  bert = comparison.columns_of('BERT-score', 'qevd')[0]
  with_bert = types.SimpleNamespace(similarity=lambda: scores.LEXICAL)
  assert set(bert.metrics) < set(scores.columns(dataclasses.replace(scores.PLAIN, bert=with_bert)))
  assert comparison.value(runs, Place('FS'), 'CrossTrainer', bert).note == 'no such score'


def test_both_protocols_stand_beside_what_is_published(runs):
  panel = panels.panels('table 1', 'egoexo4d', SKILLS['egoexo4d'])[1]
  footnotes = Footnotes()
  table = comparison.filled(panel, runs, footnotes)
  assert table.columns[:3] == ['BLEU-4 published', 'BLEU-4 ours, prefix-kept', 'BLEU-4 ours, stripped']
  rows = dict(table.rows)
  ours = rows['CrossTrainer']
  assert ours[0] == '45.6'
  assert float(ours[1].split()[0]) > float(ours[2].split()[0])
  assert rows['InternVideo2-NN (ours: nearest neighbour)'][0] == '42.1'
  assert rows['random'][0] == '–'
  assert any(comparison.EXTERNAL in line for line in footnotes.lines())
  assert rows['ExpertAF'][1].startswith('–')


def test_noise_has_rows_of_its_own(runs):
  (panel,) = panels.panels('table 4', 'egoexo4d', SKILLS['egoexo4d'])
  table = comparison.filled(panel, runs, Footnotes(), ())
  rows = dict(table.rows)
  assert rows['10 % noise'][0] == '45.2'
  assert rows['10 % noise'][1][0].isdigit()
  assert rows['70 % noise'][1].startswith('–')


def test_scores_against_the_truth_stand_where_it_is_known(runs):
  (panel,) = panels.panels('table 4', 'egoexo4d', SKILLS['egoexo4d'])
  table = comparison.filled(panel, runs, Footnotes(), ())
  assert table.columns[-1] == 'feedback F1, ours'
  assert dict(table.rows)['10 % noise'][-1][0].isdigit()
  unknown = [
    dataclasses.replace(run, rows={row: metrics | {'feedback F1': 'unknown'} for row, metrics in run.rows.items()})
    for run in runs
  ]
  assert 'feedback F1, ours' not in comparison.filled(panel, unknown, Footnotes(), ()).columns


def test_differences_are_paired(runs):
  found = comparison.difference(runs, Place('FS'), 'CrossTrainer', 'nearest neighbour', IOU)
  assert (found.value, found.n_clips) == (pytest.approx(37.5), 24)
  assert found.low < found.value < found.high
  # a row against itself: whatever is drawn, nothing is left
  same = comparison.difference(runs, Place('FS'), 'random', 'random', IOU)
  assert (same.value, same.low, same.high) == (0, 0, 0)
  missing = comparison.difference(runs, Place('ZS-3'), 'CrossTrainer', 'nearest neighbour', IOU)
  assert missing.note == 'no run has both rows'


def test_a_table_ends_with_differences(runs):
  table = comparison.filled(panels.panels('table 3', 'egoexo4d', SKILLS['egoexo4d'])[0], runs, Footnotes())
  rows = dict(table.rows)
  assert rows['CrossTrainer − nearest neighbour'][1].startswith('+37.5 [+')
  assert rows['CrossTrainer − end to end without attributes'][1].startswith('–')
