"""Wrong attributes on purpose: how far feedback depends on those it is given (paper, Table 4 left)."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

# The shares of the paper.
SHARES = (0.1, 0.2, 0.3, 0.5, 0.7)


def row_name(share: float) -> str:
  """The row of the table, as `published.toml` has it."""
  return f'{share:.0%} noise'.replace('%', ' %')


def noised(lists: Sequence[Sequence[str]], share: float, vocabulary: Collection[str], seed: int) -> list[list[str]]:
  """The lists with a `share` of all their attributes, to the nearest whole number, each replaced by another at random.

  What is replaced with a smaller share and the same seed is replaced with a larger one too, and by the same. A
  replacement is drawn from the `vocabulary`, without what its own clip was given. Empty lists stay empty.

  Raises:
    ValueError: a share outside 0 … 1, or a vocabulary that has nothing else to offer.
  """
  if not 0 <= share <= 1:
    raise ValueError(f'a share of noise of {share} is not between 0 and 1')
  words = sorted(set(vocabulary))
  random = np.random.default_rng(seed)
  places = [(clip, item) for clip, named in enumerate(lists) for item in range(len(named))]
  order = random.permutation(len(places))
  # Drawn for every place, so that a larger share does not change what a smaller one has put there.
  draws = random.random(len(places))
  result = [list(named) for named in lists]
  for number in order[: round(share * len(places))]:
    clip, item = places[number]
    others = [word for word in words if word not in lists[clip]]
    if not others:
      raise ValueError(f'no other attribute is left to take the place of one of {list(lists[clip])}')
    result[clip][item] = others[int(draws[number] * len(others))]
  return result
