"""What happens in a video of the how-to world, sentence by sentence, before anything is drawn.

A channel is one instructor; a video is a lesson on one skill: a greeting, then pieces of four seconds, each with one
sentence that is said while it is seen, and a farewell. Lessons are drawn from (seed, index) alone.

| kind | what is said | what is seen | actionable | demonstrated | execution |
|---|---|---|---|---|---|
| right | what to do | the instructor does it | yes | yes | correct |
| mistake | what goes wrong | the instructor does it wrong on purpose | yes | yes | incorrect |
| advice | what to do | the instructor talks, a card with words, or another exercise | yes | no | none |
| caution | what should not happen | the same | yes | no | none |
| greeting, advert, story, farewell | nothing to learn | anything, exercises too | no | no | none |
"""

from __future__ import annotations

import dataclasses
import functools
import pathlib
import tomllib
from typing import Any, Literal

import numpy as np

from crosstrainer_jax.datasets.skillsim import grammar
from crosstrainer_jax.datasets.skillsim.faults import FAULTS
from crosstrainer_jax.datasets.skillsim.sports import SPORTS

SECONDS = 4.0
# In each channel the lessons of one sport.
_LESSONS_OF_A_CHANNEL = 5
_WORDS_A_SECOND = 3.6

Execution = Literal['correct', 'incorrect', 'none']
Picture = Literal['right', 'mistake', 'other exercise', 'talking', 'card']


@dataclasses.dataclass(frozen=True)
class Piece:
  """Four seconds of a lesson.

  Attributes:
    number: of the piece in its lesson.
    text: the sentence, as people write it.
    start, end: seconds in which it is said.
    fault, direction: what it is about; "" for a piece that teaches nothing.
    severity: of the mistake, where one is shown.
  """

  number: int
  kind: str
  picture: Picture
  text: str
  start: float
  end: float
  fault: str = ''
  direction: str = ''
  severity: float = 0.0

  @property
  def actionable(self) -> bool:
    return bool(self.fault)

  @property
  def demonstrated(self) -> bool:
    return self.kind in ('right', 'mistake')

  @property
  def execution(self) -> Execution:
    return {'right': 'correct', 'mistake': 'incorrect'}.get(self.kind, 'none')  # type: ignore[return-value]


@dataclasses.dataclass(frozen=True)
class Lesson:
  """A video: who teaches what, and its pieces one after the other."""

  index: int
  channel: str
  sport: str
  skill: str
  title: str
  pieces: tuple[Piece, ...]

  @property
  def seconds(self) -> float:
    return SECONDS * len(self.pieces)


@functools.cache
def narration() -> dict[str, Any]:
  """The words, checked to be complete.

  Raises:
    ValueError: a fault or direction lacks words.
  """
  path = pathlib.Path(__file__).with_name('narration.toml')
  words = tomllib.loads(path.read_text(encoding='utf-8'))
  for fault, directions in FAULTS.items():
    for direction in directions:
      if not all(words['concept'].get(fault, {}).get(direction, {}).get(kind) for kind in ('right', 'mistake')):
        raise ValueError(f'{path}: [concept."{fault}"."{direction}"] needs right and mistake')
  return words


def lesson(seed: int, index: int) -> Lesson:
  """The lesson of that index; consecutive ones share a channel."""
  rng = np.random.default_rng([seed, 9001, index])
  channel = index // _LESSONS_OF_A_CHANNEL
  sport = list(SPORTS)[channel % len(SPORTS)]
  skill = SPORTS[sport][int(rng.integers(len(SPORTS[sport])))].name
  kinds = ['greeting']
  if rng.uniform() < 0.6:
    kinds.append('advert')
  for _ in range(int(rng.integers(8, 13))):
    kinds.append(str(rng.choice(['right', 'mistake', 'advice', 'caution', 'story', 'advert'],
                                p=[0.38, 0.27, 0.13, 0.05, 0.12, 0.05])))  # fmt: skip
  kinds.append('farewell')
  pieces = tuple(_piece(rng, number, kind, sport, skill) for number, kind in enumerate(kinds))
  title = str(rng.choice(['How to {}', '{} tutorial', '{} drills for beginners', '3 mistakes in the {}', '{} tips']))
  return Lesson(index, f'channel-{channel:03d}', sport, skill, title.format(skill), pieces)


def _piece(rng: np.random.Generator, number: int, kind: str, sport: str, skill: str) -> Piece:
  words = narration()
  slots = {**grammar.load(grammar.DEFAULT)['words'][sport][skill], 'sport': sport, 'skill': skill}

  def pick(options: list[str]) -> str:
    return options[int(rng.integers(len(options)))]

  fault = direction = ''
  severity = 0.0
  if kind in words['talk']:
    text = pick(words['talk'][kind])
    # A story may well be told over pictures of an exercise.
    picture = pick(['talking', 'talking', 'card', 'other exercise', 'right'])
  else:
    fault = pick(list(FAULTS))
    direction = pick(list(FAULTS[fault]))
    said = {'advice': 'right', 'caution': 'mistake'}.get(kind, kind)
    opening = {'right': 'shown', 'advice': 'told', 'mistake': 'wrong', 'caution': 'telling'}[kind]
    text = f'{pick(words["opening"][opening])} {pick(words["concept"][fault][direction][said])}'
    picture = (
      kind if kind in ('right', 'mistake') else pick(['talking', 'talking', 'talking', 'card', 'other exercise'])
    )
    severity = float(rng.uniform(0.6, 1.0)) if kind == 'mistake' else 0.0
  text = ' '.join(text.format(**slots).split())
  start = SECONDS * number + float(rng.uniform(0.1, 0.3))
  end = start + min(len(text.split()) / _WORDS_A_SECOND, SECONDS - 0.7)
  sentence = text[0].upper() + text[1:] + '.'
  return Piece(number, kind, picture, sentence, start, end, fault, direction, severity)  # type: ignore[arg-type]
