"""Phrase patterns over word tokens, fast enough for millions of sentences.

A pattern is a row of elements separated by spaces:

| element | matches |
|---|---|
| `word` | that word |
| `word*` | every word that begins so |
| `a|b*|c` | any of them |
| `$name` | a word class, defined once in the table's `words` |
| `...` | a gap of at most four words (between two elements only) |
"""

import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import Generic, NamedTuple, TypeVar

MAX_GAP = 4
Value = TypeVar('Value')


class Match(NamedTuple, Generic[Value]):
  """An occurrence of a pattern: the token positions of its elements (gaps are not among them) and the pattern's value."""

  positions: tuple[int, ...]
  value: Value

  @property
  def start(self) -> int:
    return self.positions[0]

  @property
  def end(self) -> int:
    return self.positions[-1] + 1


class PhraseTable(Generic[Value]):
  """Patterns with values; `find` returns the occurrences that do not overlap, longer patterns first."""

  def __init__(self, patterns: Iterable[tuple[str, Value]], words: Mapping[str, str] | None = None):
    self._elements: dict[str, int] = {}
    self._exact: dict[str, set[int]] = {}
    self._prefixes: list[tuple[str, int]] = []
    # First element -> [(rest as (element, largest gap before it), value)]
    self._by_first: dict[int, list[tuple[tuple[tuple[int, int], ...], Value]]] = {}
    for pattern, value in patterns:
      first, *rest = self._compile(pattern, words or {})
      self._by_first.setdefault(first[0], []).append((tuple(rest), value))
    self._prefixes.sort()
    self._classify = functools.lru_cache(maxsize=1 << 16)(self._classes)

  def values(self) -> list[Value]:
    """The values of all patterns."""
    return [value for entries in self._by_first.values() for _, value in entries]

  def _compile(self, pattern: str, words: Mapping[str, str]) -> list[tuple[int, int]]:
    compiled: list[tuple[int, int]] = []
    gap = 0
    for element in pattern.split():
      if element == '...':
        if not compiled or gap:
          raise ValueError(f'pattern {pattern!r}: a gap must stand between two elements')
        gap = MAX_GAP
      else:
        compiled.append((self._element(element, pattern, words), gap))
        gap = 0
    if gap or not compiled:
      raise ValueError(f'pattern {pattern!r}: a gap must stand between two elements')
    return compiled

  def _element(self, element: str, pattern: str, words: Mapping[str, str]) -> int:
    if element in self._elements:
      return self._elements[element]
    number = self._elements[element] = len(self._elements)
    for word in _alternatives(element, pattern, words):
      if word.endswith('*'):
        self._prefixes.append((word[:-1], number))
      else:
        self._exact.setdefault(word, set()).add(number)
    return number

  def _classes(self, token: str) -> frozenset[int]:
    return frozenset(self._exact.get(token, ())) | {n for prefix, n in self._prefixes if token.startswith(prefix)}

  def find(self, tokens: Sequence[str]) -> list[Match[Value]]:
    """Occurrences in `tokens`, sorted by position; of two that share a token the one with more elements stays."""
    classes = [self._classify(token) for token in tokens]
    found: list[Match[Value]] = []
    for i, numbers in enumerate(classes):
      for number in numbers:
        for rest, value in self._by_first.get(number, ()):
          positions = _follow(classes, rest, i)
          if positions is not None:
            found.append(Match(positions, value))
    if len(found) > 1:
      found = _without_overlaps(found)
    return found


def _alternatives(element: str, pattern: str, words: Mapping[str, str]) -> Iterable[str]:
  for word in element.split('|'):
    if not word.startswith('$'):
      yield word
    elif word[1:] in words:
      yield from _alternatives(words[word[1:]], pattern, words)
    else:
      raise ValueError(f'pattern {pattern!r}: no word class {word}')


def _follow(classes: list[frozenset[int]], rest: tuple[tuple[int, int], ...], start: int) -> tuple[int, ...] | None:
  """Positions of all elements if `rest` follows the element at `start`; every gap is taken as short as possible."""
  positions = [start]
  at = start + 1
  for number, gap in rest:
    for i in range(at, min(at + gap + 1, len(classes))):
      if number in classes[i]:
        positions.append(i)
        at = i + 1
        break
    else:
      return None
  return tuple(positions)


def _without_overlaps(found: list[Match[Value]]) -> list[Match[Value]]:
  found.sort(key=lambda match: (-len(match.positions), match.end - match.start, match.start))
  taken: set[int] = set()
  kept = []
  for match in found:
    if taken.isdisjoint(match.positions):
      taken.update(match.positions)
      kept.append(match)
  kept.sort(key=lambda match: match.start)
  return kept
