"""A cue: words with the time at which they are spoken, as every format of captions gives them."""

import html
import math
import re
from collections.abc import Sequence
from typing import NamedTuple

# Seconds that the last cue is given where its format lets cues stand until the next one.
_LAST = 3.0
_OVERRIDE = re.compile(r'\{\\[^{}]*\}')  # positioning codes such as {\an8} in SRT


class Cue(NamedTuple):
  """`text` is spoken from `start` to `end` (seconds).

  `confidence` is the recogniser's probability, from 0 to 1, that the words are right; None where the file has none.
  `last_word` is when the last word begins, since captions stay on the screen for longer than they are spoken; None
  where the file has no times of words.
  """

  start: float
  end: float
  text: str
  confidence: float | None = None
  last_word: float | None = None


def tidy(text: str) -> str:
  """Lines kept; markup, surplus blanks and halves of characters, which UTF-8 has not, gone."""
  text = text.encode('utf-8', 'ignore').decode('utf-8')
  lines = (' '.join(html.unescape(_OVERRIDE.sub('', line)).split()) for line in text.splitlines())
  return '\n'.join(line for line in lines if line)


def one_at_a_time(cues: Sequence[Cue]) -> list[Cue]:
  """Cues in order of time, each ending where the next begins.

  Automatic captions stay on the screen while the next ones roll in, and a pause in speech could not be seen otherwise.
  A cue whose end is infinite has none of its own.
  """
  ordered = sorted(cues, key=lambda cue: cue.start)
  result = []
  for cue, following in zip(ordered, [*ordered[1:], None], strict=True):
    end = cue.end
    if following and cue.start < following.start:
      end = min(end, following.start)
    result.append(cue._replace(end=cue.start + _LAST if math.isinf(end) else end))
  return result


def mean_confidence(parts: Sequence[tuple[float | None, float]]) -> float | None:
  """The mean of (confidence, weight) over the parts that have a confidence; None where none has."""
  known = [(confidence, weight) for confidence, weight in parts if confidence is not None and weight > 0]
  total = sum(weight for _, weight in known)
  return sum(confidence * weight for confidence, weight in known) / total if total else None
