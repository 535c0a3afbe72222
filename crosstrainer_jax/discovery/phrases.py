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
from typing import Any, Generic, NamedTuple, TypeVar

MAX_GAP = 4
Value = TypeVar('Value')


class Match(NamedTuple, Generic[Value]):
  """An occurrence of a pattern: the token positions of its elements, gaps not among them, and its value."""

  positions: tuple[int, ...]
  value: Value

  @property
  def start(self) -> int:
    return self.positions[0]

  @property
  def end(self) -> int:
    return self.positions[-1] + 1


class _Token(NamedTuple):
  """What a table knows of a word: the elements that it matches, and (rest, value) of the patterns that it may open."""

  elements: frozenset[int]
  openings: list[tuple[tuple[tuple[int, int], ...], Any]]


class PhraseTable(Generic[Value]):
  """Patterns with values; `find` returns the occurrences that do not overlap, longer patterns first."""

  def __init__(self, patterns: Iterable[tuple[str, Value]], words: Mapping[str, str] | None = None):
    self._elements: dict[str, int] = {}
    self._exact: dict[str, set[int]] = {}
    self._prefixes: dict[str, set[int]] = {}
    # First element -> [(rest as (element, largest gap before it), value)]
    self._by_first: dict[int, list[tuple[tuple[tuple[int, int], ...], Value]]] = {}
    for pattern, value in patterns:
      first, *rest = self._compile(pattern, words or {})
      self._by_first.setdefault(first[0], []).append((tuple(rest), value))
    self._prefix_lengths = sorted({len(prefix) for prefix in self._prefixes})
    self._token = functools.lru_cache(maxsize=1 << 16)(self._look_up)

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
        self._prefixes.setdefault(word[:-1], set()).add(number)
      else:
        self._exact.setdefault(word, set()).add(number)
    return number

  def _look_up(self, word: str) -> _Token:
    elements = set(self._exact.get(word, ()))
    for length in self._prefix_lengths:
      elements |= self._prefixes.get(word[:length], set())
    return _Token(frozenset(elements), [entry for n in sorted(elements) for entry in self._by_first.get(n, ())])

  def find(self, tokens: Sequence[str]) -> list[Match[Value]]:
    """Occurrences in `tokens`, sorted by position; of two that share a token the one with more elements stays."""
    known = [self._token(token) for token in tokens]
    found: list[Match[Value]] = []
    for i, token in enumerate(known):
      for rest, value in token.openings:
        if not rest:
          found.append(Match((i,), value))
        elif positions := _follow(known, rest, i):
          found.append(Match(positions, value))
    return _without_overlaps(found) if len(found) > 1 else found


def _alternatives(element: str, pattern: str, words: Mapping[str, str]) -> Iterable[str]:
  for word in element.split('|'):
    if not word.startswith('$'):
      yield word
    elif word[1:] in words:
      yield from _alternatives(words[word[1:]], pattern, words)
    else:
      raise ValueError(f'pattern {pattern!r}: no word class {word}')


def _follow(known: list[_Token], rest: tuple[tuple[int, int], ...], start: int) -> tuple[int, ...]:
  """Positions of all elements if `rest` follows the one at `start`, else (); gaps are taken as short as possible."""
  positions = [start]
  at = start + 1
  for element, gap in rest:
    for i in range(at, min(at + gap + 1, len(known))):
      if element in known[i].elements:
        positions.append(i)
        at = i + 1
        break
    else:
      return ()
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
