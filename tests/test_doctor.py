"""The verb `doctor`; what it finds of each dataset is tested with the dataset."""

import types

import pytest

from crosstrainer_jax import datasets
from crosstrainer_jax import doctor as verb
from crosstrainer_jax.datasets.takes.findings import Finding


@pytest.fixture
def one_dataset(monkeypatch):
  """A registry of one dataset, whose doctor finds what the test says."""
  found: list = []

  def examine(options):
    if isinstance(found[0], Exception):
      raise found[0]
    return found

  doctor = types.SimpleNamespace(add_options=lambda parser: parser.add_argument('root'), examine=examine)
  monkeypatch.setitem(datasets.SOURCES, 'mine', 'mine')
  real = verb.importlib.import_module
  monkeypatch.setattr(
    verb.importlib, 'import_module', lambda name: doctor if name == 'mine.doctor' else real(name)
  )  # fmt: skip
  return found


def test_findings_decide_the_status(one_dataset, capsys):
  one_dataset += [Finding('there', 'a.json', '3 MB'), Finding('absent', 'b.json', '', 'get b')]
  verb.main(['mine', '/data'])
  assert capsys.readouterr().out == '      ok  a.json: 3 MB\n       -  b.json\n          get b\n'
  one_dataset.append(Finding('missing', 'videos', '2 files', 'rm x\nget x'))
  with pytest.raises(SystemExit) as caught:
    verb.main(['mine', '/data'])
  assert caught.value.code == 1
  assert capsys.readouterr().out.endswith(' MISSING  videos: 2 files\n          rm x\n          get x\n')


def test_a_mistake_is_a_message(one_dataset, capsys):
  one_dataset.append(FileNotFoundError('/data: no such folder'))
  with pytest.raises(SystemExit, match='error: /data: no such folder'):
    verb.main(['mine', '/data'])
  with pytest.raises(SystemExit) as caught:
    verb.main(['nothing'])
  assert caught.value.code == 2
  assert 'invalid choice' in capsys.readouterr().err


def test_help_names_every_dataset(capsys):
  for arguments in ([], ['egoexo4d'], ['expertaf']):
    with pytest.raises(SystemExit) as caught:
      verb.main([*arguments, '--help'])
    assert caught.value.code == 0
  out = capsys.readouterr().out
  assert all(name in out for name in datasets.SOURCES)
