"""Panels: every published figure is in one, and each cell knows the runs that answer to it."""

import dataclasses
import math

import pytest

from crosstrainer_jax.configs.sweeps import SKILLS
from crosstrainer_jax.evaluation import panels, published
from crosstrainer_jax.evaluation.panels import Place


def of(item, dataset='egoexo4d'):
  return panels.panels(item, dataset, SKILLS[dataset])


@pytest.mark.parametrize('item', published.ITEMS)
def test_every_figure_of_an_item_is_in_a_panel(item):
  cells = [cell for cell in published.of_item(item) if cell.item != 'table 4 right']
  shown = [
    value
    for dataset in {cell.dataset for cell in cells}
    for panel in of(item, dataset)
    for row in panel.rows
    for value in panel.published[row]
  ]
  assert sorted(shown) == sorted(cell.value for cell in cells)


def test_columns_of_each_kind():
  assert [panel.columns for panel in of('table 1')] == [
    ['IoU@0.7'], ['BLEU-4', 'METEOR', 'ROUGE-L'], ['basketball', 'soccer', 'rock climbing'],
  ]  # fmt: skip
  figure = of('figure 4')
  assert len(figure) == 10
  assert figure[0].columns == ['FS', 'ZS-1', 'ZS-2', 'ZS-3']
  assert figure[0].places['CrossTrainer'][3] == Place('ZS-3', '', 'dribbling')
  assert figure[0].published['CrossTrainer'] == [24.51, 21.30, 20.91, 18.90]
  assert of('table 1')[2].places['EgoVLPv2'][1] == Place('FS', 'soccer')


def test_a_sport_trains_for_its_own_skill_without_it():
  (matrix,) = of('figure 5')
  assert matrix.places['soccer'][0] == Place('ZS-2', 'soccer', 'dribbling')
  assert matrix.places['soccer'][2] == Place('SPORT', '', 'mikan layup', 'soccer')
  assert matrix.metrics == ['METEOR'] * 5


def test_on_other_data_figure_6_shows_its_sports():
  found = panels.panels('figure 6', 'skillsim', SKILLS['skillsim'])
  assert [panel.title for panel in found[:2]] == ['Figure 6, soccer, IoU@0.7', 'Figure 6, basketball, IoU@0.7']
  assert len(found) == 8
  assert all(math.isnan(value) for panel in found for row in panel.rows for value in panel.published[row])
  assert found[1].places['CrossTrainer'] == [Place(setting, 'basketball') for setting in ('FS', 'ZS-1', 'ZS-2', 'ZS-3')]
  # where the paper has one of two datasets, the other's panels are left out
  assert {panel.dataset for panel in of('table 3', 'qevd')} == {'qevd'}
  assert {panel.dataset for panel in panels.panels('table 3', 'skillsim', SKILLS['skillsim'])} == {'egoexo4d', 'qevd'}


@dataclasses.dataclass
class Run:
  setting: str
  source: str = ''
  other: bool = False
  tested: tuple = (('soccer', 'dribbling'), ('soccer', 'penalty kick'))


def test_which_runs_serve_a_place():
  assert Place('FS').serves(Run('FS'))
  assert Place('ZS-1', 'soccer').serves(Run('ZS-1'))
  assert not Place('ZS-1', '', 'mikan layup').serves(Run('ZS-1'))
  assert not Place('ZS-1', 'basketball').serves(Run('ZS-1'))
  assert not Place('ZS-2').serves(Run('ZS-1'))
  assert Place('SPORT', '', 'dribbling', 'basketball').serves(Run('SPORT', 'basketball'))
  assert not Place('SPORT', '', 'dribbling', 'basketball').serves(Run('SPORT', 'fitness'))
  assert not Place('FS').serves(Run('FS', other=True))
  assert Place('FS', other=True).serves(Run('FS', other=True))
  assert panels.describe(Place('SPORT', '', 'dribbling', 'basketball')) == 'SPORT from basketball to dribbling'
  assert panels.is_other('FS-other-seed0')
  assert not panels.is_other('FS-seed0')
