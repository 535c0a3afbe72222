import importlib.util
import pathlib
import sys

FILE = pathlib.Path(__file__).resolve().parents[2] / 'benchmarks' / 'save_time.py'
SMALL = '--megabytes 1 --saves 2 --updates 2'


def test_a_small_run_measures_saves_and_a_restart(monkeypatch, capfd, tmp_path):
  spec = importlib.util.spec_from_file_location('save_time', FILE)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  monkeypatch.setattr(sys, 'argv', ['save_time.py', *SMALL.split(), '--directory', str(tmp_path)])
  module.main()
  said = capfd.readouterr().out
  rows = [line.split(', s')[0].strip() for line in said.splitlines() if ', s ' in line]
  assert rows == [
    'update', 'update while saving', 'held up', 'written',
    'imports', 'a fresh state', 'reading', 'compiling, first update', 'together',
  ]  # fmt: skip
  assert said.startswith('1 MB of state, 2 saves\n')
