"""A prepared run: no word of the held-out sport before the test, clips without commentary, video for the readers."""

import dataclasses
import pickle
import shutil

import numpy as np
import pytest

from crosstrainer_jax import backends, provenance
from crosstrainer_jax.discovery.backend import Attributes
from crosstrainer_jax.discovery.language_model import Unreadable
from crosstrainer_jax.input import examples, pipeline
from crosstrainer_jax.input.source import ClipSource
from crosstrainer_jax.run import _readable, _spoken, _warn_of_small_frames, open_run, training_texts
from crosstrainer_jax.training import stages


def test_the_tokenizer_never_reads_the_held_out_sport(run):
  texts = ' '.join(training_texts(run.clips, run.split.train)).lower()
  held_out = {clip.sport for clip in (run.clips[i] for i in run.split.test)}
  assert held_out == {'soccer'}
  assert 'soccer' not in texts
  assert 'penalty' not in texts
  assert 'basketball' in texts


def test_reader_processes_can_be_given_the_video(run):
  index = run.split.train[0]
  for zeroed in (False, True):
    video = dataclasses.replace(run.video, zeroed=zeroed)
    sent = pickle.dumps(video)
    # arrays of JAX would wake up its devices in every reader
    assert b'jax._src' not in sent
    assert b'jaxlib' not in sent
    copy = pickle.loads(sent)
    np.testing.assert_array_equal(copy(index)['features'], video(index)['features'])
    assert video(index)['features'].any() != zeroed
  frames = dataclasses.replace(run.video, cache=None)
  seen = pickle.loads(pickle.dumps(frames))(index)
  assert seen['frames'].shape == (3, 16, 64, 64, 3)
  assert seen['frames_valid'].all()


def test_reader_processes_can_be_given_the_updates(run):
  stage = pipeline.Stage(
    run.clips, run.split.train, [pipeline.Task(examples.ATTRIBUTES, 1)], run.text, 0.2, run.seconds
  )  # fmt: skip
  updates = stages._updates(stage, run.video, run.config.training, 0, 2, run.mesh)
  copy = pickle.loads(pickle.dumps(updates))
  for name, value in updates(1).items():
    np.testing.assert_array_equal(copy(1)[name], value)


def test_clips_without_commentary_are_left_out_and_said(run, capsys):
  clips = ClipSource(run.source.directory).infos()
  for index in run.split.train[:3]:
    clips[index].commentary = '  '
  kept = _spoken(clips, run.split)
  assert kept.train == run.split.train[3:]
  assert '3 training clips without commentary' in capsys.readouterr().out


class HalfDeaf:
  """Reads no comment on soccer."""

  fingerprint = 'half deaf'

  def discover(self, commentary, sport):
    raise AssertionError

  def discover_many(self, comments):
    for number, (_, sport) in enumerate(comments):
      yield number, Unreadable('it rambles') if sport == 'soccer' else Attributes([], ['balance'])


def test_clips_without_a_readable_answer_are_said_and_not_taken_for_faultless(run, tmp_path, monkeypatch, capsys):
  shutil.copytree(run.workdir / 'tokenizer', tmp_path / 'run' / 'tokenizer')
  monkeypatch.setitem(backends.BACKENDS, 'lexicon', lambda settings: HalfDeaf())
  config = provenance.recorded_config(run.workdir)
  with config.unlocked():
    config.split.setting, config.split.held_out = 'FS', ''
  again = open_run(config, tmp_path / 'run', run.source.directory)
  shown = capsys.readouterr().out
  soccer = [i for i, clip in enumerate(again.clips) if clip.sport == 'soccer' and clip.commentary.strip()]
  assert soccer
  assert f'{len(soccer)} clips have no readable answer' in shown
  assert 'train clips have no readable answer of discovery and are left out' in shown
  parts = {*again.split.train, *again.split.validation, *again.split.test}
  assert parts
  assert not parts & {*soccer}
  # the next start of the run asks nobody about them
  monkeypatch.setitem(backends.BACKENDS, 'lexicon', lambda settings: HalfDeafOnce())
  assert open_run(config, tmp_path / 'run', run.source.directory).split == again.split


class HalfDeafOnce(HalfDeaf):
  def discover_many(self, comments):
    assert not comments
    yield from ()


def test_the_parts_lose_unread_clips(run, capsys):
  lost = run.split.test[:2] + run.split.train[:1]
  kept = _readable(run.clips, run.split, {run.clips[i].clip_id for i in lost})
  assert kept.train == run.split.train[1:]
  assert kept.validation == run.split.validation
  assert kept.test == run.split.test[2:]
  shown = capsys.readouterr().out
  assert f'1 of {len(run.split.train)} train clips' in shown
  assert f'2 of {len(run.split.test)} test clips' in shown


def test_small_frames_are_said_once_where_an_encoder_takes_any_size(run, capsys):
  _warn_of_small_frames(run.source, run.video_encoder)
  assert not capsys.readouterr().out
  for size, warned in ((64, False), (96, True)):
    config = dataclasses.replace(run.video_encoder.config, image_size=size)
    _warn_of_small_frames(run.source, dataclasses.replace(run.video_encoder, resizes=True, config=config))
    shown = capsys.readouterr().out
    assert ('have 64 x 64 pixels and are enlarged' in shown and '--size 96' in shown) == warned, shown


def test_nothing_to_learn_from_is_an_error(run):
  clips = ClipSource(run.source.directory).infos()
  for clip in clips:
    clip.commentary = ''
  with pytest.raises(ValueError, match='no training clip has commentary'):
    _spoken(clips, run.split)
