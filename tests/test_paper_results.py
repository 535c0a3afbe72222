"""Tables and figures as they are printed and written, from a few finished runs."""

import pytest

from crosstrainer_jax import paper_results
from tests.evaluation.finished_runs import write_run

SKILLS = [('soccer', 'dribbling'), ('basketball', 'mikan layup')]


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  folder = tmp_path_factory.mktemp('sweep')
  write_run(folder / 'FS-seed0', 'configs/in_domain.py', SKILLS, {'CrossTrainer': 6, 'random': 2, '70 % noise': 3})
  write_run(folder / 'ZS-1-dribbling-seed0', 'configs/cross_skill.py:held_out=dribbling', SKILLS[:1], {'random': 1})
  (folder / 'unfinished').mkdir()
  return folder


def test_a_table_is_printed_and_written(folder, tmp_path, capsys):
  page = tmp_path / 'results.md'
  page.write_text('# Results\n\n<!-- eval:table-1 -->\n<!-- end -->\n\nafter\n')
  paper_results.publish('table 1', 'skillsim', folder, [page])
  out, text = capsys.readouterr().out, page.read_text()
  for said in (
    'Finished runs: 1, seeds 0, of 16 test clips each',
    'Hardware: two abaci',
    'not comparable',
    'sweep settings --dataset=skillsim',
    'Table 1b, Ego-Exo4D',
  ):
    assert said in out
    assert said in text
  assert '| CrossTrainer | 25.7 | 75.0 [' in text
  assert 'this row was not run' in text
  assert text.endswith('<!-- end -->\n\nafter\n')


def test_a_figure_is_drawn_beside_the_page(folder, tmp_path):
  page = tmp_path / 'results.md'
  page.write_text('<!-- eval:figure-4 -->\n<!-- end -->\n')
  paper_results.publish('figure 4', 'skillsim', folder, [page])
  assert '![figure 4](figure-4.png)' in page.read_text()
  assert (tmp_path / 'figure-4.png').stat().st_size > 10_000


def test_without_runs_the_error_says_how_to_train_them(tmp_path):
  with pytest.raises(FileNotFoundError, match='no finished run here. Train them: python -m crosstrainer_jax.sweep'):
    paper_results.publish('table 1', 'skillsim', tmp_path, [])
