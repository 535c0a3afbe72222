"""Is confidence worth anything? Calibration error, Brier score, reliability, and risk against coverage.

A row that gives its attributes probabilities (`Prediction.scores`) makes one claim for each attribute and clip: "this
is done incorrectly, with probability p". A claim is true where the attribute names a true fault, or, where faults are
unknown, where it stands among the discovered attributes.

- ECE (Naeini et al. 2015), with bins of equal mass, so that none is empty: Σ n_b / N · |share true − mean p|.
- Brier: the mean of (p − true)².
- Risk and coverage (Geifman & El-Yaniv 2017): of the claims with the highest p, a share c of all, how many are false;
  AURC is the mean over c. It asks for the order alone, the others for the numbers too. Claims of equal p are drawn in
  any order, of which the mean is taken.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from crosstrainer_jax.baselines.prediction import Prediction, Reference
from crosstrainer_jax.evaluation.attributes import normalise
from crosstrainer_jax.evaluation.dials import need_matplotlib
from crosstrainer_jax.evaluation.table import Table

BINS = 10


class Claims(NamedTuple):
  """What a row claims: probabilities float64[N], whether true bool[N], and the take of each."""

  probability: np.ndarray
  true: np.ndarray
  takes: np.ndarray


class Bin(NamedTuple):
  """Claims of neighbouring probabilities: how many, their mean probability and the share that is true."""

  claims: int
  confidence: float
  accuracy: float


@dataclasses.dataclass(frozen=True)
class Calibration:
  """Scores of confidence, × 100 but for counts.

  Attributes:
    ece, brier, aurc: lower is better; NaN without claims.
    best_aurc: of the same claims in the best order, which no row can be below.
    share_true: what always saying p = `share_true` would be calibrated at, with a Brier of p(1 - p).
    n_claims, n_takes: what was scored.
    reliability: bins in the order of probability.
  """

  ece: float
  brier: float
  aurc: float
  best_aurc: float
  share_true: float
  n_claims: int
  n_takes: int
  reliability: tuple[Bin, ...]

  def line(self, row: str) -> str:
    """One line for the report."""
    if not self.n_claims:
      return f'Confidence of {row}: it claims nothing'
    constant = self.share_true * (100 - self.share_true) / 100
    return (
      f'Confidence of {row}: ECE {self.ece:.1f}, Brier {self.brier:.1f} ({constant:.1f} for a constant), '
      f'AURC {self.aurc:.1f} (best order {self.best_aurc:.1f}, no order {100 - self.share_true:.1f}); '
      f'{self.n_claims} claims in {self.n_takes} takes, {self.share_true:.1f} % true'
    )

  def table(self, row: str) -> Table:
    """The bins as a table."""
    rows = [
      (str(number), [str(found.claims), f'{100 * found.confidence:.1f}', f'{100 * found.accuracy:.1f}'])
      for number, found in enumerate(self.reliability, start=1)
    ]
    return Table(f'Reliability of {row}: bins of equal mass', ['claims', 'mean probability', 'true'], rows)


def claims(
  predictions: Sequence[Prediction], references: Sequence[Reference], name_fault: Callable[[str], str | None]
) -> Claims:
  """Every attribute that a row gives a probability, with whether it is true; clips without scores claim nothing.

  Raises:
    ValueError: a probability outside 0 … 1.
  """
  found: list[tuple[float, bool, str]] = []
  for prediction, reference in zip(predictions, references, strict=True):
    for phrase, probability in (prediction.scores or {}).items():
      if not 0 <= probability <= 1:
        raise ValueError(f'clip {reference.clip_id!r}: the score of {phrase!r} is {probability}, not a probability')
      if reference.faults is None:
        true = normalise(phrase) in {normalise(attribute) for attribute in reference.attributes}
      else:
        true = (name_fault(phrase) or normalise(phrase)) in reference.faults
      found.append((probability, true, reference.take))
  probabilities, truth, takes = zip(*found, strict=True) if found else ((), (), ())
  return Claims(np.array(probabilities, float), np.array(truth, bool), np.array(takes, str))


def calibration(found: Claims, bins: int = BINS) -> Calibration:
  """All scores of the claims."""
  count = len(found.true)
  if not count:
    return Calibration(math.nan, math.nan, math.nan, math.nan, math.nan, 0, 0, ())
  table = reliability(found, bins)
  return Calibration(
    ece=100 * sum(b.claims * abs(b.accuracy - b.confidence) for b in table) / count,
    brier=100 * float(((found.probability - found.true) ** 2).mean()),
    aurc=100 * float(risk_by_coverage(found)[1].mean()),
    best_aurc=100 * float(risk_by_coverage(found._replace(probability=found.true.astype(float)))[1].mean()),
    share_true=100 * float(found.true.mean()),
    n_claims=count,
    n_takes=len(set(found.takes.tolist())),
    reliability=tuple(table),
  )


def reliability(found: Claims, bins: int = BINS) -> list[Bin]:
  """At most `bins` bins of nearly equal mass; equal probabilities stay in one bin, so that no order is made up."""
  order = np.argsort(found.probability, kind='stable')
  probability, true = found.probability[order], found.true[order]
  edges = [0]
  for number in range(1, bins + 1):
    edge = round(number * len(order) / bins)
    # to the end of a run of equal probabilities
    while 0 < edge < len(order) and probability[edge] == probability[edge - 1]:
      edge += 1
    if edge > edges[-1]:
      edges.append(edge)
  return [
    Bin(end - start, float(probability[start:end].mean()), float(true[start:end].mean()))
    for start, end in zip(edges, edges[1:], strict=False)
  ]


def risk_by_coverage(found: Claims) -> tuple[np.ndarray, np.ndarray]:
  """Coverage i / N and the share of false claims among the i of the highest probability, float64[N] each."""
  order = np.argsort(-found.probability, kind='stable')
  probability, wrong = found.probability[order], 1.0 - found.true[order]
  # within equal probabilities each claim stands for the mean of all
  _, group, counts = np.unique(-probability, return_inverse=True, return_counts=True)
  expected = (np.bincount(group, wrong) / counts)[group]
  covered = np.arange(1, len(order) + 1)
  return covered / len(order), np.cumsum(expected) / covered


def plot(rows: dict[str, Claims], path: str | Path, bins: int = BINS) -> None:
  """Draws reliability and risk against coverage of several rows as PNG.

  Raises:
    ValueError: no matplotlib, or no row that claims anything.
  """
  need_matplotlib()
  from matplotlib.figure import Figure

  rows = {name: found for name, found in rows.items() if len(found.true)}
  if not rows:
    raise ValueError('no row gives probabilities: there is no confidence to draw')
  figure = Figure(figsize=(8.4, 3.8), layout='constrained')
  left, right = figure.subplots(1, 2)
  left.plot([0, 1], [0, 1], color='0.6', linewidth=1)
  for name, found in rows.items():
    table = reliability(found, bins)
    left.plot([b.confidence for b in table], [b.accuracy for b in table], marker='o', label=name)
    coverage, risk = risk_by_coverage(found)
    right.plot(coverage, risk, label=f'{name} ({calibration(found).aurc:.1f})')
  left.set(xlabel='probability', ylabel='share true', xlim=(0, 1), ylim=(0, 1), title='Reliability')
  right.set(xlabel='coverage', ylabel='share false', xlim=(0, 1), ylim=(0, 1), title='Risk (AURC)')
  left.legend()
  right.legend()
  figure.savefig(path, dpi=120)
