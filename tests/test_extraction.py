"""Feedback is read by what read the commentary."""

import json

import pytest

from crosstrainer_jax import backends, settings
from crosstrainer_jax.discovery.language_model import Unreadable
from crosstrainer_jax.extraction import Extractor
from tests.discovery.fake_model import FakeModel, text_of


def extractor(backend, **changes):
  overrides = [f'discovery.backend={backend}', *(f'discovery.{name}={value}' for name, value in changes.items())]
  return Extractor(settings.load_config('configs/in_domain.py', overrides))


def test_rules_read_names_or_phrases():
  text = 'Your knees stay too straight.'
  assert extractor('lexicon')(text) == ['knee bend']
  assert extractor('lexicon-phrases')(text) == ['knees straight']
  assert extractor('lexicon')('') == []


def test_names_take_the_place_of_phrases(tmp_path):
  path = tmp_path / 'names.json'
  path.write_text(json.dumps({'method': 'by hand', 'phrases': {'knees straight': 'stiff legs'}}))
  assert extractor('lexicon-phrases', canonical=path)('Your knees stay too straight.') == ['stiff legs']


@pytest.fixture
def model(monkeypatch):
  """Reads a fault in every text but one."""

  def answer(question):
    if 'nonsense' in text_of(question):
      return Unreadable('no two lines')
    return 'Correct - none\nIncorrect - timing'

  model = FakeModel(answer)
  monkeypatch.setitem(backends.MODELS, 'openai', lambda settings: model)
  return model


def test_a_language_model_is_asked_once_for_each_text(model, tmp_path, capsys):
  read = extractor('openai', model='any', retries=0, answers=str(tmp_path / 'answers.sqlite'))
  read.prepare(['Late.', 'nonsense', 'Late.', ''])
  asked = len(model.questions)
  assert asked == 2
  assert '1 of 2 texts have no readable answer, which counts as wrong' in capsys.readouterr().out
  assert (read('Late.'), read('nonsense'), read('')) == (['timing'], None, [])
  assert len(model.questions) == asked
  assert read('Late again.') == ['timing']


def test_a_backend_is_opened_only_to_read(monkeypatch):
  def refuse(settings):
    raise ValueError('no key')

  monkeypatch.setitem(backends.MODELS, 'openai', refuse)
  read = extractor('openai', model='any')
  read.prepare(['', ' '])
  with pytest.raises(ValueError, match='no key'):
    read('Late.')
