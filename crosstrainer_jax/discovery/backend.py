"""The interface of attribute discovery (paper, section 3.3).

A backend reads one commentary and answers with the two lists that the paper asks a language model for: the concepts
that the expert calls correct and those that the expert calls incorrect. A new backend is one file, and one line in
`BACKENDS` of `crosstrainer_jax/backends.py`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Protocol, runtime_checkable

from crosstrainer_jax.discovery.language_model import Unreadable


@dataclasses.dataclass(frozen=True)
class Attributes:
  """Skill-attributes of one commentary, in the order of mention; no phrase is in both lists."""

  correct: list[str] = dataclasses.field(default_factory=list)
  incorrect: list[str] = dataclasses.field(default_factory=list)


class Discoverer(Protocol):
  """Turns commentary into attributes.

  `fingerprint` names the backend and everything that decides its answers (rules, model, prompt): stored answers are
  used again only where it is the same.
  """

  fingerprint: str

  def discover(self, commentary: str, sport: str) -> Attributes:
    """Attributes of one `commentary` on a drill of `sport`; both lists are empty if it names none."""
    ...


@runtime_checkable
class ManyDiscoverer(Discoverer, Protocol):
  """A backend that reads several comments at a time."""

  def discover_many(self, comments: Sequence[tuple[str, str]]) -> Iterator[tuple[int, Attributes | Unreadable]]:
    """The number of each comment (text, sport) with its attributes, or why there are none, as they are done."""
    ...


def discover_each(
  discoverer: Discoverer, comments: Sequence[tuple[str, str]]
) -> Iterator[tuple[int, Attributes | Unreadable]]:
  """The number of each comment (text, sport) with its attributes, or why there are none, as they are done."""
  if isinstance(discoverer, ManyDiscoverer):
    yield from discoverer.discover_many(comments)
    return
  for number, comment in enumerate(comments):
    yield number, discoverer.discover(*comment)
