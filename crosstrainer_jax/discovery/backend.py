"""The interface of attribute discovery, and the registry of what can stand behind it (paper, section 3.3).

A backend reads one commentary and answers with the two lists that the paper asks a language model for: the concepts
that the expert calls correct and those that the expert calls incorrect. A new backend is one file and one line in
`BACKENDS`.
"""

import dataclasses
import importlib
from typing import Protocol


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


# Name -> 'module:constructor'. Imported on first use, so that nobody pays for the dependencies of other backends.
BACKENDS = {
  'lexicon': 'crosstrainer_jax.discovery.lexicon:LexiconDiscoverer',
}


def create(name: str) -> Discoverer:
  """The backend called `name`; raises ValueError with the known names otherwise."""
  if name not in BACKENDS:
    raise ValueError(f'unknown discovery backend {name!r}; known: {", ".join(sorted(BACKENDS))}')
  module, constructor = BACKENDS[name].split(':')
  discoverer: Discoverer = getattr(importlib.import_module(module), constructor)()
  return discoverer
