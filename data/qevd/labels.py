"""Fine-grained labels of the short clips: "<exercise> - <variation>" → what is done wrong, or that nothing is.

The files do not say which variations are mistakes, so this module reads it from the words:

| variation | kind | example |
|---|---|---|
| says that there is no issue | clean | `no obvious issue` |
| a measured value | level | `speed=2.25 rps`, `depth=2` |
| has a word of `_FAULTY` | fault | `hips too high`, `shallow`, `back not straight` |
| anything else | style | `shoulder-width`, `90 degrees` |

Faults make the clip's `faults`. Without any, a clean label makes an empty list, which is to say that nothing is wrong;
levels and styles alone leave it open, since a narrow stance may be a mistake or not. All labels stay in the record's
`extra`, so that another reading needs no other import.
"""

import re
from collections.abc import Iterable
from typing import Literal, NamedTuple

_CLEAN = re.compile(r'no (?:obvious )?issues?')
_FAULTY = re.compile(
  r"\b(?:too|not|no|isn't|aren't|without|shallow|wrong|incorrect\w*|bad|poor|uneven|unequal|incomplete|missing|lazy|"
  r'sagging|dropping|rounded|rounding|hunch\w+|slouch\w+|leaning|collapsing|wobbl\w+|unstable|losing|swinging|off)\b'
)

Kind = Literal['clean', 'level', 'fault', 'style']


class Label(NamedTuple):
  """`variation` is '' where a label names the exercise alone."""

  exercise: str
  variation: str

  @property
  def kind(self) -> Kind:
    """Which line of the table the variation falls under."""
    text = self.variation.lower()
    if _CLEAN.fullmatch(text):
      return 'clean'
    if '=' in text:
      return 'level'
    return 'fault' if _FAULTY.search(text) else 'style'


def parse(label: str) -> Label:
  """A label of the files; "squats (jumping) - shallow" is a shallow "squats", done "jumping"."""
  named, _, variation = (part.strip() for part in label.partition(' - '))
  exercise, _, general = named.partition(' (')
  return Label(exercise.strip() or named, ', '.join(part for part in (general.rstrip(')').strip(), variation) if part))


def faults_of(labels: Iterable[Label]) -> tuple[str, ...] | None:
  """What is done wrong, each once and in order; () where the labels say that nothing is, None where they leave it."""
  kinds = [(label.kind, label.variation) for label in labels]
  faults = tuple(dict.fromkeys(variation.lower() for kind, variation in kinds if kind == 'fault'))
  return faults or (() if any(kind == 'clean' for kind, _ in kinds) else None)
