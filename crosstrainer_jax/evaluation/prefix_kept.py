"""Text scores as ExpertAF's released scorer computes them: with the fixed words before every answer left in.

That scorer (llava/eval/calculate_generation_metrics.py of its repository) splits at whitespace and takes

- BLEU-4: nltk's corpus_bleu with SmoothingFunction.method4,
- METEOR: the mean of nltk's meteor_score,
- ROUGE-L: the mean F of rouge-l of the package `rouge`,

and the lines that would take the 15 words of `PREFIX` off both sides are commented out. Words that every answer shares
with every reference are matches that nothing earned, so these scores stand beside the headline (`feedback`), which
strips them, and belong to a table of that scorer only. The package `rouge` is not needed here: its rouge-l is restated
in `rouge_l`, without its recursion, which long texts exceed, and without its exception for a text of dots alone.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Sequence

import numpy as np

from crosstrainer_jax.baselines.prediction import Reference
from crosstrainer_jax.evaluation import meteor
from crosstrainer_jax.evaluation.bootstrap import Statistic, mean_statistic

# The words of the scorer's own source; those of a dataset's files are in `Reference.prefix`.
PREFIX = 'Here is the feedback based on the given pose sequence and the expert correct sequence:'
ORDER = 4
# The k of nltk's SmoothingFunction.
SMOOTHING = 5
SUFFIX = 'prefix-kept'


def without_prefix(text: str, prefix: str = '') -> str:
  """The text without the fixed words at its start, `prefix` or `PREFIX`, if it has them."""
  for words in (prefix.strip(), PREFIX):
    if words and text.lstrip().startswith(words):
      return text.lstrip()[len(words) :].lstrip()
  return text


def with_prefix(text: str, prefix: str = '') -> str:
  """The text after the fixed words, once; a text without words stays as it is, for it is no answer."""
  bare = without_prefix(text, prefix)
  return f'{prefix.strip() or PREFIX} {bare}' if bare.strip() else ''


def columns() -> tuple[str, ...]:
  return f'BLEU-4 {SUFFIX}', f'{meteor.column()} {SUFFIX}', f'ROUGE-L {SUFFIX}'


def variants() -> list[str]:
  """What was computed, what is known of it, and what is not."""
  return [
    f'{SUFFIX}: the same texts with the dataset’s fixed words (or the 15 of ExpertAF’s) before both sides, scored as '
    'ExpertAF’s released scorer does: whitespace tokens, nltk corpus_bleu with method4, nltk METEOR, rouge-l of rouge',
    f'{SUFFIX}: the prefix alone earns most of it. Unrelated instructions of 18 to 24 words score 42 / 49 / 50 '
    '(BLEU-4 / METEOR / ROUGE-L; benchmarks/prefix_floor.py), random pairs of real commentary are said to score about '
    '39–49 / 44–52 / 48–55: read a row beside “random” and “nearest neighbour” of the same column',
    f'{SUFFIX}: that published 42–46 / 47–52 / 49–58 were scored so is likely and unproven: the released code leaves '
    'the prefix in, the files behind the tables are not public',
  ]


def prefix_kept_statistics(feedback: Sequence[str | None], references: Sequence[Reference]) -> dict[str, Statistic]:
  """The three scores by column name, on clips with commentary.

  Feedback that could not be read (None), or without a word, is scored as an empty text without the prefix.
  """
  pairs = [
    (tuple(with_prefix(said or '', r.prefix).split()), tuple(with_prefix(r.commentary, r.prefix).split()))
    for said, r in zip(feedback, references, strict=True)
  ]
  counted = np.array([bool(reference) for _, reference in pairs], bool)
  counts = np.array([bleu_counts(*pair) for pair in pairs], float).reshape(len(pairs), 2 + 2 * ORDER)
  bleu_column, meteor_column, rouge_column = columns()
  return {
    bleu_column: Statistic(counts, counted, bleu),
    meteor_column: mean_statistic([meteor.meteor(*pair) for pair in pairs], counted),
    rouge_column: mean_statistic([rouge_l(' '.join(said), ' '.join(expected)) for said, expected in pairs], counted),
  }


@functools.lru_cache(maxsize=1 << 16)
def bleu_counts(said: tuple[str, ...], reference: tuple[str, ...]) -> tuple[int, ...]:
  """Lengths of both, then clipped matches and totals for each order; a total is at least 1 for every text (nltk)."""
  matches, totals = [], []
  for order in range(1, ORDER + 1):
    ours, theirs = (Counter(zip(*(words[i:] for i in range(order)), strict=False)) for words in (said, reference))
    matches.append((ours & theirs).total())
    totals.append(max(1, ours.total()))
  return (len(said), len(reference), *matches, *totals)


def bleu(sums: np.ndarray) -> np.ndarray:
  """BLEU-4 × 100 from summed counts float64[..., 10], as nltk's corpus_bleu with method4 (Chen & Cherry 2014).

  The n-th order without a match counts as ln(length) / (5 · 2^n) matches, n counted from the first such order and
  length the words of the whole corpus: so the sums over clips suffice. NaN without any clip.
  """
  said, expected = sums[..., 0], sums[..., 1]
  matches, totals = sums[..., 2 : 2 + ORDER], sums[..., 2 + ORDER :]
  logarithm = np.log(np.maximum(said, 1))[..., None]
  smoothed = np.where(matches > 0, matches, logarithm / (SMOOTHING * 2.0 ** np.cumsum(matches == 0, axis=-1)))
  precisions = smoothed / np.maximum(totals, 1)
  # an order that stays zero, in a corpus of one word, is left out
  logs = np.where(precisions > 0, np.log(np.where(precisions > 0, precisions, 1)), 0).sum(axis=-1) / ORDER
  brevity = np.exp(np.minimum(0, 1 - expected / np.maximum(said, 1)))
  score = np.where(matches[..., 0] > 0, 100 * brevity * np.exp(logs), 0.0)
  return np.where(totals[..., 0] > 0, score, np.nan)


@functools.lru_cache(maxsize=1 << 16)
def rouge_l(said: str, reference: str) -> float:
  """F of rouge-l as the package `rouge` 1.0.1 computes it, 0 … 1; 0 where one side has nothing but dots.

  Sentences end at every dot. Of each pair of sentences one longest common subsequence is taken; the distinct words of
  all of them, over the distinct words of each side, are recall and precision.
  """
  ours, theirs = ([part.split() or [''] for part in text.split('.') if part] for text in (said, reference))
  if not ours or not theirs:
    return 0.0
  common = set().union(*(common_words(tuple(a), tuple(b)) for a in theirs for b in ours))
  precision, recall = (len(common) / len(set().union(*sentences)) for sentences in (ours, theirs))
  return 2 * precision * recall / (precision + recall + 1e-8)


def common_words(first: tuple[str, ...], second: tuple[str, ...]) -> set[str]:
  """The words of a longest common subsequence; of several, the one whose steps back prefer the end of `first`."""
  lengths = [[0] * (len(second) + 1)]
  for word in first:
    above, row = lengths[-1], [0]
    for j, other in enumerate(second):
      row.append(above[j] + 1 if word == other else max(above[j + 1], row[j]))
    lengths.append(row)
  found, i, j = set(), len(first), len(second)
  while i and j:
    if first[i - 1] == second[j - 1]:
      found.add(first[i - 1])
      i, j = i - 1, j - 1
    elif lengths[i - 1][j] > lengths[i][j - 1]:
      i -= 1
    else:
      j -= 1
  return found
