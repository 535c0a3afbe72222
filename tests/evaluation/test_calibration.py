"""Confidence: by hand, against scikit-learn, and what no order and no number may change."""

import itertools
import math

import numpy as np
import pytest
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss

from crosstrainer_jax.evaluation.calibration import (
  Claims,
  calibration,
  claims,
  plot,
  reliability,
  risk_by_coverage,
)


def made(probabilities, true):
  return Claims(
    np.array(probabilities, float), np.array(true, bool), np.array([f't{i // 2}' for i in range(len(true))])
  )


def test_by_hand():
  found = calibration(made([0.9, 0.8, 0.3, 0.2], [1, 0, 1, 0]), bins=2)
  np.testing.assert_allclose(found.reliability, [(2, 0.25, 0.5), (2, 0.85, 0.5)])
  assert found.ece == pytest.approx(100 * (0.25 + 0.35) / 2)
  assert found.brier == pytest.approx(100 * (0.01 + 0.64 + 0.49 + 0.04) / 4)
  assert found.aurc == pytest.approx(100 * (0 + 1 / 2 + 1 / 3 + 2 / 4) / 4)
  assert found.best_aurc == pytest.approx(100 * (0 + 0 + 1 / 3 + 2 / 4) / 4)
  assert (found.share_true, found.n_claims, found.n_takes) == (50, 4, 2)


def test_against_scikit_learn():
  rng = np.random.default_rng(0)
  probabilities = rng.random(500)
  true = rng.random(500) < probabilities**2
  found = calibration(made(probabilities, true))
  assert found.brier == pytest.approx(100 * brier_score_loss(true, probabilities))
  accuracy, confidence = calibration_curve(true, probabilities, n_bins=10, strategy='quantile')
  assert [b.accuracy for b in found.reliability] == pytest.approx(accuracy)
  assert [b.confidence for b in found.reliability] == pytest.approx(confidence)
  assert found.ece == pytest.approx(100 * np.abs(accuracy - confidence).mean())


def test_a_calibrated_row_has_a_small_error_and_an_overconfident_one_a_large():
  rng = np.random.default_rng(1)
  probabilities = rng.random(4000)
  true = rng.random(4000) < probabilities
  assert calibration(made(probabilities, true)).ece < 3
  sure = made(np.where(probabilities > 0.5, 0.99, 0.01), true)
  assert calibration(sure).ece > 20
  # the order alone decides AURC
  assert calibration(made(probabilities**3, true)).aurc == pytest.approx(calibration(made(probabilities, true)).aurc)


def test_equal_probabilities_are_in_no_order():
  true = [1, 0, 0, 1, 1, 0]
  probabilities = [0.7, 0.7, 0.7, 0.7, 0.4, 0.4]
  expected = np.mean([
    np.cumsum([1 - true[i] for i in (*first, *last)]) / np.arange(1, 7)
    for first in itertools.permutations(range(4)) for last in itertools.permutations((4, 5))
  ], axis=0)  # fmt: skip
  coverage, risk = risk_by_coverage(made(probabilities, true))
  assert risk == pytest.approx(expected)
  assert coverage == pytest.approx(np.arange(1, 7) / 6)
  assert [b.claims for b in reliability(made(probabilities, true), 3)] == [2, 4]
  constant = calibration(made([0.5] * 6, true))
  assert constant.aurc == pytest.approx(100 - constant.share_true)
  assert len(constant.reliability) == 1


def test_claims_of_a_row(reference):
  def name_fault(phrase):
    return {'stay steady': 'balance'}.get(phrase)

  clips = [
    reference(0, faults=['balance']), reference(1, faults=[]), reference(2, faults=None, attributes=['Knee  bend']),
    reference(3),
  ]  # fmt: skip
  answers = [
    clips[0].answer(scores={'stay steady': 0.9, 'timing': 0.4}), clips[1].answer(scores={'stay steady': 0.8}),
    clips[2].answer(scores={'knee bend': 0.7, 'timing': 0.1}), clips[3].answer(['balance']),
  ]  # fmt: skip
  found = claims(answers, clips, name_fault)
  assert found.probability.tolist() == [0.9, 0.4, 0.8, 0.7, 0.1]
  assert found.true.tolist() == [True, False, False, True, False]
  assert found.takes.tolist() == ['take0', 'take0', 'take0', 'take1', 'take1']
  with pytest.raises(ValueError, match=r"clip 'clip0': the score of 'timing' is 1\.5, not a probability"):
    claims([clips[0].answer(scores={'timing': 1.5})], clips[:1], name_fault)


def test_nothing_claimed(reference, tmp_path):
  found = claims([reference(0).answer([])], [reference(0)], lambda _: None)
  empty = calibration(found)
  assert math.isnan(empty.ece)
  assert empty.line('a row') == 'Confidence of a row: it claims nothing'
  with pytest.raises(ValueError, match='no row gives probabilities'):
    plot({'a row': found}, tmp_path / 'x.png')


def test_line_table_and_plot(tmp_path):
  pytest.importorskip('matplotlib')
  found = made([0.9, 0.8, 0.3, 0.2], [1, 0, 1, 0])
  scores = calibration(found, 2)
  assert scores.line('ours').startswith('Confidence of ours: ECE 30.0, Brier 29.5 (25.0 for a constant), AURC 33.3 ')
  assert scores.table('ours').rows == [('1', ['2', '25.0', '50.0']), ('2', ['2', '85.0', '50.0'])]
  plot({'ours': found}, tmp_path / 'confidence.png')
  assert (tmp_path / 'confidence.png').read_bytes().startswith(b'\x89PNG')
