import importlib.util
import pathlib
import sys

import numpy as np
import pytest

from tests.conftest import REAL_DATA

FILE = pathlib.Path(__file__).resolve().parents[2] / 'benchmarks' / 'prefix_floor.py'


@pytest.fixture(scope='module')
def prefix_floor():
  spec = importlib.util.spec_from_file_location('prefix_floor', FILE)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


def test_no_text_meets_a_copy_of_itself(prefix_floor):
  texts = [f'text {i % 20}' for i in range(60)]
  said = prefix_floor.strangers(texts, np.random.default_rng(0))
  assert sorted(said) == sorted(texts)
  assert not any(a == b for a, b in zip(said, texts, strict=True))


def test_texts_are_found_in_every_kind_of_file(prefix_floor, tmp_path):
  (tmp_path / 'a.json').write_text('{"x": [{"say": ["one", "two"]}, {"say": "three", "other": "four"}]}')
  (tmp_path / 'a.jsonl').write_text('{"say": "one"}\n\n{"say": "two"}\n')
  (tmp_path / 'a.txt').write_text('one\n\ntwo\n')
  assert prefix_floor.read(tmp_path / 'a.json', 'say') == ['one', 'two', 'three']
  assert (
    prefix_floor.read(tmp_path / 'a.jsonl', 'say') == prefix_floor.read(tmp_path / 'a.txt', 'say') == ['one', 'two']
  )
  with pytest.raises(ValueError, match='0 different texts under'):
    prefix_floor.read(tmp_path / 'a.jsonl', 'commentary')


def test_the_floor_is_far_higher_with_the_prefix(prefix_floor, monkeypatch, capsys):
  monkeypatch.setattr(sys, 'argv', ['prefix_floor.py', '--texts', '80', '--seeds', '2'])
  prefix_floor.main()
  stripped, kept = capsys.readouterr().out.splitlines()[-2:]
  assert stripped.startswith('| embedded world | 80 |')
  low, high = (float(line.split('|')[5].split()[0]) for line in (stripped, kept))
  assert low < 15 < 30 < high


@pytest.mark.real
def test_the_floor_of_real_texts_is_the_one_that_is_told(prefix_floor, monkeypatch, capsys):
  """The figures in docs/metrics.md and in the note of every report."""
  file = REAL_DATA / 'free_exercise_db' / 'exercises.json'
  options = ['--key', 'instructions', '--words', '18', '24', '--seeds', '1']
  monkeypatch.setattr(sys, 'argv', ['prefix_floor.py', str(file), *options])
  prefix_floor.main()
  kept = capsys.readouterr().out.splitlines()[-1].split('|')
  assert kept[2:5] == [' 689 ', ' 20.8 ', ' prefix-kept ']
  assert [float(kept[column].split()[0]) for column in (5, 7)] == pytest.approx([42, 50], abs=0.5)
