"""The verb `features`: estimate, several hosts, a config, and answers to mistakes."""

import numpy as np
import pytest

from crosstrainer_jax import features as verb
from crosstrainer_jax.inference import encoding, second_encoding
from crosstrainer_jax.input.record import Clip
from crosstrainer_jax.input.second_features import SecondStore
from crosstrainer_jax.input.source import ClipSource
from crosstrainer_jax.models import encoders
from tests.models import hub_directories
from tests.overlapping_clips import FPS, imported, write_manifest


@pytest.fixture(scope='module')
def encoder_directory(tmp_path_factory):
  return hub_directories.write_clip(tmp_path_factory.mktemp('clip'))


@pytest.fixture
def dataset(tmp_path):
  return imported(write_manifest(tmp_path), tmp_path, 'lean', '--without_frames')


def plan_of(dataset, encoder):
  source = ClipSource(dataset)
  clips = source.infos()
  encoding.to_common_shape(clips, encoder)
  return second_encoding.make_plan(source, clips, encoder)


def test_the_verb_estimates_and_shares_the_work(dataset, encoder_directory, capsys, monkeypatch):
  monkeypatch.setattr(second_encoding, 'BLOCK', 4)
  plan = plan_of(dataset, encoders.load(encoder_directory, fps=FPS))
  command = [str(dataset), '--encoder', str(encoder_directory), '--fps', str(FPS), '--batch_size', '4']
  verb.main([*command, '--estimate'])
  said = capsys.readouterr().out
  assert '14 seconds of video, 14 of them not encoded yet' in said
  assert 'GB and' in said
  assert len(plan.missing()) == 14
  verb.main([*command, '--host', '0', '--hosts', '2'])
  assert len(SecondStore(plan.directory)) == 8
  verb.main([*command, '--host', '1', '--hosts', '2'])
  assert plan.missing() == []
  verb.main(command)
  assert '0 seconds encoded' in capsys.readouterr().out


@pytest.fixture
def whole_clips(tmp_path, write_dataset):
  """A dataset for the encoder that comes with the package, which sees whole clips."""
  frames = np.zeros((1, 8, 64, 64, 3), np.uint8)
  times = np.arange(8, dtype=np.float32)[None] / 4
  return write_dataset(tmp_path, {'train': [Clip('c', 'tiny', 'golf', 'putt', 'p', 't', ['a'], frames, times)]})


def test_whole_clips_are_estimated_too(whole_clips, capsys):
  verb.main([str(whole_clips), '--batch_size', '8', '--estimate'])
  assert 'GB and' in capsys.readouterr().out
  assert not list(whole_clips.glob('features-*'))
  with pytest.raises(SystemExit, match='--hosts: video_transformer sees whole clips'):
    verb.main([str(whole_clips), '--host', '0', '--hosts', '2'])


def test_a_config_says_what_its_runs_read(dataset, encoder_directory, capsys):
  """The paper's preset computes in bfloat16: features of other types are not those of its runs."""
  encoder = [str(encoder_directory), '--fps', str(FPS)]
  verb.main([str(dataset), '--encoder', *encoder, '--batch_size', '8'])
  capsys.readouterr()
  paper = ['--config', f'configs/cross_sport.py:paper,dataset={dataset.parent.name}', '--data_dir']
  paper += [str(dataset.parent.parent), f'--config.encoder.weights={encoder_directory}', f'--config.encoder.fps={FPS}']
  verb.main([*paper, '--estimate'])
  said = capsys.readouterr().out
  half = encoders.load(encoder_directory, fps=FPS, dtype='bfloat16')
  assert f'store: {dataset.parent}/features-{half.fingerprint}-letterbox' in said
  assert '14 of them not encoded yet' in said
  assert 'of no use here: dtype float32, here bfloat16' in said
  verb.main([*paper, '--config.encoder.dtype=float32'])
  assert '0 seconds encoded' in capsys.readouterr().out


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ([], 'name a prepared dataset, or a config'),
    (['--config.seed=3'], '--config.seed=3: of which config'),
    (['mine', '--config', 'configs/cross_sport.py'], 'mine: the config says which dataset'),
    (['--config', 'configs/cross_sport.py', '--fps', '2'], '--fps: the config says it'),
    (['--config', 'configs/cross_sport.py', '--config.encoder.source=frames'], 'its runs read no features'),
    (['--config', 'configs/pretrain_encoder.py'], 'no run of this config reads features'),
    (['--config', 'configs/cross_sport.py', '--config.encoder.weihgts=x'], 'did you mean'),
  ],
)
def test_a_config_that_does_not_fit_is_answered(options, message):
  with pytest.raises(SystemExit, match=message):
    verb.main(options)


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    (['--batch_size', '-3'], '--batch_size is -3, not at least 1'),
    (['--batch_size', '0'], '--batch_size is 0, not at least 1'),
    (['--host', '2', '--hosts', '2'], '--host and --hosts go together'),
    (['--host', '1'], '--host and --hosts go together'),
    (['--encoder', '/no/such'], 'no such file or directory'),
    (['--fps', '3'], 'clips of 2 frames a second, but the encoder takes 3'),
  ],
)
def test_the_verb_answers_mistakes(dataset, encoder_directory, options, message):
  with pytest.raises(SystemExit, match=message):
    verb.main([str(dataset), '--encoder', str(encoder_directory), *options])
