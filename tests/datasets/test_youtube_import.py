"""A folder of downloaded videos to records and to a training step, and what the doctor says of it."""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import shlex

import numpy as np
import pytest

from crosstrainer_jax import doctor as doctor_verb
from crosstrainer_jax import prepare as prepare_verb
from crosstrainer_jax.datasets.takes.findings import Finding, well
from crosstrainer_jax.datasets.youtube import doctor, transcript
from crosstrainer_jax.input.source import ClipSource
from tests.datasets.egoexo4d_release import write_video
from tests.datasets.test_youtube import INFO, json3, vtt
from tests.datasets.training_step import one_update


@pytest.fixture(scope='session')
def video(tmp_path_factory) -> pathlib.Path:
  """Twenty seconds, five frames a second; frame i is of grey 2 i."""
  return write_video(tmp_path_factory.mktemp('video') / 'video.mp4')


@pytest.fixture
def root(tmp_path: pathlib.Path, video: pathlib.Path) -> pathlib.Path:
  """Videos of six channels, with captions as the site recognises them."""
  found = tmp_path / 'videos'
  found.mkdir()
  for number in range(6):
    stem = f'Lesson {number}. Throw! [id{number}]'
    os.link(video, found / f'{stem}.mp4')
    info = INFO | {
      'id': f'id{number}',
      'channel_id': f'UC{number}',
      'duration': 20,
      'webpage_url': f'https://y/{number}',
    }
    (found / f'{stem}.info.json').write_text(json.dumps(info))
    cues = [(1.0, '[Music]', 0.0), (4.0, 'Bend your knees more.', 0.9), (12.0, 'Keep the elbow high.', 0.8)]
    (found / f'{stem}.en.json3').write_text(json3(cues))
  return found


def test_narration_becomes_clips_and_trains(root, tmp_path, capsys):
  place = tmp_path / 'datasets'
  options = ['--sport', 'Frisbee', '--skill', 'forehand', '--mu1', '2', '--mu2', '2']
  prepare_verb.main(['youtube', '--root', str(root), '--data_dir', str(place), *options])
  source = ClipSource(place / 'youtube' / '1.0.0')
  clips = {clip.clip_id: clip for clip in (source[i] for i in range(len(source)))}
  assert len(clips) == 12
  clip = clips['id3/0001']
  assert (clip.sport, clip.skill, clip.participant, clip.take) == ('frisbee', 'forehand', 'UC3', 'id3')
  assert (clip.commentary, clip.expert) == ('Keep the elbow high.', 'Coach Kim')
  np.testing.assert_allclose(clip.window, [10, 14], atol=1e-3)
  np.testing.assert_allclose(clip.frames[0].mean((1, 2, 3)), 10 * clip.frame_times[0], atol=3)
  assert json.loads(clip.extra)['confidence'] == 0.8
  assert f'6 × cue: {transcript.SOUND}' in capsys.readouterr().out
  one_update(place / 'youtube' / '1.0.0', tmp_path / 'run', 'split.held_out=')


def test_a_sport_must_be_told(root, tmp_path):
  with pytest.raises(SystemExit, match='--sport'):
    prepare_verb.main(['youtube', '--root', str(root), '--data_dir', str(tmp_path / 'datasets')])


def examined(root: pathlib.Path, languages: str = 'en') -> tuple[list[Finding], str]:
  found = doctor.examine(argparse.Namespace(root=str(root), languages=languages))
  return found, '\n'.join(f'{f.state} {f.what}: {f.detail}\n{f.remedy}' for f in found)


def test_a_whole_folder_is_well(root):
  found, text = examined(root)
  assert well(found)
  assert '6 whole' in text
  assert '6 with captions' in text
  doctor_verb.main(['youtube', str(root)])


def test_what_is_missing_or_half_there(root, capsys):
  names = sorted(root.glob('*.mp4'))
  content = names[0].read_bytes()
  names[0].unlink()
  names[0].write_bytes(content[:2000])
  names[1].rename(f'{names[1]}.part')
  names[2].with_suffix('.en.json3').unlink()
  names[2].with_suffix('.de.vtt').write_text(vtt([(1, 'Nein.')]))
  names[3].with_suffix('.info.json').write_text('{"id":')
  names[4].with_suffix('.info.json').unlink()
  (root / 'List.info.json').write_text('{"_type": "playlist"}')
  found, text = examined(root)
  states = {f.what: f.state for f in found}
  assert states == {
    'videos': 'there', 'videos that are not whole': 'broken', 'videos without captions': 'absent',
    'info.json': 'absent', 'playlists': 'absent', 'other files': 'broken',
  }  # fmt: skip
  assert '4 whole' in text
  assert '3 with captions' in text
  assert 'Lesson 0. Throw! [id0].mp4 (ends early' in text
  assert 'Lesson 1. Throw! [id1].mp4.part (half)' in text
  assert "whisper '" in text
  assert '-- https://y/0 https://y/1\n' in text
  with pytest.raises(SystemExit):
    doctor_verb.main(['youtube', str(root)])
  assert 'BROKEN  videos that are not whole' in capsys.readouterr().out


def test_the_command_makes_a_folder_that_can_be_imported(tmp_path):
  found, _ = examined(tmp_path / 'not yet')
  assert [f.state for f in found] == ['missing']
  words = shlex.split(found[0].remedy)
  assert words[0] == 'yt-dlp'
  assert words[-2:] == ['--', 'URL']
  for option in ('--write-info-json', '--write-subs', '--write-auto-subs'):
    assert option in words
  assert words[words.index('--sub-format') + 1].startswith('json3/')
  assert words[words.index('--sub-langs') + 1] == 'en.*,-live_chat'
  assert words[words.index('-o') + 1] == f'{tmp_path}/not yet/%(title).150B [%(id)s].%(ext)s'


def test_addresses_of_strangers_are_quoted():
  command = doctor.command(pathlib.Path('/v'), ['en'], ['https://x/?v=$(rm -rf ~)'])
  assert shlex.split(command)[-1] == 'https://x/?v=$(rm -rf ~)'
  assert len(shlex.split(command)) == len(shlex.split(doctor.command(pathlib.Path('/v'), ['en'], [])))
