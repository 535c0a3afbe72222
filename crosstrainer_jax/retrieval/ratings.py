"""Graded relevance by people, as CoachGT has it [P]: coaches who saw a learner's clip, feedback on it, and a candidate.

A file of JSON Lines, one rating each [O]:

    {"clip_id": "…", "candidate": "…", "rating": 2, "rater": "ann"}

`rating` is a whole number from 0 (of no use) to 3 (exactly what is to be watched); ratings of one pair are averaged
over raters. Pairs that nobody rated are no judgement, and count neither for nor against a model.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

LARGEST = 3


def read(path: Path) -> dict[str, dict[str, float]]:
  """Learner's clip -> candidate -> mean rating.

  Raises:
    FileNotFoundError: there is no such file.
    ValueError: a line is wrong; the message names it.
  """
  if not path.is_file():
    raise FileNotFoundError(f'{path}: no such file of ratings')
  given: dict[tuple[str, str], dict[str, float]] = {}
  for number, line in enumerate(path.read_text(encoding='utf-8').splitlines(), 1):
    if not line.strip():
      continue
    where = f'{path} line {number}'
    try:
      entry = json.loads(line)
      pair, rating, rater = (str(entry['clip_id']), str(entry['candidate'])), entry['rating'], str(entry['rater'])
    except (json.JSONDecodeError, KeyError, TypeError):
      raise ValueError(f'{where}: expected {{"clip_id": …, "candidate": …, "rating": …, "rater": …}}') from None
    if isinstance(rating, bool) or not isinstance(rating, int) or not 0 <= rating <= LARGEST:
      raise ValueError(f'{where}: a rating is a whole number from 0 to {LARGEST}, not {rating!r}')
    ratings = given.setdefault(pair, {})
    if rater in ratings:
      raise ValueError(f'{where}: {rater} rates this pair a second time')
    ratings[rater] = float(rating)
  if not given:
    raise ValueError(f'{path}: no rating in it')
  found: dict[str, dict[str, float]] = {}
  for (clip, candidate), ratings in given.items():
    found.setdefault(clip, {})[candidate] = sum(ratings.values()) / len(ratings)
  return found


def gains(
  ratings: Mapping[str, Mapping[str, float]], clips: Sequence[str], candidates: Sequence[str]
) -> tuple[np.ndarray, int]:
  """float64[N, M], NaN where nobody rated a pair, and how many ratings are of clips or candidates not at hand."""
  places = {candidate: number for number, candidate in enumerate(candidates)}
  found = np.full((len(clips), len(candidates)), math.nan)
  used = 0
  for row, clip in enumerate(clips):
    for candidate, rating in ratings.get(clip, {}).items():
      if candidate in places:
        found[row, places[candidate]] = rating
        used += 1
  return found, sum(map(len, ratings.values())) - used
