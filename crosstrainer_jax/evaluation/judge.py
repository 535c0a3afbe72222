"""A language model that rates feedback against the expert's, 1 to 5 (LLM-Acc of QEVD, Panchal et al. 2024).

The model is any function from a prompt to a text; who asks it, and keeps its answers, is not this module's matter.
Answers should be {'score': 4}, and are read with patience (`parse`). A pair whose rating cannot be read, or whose call
fails, counts as the lowest score: FitCoach leaves such pairs out, which rewards what a judge cannot read.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Sequence

import numpy as np
from tqdm import tqdm

from crosstrainer_jax.evaluation.bootstrap import Statistic, ratio

LOWEST, HIGHEST = 1, 5

PROMPT = """\
You rate feedback that an automatic coach gave to somebody who exercises. You are given what a human expert said at that
moment, and what the coach said. Rate how well the coach's feedback agrees with the expert's: is it true, to the point,
and does it say the same? Other words for the same thing are right, and so are numbers that are written out.

Expert: {reference}
Coach: {feedback}

Answer with a Python dictionary alone, {{'score': N}}, where N is an integer from 1 (does not agree at all) to 5 (agrees
fully). Write nothing else.
"""


@dataclasses.dataclass(frozen=True)
class Ratings:
  """What a judge said of each pair.

  Attributes:
    scores: 1 … 5, None where the answer could not be read or the call failed.
    unread: answers that could not be read, the first few of them as examples.
    errors: what failed calls said, the first few.
    n_unread, n_failed: how many there are of both.
  """

  scores: list[float | None]
  unread: list[str]
  errors: list[str]
  n_unread: int
  n_failed: int

  def statistic(self, pairs_of: Sequence[int] | None = None, clips: int | None = None) -> Statistic:
    """The mean rating, 1 … 5, over all pairs, the lowest for what could not be read.

    Args:
      pairs_of: the clip or session of each pair; None: each is its own.
      clips: how many there are.
    """
    of = np.arange(len(self.scores)) if pairs_of is None else np.asarray(pairs_of, int)
    sums = np.zeros((len(self.scores) if clips is None else clips, 2))
    values = [LOWEST if score is None else score for score in self.scores]
    np.add.at(sums, of, np.stack([np.asarray(values, float), np.ones(len(values))], -1).reshape(-1, 2))
    return Statistic(sums, sums[:, 1] > 0, lambda total: ratio(total[..., 0], total[..., 1]), self.note())

  def note(self) -> str:
    """How many pairs count as the lowest score, and why; "" for none."""
    parts = []
    if self.n_unread:
      parts.append(f'{self.n_unread} of {len(self.scores)} ratings could not be read, such as {self.unread[0]!r}')
    if self.n_failed:
      parts.append(f'{self.n_failed} of {len(self.scores)} calls failed, such as {self.errors[0]!r}')
    return '; '.join(parts) + ': they count as 1' if parts else ''


def rate(pairs: Sequence[tuple[str, str]], complete: Callable[[str], str]) -> Ratings:
  """Asks for every pair of reference and feedback, equal pairs once.

  Feedback without a word is rated lowest without a call.

  Args:
    pairs: (reference, feedback).
    complete: a prompt → the judge's answer. What it raises is counted, and the other pairs are still rated.
  """
  answers: dict[tuple[str, str], float | None] = {}
  unread: dict[tuple[str, str], str] = {}
  errors: dict[tuple[str, str], str] = {}
  for pair in tqdm(list(dict.fromkeys(pairs)), desc='judging feedback', unit='pair', disable=None):
    reference, said = pair
    if not said.strip():
      answers[pair] = float(LOWEST)
      continue
    answers[pair] = None
    try:
      answer = complete(PROMPT.format(reference=reference.strip(), feedback=said.strip()))
    except Exception as error:  # of any client; hours of other answers must not be lost
      errors[pair] = f'{type(error).__name__}: {error}'
      continue
    answers[pair] = parse(answer)
    if answers[pair] is None:
      unread[pair] = answer[:200]
  n_unread, n_failed = (sum(pair in found for pair in pairs) for found in (unread, errors))
  scores = [answers[pair] for pair in pairs]
  return Ratings(scores, list(unread.values())[:5], list(errors.values())[:5], n_unread, n_failed)


_QUOTE = '["\'“”‘’]?'
_FIELD = re.compile(
  rf'{_QUOTE}\bscore\b{_QUOTE}\s*(?:is\s*)?[:=]?\s*(?:int\()?\s*{_QUOTE}(-?\d+(?:\.\d+)?)(?!\w)', re.IGNORECASE
)
_NUMBER = re.compile(r'\s*(\d+(?:\.\d+)?)\s*(?:/\s*5)?\s*\.?\s*')


def parse(answer: str) -> float | None:
  """The rating in an answer; None where there is none, more than one, or one outside 1 … 5.

  Read are a dictionary or JSON with the field `score`, with whatever stands around it, and a number alone.
  """
  # a model that thinks aloud first, in which it may name other numbers
  text = re.sub(r'<think>.*?(</think>|\Z)', '', answer, flags=re.DOTALL | re.IGNORECASE)
  found = {float(number) for number in _FIELD.findall(text)}
  if not found and (alone := _NUMBER.fullmatch(text)):
    found = {float(alone[1])}
  if len(found) != 1:
    return None
  score = found.pop()
  return score if LOWEST <= score <= HIGHEST else None
