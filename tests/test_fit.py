"""The verb `fit`: flags, sources of its numbers, exit status, and answers to mistakes. Nothing is compiled here."""

import json

import numpy as np
import pytest

from crosstrainer_jax import fit
from crosstrainer_jax.input.record import Clip

PAPER = 'configs/cross_sport.py:paper'


@pytest.fixture(autouse=True)
def environment(monkeypatch):
  from crosstrainer_jax.planning import topologies

  monkeypatch.setattr(topologies, 'prepare_environment', lambda: None)


def test_the_papers_config_with_nothing_downloaded(capsys, tmp_path):
  fit.main([PAPER, '--topology', 'h100:8', '--analytic', '--clips', '34000', '--data_dir', str(tmp_path)])
  said = capsys.readouterr().out
  assert 'L 8,030.3 M, adapters 335.5 M, f_m 33.6 M parameters' in said
  assert 'meta-llama/Llama-3.1-8B-Instruct as published' in said
  assert 'assumed: change them with --views' in said
  assert '128 clips' in said
  assert 'train step: fits' in said
  # 2 epochs of 34,000 comments, 128 an update
  assert 'stage II   532 updates' in said


def test_settings_and_lengths_are_changed_as_for_a_run(capsys, tmp_path):
  arguments = [PAPER, '--topology=v5e:2x4', '--analytic', '--json', '--train_only', '--views', '2', '--seconds', '4']
  fit.main([*arguments, '--config.training.batch_size=32', '--data_dir', str(tmp_path)])
  data = json.loads(capsys.readouterr().out)
  assert data['update']['clips'] == 32
  assert 'batch_size=32' in data['config']
  assert data['sources']['clip'].startswith('views, seconds given; the rest assumed')
  assert data['generation'] is None
  assert data['update']['real_tokens'] == 32 * (8 + 65 + 40)


def test_a_prepared_dataset_is_where_lengths_are_from(capsys, write_dataset, tmp_path):
  times = np.arange(12, dtype=np.float32)[None].repeat(3, 0) / 4
  frames = np.zeros((3, 12, 2, 2, 3), np.uint8)
  record = Clip('c', 'written', 'golf', 'putt', 'p', 't', ['a'] * 3, frames, times, commentary='Bend your knees.')
  directory = write_dataset(tmp_path, {'train': [record]})
  fit.main(['configs/cross_sport.py:dataset=written', '--topology=h100:1', '--analytic', '--data_dir', str(tmp_path)])
  said = capsys.readouterr().out
  assert '3 views × 3 s = 9 video tokens' in said
  assert str(directory) in said
  assert 'assumed' not in said


def test_what_does_not_fit_has_its_own_status_and_a_remedy(capsys, tmp_path):
  with pytest.raises(SystemExit) as exit:
    fit.main([PAPER, '--topology=24gb:1', '--analytic', '--train_only', '--data_dir', str(tmp_path)])
  assert exit.value.code == fit.NOT_FITTING
  said = capsys.readouterr().out
  assert 'does not fit, short by' in said
  assert 'try --config' in said
  assert '--config.decoder.quantize=nf4' in said


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    ([PAPER, '--topology=v9:2x2'], 'no machine that is known here'),
    ([PAPER, '--topology=h100:8', '--config.training.batch=3'], 'unknown setting --config.training.batch'),
    ([PAPER, '--topology=h100:8', '--config.decoder.weights=someone/else'], 'Its config.json is enough'),
    ([PAPER, '--topology=h100:8', '--config.mesh=(1,3,1)'], 'does not cover the 8 chips'),
    ([PAPER, '--topology=h100:8', '--seconds=4000'], 'longer than a row'),
    (['configs/pretrain_encoder.py', '--topology=h100:8'], 'trains no L'),
  ],
)
def test_mistakes_are_messages(arguments, message, tmp_path):
  with pytest.raises(SystemExit, match=message):
    fit.main([*arguments, '--analytic', '--data_dir', str(tmp_path)])


def test_help_shows_how(capsys):
  with pytest.raises(SystemExit):
    fit.main(['--help'])
  said = capsys.readouterr().out
  assert 'configs/cross_sport.py:paper --topology v5e:2x4' in said
  assert 'Status: 0 where all programs fit, 3 where one does not' in said
