import importlib.util
import pathlib
import sys

import pytest

FILE = pathlib.Path(__file__).resolve().parents[2] / 'benchmarks' / 'shared_prefix.py'
SMALL = ['--size', 'tiny', '--batch', '2', '--seconds', '2', '--alternations', '2', '--prefill_only']


@pytest.fixture(scope='module')
def shared_prefix():
  spec = importlib.util.spec_from_file_location('shared_prefix', FILE)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


def test_help(shared_prefix, monkeypatch, capsys):
  monkeypatch.setattr(sys, 'argv', ['shared_prefix.py', '--help'])
  with pytest.raises(SystemExit, match='0'):
    shared_prefix.main()
  assert '--feedback_tokens' in capsys.readouterr().out


def test_a_small_run_ends_in_a_table(shared_prefix, monkeypatch, capsys):
  monkeypatch.setattr(sys, 'argv', ['shared_prefix.py', *SMALL])
  shared_prefix.main()
  *_, head, _, prefill = capsys.readouterr().out.splitlines()
  assert head.startswith('| tokens written |')
  assert prefill.startswith('| 1 + 1 |')
