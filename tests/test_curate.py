"""The verb: what is typed, and what is said."""

# ruff: noqa: F811  (fixtures are imported)

import shutil

import pytest

from crosstrainer_jax import curate
from tests.curation.conftest import curated, howto  # noqa: F401  (fixtures)


def test_from_sports_to_the_command_of_a_download(tmp_path, capsys, monkeypatch):
  monkeypatch.chdir(tmp_path)
  (tmp_path / 'sports.csv').write_text('sport,skill\njudo,hip throw\n')
  curate.main(['queries', 'sports.csv', '--words', 'tutorial,drills'])
  said = capsys.readouterr().out
  assert 'queries.csv, 2 searches' in said
  assert "'ytsearch50:judo hip throw tutorial'" in said
  assert 'curate run videos --queries queries.csv' in said
  assert ',judo,hip throw,judo hip throw drills' in (tmp_path / 'queries.csv').read_text()


def test_steps_can_be_looked_at(curated, capsys):
  curate.main(['show', str(curated), 'demonstrated', '-n', '3'])
  assert capsys.readouterr().out.count('\n') == 3
  curate.main(['show', str(curated), 'actionable', '--dropped', '-n', '2'])
  assert 'not actionable' in capsys.readouterr().out
  curate.main(['show', str(curated), 'sentences', '--dropped'])
  assert 'dropped: captions in another language' in capsys.readouterr().out


def test_a_run_says_what_it_did(howto, tmp_path, capsys):
  place = tmp_path / 'library'
  command = ['run', str(howto), '--table', str(howto / 'table.csv'), '--output', str(place), '--longest', '4']
  curate.main([*command, '--until', 'actionable', '--without_records'])
  assert 'actionable' in capsys.readouterr().out
  assert not (place / 'manifest.parquet').exists()
  curate.main([*command, '--without_records'])
  said = capsys.readouterr().out
  assert 'shards are finished already (resumed)' in said
  assert 'Against the truth' in said
  assert (place / 'report.md').is_file()


@pytest.mark.parametrize(
  ('arguments', 'says'),
  [
    (['run', 'nowhere', '--sport', 'judo', '--output', 'x'], 'no such folder'),
    (['run', '.', '--output', 'x'], 'nothing tells the sport'),
    (['run', '.', '--sport', 'judo', '--output', 'x', '--estimate'], 'ask nobody'),
    (['run', '.', '--sport', 'judo', '--output', 'x', '--longest', '0'], '--longest'),
    (['show', '.', 'actionable'], 'no curation here'),
    (['audit', '.', '--gate', 'actionable'], 'no curation here'),
    (['world', '--output', 'x', '--videos', '0'], 'at least 1'),
    (['queries', 'sports.csv'], 'no such list'),
    (['run', 'nowhere', '--sport', 'judo', '--output', 'x', '--estimate', '--actionable', 'rules'], 'ask nobody'),
    (['run', '.', '--sport', 'judo', '--output', 'x', '--until', 'window', '--beam_options', '--a'], '--until is for'),
  ],
)
def test_a_mistake_ends_with_one_line(arguments, says, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  with pytest.raises(SystemExit, match='error: ') as error:
    curate.main(arguments)
  assert says in str(error.value)


def test_a_world_says_what_comes_next(tmp_path, capsys):
  place = tmp_path / 'howto'
  curate.main(['world', '--output', str(place), '--videos', '1'])
  assert 'next: python -m crosstrainer_jax.curate run' in capsys.readouterr().out
  shutil.rmtree(place)
