import os

import pytest

from crosstrainer_jax import discover
from crosstrainer_jax.discovery import condense, dataset
from crosstrainer_jax.discovery.language_model import Unreadable
from crosstrainer_jax.discovery.lexicon import LexiconDiscoverer
from crosstrainer_jax.input.record import Clip
from tests.discovery.chat_server import serving, text_of


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


COMMENTS = ['So your knees are straight', 'Look at the balance', '', 'gibberish', 'Look at the balance']


def behaviour(request):
  text = text_of(request)
  if 'gibberish' in text:
    return 'Pardon?'
  if 'Remark:' in text:
    return 'Bend them.'
  return f'Correct - none\nIncorrect - {text.split("expert says:")[1].split()[-1]}'


@pytest.fixture(scope='module')
def clips(write_dataset, tmp_path_factory):
  made = [Clip(f'c{i}', 'd', 'soccer', 'pass', 'p', f't{i}', commentary=text) for i, text in enumerate(COMMENTS)]
  return write_dataset(tmp_path_factory.mktemp('data'), {'train': made})


def by_a_server(server, clips, folder, *more):
  place = ['--output', str(folder / 'a.jsonl'), '--answers', str(folder / 'a.sqlite')]
  command = ['--dataset', str(clips), '--backend', 'openai', '--base-url', server.url, '--model', 'm', *place, *more]
  discover.main(command)


def test_a_dataset_is_read_and_reported(clips, tmp_path, capsys):
  discover.main(['--dataset', str(clips), '--output', str(tmp_path / 'a.jsonl'), '--limit', '2'])
  assert '2 clips: 0 without commentary' in capsys.readouterr().out
  assert set(dataset.read_attributes(tmp_path / 'a.jsonl')) == {'c0', 'c1'}


def test_a_dataset_by_a_language_model(clips, tmp_path, capsys):
  with serving(behaviour) as server:
    by_a_server(server, clips, tmp_path, '--estimate', '--price_out', '1')
    shown = capsys.readouterr()
    # two comments are the same
    assert '3 calls to make; 0 answers are kept already' in shown.out
    assert 'price: about' in shown.out
    assert f'asking m at {server.url}: temperature 0' in shown.err
    assert not server.requests
    assert not (tmp_path / 'a.jsonl').exists()

    by_a_server(server, clips, tmp_path, '--retries', '1')
    text = capsys.readouterr().out
    assert '1 clips have no readable answer' in text
    assert 'c3: no line Correct' in text
    assert 'soccer: balance (2), straight (1)' in text
    assert '4 questions asked now, 0 answered from' in text
    assert len(server.requests) == 4

    by_a_server(server, clips, tmp_path, '--retries', '1', '--canonical', 'lexicon')
    text = capsys.readouterr().out
    assert '0 questions asked now, 2 answered from' in text
    assert 'canonical (lexicon-' in text
    assert (tmp_path / 'a.canonical.json').is_file()
    by_a_server(server, clips, tmp_path, '--retries', '1', '--estimate')
    assert '0 calls to make; 2 answers' in capsys.readouterr().out
    assert len(server.requests) == 4


def test_comments_are_condensed(clips, tmp_path, capsys):
  with serving(behaviour) as server:
    by_a_server(server, clips, tmp_path, '--condense', '--estimate')
    assert '3 calls to make' in capsys.readouterr().out
    by_a_server(server, clips, tmp_path, '--condense', '--retries', '0')
    assert '4 condensed now' in capsys.readouterr().out
  assert condense.read_condensed(tmp_path / 'a.jsonl')['c0'].text == 'Bend them.'
  with pytest.raises(SystemExit, match='--backend lexicon has no language model'):
    discover.main(['--dataset', str(clips), '--condense'])


def test_files_are_compared(clips, tmp_path, capsys):
  pytest.importorskip('matplotlib')
  with serving(behaviour) as server:
    by_a_server(server, clips, tmp_path)
  discover.main(['--dataset', str(clips), '--output', str(tmp_path / 'lexicon.jsonl')])
  files = [str(tmp_path / 'a.jsonl'), str(tmp_path / 'lexicon.jsonl')]
  discover.main(['--compare', *files, '--similarity', 'exact', '--report', str(tmp_path / 'report')])
  assert 'Agreement of incorrect attributes' in capsys.readouterr().out
  assert {path.name for path in (tmp_path / 'report').iterdir()} == {'attributes.md', 'attributes.png'}


def test_an_interruption_says_how_to_go_on(monkeypatch, capsys):
  def interrupt(options):
    raise KeyboardInterrupt

  monkeypatch.setattr(discover, '_dataset', interrupt)
  with pytest.raises(SystemExit) as stop:
    discover.main(['--dataset', 'x'])
  assert stop.value.code == 130
  assert 'what is answered is kept' in capsys.readouterr().err


def test_errors_are_messages(tmp_path):
  with pytest.raises(SystemExit, match='error: no prepared dataset'):
    discover.main(['--dataset', 'nothing', '--data_dir', str(tmp_path)])
  with pytest.raises(SystemExit, match='error: .*none.toml'):
    discover.main(['--grammar-check', str(tmp_path / 'none.toml')])
  with pytest.raises(SystemExit, match='error: --estimate: the backend lexicon asks nobody'):
    discover.main(['--dataset', str(make(tmp_path / 'd')), '--estimate'])
  with pytest.raises(SystemExit, match="error: no prompt 'none'"):
    discover.main(['--text', 'x', '--backend', 'openai', '--prompt', 'none'])


def test_one_task_must_be_given():
  with pytest.raises(SystemExit):
    discover.main([])


def test_a_grammar_is_read_by_a_language_model(capsys, tmp_path):
  grammar = pytest.importorskip('crosstrainer_jax.datasets.skillsim.grammar')

  class Deaf:
    fingerprint = 'deaf'

    def discover(self, commentary, sport):
      raise AssertionError

    def discover_many(self, comments):
      for number in reversed(range(len(comments))):
        yield number, Unreadable('no') if number % 2 else LexiconDiscoverer().discover(*comments[number])

  counts = discover.check_grammar(str(grammar.DEFAULT), Deaf(), clips_per_sport=20)
  assert '40 of them have no readable answer' in capsys.readouterr().out
  total = [sum(getattr(count, field) for count in counts.values()) for field in ('hits', 'misses')]
  # every second comment is missed, and the others are understood
  assert 0.35 < total[0] / sum(total) < 0.65


def test_the_embedded_grammar_is_understood(capsys):
  grammar = pytest.importorskip('crosstrainer_jax.datasets.skillsim.grammar')
  counts = discover.check_grammar(str(grammar.DEFAULT), LexiconDiscoverer(), clips_per_sport=100)
  assert '400 comments' in capsys.readouterr().out
  assert len(grammar.NAMES) == 8
  for name in grammar.NAMES:
    assert counts[name].f1 > 0.8, name
