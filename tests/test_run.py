"""A prepared run: no word of the held-out sport before the test, clips without commentary, video for the readers."""

import dataclasses
import pickle

import numpy as np
import pytest

from crosstrainer_jax.input.source import ClipSource
from crosstrainer_jax.run import _spoken, _warn_of_small_frames, training_texts


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


def test_clips_without_commentary_are_left_out_and_said(run, capsys):
  clips = ClipSource(run.source.directory).infos()
  for index in run.split.train[:3]:
    clips[index].commentary = '  '
  kept = _spoken(clips, run.split)
  assert kept.train == run.split.train[3:]
  assert '3 training clips without commentary' in capsys.readouterr().out


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
