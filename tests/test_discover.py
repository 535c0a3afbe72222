import os

import pytest

from crosstrainer_jax import discover
from crosstrainer_jax.discovery import dataset


def make(folder):
  folder.mkdir(parents=True)
  (folder / 'dataset_info.json').write_text('{}')
  return folder


def test_find_dataset_by_name_by_folder_and_by_a_folder_above(tmp_path):
  folder = make(tmp_path / 'skillsim' / 'tiny' / '1.0.0')
  assert discover.find_dataset('skillsim', str(tmp_path)) == folder
  assert discover.find_dataset(str(folder), 'elsewhere') == folder
  assert discover.find_dataset(str(folder.parent), 'elsewhere') == folder


def test_find_dataset_refuses_none(tmp_path):
  with pytest.raises(FileNotFoundError, match="no prepared dataset 'skillsim'.*prepare"):
    discover.find_dataset('skillsim', str(tmp_path))


@pytest.mark.parametrize('newest', ['a', 'b', 'c'])
def test_find_dataset_takes_the_newest_of_several_and_says_so(tmp_path, capsys, newest):
  for config in 'abc':
    folder = make(tmp_path / 'skillsim' / config / '1.0.0')
    seconds = 2000 if config == newest else 1000
    os.utime(folder / 'dataset_info.json', (seconds, seconds))
  chosen = tmp_path / 'skillsim' / newest / '1.0.0'
  assert discover.find_dataset('skillsim', str(tmp_path)) == chosen
  assert f'reading {chosen}, the newest of 3' in capsys.readouterr().out


def test_a_text_is_answered_in_two_lines(capsys):
  discover.main(['--text', 'Great balance, but your knees are too straight.'])
  assert capsys.readouterr().out == 'Correct - balance\nIncorrect - knee bend\n'
  discover.main(['--text', ''])
  assert capsys.readouterr().out == 'Correct - none\nIncorrect - none\n'


def test_a_dataset_is_read_and_reported(tmp_path, monkeypatch, capsys):
  folder = make(tmp_path / 'skillsim' / '1.0.0')
  called = []

  def record(*arguments):
    called.append(arguments)
    return dataset.Report(arguments[1], clips=3, silent=1)

  monkeypatch.setattr(discover, 'discover_dataset', record)
  discover.main(['--dataset', 'skillsim', '--data_dir', str(tmp_path), '--output', 'a.jsonl', '--limit', '3'])
  assert called == [(folder, 'a.jsonl', 'lexicon', 3)]
  assert '3 clips: 1 without commentary' in capsys.readouterr().out


def test_errors_are_messages(tmp_path):
  with pytest.raises(SystemExit, match='error: no prepared dataset'):
    discover.main(['--dataset', 'nothing', '--data_dir', str(tmp_path)])
  with pytest.raises(SystemExit, match='error: .*none.toml'):
    discover.main(['--grammar-check', str(tmp_path / 'none.toml')])


def test_one_task_must_be_given():
  with pytest.raises(SystemExit):
    discover.main([])


def test_the_embedded_grammar_is_understood(capsys):
  grammar = pytest.importorskip('crosstrainer_jax.datasets.skillsim.grammar')
  counts = discover.check_grammar(str(grammar.DEFAULT), 'lexicon', clips_per_sport=100)
  assert '400 comments' in capsys.readouterr().out
  assert len(grammar.NAMES) == 8
  for name in grammar.NAMES:
    assert counts[name].f1 > 0.8, name
