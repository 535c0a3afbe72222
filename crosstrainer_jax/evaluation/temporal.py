"""Feedback that chooses its own times, as QEVD's FitCoach evaluators score it: matched in time, then in words.

Every reference comment takes the prediction nearest in time, if that is less than half the tolerance of 3 s away, is
not empty, and lies behind the last prediction that was taken: one to one, in order, and without a second choice. So two
comments near one prediction match once, and the second goes without even where another prediction would have been near
enough. METEOR, ROUGE-L and BERT are means over matched pairs, pooled over sessions; they say nothing of comments that
were missed, which the temporal F-score does:

    precision = predictions that find a reference by the same rule / predictions, recall the other way round

Silence therefore costs recall only, and a row is read by all of its columns together. METEOR is taken on the tokens of
nltk's word_tokenize, as the library `evaluate` does there, with sentences split at the default rules of Punkt.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from nltk.tokenize.destructive import NLTKWordTokenizer
from nltk.tokenize.punkt import PunktSentenceTokenizer

from crosstrainer_jax.evaluation import feedback, meteor
from crosstrainer_jax.evaluation.bootstrap import Statistic, mean_score, ratio

if TYPE_CHECKING:
  # it brings transformers, which most readers of scores do not need
  from crosstrainer_jax.evaluation.bert_score import BertScore

TOLERANCE = 3.0


@dataclasses.dataclass(frozen=True)
class Comment:
  """What is said at a time point, in seconds from the start of the session."""

  seconds: float
  text: str


@dataclasses.dataclass(frozen=True)
class Session:
  """One uninterrupted recording, or one exercise of it.

  Attributes:
    take: what the bootstrap draws; several exercises may share it.
    references: of the expert.
    predictions: of the row, in any order; None where nothing could be generated, which counts as silence.
  """

  take: str
  references: Sequence[Comment]
  predictions: Sequence[Comment] | None


def match(
  references: Sequence[Comment], predictions: Sequence[Comment], tolerance: float = TOLERANCE
) -> list[tuple[int, int]]:
  """Indices of matched comments, in order; both sides must be in the order of time.

  Of two predictions that are equally near the first is taken.
  """
  times = np.array([comment.seconds for comment in predictions], float)
  pairs: list[tuple[int, int]] = []
  last = -1
  for number, reference in enumerate(references if len(times) else ()):
    nearest = int(np.argmin((times - reference.seconds) ** 2))
    near = abs(times[nearest] - reference.seconds) < tolerance / 2
    if near and nearest > last and predictions[nearest].text:
      pairs.append((number, nearest))
      last = nearest
  return pairs


def matched_texts(session: Session, tolerance: float = TOLERANCE) -> list[tuple[str, str]]:
  """(reference, prediction) of every match: what a judge of pairs is asked (`judge`)."""
  references, predictions = _ordered(session.references), _ordered(session.predictions or ())
  return [(references[i].text, predictions[j].text) for i, j in match(references, predictions, tolerance)]


def temporal_statistics(
  sessions: Sequence[Session], bert: BertScore | None = None, tolerance: float = TOLERANCE
) -> dict[str, Statistic]:
  """T-F, METEOR, ROUGE-L and, with an encoder, BERT, × 100, by column name; a session is what the rows count.

  METEOR and the others are undefined where nothing matches.
  """
  counted = np.ones(len(sessions), bool)
  counts = np.zeros((len(sessions), 4))
  texts = [matched_texts(session, tolerance) for session in sessions]
  for row, session in enumerate(sessions):
    references, predictions = _ordered(session.references), _ordered(session.predictions or ())
    back = match(predictions, references, tolerance)
    counts[row] = len(texts[row]), len(references), len(back), len(predictions)
  failed = sum(session.predictions is None for session in sessions)
  note = f'{failed} of {len(sessions)} sessions could not be answered and count as silence' if failed else ''
  pairs = [pair for found in texts for pair in found]
  of = np.repeat(np.arange(len(sessions)), [len(found) for found in texts])
  values = {
    meteor.column(): [meteor.meteor(words(said), words(expected)) for expected, said in pairs],
    'ROUGE-L': [feedback.rouge_l(said, expected) for expected, said in pairs],
  }
  if bert is not None:
    values['BERT'] = bert.f1([(said, expected) for expected, said in pairs]).tolist()
  statistics = {'T-F': Statistic(counts, counted, temporal_f_score, note)}
  for name, scores in values.items():
    sums = np.zeros((len(sessions), 2))
    np.add.at(sums, of, np.stack([np.asarray(scores, float), np.ones(len(pairs))], -1))
    statistics[f'{name} matched'] = Statistic(sums, counted, mean_score, note)
  return statistics


def temporal_f_score(sums: np.ndarray) -> np.ndarray:
  """F × 100 of summed counts float64[..., 4]: matched references, references, matched predictions, predictions."""
  matched, references, found, predictions = np.moveaxis(sums, -1, 0)
  recall = ratio(matched, references)
  precision = np.where(predictions > 0, ratio(found, predictions), 0.0)
  return 100 * np.where(precision + recall == 0, 0.0, ratio(2 * precision * recall, precision + recall))


def notes(sessions: Sequence[Session], tolerance: float = TOLERANCE) -> str:
  """How many comments matched, were missed, and were extra."""
  matched = sum(len(matched_texts(session, tolerance)) for session in sessions)
  references = sum(len(session.references) for session in sessions)
  predictions = sum(len(session.predictions or ()) for session in sessions)
  return (
    f'Of {references} comments in {len(sessions)} sessions {matched} were matched within {tolerance / 2:g} s and '
    f'{references - matched} missed; {predictions - matched} of {predictions} predictions are extra'
  )


@functools.lru_cache(maxsize=1 << 16)
def words(text: str) -> tuple[str, ...]:
  """The tokens of nltk's word_tokenize, which needs no data here: sentences by Punkt's rules, untrained."""
  return tuple(word for sentence in _SENTENCES.tokenize(text) for word in _WORDS.tokenize(sentence))


_SENTENCES = PunktSentenceTokenizer()
_WORDS = NLTKWordTokenizer()


def _ordered(comments: Sequence[Comment]) -> list[Comment]:
  return sorted(comments, key=lambda comment: comment.seconds)
