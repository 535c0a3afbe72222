"""Pictures of the figures: written, of a sensible size, and with every line."""

import numpy as np
import pytest
from PIL import Image

from crosstrainer_jax.configs.sweeps import SKILLS
from crosstrainer_jax.evaluation import figures, panels
from crosstrainer_jax.evaluation.finished import read_finished
from crosstrainer_jax.extraction import reading_of
from tests.evaluation.finished_runs import write_run

pytest.importorskip('matplotlib')
SOCCER = [('soccer', 'dribbling'), ('soccer', 'penalty kick')]


@pytest.fixture(scope='module')
def runs(tmp_path_factory):
  folder = tmp_path_factory.mktemp('sweep')
  rows = {'CrossTrainer': 6, 'random': 2}
  write_run(folder / 'FS', 'configs/in_domain.py', SOCCER, rows)
  write_run(folder / 'ZS-3', 'configs/cross_sport.py:held_out=soccer', SOCCER, rows)
  write_run(folder / 'SPORT', 'configs/cross_skill.py:setting=SPORT,source=basketball', SOCCER, rows)
  return [read_finished(path, reading_of) for path in sorted(folder.iterdir())]


@pytest.mark.parametrize('item', ['figure 4', 'figure 5', 'figure 6'])
def test_a_picture_is_drawn(runs, tmp_path, item):
  found = panels.panels(item, 'skillsim', SKILLS['skillsim'])
  path = figures.draw(found, runs, 'Title', tmp_path / 'pictures' / 'figure.png')
  picture = np.asarray(Image.open(path).convert('RGB'))
  assert min(picture.shape[:2]) > 300
  assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 20


def test_missing_runs_leave_gaps_and_a_missing_row_is_not_drawn(runs):
  from matplotlib.figure import Figure

  axis = Figure().subplots()
  figures.curve(axis, panels.panels('figure 4', 'skillsim', SKILLS['skillsim'])[0], runs, 'ours')
  lines = {container.get_label(): np.asarray(container[0].get_ydata(), float) for container in axis.containers}
  assert set(lines) == {'CrossTrainer', 'random'}
  assert np.isfinite(lines['CrossTrainer']).tolist() == [True, False, False, True]
