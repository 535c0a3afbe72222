"""The verb, from a library to its report."""

import json

import numpy as np
import pytest

from crosstrainer_jax import represent, settings
from crosstrainer_jax.input.record import Clip

SMALL = ('represent.pool=3', 'represent.resamples=20', 'contrastive.epochs=2.0', 'contrastive.batch_size=8',
         'contrastive.width=16', 'contrastive.dim=16', 'tokenizer.vocab_size=300')  # fmt: skip


@pytest.fixture(scope='module')
def library(tmp_path_factory, write_dataset):
  """A data folder with a library of 24 clips by 4 channels."""
  rng = np.random.default_rng(0)

  def clip(number):
    video = f'v{number // 2}'
    return Clip(
      f'{video}/{number % 2:04d}', 'library', 'soccer', 'kick', f'channel {number // 6}', video, ['main'],
      frames=rng.integers(0, 255, (1, 16, 64, 64, 3)).astype(np.uint8),
      frame_times=np.arange(16, dtype=np.float32)[None] / 4,
      commentary=f'Keep number {number} in balance.', commentary_time=1.0, extra=json.dumps({'execution': 'correct'}),
    )  # fmt: skip

  folder = tmp_path_factory.mktemp('data')
  made = write_dataset(folder, {'train': [clip(n) for n in range(12)], 'test': [clip(n) for n in range(12, 24)]})
  made.parent.rename(folder / 'library')
  return folder


def test_a_library_becomes_a_report(library, tmp_path, capsys):
  config = settings.load_config('configs/sportskills.py:dataset=library', SMALL)
  config = config.copy_and_resolve_references().unlock()
  config.represent.rows = ('untrained', 'how-to narration')
  config.lock()
  made = represent.run(config, tmp_path / 'run', library)
  assert list(made.rows) == ['untrained', 'how-to narration']
  assert made.sports() == ['soccer']
  assert '12 test clips' in made.facts[0]
  for suffix in ('md', 'json', 'png'):
    assert (tmp_path / 'run' / f'representation.{suffix}').is_file()
  # what is trained is read back
  before = (tmp_path / 'run' / 'representation.json').read_text()
  capsys.readouterr()
  again = represent.run(config, tmp_path / 'run', library)
  assert 'updates in' not in capsys.readouterr().out
  assert json.loads(before)['rows'] == json.loads(again.to_json())['rows']
  other = config.copy_and_resolve_references().unlock()
  other.contrastive.dim = 8
  with pytest.raises(settings.SettingsError, match='holds a run of another config'):
    represent.run(other.lock(), tmp_path / 'run', library)


def test_a_plan_says_what_would_be_done(tmp_path):
  said = represent.plan(settings.load_config('configs/sportskills.py'), tmp_path / 'none')
  assert 'untrained, activity labels, how-to narration on howto' in said
  assert 'in pools of 50 within a sport' in said
