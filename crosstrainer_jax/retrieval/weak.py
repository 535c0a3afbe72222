"""Weak supervision of relevance: which clip of a library is worth watching for whom, told by what is said of both.

[O] A learner's clip and a candidate belong together where the expert criticises an attribute in the one that the
instructor speaks of in the other, in the same sport. The same sport with other attributes makes hard negatives, other
sports easy ones. What the expert said makes these labels and nothing else: it is no input of a model, at training or
later [P].
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from crosstrainer_jax.discovery.backend import Attributes
from crosstrainer_jax.input.files import write_atomically

RELEVANT, HARD, EASY = 'relevant', 'hard negative', 'easy negative'


@dataclasses.dataclass(frozen=True)
class Spoken:
  """Of a clip: its sport, and the attributes by which it is matched.

  Attributes:
    attributes: of a learner's clip those that are criticised, of a candidate all that are spoken of.
  """

  clip_id: str
  sport: str
  attributes: frozenset[str]


@dataclasses.dataclass(frozen=True)
class Triple:
  """A learner's clip, a candidate, and how they belong together.

  Attributes:
    shared: what the learner lacks and the candidate speaks of; none but for relevant ones.
  """

  clip_id: str
  candidate: str
  kind: str
  shared: tuple[str, ...] = ()

  @property
  def relevant(self) -> bool:
    return self.kind == RELEVANT


def of_learner(clip_id: str, sport: str, found: Attributes) -> Spoken:
  """By what the expert criticises."""
  return Spoken(clip_id, sport, frozenset(found.incorrect))


def of_candidate(clip_id: str, sport: str, found: Attributes) -> Spoken:
  """By all that the instructor speaks of."""
  return Spoken(clip_id, sport, frozenset([*found.correct, *found.incorrect]))


def relevant_to(learners: Sequence[Spoken], candidates: Sequence[Spoken]) -> list[list[int]]:
  """For each learner's clip the numbers of its relevant candidates."""
  by_name: dict[tuple[str, str], list[int]] = {}
  for number, candidate in enumerate(candidates):
    for attribute in candidate.attributes:
      by_name.setdefault((candidate.sport, attribute), []).append(number)
  return [
    sorted({n for attribute in learner.attributes for n in by_name.get((learner.sport, attribute), ())})
    for learner in learners
  ]


def triples(
  learners: Sequence[Spoken], candidates: Sequence[Spoken], each: tuple[int, int, int] = (4, 3, 1), seed: int = 0
) -> Iterator[Triple]:
  """For each learner's clip with a relevant candidate, some of each kind, without repetition.

  Args:
    each: how many are relevant, hard and easy negatives, as far as there are so many.
  """
  sports = np.array([candidate.sport for candidate in candidates])
  for number, (learner, own) in enumerate(zip(learners, relevant_to(learners, candidates), strict=True)):
    if not own:
      continue
    # Of its own for each clip, so that another clip more or less changes no other.
    random = np.random.default_rng([seed, number])
    same = np.flatnonzero(sports == learner.sport)
    pools = (np.array(own), np.setdiff1d(same, own), np.flatnonzero(sports != learner.sport))
    for kind, pool, count in zip((RELEVANT, HARD, EASY), pools, each, strict=True):
      for place in random.permutation(len(pool))[:count]:
        candidate = candidates[pool[place]]
        shared = sorted(learner.attributes & candidate.attributes) if kind == RELEVANT else ()
        yield Triple(learner.clip_id, candidate.clip_id, kind, tuple(shared))


def write(path: Path, found: Iterable[Triple]) -> None:
  """Writes triples as JSON Lines."""
  path.parent.mkdir(parents=True, exist_ok=True)
  lines = [json.dumps({**dataclasses.asdict(triple), 'relevant': triple.relevant}) + '\n' for triple in found]
  write_atomically(path, ''.join(lines))
