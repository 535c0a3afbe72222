import pathlib

import pytest

from crosstrainer_jax.discovery import rules


def test_word_classes_are_sets_of_words():
  assert {'bend', 'keep'} <= rules.word_set('imperatives')
  with pytest.raises(KeyError):
    rules.word_set('no such class')


def test_every_word_class_is_used():
  sources = ''.join(path.read_text() for path in pathlib.Path(rules.__file__).parent.glob('*.py'))
  assert [name for name in rules.load('syntax.toml') if f"'{name}'" not in sources] == []


def test_fingerprint_follows_the_rules(monkeypatch):
  before = rules.fingerprint()
  rules.fingerprint.cache_clear()
  assert rules.fingerprint() == before
  rules.fingerprint.cache_clear()
  monkeypatch.setattr(rules, '_SOURCES', rules._SOURCES[:-1])
  assert rules.fingerprint() != before
  rules.fingerprint.cache_clear()
