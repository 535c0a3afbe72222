"""Attribute scores: IoU@k against the discovered attributes (paper section 5), F1 of faults against the truth.

IoU@k counts pairs of a generated and a reference phrase whose similarity is at least k, matched one to one so that
their number m is largest (Hungarian algorithm): m / (|A| + |B| - m). Two empty sets agree, 1; the headline is therefore
taken on clips whose truth is not empty.

The paper's similarity is a BERT-score, which needs a model; without one, `LEXICAL` stands in under its own column name.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Callable, Collection, Sequence

import numpy as np
from nltk.stem.porter import PorterStemmer
from scipy.optimize import linear_sum_assignment

from crosstrainer_jax.baselines.prediction import Prediction, Reference
from crosstrainer_jax.evaluation.bootstrap import Statistic, mean_statistic, ratio

FUNCTION_WORDS = frozenset(
  (
    'a',
    'an',
    'and',
    'at',
    'by',
    'for',
    'from',
    'her',
    'his',
    'in',
    'into',
    'its',
    'of',
    'on',
    'or',
    'the',
    'their',
    'to',
  )
  + ('with', 'your')
)


@dataclasses.dataclass(frozen=True)
class Similarity:
  """How alike phrases are.

  Attributes:
    column: name of the score in the table, before `@k`; only a BERT-score may be called plain `IoU` below k = 1.
    matrix: maps phrases (A, B) to float64[A, B] in 0 … 1.
    meaning: one line for the report.
  """

  column: str
  matrix: Callable[[Sequence[str], Sequence[str]], np.ndarray]
  meaning: str


def normalise(phrase: str) -> str:
  """Lower case, single spaces: the only difference that an exact match forgives."""
  return ' '.join(phrase.lower().split())


def exact(first: Sequence[str], second: Sequence[str]) -> np.ndarray:
  return np.array([[float(a == b) for b in second] for a in first]).reshape(len(first), len(second))


def lexical(first: Sequence[str], second: Sequence[str]) -> np.ndarray:
  return np.array([[lexical_pair(a, b) for b in second] for a in first]).reshape(len(first), len(second))


@functools.lru_cache(maxsize=1 << 16)
def lexical_pair(first: str, second: str) -> float:
  """F1 of softly matched word stems, 0 … 1, symmetric.

  Each stem takes its best partner on the other side: 1 for the same stem, else the Dice coefficient of their letter
  trigrams. Precision and recall are the means of these, as in BERT-score, with spelling in the place of embeddings:
  "hand positioning" equals "position of the hands"; "stance" and "foot positioning" are strangers.
  """
  if first == second:
    return 1.0
  a, b = _stems(first), _stems(second)
  if not a or not b:
    return 0.0
  soft = np.array([[_soft_match(x, y) for y in b] for x in a])
  precision, recall = soft.max(axis=1).mean(), soft.max(axis=0).mean()
  return float(2 * precision * recall / (precision + recall)) if precision + recall else 0.0


EXACT = Similarity('IoU', exact, 'exact string, after lower case and single spaces')
LEXICAL = Similarity('IoU-lex', lexical, 'lexical: F1 of stems with soft letter-trigram match; not a BERT-score')


def iou(generated: Collection[str], reference: Collection[str], similarity: Similarity, threshold: float) -> float:
  """Jaccard index of two sets of phrases under a similarity, 0 … 1; 1 when both are empty."""
  a, b = (sorted({normalise(phrase) for phrase in side}) for side in (generated, reference))
  if not a and not b:
    return 1.0
  if not a or not b:
    return 0.0
  pairs = similarity.matrix(a, b) >= threshold - 1e-9  # a rounding error must not cost a match
  rows, columns = linear_sum_assignment(pairs, maximize=True)
  matches = int(pairs[rows, columns].sum())
  return matches / (len(a) + len(b) - matches)


def iou_statistic(
  attributes: Sequence[Collection[str] | None],
  references: Sequence[Reference],
  similarity: Similarity,
  threshold: float,
  note: str = '',
) -> Statistic:
  """Mean IoU@k over clips, × 100. An attribute list that could not be read (None) scores 0."""
  values = [
    0.0 if named is None else iou(named, reference.attributes, similarity, threshold)
    for named, reference in zip(attributes, references, strict=True)
  ]
  return mean_statistic(values, np.ones(len(values), bool), note)


def faults_named(phrases: Collection[str] | None, name_fault: Callable[[str], str | None]) -> set[str]:
  """The faults that phrases name.

  A phrase that names no fault stays in the set under its own words, and None (an output that could not be read) as
  one wrong item: neither can be true, so both count as wrong.
  """
  if phrases is None:
    return {'(unreadable)'}
  return {name_fault(phrase) or f'(no fault) {normalise(phrase)}' for phrase in phrases}


def fault_statistics(
  named: Sequence[Collection[str]], references: Sequence[Reference], note: str = ''
) -> dict[str, Statistic]:
  """F1, precision and recall of named faults against the truth, × 100, on clips whose truth is known.

  `F1`, `precision` and `recall` pool all faults (micro). `F1 macro` is the mean over the faults that occur in the
  truth of these references; in a resample, a fault that is neither present nor named is left out of the mean. What is
  named and is never a true fault lowers precision, and cannot lower the macro mean.
  """
  truth = [set(reference.faults or ()) for reference in references]
  counted = np.array([reference.faults is not None for reference in references], bool)
  faults = sorted(set().union(*truth))
  sums = np.zeros((len(truth), 1 + len(faults), 3))  # true positives, false positives, false negatives
  for i, (said, true) in enumerate(zip(named, truth, strict=True)):
    if not counted[i]:
      continue
    said = set(said)
    sums[i, 0] = len(said & true), len(said - true), len(true - said)
    for j, fault in enumerate(faults, start=1):
      sums[i, j] = fault in said & true, fault in said - true, fault in true - said
  flat = sums.reshape(len(truth), 3 + 3 * len(faults))
  scores = {'F1': micro_f1, 'F1 macro': macro_f1, 'precision': micro_precision, 'recall': micro_recall}
  return {name: Statistic(flat, counted, score, note) for name, score in scores.items()}


def micro_f1(sums: np.ndarray) -> np.ndarray:
  hit, extra, missed = np.moveaxis(sums[..., :3], -1, 0)
  return 100 * ratio(2 * hit, 2 * hit + extra + missed)


def micro_precision(sums: np.ndarray) -> np.ndarray:
  return 100 * ratio(sums[..., 0], sums[..., 0] + sums[..., 1])


def micro_recall(sums: np.ndarray) -> np.ndarray:
  return 100 * ratio(sums[..., 0], sums[..., 0] + sums[..., 2])


def macro_f1(sums: np.ndarray) -> np.ndarray:
  faults = sums[..., 3:].reshape(*sums.shape[:-1], sums.shape[-1] // 3 - 1, 3)
  each = ratio(2 * faults[..., 0], 2 * faults[..., 0] + faults[..., 1] + faults[..., 2])
  return 100 * ratio(np.nansum(each, axis=-1), np.isfinite(each).sum(axis=-1))


def attribute_lists(
  predictions: Sequence[Prediction], extract: Callable[[str], list[str]]
) -> tuple[list[list[str] | None], str] | None:
  """What each prediction names, with a note when it was read off the feedback; None when there is neither.

  A row that generates no attributes gets them from its feedback, by the extractor that also read the commentary
  (the paper converts such rows with a text-only LLM, section 5).
  """
  if any(prediction.attributes is not None for prediction in predictions):
    return [prediction.attributes for prediction in predictions], ''
  if any(prediction.feedback is not None for prediction in predictions):
    read = [extract(prediction.feedback or '') for prediction in predictions]
    return list(read), 'generates no attributes: read off its feedback by the extractor'
  return None


@functools.lru_cache(maxsize=1 << 16)
def _stems(phrase: str) -> tuple[str, ...]:
  words = re.findall(r'[^\W_]+', phrase.lower())
  return tuple(dict.fromkeys(_STEMMER.stem(word) for word in words if word not in FUNCTION_WORDS))


_STEMMER = PorterStemmer()


@functools.lru_cache(maxsize=1 << 16)
def _soft_match(first: str, second: str) -> float:
  if first == second:
    return 1.0
  a, b = ({f'^{word}$'[i : i + 3] for i in range(len(word))} for word in (first, second))
  return 2 * len(a & b) / (len(a) + len(b))
