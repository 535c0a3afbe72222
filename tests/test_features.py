"""The verb `features`: estimate, several hosts, and answers to mistakes."""

import pytest

from crosstrainer_jax import features as verb
from crosstrainer_jax.inference import encoding, second_encoding
from crosstrainer_jax.input import second_features
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
  monkeypatch.setattr(second_features, 'PART', 4)
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


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    (['--host', '2', '--hosts', '2'], '--host and --hosts go together'),
    (['--host', '1'], '--host and --hosts go together'),
    (['--encoder', '/no/such'], 'no such file or directory'),
    (['--fps', '3'], 'clips of 2 frames a second, but the encoder takes 3'),
  ],
)
def test_the_verb_answers_mistakes(dataset, encoder_directory, options, message):
  with pytest.raises(SystemExit, match=message):
    verb.main([str(dataset), '--encoder', str(encoder_directory), *options])
