"""Configs that earlier versions have recorded are read as what their runs were."""

import json

import pytest

from crosstrainer_jax import settings
from crosstrainer_jax.input.recorded_config import completed, recorded_config

# Settings that the first version did not have.
LATER = ('encoder.revision', 'encoder.fps', 'encoder.dtype', 'lora', 'mapper', 'training.frozen')


def as_before(config, later=LATER):
  """The values of a config as they were recorded without the settings `later`."""
  values = json.loads(json.dumps(config.to_dict()))
  for path in later:
    *groups, key = path.split('.')
    group = values
    for name in groups:
      group = group[name]
    del group[key]
  return values


@pytest.mark.parametrize(
  ('config', 'later'),
  [
    ('configs/cross_sport.py', LATER),
    ('configs/cross_sport.py:paper', ('decoder.quantize', 'decoder.quantize_tile', 'lora.weights')),
    ('configs/cross_sport.py', ('contrastive', 'init', 'split.shots')),
    ('configs/cross_sport.py', ()),
  ],
)
def test_what_came_later_means_as_before(config, later, tmp_path):
  config = settings.load_config(config)
  (tmp_path / 'config.json').write_text(json.dumps(as_before(config, later)))
  found = recorded_config(tmp_path)
  assert settings.dump(found) == settings.dump(config)
  assert found.is_locked


def test_what_was_recorded_wins_and_pretraining_has_no_l():
  values = as_before(settings.load_config('configs/cross_sport.py', ['lora.alpha=4.0', 'mapper.whiten=false']), ())
  assert completed(values) == values
  values = settings.load_config('configs/pretrain_encoder.py').to_dict()
  assert completed(values) == values


def test_a_folder_without_a_run_is_refused(tmp_path):
  with pytest.raises(FileNotFoundError, match='is not the folder of a run: it has no config.json'):
    recorded_config(tmp_path)
