"""METEOR with and without synonyms equals nltk's; a WordNet on disk is used."""

import functools

import nltk
import pytest
from nltk.translate.meteor_score import meteor_score

from crosstrainer_jax.evaluation import meteor, wordnet
from crosstrainer_jax.evaluation.meteor import NoSynonyms
from tests.evaluation import tiny_wordnet

FIND = meteor.synonyms  # before the fixture of this folder replaces it


@pytest.fixture
def with_wordnet(tmp_path, monkeypatch, closed_readers):
  """A WordNet of few words in nltk's path."""
  monkeypatch.setattr(nltk.data, 'path', [str(tmp_path)])
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'none'))
  wordnet.build(tiny_wordnet.write(tmp_path / 'files'), tmp_path)
  reader = wordnet.find()
  monkeypatch.setattr(meteor, 'synonyms', lambda: ('METEOR', reader))
  return reader


PAIRS = [
  ('begin the kick near the feet', 'start the kick close to the foot'),
  ('start', 'jump'),
  ('the ball', ''),
  ('', 'the ball'),
  ('rapidly kicking kicks kicked', 'quickly kick the kicking kick'),
  ('BALL Ball', 'ball'),
]


@pytest.mark.parametrize(('said', 'expected'), PAIRS)
def test_equals_nltk_with_wordnet(with_wordnet, said, expected):
  a, b = tuple(said.split()), tuple(expected.split())
  assert meteor.meteor(a, b) == pytest.approx(meteor_score([b], a, wordnet=with_wordnet), abs=1e-12)


def test_synonyms_count_only_with_wordnet_and_the_two_are_not_mixed_up(with_wordnet, monkeypatch):
  said, expected = ('begin', 'the', 'kick', 'today'), ('start', 'the', 'kick', 'today')
  full = meteor.meteor(said, expected)
  assert meteor.variant().startswith('METEOR: ')
  monkeypatch.setattr(meteor, 'synonyms', lambda: ('METEOR-es', NoSynonyms()))
  assert meteor.meteor(said, expected) < full
  assert meteor.column() == 'METEOR-es'
  assert 'without WordNet' in meteor.variant()


@pytest.mark.parametrize('there', [False, True])
def test_the_column_says_what_was_found(tmp_path, monkeypatch, closed_readers, there):
  monkeypatch.setattr(nltk.data, 'path', [str(tmp_path)])
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'none'))
  if there:
    wordnet.build(tiny_wordnet.write(tmp_path / 'files'), tmp_path)
  name, _ = functools.cache(FIND.__wrapped__)()
  assert name == ('METEOR' if there else 'METEOR-es')
