"""METEOR (Banerjee & Lavie 2005; parameters of Lavie & Agarwal 2007) by nltk: exact, stem, then synonym matches.

The last step needs WordNet; without its data it is empty, and the column is called METEOR-es (exact and stem).
"""

from __future__ import annotations

import functools
from typing import Any

import nltk
from nltk.stem.porter import PorterStemmer
from nltk.translate.meteor_score import single_meteor_score

from crosstrainer_jax.evaluation import wordnet


class NoSynonyms:
  """A WordNet without entries, so that nltk's METEOR runs its exact and stem steps only."""

  def synsets(self, word: str) -> list[Any]:
    return []


class Remembered:
  """nltk's stemmer and a WordNet; what was looked up of a word is kept, since texts repeat their words."""

  def __init__(self, reader: Any):
    self.synsets = functools.lru_cache(maxsize=1 << 15)(reader.synsets)
    self.stem = functools.lru_cache(maxsize=1 << 15)(PorterStemmer().stem)


@functools.cache
def synonyms() -> tuple[str, Any]:
  """(column name, synonym source): METEOR with WordNet where its data can be read, else METEOR-es without synonyms."""
  reader = wordnet.find()
  return ('METEOR-es', NoSynonyms()) if reader is None else ('METEOR', reader)


def column() -> str:
  """The name under which METEOR stands in a table."""
  return synonyms()[0]


def variant() -> str:
  """One line: what was computed."""
  how = f'nltk {nltk.__version__}'
  if column() == 'METEOR':
    return f'METEOR: {how} with WordNet {wordnet.VERSION}, mean over clips'
  return (
    f'METEOR-es: {how} without WordNet (nltk finds no complete corpora/wordnet; get it by '
    'python -m crosstrainer_jax.evaluation.wordnet): exact and stem matches, no synonyms'
  )


def meteor(said: tuple[str, ...], reference: tuple[str, ...]) -> float:
  """METEOR of words against words, 0 … 1."""
  return _meteor(said, reference, column())


_remembered = functools.cache(Remembered)


@functools.lru_cache(maxsize=1 << 17)
def _meteor(said: tuple[str, ...], reference: tuple[str, ...], name: str) -> float:
  del name  # for the cache: with and without synonyms are two scores
  known = _remembered(synonyms()[1])
  return float(single_meteor_score(reference, said, stemmer=known, wordnet=known))
