"""The published figures: complete, in range, and consistent with what the paper says of them in words."""

import collections

import pytest

from crosstrainer_jax.evaluation import published


def value(**where):
  found = [cell.value for cell in published.cells() if all(getattr(cell, k) == v for k, v in where.items())]
  assert len(found) == 1, where
  return found[0]


def test_every_table_and_figure_is_there_once():
  counts = collections.Counter(cell.item for cell in published.cells())
  assert counts == {
    'table 3': 54, 'table 1b': 30, 'table 1c': 18, 'table 1d': 6, 'table 4 left': 24, 'table 4 right': 3,
    'figure 4': 120, 'figure 5': 15, 'figure 6': 120, 'section 4.4': 1,
  }  # fmt: skip
  where = [(c.item, c.row, c.dataset, c.setting, c.sport, c.skill, c.metric) for c in published.cells()]
  assert len(set(where)) == len(where)
  assert all(0 < cell.value < 100 for cell in published.cells())


def test_drops_are_those_that_the_paper_prints():
  """Figure 4 prints the relative drop from FS beside its points, in whole percent, rounded down."""
  printed = {
    ('dribbling', 'IoU@0.7', 'CrossTrainer'): (13, 14, 22),
    ('mid-range jump shot', 'IoU@0.7', 'ExpertAF'): (15, 18, 48),
    ('penalty kick', 'METEOR', 'InternVideo2-FT'): (3, 3, 11),
  }
  for (skill, metric, row), drops in printed.items():
    points = {
      setting: value(item='figure 4', skill=skill, metric=metric, row=row, setting=setting)
      for setting in ('FS', 'ZS-1', 'ZS-2', 'ZS-3')
    }
    found = tuple(int(100 * (1 - points[setting] / points['FS'])) for setting in ('ZS-1', 'ZS-2', 'ZS-3'))
    assert found == drops, (skill, metric, row)


def test_claims_of_the_text_follow_from_the_tables():
  iou = {'item': 'table 3', 'metric': 'IoU@0.7', 'dataset': 'egoexo4d'}
  assert value(row='CrossTrainer', **iou) / value(row='ExpertAF', **iou) == pytest.approx(1.71, abs=0.005)
  rouge = {'item': 'table 1c', 'metric': 'ROUGE-L'}
  assert value(row='CrossTrainer', **rouge) / value(row='Stream-VLM', **rouge) == pytest.approx(1.616, abs=0.001)


def test_table_one_takes_one_column_of_table_three():
  found = published.of_item('table 1')
  assert {cell.metric for cell in found if cell.item == 'table 3'} == {'IoU@0.7'}
  assert len(found) == 18 + 30 + 18 + 6
  assert {cell.item for item in published.ITEMS for cell in published.of_item(item)} == (
    {cell.item for cell in published.cells()} - {'section 4.4'}
  )
