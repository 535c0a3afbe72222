"""WordNet: built from database files, checked, found; the three ways of getting it, none of them online."""

import subprocess

import nltk
import pytest

from crosstrainer_jax.evaluation import wordnet
from tests.evaluation import tiny_wordnet


@pytest.fixture(autouse=True)
def nowhere(tmp_path, monkeypatch, closed_readers):
  """No WordNet of this machine is seen, and nothing is downloaded."""
  monkeypatch.setattr(nltk.data, 'path', [])
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
  monkeypatch.delenv('CROSSTRAINER_WORDNET', raising=False)
  monkeypatch.setattr(wordnet, 'INSTALLED', tmp_path / 'nothing')
  monkeypatch.setattr(subprocess, 'run', lambda *_, **__: pytest.fail('tests download nothing'))


def test_lexnames_are_those_of_wordnet():
  names = [name for name, _ in wordnet.LEXNAMES]
  assert len(names) == len(set(names)) == 45
  # anchors of lexnames(5WN)
  assert {names.index(n): n for n in ('adv.all', 'noun.Tops', 'noun.time', 'verb.body', 'verb.weather', 'adj.ppl')} == {
    2: 'adv.all', 3: 'noun.Tops', 28: 'noun.time', 29: 'verb.body', 43: 'verb.weather', 44: 'adj.ppl'
  }  # fmt: skip


def test_built_from_database_files_and_found(tmp_path, capsys):
  assert wordnet.find() is None
  source = tiny_wordnet.write(tmp_path / 'debian')
  assert wordnet.main(['--from', str(source)]) == 0
  assert str(wordnet.cache_folder()) in capsys.readouterr().out
  reader = wordnet.find()
  assert {lemma.name() for synset in reader.synsets('start') for lemma in synset.lemmas()} == {
    *('begin', 'start', 'commence', 'jump'),
  }
  assert [synset.lexname() for synset in reader.synsets('feet')] == ['noun.act']
  assert wordnet.obtain()


def test_files_are_missing_or_do_not_belong_together(tmp_path, capsys):
  source = tiny_wordnet.write(tmp_path / 'debian')
  (source / 'index.sense').unlink()
  with pytest.raises(FileNotFoundError, match=r'lacks index\.sense .* wordnet-sense-index'):
    wordnet.build(source)
  assert wordnet.main(['--from', str(source)]) == 1
  assert 'lacks index.sense' in capsys.readouterr().err
  tiny_wordnet.write(source)
  data = source / 'data.verb'
  data.write_text(data.read_text().replace('nobody.', 'nobody', 1))  # one byte less
  with pytest.raises(ValueError, match=r'index\.verb and data\.verb do not belong together'):
    wordnet.build(source)
  tiny_wordnet.write(source, version='3.1')
  with pytest.raises(ValueError, match=r'holds WordNet 3\.1, not 3\.0'):
    wordnet.build(source)
  assert wordnet.find() is None
  assert not list((wordnet.cache_folder() / 'corpora').iterdir())  # nothing half made is left


def test_another_version_is_not_taken(tmp_path, monkeypatch):
  target = tmp_path / 'data'
  wordnet.build(tiny_wordnet.write(tmp_path / 'debian'), target)
  monkeypatch.setattr(nltk.data, 'path', [str(target)])
  assert wordnet.find() is not None
  adjectives = target / 'corpora' / 'wordnet' / 'data.adj'
  adjectives.write_text(adjectives.read_text().replace('WordNet 3.0', 'WordNet 3.1'))
  assert wordnet.find() is None


def test_installed_files_are_used_before_the_network(tmp_path, monkeypatch, capsys):
  monkeypatch.setattr(wordnet, 'INSTALLED', tiny_wordnet.write(tmp_path / 'installed'))
  assert wordnet.obtain()
  assert 'built from' in capsys.readouterr().out


@pytest.mark.parametrize(('name', 'value'), [('HF_HUB_OFFLINE', '1'), ('CROSSTRAINER_WORDNET', 'off')])
def test_offline_nothing_is_tried(monkeypatch, name, value):
  monkeypatch.setenv(name, value)
  assert not wordnet.obtain()


@pytest.mark.parametrize('hangs', [True, False])
def test_a_download_that_hangs_or_fails_ends_in_a_line(monkeypatch, capsys, hangs):
  def run(command, timeout, **_):
    if hangs:
      raise subprocess.TimeoutExpired(command, timeout)
    return subprocess.CompletedProcess(command, 0)  # nltk says 0 where it got nothing

  monkeypatch.delenv('HF_HUB_OFFLINE', raising=False)
  monkeypatch.setattr(subprocess, 'run', run)
  assert not wordnet.obtain(timeout=0.1)
  assert 'METEOR is computed without synonyms' in capsys.readouterr().out
  assert not wordnet.obtain(timeout=0.1)
  assert capsys.readouterr().out == ''  # a second run in the same process does not wait again
  assert wordnet.main([]) == 1


def test_a_download_that_works(tmp_path, monkeypatch):
  def downloads(command, timeout, **_):
    assert command[1:3] == ['-m', 'nltk.downloader']
    wordnet.build(tiny_wordnet.write(tmp_path / 'there'), command[command.index('-d') + 1])

  monkeypatch.delenv('HF_HUB_OFFLINE', raising=False)
  monkeypatch.setattr(subprocess, 'run', downloads)
  assert wordnet.main([]) == 0
