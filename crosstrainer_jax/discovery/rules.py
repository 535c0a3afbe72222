"""The rule files of the lexicon backend: lexicon.toml, cues.toml, syntax.toml."""

import functools
import hashlib
import importlib.resources
import tomllib
from typing import Any

_FOLDER = importlib.resources.files('crosstrainer_jax.discovery')
_SOURCES = ['lexicon.toml', 'cues.toml', 'syntax.toml', 'phrases.py', 'clauses.py', 'polarity.py', 'lexicon.py']


@functools.cache
def load(name: str) -> dict[str, Any]:
  """The content of the rule file `name`."""
  return tomllib.loads(_FOLDER.joinpath(name).read_text(encoding='utf-8'))


def word_set(name: str) -> frozenset[str]:
  """One of the closed word classes of syntax.toml."""
  return frozenset(load('syntax.toml')[name].split())


@functools.cache
def fingerprint() -> str:
  """Hash of the rules and of the code that applies them: answers of other rules are not taken for these."""
  digest = hashlib.sha256()
  for name in _SOURCES:
    digest.update(_FOLDER.joinpath(name).read_bytes())
  return digest.hexdigest()[:10]
