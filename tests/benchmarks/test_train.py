import importlib.util
import pathlib
import sys

import pytest

pytestmark = pytest.mark.parity
FILE = pathlib.Path(__file__).resolve().parents[2] / 'benchmarks' / 'train.py'
SMALL = '--size tiny --batch_size 6 --updates 2 --tokens 60 --row_tokens 256 --rank 4 --alternations 2'


# peft asks transformers for it by its old name
@pytest.mark.filterwarnings('ignore:`is_gradient_checkpointing` is deprecated:FutureWarning')
@pytest.mark.parametrize(('remat', 'memory'), [('none', '--memory'), ('full', '--no-memory')])
def test_a_small_run_ends_in_a_table(remat, memory, monkeypatch, capsys):
  """Loss and gradient of both sides agree, or it would exit with 1."""
  pytest.importorskip('torch')
  pytest.importorskip('peft')
  spec = importlib.util.spec_from_file_location('train_benchmark', FILE)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  monkeypatch.setattr(sys, 'argv', ['train.py', *SMALL.split(), '--remat', remat, memory])
  module.main()
  lines = capsys.readouterr().out.splitlines()
  assert [line.split('|')[1].strip() for line in lines[-3:]] == ['ours', 'padded', 'by length']
  assert all(float(line.split('|')[2].replace(',', '')) > 0 for line in lines[-3:])
  if memory == '--memory':
    assert all(int(line.split('|')[5].replace(',', '')) > 0 for line in lines[-3:])
