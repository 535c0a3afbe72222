"""Text scores of feedback against the commentary: BLEU-4, METEOR and ROUGE-L, 0 … 100.

- BLEU-4 over the corpus by sacrebleu, lower case, 13a tokens, exponential smoothing (`bleu_signature`).
- METEOR by nltk on the same tokens, mean over clips (`meteor`, also for what it is without WordNet).
- ROUGE-L by rouge-score, F measure without stemming, mean over clips.

One reference for each clip; clips without commentary are not counted. Fixed words that a dataset puts before every
answer are taken off both sides, so the figures are not comparable with tables that score them: `prefix_kept`.
"""

from __future__ import annotations

import functools
import importlib.metadata
import re
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

import numpy as np
import sacrebleu
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics import BLEU

from crosstrainer_jax.baselines.prediction import Reference
from crosstrainer_jax.evaluation import meteor
from crosstrainer_jax.evaluation.bootstrap import Statistic, mean_statistic
from crosstrainer_jax.evaluation.prefix_kept import without_prefix

if TYPE_CHECKING:
  # it brings transformers, which most readers of scores do not need
  from crosstrainer_jax.evaluation.bert_score import BertScore

PLACEHOLDER = 'sportnoun'
ORDER = 4

_CORPUS_BLEU = BLEU(lowercase=True, smooth_method='exp')
# Only its counts are used; sacrebleu asks for the effective order when it is given a single sentence.
_SENTENCE_BLEU = BLEU(lowercase=True, smooth_method='exp', effective_order=True)
_ROUGE = RougeScorer(['rougeL'], use_stemmer=False)


def variants() -> list[str]:
  """One line for each metric: which variant was computed."""
  return [
    f'BLEU-4: sacrebleu {sacrebleu.__version__}, corpus, {bleu_signature()}',
    meteor.variant(),
    f'ROUGE-L: rouge-score {importlib.metadata.version("rouge-score")}, F measure, no stemming, mean over clips',
    f'masked: every sport noun is replaced by one placeholder ({PLACEHOLDER}) in feedback and reference',
  ]


def bleu_signature() -> str:
  """sacrebleu's own description of the settings."""
  _CORPUS_BLEU.corpus_score(['a'], [['a']])  # the signature counts the references of the last call
  return str(_CORPUS_BLEU.get_signature())


def text_statistics(feedback: Sequence[str | None], references: Sequence[Reference]) -> dict[str, Statistic]:
  """The three scores by column name. Feedback that could not be read (None) is scored as an empty text."""
  return _score_pairs(_stripped_pairs(feedback, references))


def masked_statistics(
  feedback: Sequence[str | None], references: Sequence[Reference], nouns: Collection[str]
) -> dict[str, Statistic]:
  """As `text_statistics`, with every sport noun replaced by one placeholder on both sides."""
  pattern = noun_pattern(nouns)
  pairs = [
    (mask_nouns(said, pattern), mask_nouns(expected, pattern))
    for said, expected in _stripped_pairs(feedback, references)
  ]
  return {f'{column} masked': statistic for column, statistic in _score_pairs(pairs).items()}


def bert_statistic(feedback: Sequence[str | None], references: Sequence[Reference], bert: BertScore) -> Statistic:
  """Mean F of the BERT-score, × 100, of the same texts as `text_statistics`."""
  said, expected = zip(*_stripped_pairs(feedback, references), strict=True)
  counted = np.array([bool(text.strip()) for text in expected], bool)
  values = np.zeros(len(counted))
  chosen = np.flatnonzero(counted)
  values[chosen] = bert([said[i] for i in chosen], [expected[i] for i in chosen])[:, 2]
  return mean_statistic(values.tolist(), counted)


def noun_pattern(nouns: Collection[str]) -> re.Pattern[str] | None:
  """Matches any of the nouns as a whole word in any case, singular or plural; the longest noun wins."""
  forms = {form for noun in nouns for form in _forms(' '.join(noun.lower().split())) if form}
  if not forms:
    return None
  ordered = sorted(forms, key=lambda form: (-len(form), form))
  words = '|'.join(re.escape(form).replace(r'\ ', r'[\s-]+') for form in ordered)
  return re.compile(rf'\b(?:{words})\b', re.IGNORECASE)


def mask_nouns(text: str, pattern: re.Pattern[str] | None) -> str:
  return pattern.sub(PLACEHOLDER, text) if pattern else text


def _forms(noun: str) -> set[str]:
  """The noun, and what it may look like in plural."""
  plurals = {f'{noun}s', f'{noun}es'} if noun else set()
  if noun.endswith('y'):
    plurals.add(f'{noun[:-1]}ies')
  return {noun} | plurals


def _stripped_pairs(feedback: Sequence[str | None], references: Sequence[Reference]) -> list[tuple[str, str]]:
  return [
    (without_prefix(said or '', reference.prefix), without_prefix(reference.commentary, reference.prefix))
    for said, reference in zip(feedback, references, strict=True)
  ]


def _score_pairs(pairs: Sequence[tuple[str, str]]) -> dict[str, Statistic]:
  counted = np.array([bool(reference.strip()) for _, reference in pairs], bool)
  counts = np.array([_bleu_counts(*pair) for pair in pairs], float).reshape(len(pairs), 2 + 2 * ORDER)
  return {
    'BLEU-4': Statistic(counts, counted, bleu),
    meteor.column(): mean_statistic([meteor.meteor(*map(_words, pair)) for pair in pairs], counted),
    'ROUGE-L': mean_statistic([rouge_l(*pair) for pair in pairs], counted),
  }


def bleu(sums: np.ndarray) -> np.ndarray:
  """Corpus BLEU-4 from summed counts float64[..., 10]: feedback and reference length, 4 matches, 4 totals.

  The formula of sacrebleu's `compute_bleu` with exponential smoothing, over any number of resamples at once. NaN when
  there is no reference text at all.
  """
  said, expected = sums[..., 0], sums[..., 1]
  matches, totals = sums[..., 2 : 2 + ORDER], sums[..., 2 + ORDER :]
  brevity = np.exp(np.minimum(0, 1 - expected / np.maximum(said, 1)))
  # The n-th order without a match counts as 1 / 2^n of a match, n counted from the first such order.
  smoothed = np.where(matches > 0, matches, 0.5 ** np.cumsum(matches == 0, axis=-1))
  precisions = smoothed / np.maximum(totals, 1)
  possible = (matches > 0).any(axis=-1) & (totals > 0).all(axis=-1)
  score = 100 * brevity * np.exp(np.log(precisions).mean(axis=-1))
  return np.where(expected > 0, np.where(possible, score, 0.0), np.nan)


@functools.lru_cache(maxsize=1 << 16)
def _bleu_counts(said: str, reference: str) -> tuple[int, ...]:
  score = _SENTENCE_BLEU.sentence_score(said, [reference])
  return (score.sys_len, score.ref_len, *score.counts, *score.totals)


@functools.lru_cache(maxsize=1 << 16)
def _words(text: str) -> tuple[str, ...]:
  return tuple(_CORPUS_BLEU.tokenizer(text.lower()).split())


@functools.lru_cache(maxsize=1 << 16)
def rouge_l(said: str, reference: str) -> float:
  """ROUGE-L F of one pair, 0 … 1, without stemming."""
  return float(_ROUGE.score(reference, said)['rougeL'].fmeasure)
