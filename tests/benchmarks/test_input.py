import importlib.util
import pathlib
import sys

import pytest

FILE = pathlib.Path(__file__).resolve().parents[2] / 'benchmarks' / 'input.py'
SMALL = '--clips 24 --views 2 --seconds 3 --width 16 --batch_size 8 --row_tokens 512 --threads 2 --repeats 2'


@pytest.mark.parametrize('store', ['clips', 'seconds'])
def test_a_small_run_ends_in_a_table(store, monkeypatch, capsys):
  spec = importlib.util.spec_from_file_location('input_benchmark', FILE)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  monkeypatch.setattr(sys, 'argv', ['input.py', *SMALL.split(), '--store', store])
  module.main()
  *_, packed, head, _, row = capsys.readouterr().out.splitlines()
  assert packed.startswith('feedback: 8 clips an update in ')
  assert head.startswith('| threads | clips/s |')
  assert float(row.split('|')[2].replace(',', '')) > 0
