"""The registry: what the rest of the project asks of a dataset, and how little a new one must have."""

import sys
import types

import ml_collections
import numpy as np
import pytest

from crosstrainer_jax import datasets
from crosstrainer_jax.input.source import ClipInfo
from crosstrainer_jax.input.splits import Split

CLIP = ClipInfo(
  'c0', 'soccer', 'penalty kick', 'ann', 't0', 'train', ['a'], 'Comment.', np.zeros((1, 2)), [], [], [], False, -1
)


def data(**values):
  return ml_collections.ConfigDict(values)


@pytest.fixture
def penalties(monkeypatch, tmp_path):
  """A family of one module, as CONTRIBUTING.md shows it; what its builder was asked."""
  asked = []

  def prepare(data_dir, **settings):
    asked.append((data_dir, settings))
    return types.SimpleNamespace(data_dir=tmp_path / 'penalties' / '1.0.0')

  package, builder = types.ModuleType('penalties'), types.ModuleType('penalties.builder')
  package.__path__, builder.prepare = [str(tmp_path)], prepare
  monkeypatch.setitem(sys.modules, 'penalties', package)
  monkeypatch.setitem(sys.modules, 'penalties.builder', builder)
  monkeypatch.setitem(datasets.FAMILIES, 'penalties', 'penalties')
  return asked


def test_a_builder_alone_is_a_dataset(penalties, tmp_path):
  config = data(dataset='penalties')
  assert datasets.prepare(config, tmp_path) == tmp_path / 'penalties' / '1.0.0'
  assert penalties == [(tmp_path, {})]
  assert datasets.nouns(config, [CLIP]) == {'soccer', 'penalty', 'kick'}
  assert datasets.ceiling(config, [CLIP], Split([0], [], [0])) is None
  assert not datasets.simulated(config)


def test_its_settings_are_a_group_of_the_config(penalties, tmp_path):
  datasets.prepare(data(dataset='penalties', penalties={'season': 3}), tmp_path)
  assert penalties == [(tmp_path, {'season': 3})]


def test_the_embedded_world_is_simulated_and_has_nouns_of_its_own():
  config = data(dataset='skillsim')
  assert datasets.simulated(config)
  assert datasets.nouns(config, [CLIP]) > {'soccer', 'penalty', 'kick'}


def test_own_videos_are_real_and_must_be_imported(tmp_path):
  config = data(dataset='mine')
  assert not datasets.simulated(config)
  assert datasets.ceiling(config, [CLIP], Split([0], [], [0])) is None
  with pytest.raises(FileNotFoundError, match=r'no dataset .mine.*prepare MANIFEST --name mine'):
    datasets.prepare(config, tmp_path)
  for version in ('1.0.0', '1.1.0'):
    (tmp_path / 'mine' / version).mkdir(parents=True)
    (tmp_path / 'mine' / version / 'dataset_info.json').touch()
  assert datasets.prepare(config, tmp_path) == tmp_path / 'mine' / '1.1.0'
