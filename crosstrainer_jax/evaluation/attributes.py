"""Attribute scores: IoU@k against the discovered attributes (paper section 5), F1 of faults against the truth.

IoU@k counts pairs of a generated and a reference phrase whose similarity is at least k, matched one to one, m of them:
m / (|A| + |B| - m). The paper leaves open how, so each choice has a name:

- matching: `hungarian`, the default, makes m largest; `greedy` takes the most similar pair first, then the next that is
  left. Greedy is never above it.
- threshold: similarity >= k. The paper writes >, but then its column k = 1.0 could hold nothing.
- empty: two empty lists agree, 1; or `skip` leaves such clips out. The headline is taken on clips whose truth is not
  empty in any case.

The paper's similarity is a BERT-score, which needs a model (`bert_score`); without one, `LEXICAL` stands in under its
own column name.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
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
    pairs: maps N pairs of phrases to float64[N], at most 1.
    meaning: one line for the report.
  """

  column: str
  pairs: Callable[[Sequence[tuple[str, str]]], np.ndarray]
  meaning: str


def normalise(phrase: str) -> str:
  """Lower case, single spaces: the only difference that an exact match forgives."""
  return ' '.join(phrase.lower().split())


def exact(pairs: Sequence[tuple[str, str]]) -> np.ndarray:
  return np.array([a == b for a, b in pairs], float)


def lexical(pairs: Sequence[tuple[str, str]]) -> np.ndarray:
  return np.array([lexical_pair(a, b) for a, b in pairs], float)


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


MATCHINGS = ('hungarian', 'greedy')
EMPTY = ('1', 'skip')


def iou(
  generated: Collection[str],
  reference: Collection[str],
  similarity: Similarity,
  threshold: float,
  matching: str = 'hungarian',
) -> float:
  """Jaccard index of two sets of phrases under a similarity, 0 … 1; 1 when both are empty."""
  a, b = _normalised(generated), _normalised(reference)
  return _iou(similarity.pairs(list(itertools.product(a, b))).reshape(len(a), len(b)), threshold, matching)


def iou_statistic(
  attributes: Sequence[Collection[str] | None],
  references: Sequence[Reference],
  similarity: Similarity,
  threshold: float,
  note: str = '',
  matching: str = 'hungarian',
  empty: str = '1',
) -> Statistic:
  """Mean IoU@k over clips, × 100. An attribute list that could not be read (None) scores 0.

  Args:
    attributes: what was generated, a list for each clip.
    references: the clips.
    similarity: of phrases; all pairs of all clips are asked for at once.
    threshold: k.
    note: what a reader of the table must know.
    matching: one of `MATCHINGS`.
    empty: one of `EMPTY`.
  """
  lists = [
    None if named is None else (_normalised(named), _normalised(reference.attributes))
    for named, reference in zip(attributes, references, strict=True)
  ]
  pairs = [list(itertools.product(*both)) if both else [] for both in lists]
  alike = similarity.pairs(list(itertools.chain.from_iterable(pairs)))
  values, place = [], 0
  for both, own in zip(lists, pairs, strict=True):
    matrix = alike[place : place + len(own)]
    place += len(own)
    values.append(_iou(matrix.reshape(len(both[0]), len(both[1])), threshold, matching) if both else 0.0)
  counted = np.array([not (empty == 'skip' and both == ([], [])) for both in lists], bool)
  return mean_statistic(values, counted, note)


def _normalised(phrases: Collection[str]) -> list[str]:
  return sorted({normalise(phrase) for phrase in phrases})


def _iou(alike: np.ndarray, threshold: float, matching: str) -> float:
  """IoU@k from the similarities of generated and reference phrases, float64[A, B]."""
  if not alike.size:
    return float(alike.shape == (0, 0))
  pairs = alike >= threshold - 1e-9  # a rounding error must not cost a match
  if matching == 'hungarian':
    rows, columns = linear_sum_assignment(pairs, maximize=True)
    matches = int(pairs[rows, columns].sum())
  else:
    matches = _greedy_matches(alike, pairs)
  return matches / (sum(alike.shape) - matches)


def _greedy_matches(alike: np.ndarray, pairs: np.ndarray) -> int:
  """How many pairs are taken, the most similar first; of equals the first in alphabetical order."""
  rows, columns = set(), set()
  for place in np.argsort(-alike, axis=None, kind='stable'):
    row, column = divmod(int(place), alike.shape[1])
    if pairs[row, column] and row not in rows and column not in columns:
      rows.add(row)
      columns.add(column)
  return len(rows)


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
  predictions: Sequence[Prediction], extract: Callable[[str], list[str] | None]
) -> tuple[list[list[str] | None], str] | None:
  """What each prediction names, with a note when it was read off the feedback; None when there is neither.

  A row that generates no attributes gets them from its feedback, by the extractor that also read the commentary
  (the paper converts such rows with a text-only LLM, section 5).
  """
  if any(prediction.attributes is not None for prediction in predictions):
    return [prediction.attributes for prediction in predictions], ''
  if any(prediction.feedback is not None for prediction in predictions):
    read = [extract(prediction.feedback or '') for prediction in predictions]
    return read, 'generates no attributes: read off its feedback by the extractor'
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
