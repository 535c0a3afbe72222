"""Every score of one row, by name: `headline/…` on clips that have a fault, `all/…` on all clips.

A headline clip has at least one true fault; where the truth is unknown, at least one discovered attribute. The
headline's IoU leaves out clips without a discovered attribute, to which the empty list would be the perfect answer.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from crosstrainer_jax.baselines.prediction import Prediction, Reference
from crosstrainer_jax.evaluation import feedback, meteor, prefix_kept
from crosstrainer_jax.evaluation.attributes import (
  EMPTY,
  EXACT,
  LEXICAL,
  MATCHINGS,
  Similarity,
  attribute_lists,
  fault_statistics,
  faults_named,
  iou_statistic,
)
from crosstrainer_jax.evaluation.bootstrap import Interval, Statistic, bootstrap, paired_difference
from crosstrainer_jax.evaluation.predictions import align
from crosstrainer_jax.evaluation.proficiency import accuracy_statistic, macro_f1_statistic, majority_line
from crosstrainer_jax.evaluation.significance import Tested
from crosstrainer_jax.evaluation.significance import compare as compare_rows

if TYPE_CHECKING:
  # it brings transformers, which most readers of scores do not need
  from crosstrainer_jax.evaluation.bert_score import BertScore

FAULT_SCORES = ('F1', 'F1 macro', 'precision', 'recall')

# A metric of one row, or the reason why the row lacks it.
Scored = Statistic | str


@dataclasses.dataclass(frozen=True)
class Reading:
  """How texts are read where they are scored.

  Attributes:
    extract: feedback → the incorrect attributes that it names, None where that cannot be told; what read the commentary
      reads the feedback.
    name_fault: an attribute phrase → the fault that it names, in the words of `Reference.faults`, or None.
    nouns: sport nouns, singular, which the masked text scores hide.
    bert: scores the similarity of phrases for IoU below k = 1, and of texts; None for a lexical similarity of phrases
      under its own column name, and none of texts.
    matching: of phrases in IoU, one of `attributes.MATCHINGS`.
    empty: what IoU does where both lists are empty, one of `attributes.EMPTY`.
  """

  extract: Callable[[str], list[str] | None]
  name_fault: Callable[[str], str | None]
  nouns: Collection[str]
  bert: BertScore | None = None
  matching: str = 'hungarian'
  empty: str = '1'

  def __post_init__(self) -> None:
    if self.matching not in MATCHINGS or self.empty not in EMPTY:
      raise ValueError(
        f'matching is one of {", ".join(MATCHINGS)} and empty one of {", ".join(EMPTY)}, not {self.matching!r}, '
        f'{self.empty!r}'
      )

  @property
  def similarity(self) -> Similarity:
    """Of phrases."""
    return LEXICAL if self.bert is None else self.bert.similarity()


# How texts are read where nothing is known of them: the names and the variants of the scores need no more.
PLAIN = Reading(lambda text: [], lambda phrase: None, ())


def score(
  predictions: Sequence[Prediction],
  references: Sequence[Reference],
  reading: Reading,
  resamples: int = 1000,
  seed: int = 0,
) -> dict[str, Interval]:
  """Every score of one row with its bootstrap interval.

  Args:
    predictions: one for each reference, in any order.
    references: the clips to score.
    resamples: bootstrap resamples.
    seed: of the bootstrap.

  Returns:
    Intervals in 0 … 100. One that the row lacks has the value NaN and says why in `note`.
  """
  takes = [reference.take for reference in references]
  scores = {}
  for name, metric in _scoped(statistics(predictions, references, reading), references).items():
    if isinstance(metric, Statistic):
      scores[name] = _explained(bootstrap(metric, takes, resamples, seed))
    else:
      scores[name] = Interval(math.nan, math.nan, math.nan, 0, 0, metric)
  return scores


def compare(
  first: Sequence[Prediction],
  second: Sequence[Prediction],
  references: Sequence[Reference],
  reading: Reading,
  resamples: int = 1000,
  seed: int = 0,
) -> dict[str, Interval]:
  """`first` minus `second` for every score that both rows have, by a paired bootstrap. Arguments as in `score`."""
  takes = [reference.take for reference in references]
  differences = {}
  metrics, others = (_scoped(statistics(row, references, reading), references) for row in (first, second))
  for name, metric in metrics.items():
    other = others.get(name)  # a row without levels has no accuracy of each sport either
    if isinstance(metric, Statistic) and isinstance(other, Statistic):
      differences[name] = _explained(paired_difference(metric, other, takes, resamples, seed))
  return differences


def significance(
  ours: Sequence[Prediction],
  rivals: Mapping[str, Sequence[Prediction]],
  references: Sequence[Reference],
  reading: Reading,
  resamples: int = 1000,
  seed: int = 0,
) -> dict[str, dict[str, Tested]]:
  """Paired tests of one row against each rival, by score name and rival, for scores that both have.

  Holm's correction is over the rivals of one score.
  """
  takes = [reference.take for reference in references]
  own = _scoped(statistics(ours, references, reading), references)
  others = {name: _scoped(statistics(row, references, reading), references) for name, row in rivals.items()}
  tested = {}
  for score_name, metric in own.items():
    against = {name: found for name, row in others.items() if isinstance(found := row.get(score_name), Statistic)}
    if isinstance(metric, Statistic) and against:
      tested[score_name] = compare_rows(metric, against, takes, resamples, seed)
  return tested


def significance_lines(tested: Mapping[str, Mapping[str, Tested]], ours: str, names: Sequence[str]) -> list[str]:
  """A line for each rival: p of the scores of `names`, of the headline, after Holm's correction."""
  lines = []
  for rival in dict.fromkeys(rival for found in tested.values() for rival in found):
    results = {name: tested.get(f'headline/{name}', {}).get(rival) for name in names}
    shown = {name: result for name, result in results.items() if result and not math.isnan(result.adjusted)}
    if shown:
      values = ', '.join(f'{name} {_p_value(result.adjusted)}' for name, result in shown.items())
      count = max(result.rows for result in shown.values())
      lines.append(
        f'{ours} and {rival}, clips with a fault: p = {values} (permutation by take, two-sided, Holm over {count} '
        f'{"row" if count == 1 else "rows"})'
      )
  return lines


def _p_value(p: float) -> str:
  return '< 0.001' if p < 0.001 else f'{p:.3f}'


def statistics(
  predictions: Sequence[Prediction], references: Sequence[Reference], reading: Reading, only: Collection[str] = ()
) -> dict[str, Scored]:
  """Every metric of one row before it is summed, or the reason why the row lacks it.

  Args:
    only: names of metrics; what none of them needs is not computed. Empty for all.
  """
  if not references:
    raise ValueError('There are no clips to score: check the split and its filters.')
  predictions = align(predictions, references)
  # rows repeat sentences and phrases
  extract, name_fault = functools.cache(reading.extract), functools.cache(reading.name_fault)
  reading = dataclasses.replace(reading, extract=extract, name_fault=name_fault)
  metrics: dict[str, Scored] = {}
  if not only or any(name.startswith(('IoU', 'attribute')) for name in only):
    metrics |= _attribute_metrics(predictions, references, reading)
  if not only or any(not name.startswith(('IoU', 'attribute', 'level')) for name in only):
    metrics |= _feedback_metrics(predictions, references, reading, only)
  if not only or any(name.startswith('level') for name in only):
    metrics |= _level_metrics(predictions, references)
  return metrics


def headline_mask(references: Sequence[Reference]) -> np.ndarray:
  """bool[N]: the clips with a true fault, or with a discovered attribute where the truth is unknown."""
  return np.array([bool(r.attributes if r.faults is None else r.faults) for r in references], bool)


def columns(reading: Reading = PLAIN) -> tuple[str, ...]:
  """Metric names in the order of the table; macro F1, precision, recall and single sports follow as details."""
  texts = ('BLEU-4', meteor.column(), 'ROUGE-L')
  masked = tuple(f'{text} masked' for text in texts)
  bert = () if reading.bert is None else ('BERT',)
  return ('attribute F1', 'feedback F1', *_thresholds(reading.similarity), 'level accuracy', *texts, *bert, *masked)


def variants(reading: Reading = PLAIN) -> list[str]:
  """What exactly each metric is, one line each, for the report."""
  similarity = reading.similarity
  how = {
    'hungarian': 'one-to-one, as many pairs as possible (Hungarian)',
    'greedy': 'one-to-one, the most similar pair first (greedy)',
  }[reading.matching]
  empty = {'1': 'two empty lists score 1', 'skip': 'clips with two empty lists are left out'}[reading.empty]
  lines = [
    'attribute F1: micro over faults, against the truth; a phrase that names no fault counts as wrong',
    'feedback F1: the same for faults that the extractor reads in the feedback',
    f'{similarity.column}@k: {similarity.meaning}; matched {how}, pairs with similarity >= k',
    f'IoU: {empty}; the headline leaves out clips without a discovered attribute',
    f'IoU@1.0: {EXACT.meaning}',
    'level macro F1: mean over the levels that occur in truth or answers',
    *feedback.variants(),
  ]
  if reading.bert is not None:
    lines.append(f'BERT: BERT-score F of feedback and commentary, mean over clips ({reading.bert.name})')
  return lines


def details() -> list[str]:
  """What exactly the scores are that stand among the details alone."""
  return prefix_kept.variants()


def notes(references: Sequence[Reference]) -> list[str]:
  """What a reader must know of the clips, one line each: what they lack, and the majority rates of levels."""
  faulty = headline_mask(references)
  lacks = {
    'without known faults': sum(reference.faults is None for reference in references),
    'without commentary': sum(not reference.commentary.strip() for reference in references),
    'with a fault and no discovered attribute': sum(
      bool(fault) and not reference.attributes for fault, reference in zip(faulty, references, strict=True)
    ),
  }
  counts = ', '.join(f'{count} {what}' for what, count in lacks.items())
  return [f'Of {len(references)} clips: {counts}.', majority_line(references)]


def _thresholds(similarity: Similarity) -> dict[str, tuple[Similarity, float]]:
  """The three IoU columns: k = 1 is the exact string, whatever the similarity (paper Table 3)."""
  return {
    f'{similarity.column}@0.7': (similarity, 0.7),
    f'{similarity.column}@0.8': (similarity, 0.8),
    'IoU@1.0': (EXACT, 1.0),
  }


def _attribute_metrics(
  predictions: Sequence[Prediction], references: Sequence[Reference], reading: Reading
) -> dict[str, Scored]:
  lists = attribute_lists(predictions, reading.extract)
  f1 = [f'attribute {name}' for name in FAULT_SCORES]
  if lists is None:
    return dict.fromkeys([*f1, *_thresholds(reading.similarity)], 'says neither attributes nor feedback')
  attributes, note = lists
  note = _joined(note, unreadable(attributes))
  metrics: dict[str, Scored] = {}
  for name, (alike, threshold) in _thresholds(reading.similarity).items():
    metrics[name] = iou_statistic(
      attributes, references, alike, threshold, note, matching=reading.matching, empty=reading.empty
    )
  if all(reference.faults is None for reference in references):
    return metrics | dict.fromkeys(f1, 'the true faults of these clips are unknown')
  named = [faults_named(phrases, reading.name_fault) for phrases in attributes]
  return metrics | {f'attribute {k}': v for k, v in fault_statistics(named, references, note).items()}


def _feedback_metrics(
  predictions: Sequence[Prediction], references: Sequence[Reference], reading: Reading, only: Collection[str] = ()
) -> dict[str, Scored]:
  def wanted(end: str) -> bool:
    return not only or any(name.endswith(end) for name in only)

  texts = [prediction.feedback for prediction in predictions]
  faults = ('feedback F1', 'feedback F1 macro')
  scores = ('BLEU-4', meteor.column(), 'ROUGE-L')
  every = [*scores, *(f'{name} masked' for name in scores), *prefix_kept.columns()]
  every += [] if reading.bert is None else ['BERT']
  if all(text is None for text in texts):
    return dict.fromkeys([*faults, *every], 'writes no feedback')
  metrics: dict[str, Scored] = {}
  if any(reference.commentary.strip() for reference in references):
    metrics |= feedback.text_statistics(texts, references)
    if wanted('masked'):
      metrics |= feedback.masked_statistics(texts, references, reading.nouns)
    if wanted(prefix_kept.SUFFIX):
      metrics |= prefix_kept.prefix_kept_statistics(texts, references)
    if reading.bert is not None and wanted('BERT'):
      metrics['BERT'] = feedback.bert_statistic(texts, references, reading.bert)
  else:
    metrics |= dict.fromkeys(every, 'these clips have no commentary')
  if all(reference.faults is None for reference in references):
    return _noted(metrics, unreadable(texts)) | dict.fromkeys(faults, 'the true faults of these clips are unknown')
  named = [faults_named(None if text is None else reading.extract(text), reading.name_fault) for text in texts]
  found = fault_statistics(named, references)
  metrics |= {f'feedback {name}': found[name] for name in ('F1', 'F1 macro')}
  return _noted(metrics, unreadable(texts))


def _level_metrics(predictions: Sequence[Prediction], references: Sequence[Reference]) -> dict[str, Scored]:
  """Accuracy and macro F1 over all sports, and accuracy of each when there are several (paper Table 1d)."""
  names = ('level accuracy', 'level macro F1')
  if all(prediction.level is None for prediction in predictions):
    return dict.fromkeys(names, 'rates no level')
  if all(reference.level < 0 for reference in references):
    return dict.fromkeys(names, 'the levels of these clips are unknown')
  accuracy = accuracy_statistic(predictions, references)
  metrics: dict[str, Scored] = dict(zip(names, (accuracy, macro_f1_statistic(predictions, references)), strict=True))
  sports = np.array([reference.sport for reference in references])
  if len(set(sports)) > 1:
    metrics |= {f'level accuracy, {sport}': accuracy.keep(sports == sport) for sport in sorted(set(sports))}
  return _noted(metrics, unreadable([prediction.level for prediction in predictions]))


def unreadable(answers: Sequence[object]) -> str:
  """How many answers of a row could not be read, as a note; "" for none."""
  count = sum(answer is None for answer in answers)
  return f'{count} of {len(answers)} answers could not be read and count as wrong' if count else ''


def _noted(metrics: dict[str, Scored], note: str) -> dict[str, Scored]:
  return {
    name: metric if isinstance(metric, str) else dataclasses.replace(metric, note=_joined(metric.note, note))
    for name, metric in metrics.items()
  }


def _joined(*notes: str) -> str:
  return '; '.join(note for note in notes if note)


def _scoped(metrics: dict[str, Scored], references: Sequence[Reference]) -> dict[str, Scored]:
  """`headline/…` and `all/…` of every metric."""
  scoped: dict[str, Scored] = {}
  for name, metric in metrics.items():
    scoped[f'headline/{name}'] = metric if isinstance(metric, str) else in_headline(metric, name, references)
    scoped[f'all/{name}'] = metric
  return scoped


def in_headline(statistic: Statistic, name: str, references: Sequence[Reference]) -> Statistic:
  """The metric of that name on the clips of the headline."""
  mask = headline_mask(references)
  if name.startswith('IoU'):
    # An expert may omit every fault of a clip: naming nothing would then be a perfect IoU, in the headline as well.
    mask &= np.array([bool(reference.attributes) for reference in references], bool)
  return statistic.keep(mask)


def _explained(interval: Interval) -> Interval:
  """A score that came out undefined says why."""
  if not math.isnan(interval.value):
    return interval
  return dataclasses.replace(interval, note='undefined: nothing to count' if interval.n_clips else 'no such clips')
