import importlib.util
import pathlib
import sys

import pytest

pytestmark = pytest.mark.parity
pytest.importorskip('torch')

FILE = pathlib.Path(__file__).resolve().parents[2] / 'benchmarks' / 'generation_speed.py'
SMALL = ['--size', 'tiny', '--prompt', '16', '--new', '64', '--alternations', '2', '--batch', '3']


@pytest.fixture(scope='module')
def generation_speed():
  spec = importlib.util.spec_from_file_location('generation_speed', FILE)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


def test_help(generation_speed, monkeypatch, capsys):
  monkeypatch.setattr(sys, 'argv', ['generation_speed.py', '--help'])
  with pytest.raises(SystemExit, match='0'):
    generation_speed.main()
  assert '--alternations' in capsys.readouterr().out


def test_a_small_run_ends_in_a_table(generation_speed, monkeypatch, capsys):
  monkeypatch.setattr(sys, 'argv', ['generation_speed.py', *SMALL])
  generation_speed.main()
  *_, head, _, dynamic, static = capsys.readouterr().out.splitlines()
  assert head.startswith('| batch |')
  assert dynamic.startswith('| 3 | float32 | dynamic |')
  assert static.startswith('| 3 | float32 | static |')
  assert dynamic.endswith('| 100 % |')
