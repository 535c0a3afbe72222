import pytest

from crosstrainer_jax.discovery import backend, rules


def test_the_default_backend_is_found_by_name_and_answers():
  discoverer = backend.create('lexicon')
  assert discoverer.discover('You wobble', 'soccer') == backend.Attributes([], ['balance'])
  assert discoverer.fingerprint == f'lexicon-{rules.fingerprint()}'


def test_an_unknown_backend_is_refused_with_the_known_names():
  with pytest.raises(ValueError, match="unknown discovery backend 'oracle'; known: lexicon"):
    backend.create('oracle')


def test_a_new_backend_is_one_registry_line(monkeypatch):
  monkeypatch.setitem(backend.BACKENDS, 'also', 'crosstrainer_jax.discovery.lexicon:LexiconDiscoverer')
  assert backend.create('also').discover('', '') == backend.Attributes()
