import pytest

from crosstrainer_jax import backends
from crosstrainer_jax.configs import compact
from crosstrainer_jax.discovery import rules
from crosstrainer_jax.discovery.backend import Attributes
from tests.discovery.chat_server import serving


def test_the_default_backend_is_found_by_name_and_answers():
  discoverer = backends.create('lexicon')
  assert discoverer.discover('You wobble', 'soccer') == Attributes([], ['balance'])
  assert discoverer.fingerprint == f'lexicon-{rules.fingerprint()}'


def test_an_unknown_backend_is_refused_with_the_known_names():
  with pytest.raises(ValueError, match="unknown discovery backend 'oracle'; known: lexicon, lexicon-phrases, local"):
    backends.create('oracle')


def test_a_new_backend_is_one_registry_line(monkeypatch):
  monkeypatch.setitem(backends.BACKENDS, 'also', backends.lexicon)
  assert backends.create('also').discover('', '') == Attributes()


def test_the_config_holds_the_settings_and_their_defaults():
  config = compact.preset().discovery
  assert backends.ModelSettings.of(config) == backends.ModelSettings()
  # another sample is for the verb alone
  assert {*backends.ModelSettings.__dataclass_fields__, 'backend'} - {*config} == {'seed'}


def test_a_server_by_its_settings(tmp_path, monkeypatch):
  monkeypatch.setenv('MY_KEY', 'secret')
  with serving() as server:
    settings = backends.ModelSettings(
      model='fake', base_url=server.url, api_key_env='MY_KEY', prompt='form', answers=str(tmp_path / 'a.sqlite')
    )
    discoverer = backends.create('openai', settings)
    assert discoverer.discover('Fine.', 'soccer') == Attributes()
    assert server.headers[0]['Authorization'] == 'Bearer secret'
    assert ':form-' in discoverer.fingerprint
    assert backends.describe(discoverer.asker) == (
      f'asking fake at {server.url}: temperature 0, at most 300 tokens; answers are kept in {tmp_path}/a.sqlite'
    )


def test_keys(monkeypatch, tmp_path):
  monkeypatch.delenv('OPENAI_API_KEY', raising=False)
  answers = str(tmp_path / 'a.sqlite')
  with pytest.raises(ValueError, match='export OPENAI_API_KEY'):
    backends.open_asker('openai', backends.ModelSettings(model='x', answers=answers))
  with pytest.raises(ValueError, match='export NO_KEY'):
    backends.open_asker(
      'openai', backends.ModelSettings(model='x', base_url='http://a/v1', api_key_env='NO_KEY', answers=answers)
    )
  # a server of one's own has none
  backends.open_asker('openai', backends.ModelSettings(model='x', base_url='http://a/v1', answers=answers))


def test_a_language_model_is_asked_for_where_there_is_none():
  with pytest.raises(ValueError, match='--backend lexicon has no language model; these have one: openai, local'):
    backends.open_asker('lexicon', backends.ModelSettings())
