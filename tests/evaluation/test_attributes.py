"""IoU@k by hand, and F1 of faults against scikit-learn."""

import itertools
import math

import numpy as np
import pytest
from sklearn.metrics import f1_score, precision_score, recall_score
from sklearn.preprocessing import MultiLabelBinarizer

from crosstrainer_jax.evaluation.attributes import (
  EXACT,
  LEXICAL,
  Similarity,
  attribute_lists,
  fault_statistics,
  faults_named,
  iou,
  iou_statistic,
  lexical_pair,
)


def value(statistic):
  return float(statistic.score(statistic.sums[statistic.counted].sum(axis=0)))


@pytest.mark.parametrize(
  ('generated', 'truth', 'expected'),
  [
    ([], [], 1.0),
    ([], ['a'], 0.0),
    (['a'], [], 0.0),
    (['a'], ['a'], 1.0),
    (['a', 'b'], ['b', 'c'], 1 / 3),
    (['a', 'b', 'c'], ['a', 'b'], 2 / 3),
    (['A  b', 'a b'], ['a B'], 1.0),  # case, spaces and repetition
    (['a', 'a', 'a'], ['a', 'b'], 1 / 2),
  ],
)
def test_exact_iou_by_hand(generated, truth, expected):
  assert iou(generated, truth, EXACT, 1.0) == pytest.approx(expected)


def test_matching_is_one_to_one_and_largest():
  # p matches x and y, q matches only x: greedy on the best pair (p, x) would find one match, two are possible.
  table = {('p', 'x'): 0.95, ('p', 'y'): 0.8, ('q', 'x'): 0.75, ('q', 'y'): 0.1}
  similarity = Similarity('IoU-t', lambda pairs: np.array([table[pair] for pair in pairs]), 'a table')
  assert iou(['p', 'q'], ['x', 'y'], similarity, 0.7) == pytest.approx(1.0)
  assert iou(['p', 'q'], ['x', 'y'], similarity, 0.7, 'greedy') == pytest.approx(1 / 3)
  assert iou(['p', 'q'], ['x', 'y'], similarity, 0.8) == pytest.approx(1 / 3)
  assert iou(['p', 'q'], ['x', 'y'], similarity, 0.99) == 0


def test_matching_agrees_with_trying_every_assignment():
  rng = np.random.default_rng(0)
  for _ in range(50):
    rows, columns = rng.integers(1, 5, size=2)
    alike = rng.random((rows, columns))
    similarity = Similarity('IoU-r', lambda pairs, alike=alike: alike.ravel(), 'random')
    a, b = [f'a{i}' for i in range(rows)], [f'b{i}' for i in range(columns)]
    wide = alike if rows <= columns else alike.T
    best = max(
      sum(wide[i, j] >= 0.6 for i, j in enumerate(order))
      for order in itertools.permutations(range(wide.shape[1]), wide.shape[0])
    )
    assert iou(a, b, similarity, 0.6) == pytest.approx(best / (rows + columns - best))
    assert iou(a, b, similarity, 0.6, 'greedy') == pytest.approx(greedy(alike, 0.6))


def greedy(alike, threshold):
  """The best pair, then the best of what is left, until none is similar enough."""
  left, matches = alike.copy(), 0
  while left.max() >= threshold:
    row, column = np.unravel_index(left.argmax(), left.shape)
    left[row], left[:, column], matches = -1, -1, matches + 1
  return matches / (sum(alike.shape) - matches)


def test_both_empty_is_one_or_left_out(reference):
  truth = [reference(0, attributes=['a']), reference(1, attributes=[]), reference(2, attributes=[])]
  named = [[], [], ['b']]
  assert value(iou_statistic(named, truth, EXACT, 1.0)) == pytest.approx(100 / 3)
  skipped = iou_statistic(named, truth, EXACT, 1.0, empty='skip')
  assert skipped.counted.tolist() == [True, False, True]
  assert value(skipped) == 0


def test_all_clips_are_compared_in_one_call(reference):
  """A model behind the similarity sees every pair of the row at once, and each value goes back to its clip."""
  calls = []

  def pairs(asked):
    calls.append(asked)
    return np.array([a == b for a, b in asked], float)

  rng = np.random.default_rng(0)
  lists = [[f'p{k}' for k in rng.integers(6, size=rng.integers(0, 4))] for _ in range(40)]
  truth = [reference(i, attributes=[f'p{k}' for k in rng.integers(6, size=rng.integers(0, 4))]) for i in range(40)]
  found = iou_statistic([None, *lists[1:]], truth, Similarity('IoU-c', pairs, 'counted'), 0.7)
  assert len(calls) == 1
  expected = [iou(a, clip.attributes, EXACT, 1.0) for a, clip in zip(lists, truth, strict=True)]
  assert found.sums[:, 0].tolist() == pytest.approx([0.0, *expected[1:]])


def test_a_threshold_is_reached_at_equality():
  similarity = Similarity('IoU-t', lambda pairs: np.full(len(pairs), 0.1 * 7), 'seven tenths, rounded up')
  assert 0.1 * 7 != 0.7
  assert iou(['a'], ['b'], similarity, 0.7) == 1


@pytest.mark.parametrize(
  ('first', 'second', 'low', 'high'),
  [
    ('hand positioning', 'position of the hands', 1.0, 1.0),
    ('follow-through', 'Follow through', 1.0, 1.0),
    ('foot positioning', 'hand positioning', 0.4, 0.69),
    ('balance', 'timing', 0.0, 0.2),
    ('stabilisation', 'stabilization', 0.7, 0.99),
    ('', 'balance', 0.0, 0.0),
    ('of the', 'balance', 0.0, 0.0),
    ('of the', 'of the', 1.0, 1.0),
  ],
)
def test_lexical_similarity(first, second, low, high):
  assert low <= lexical_pair(first, second) <= high
  assert lexical_pair(first, second) == pytest.approx(lexical_pair(second, first))


def test_lexical_iou_is_not_called_iou():
  assert LEXICAL.column == 'IoU-lex'
  assert iou(['positioning of the hands'], ['hand position'], LEXICAL, 0.7) == 1
  assert iou(['positioning of the hands'], ['hand position'], EXACT, 1.0) == 0


def test_iou_statistic_is_a_mean_in_which_unreadable_is_wrong(reference):
  truth = [reference(0, attributes=['a']), reference(1, attributes=[]), reference(2, attributes=['a', 'b'])]
  assert value(iou_statistic([['a'], [], ['a']], truth, EXACT, 1.0)) == pytest.approx(100 * 2.5 / 3)
  assert value(iou_statistic([['a'], None, ['a']], truth, EXACT, 1.0)) == pytest.approx(100 * 1.5 / 3)


def test_fault_scores_agree_with_scikit_learn(reference):
  rng = np.random.default_rng(1)
  faults = ['balance', 'knee bend', 'timing', 'follow-through']
  truth = [[f for f in faults if rng.random() < 0.4] for _ in range(60)]
  named = [[f for f in faults if rng.random() < 0.5] for _ in range(60)]
  found = fault_statistics(named, [reference(i, faults=f) for i, f in enumerate(truth)])
  binary = MultiLabelBinarizer(classes=faults)
  y, z = binary.fit_transform(truth), binary.transform(named)
  assert value(found['F1']) == pytest.approx(100 * f1_score(y, z, average='micro'))
  assert value(found['F1 macro']) == pytest.approx(100 * f1_score(y, z, average='macro'))
  assert value(found['precision']) == pytest.approx(100 * precision_score(y, z, average='micro'))
  assert value(found['recall']) == pytest.approx(100 * recall_score(y, z, average='micro'))


def test_what_names_no_fault_counts_as_wrong(reference):
  truth = [reference(0, faults=['balance'])]

  def name_fault(phrase):
    return 'balance' if 'balanc' in phrase else None

  assert faults_named(['balance', 'balancing act'], name_fault) == {'balance'}
  right = fault_statistics([faults_named(['balance'], name_fault)], truth)
  wrong = fault_statistics([faults_named(['balance', 'ball ball ball'], name_fault)], truth)
  unreadable = fault_statistics([faults_named(None, name_fault)], truth)
  assert value(right['F1']) == 100
  assert value(wrong['F1']) == pytest.approx(100 * 2 / 3)
  assert value(wrong['precision']) == 50
  assert value(unreadable['F1']) == 0
  assert unreadable['F1'].sums[0, :3].tolist() == [0, 1, 1]


def test_clips_of_unknown_truth_are_not_counted(reference):
  truth = [reference(0, faults=['balance']), reference(1, faults=None)]
  found = fault_statistics([{'balance'}, {'timing'}], truth)
  assert found['F1'].counted.tolist() == [True, False]
  assert value(found['F1']) == 100


def test_nothing_true_and_nothing_named_is_undefined(reference):
  found = fault_statistics([set()], [reference(0, faults=[])])
  assert all(math.isnan(value(found[name])) for name in ('F1', 'F1 macro', 'precision', 'recall'))


def test_rows_without_attributes_are_read_off_their_feedback(reference):
  def extract(text):
    return [word for word in ('balance', 'timing') if word in text]

  row = [reference(0).answer(feedback='Mind your balance.'), reference(1).answer(feedback=None)]
  lists, note = attribute_lists(row, extract)
  assert lists == [['balance'], []]
  assert 'read off its feedback' in note
  assert attribute_lists([reference(0).answer(level=1)], extract) is None
  assert attribute_lists([reference(0).answer([], 'balance')], extract) == ([[]], '')
