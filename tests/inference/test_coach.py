"""The coach on a video file."""

import dataclasses
import json

import av
import ml_collections
import numpy as np
import pytest

import crosstrainer_jax
from crosstrainer_jax.inference.assessment import Assessor
from crosstrainer_jax.inference.trained import Card


def write_video(path, seconds, size=(96, 64), fps=10):
  with av.open(str(path), 'w', options={'movflags': 'faststart'}) as container:
    stream = container.add_stream('mpeg4', rate=fps)
    stream.width, stream.height, stream.pix_fmt = *size, 'yuv420p'
    for number in range(round(seconds * fps)):
      image = np.full((size[1], size[0], 3), 40, np.uint8)
      image[10:50, (number * 3) % 80 : (number * 3) % 80 + 12] = 220
      container.mux(stream.encode(av.VideoFrame.from_ndarray(image, 'rgb24')))
    container.mux(stream.encode())
  return path


@pytest.fixture(scope='module')
def coach(small_run):
  return crosstrainer_jax.load(small_run)


@pytest.fixture(scope='module')
def clip(tmp_path_factory):
  return write_video(tmp_path_factory.mktemp('videos') / 'own.mp4', 9)


def test_segments_cover_the_whole_video(coach, clip):
  result = coach.assess(clip, 'basketball')
  assert coach.window == 4.0
  assert result.segments[0].start == 0
  assert result.segments[-1].end == pytest.approx(9, abs=0.2)
  # the last window is moved back to lie inside the video
  assert all(b.start <= a.end for a, b in zip(result.segments, result.segments[1:], strict=False))
  assert set(result.timing) == {'decode', 'encode', 'generate'}


def test_a_long_video_is_answered_a_few_windows_at_a_time(coach, clip, monkeypatch):
  rows, told, look = [], [], Assessor.look
  monkeypatch.setattr(
    Assessor, 'look', lambda self, sports, *rest: rows.append(len(sports)) or look(self, sports, *rest)
  )
  whole = coach.assess(clip, 'basketball', 0.5, progress=lambda done, of: told.append((done, of)))
  assert len(whole.segments) == 11
  assert rows == [8, 3]
  assert told == [(8, 11), (3, 11)]


def test_json_reads_back(coach, clip):
  values = json.loads(coach.assess(clip, 'basketball').to_json())
  assert values['sport'] == 'basketball'
  for row in values['segments']:
    assert {'start', 'end', 'attributes', 'doubtful', 'feedback', 'level', 'sure'} <= set(row)
    assert all(0 <= p <= 1 for p in (row['attributes'] | row['doubtful']).values())
    assert 0.25 <= row['level']['probability'] <= 1


def test_it_warns_of_simulation_and_of_an_unseen_sport(coach, clip):
  text = coach.assess(clip, 'soccer').describe()
  assert 'simulated athletes' in text
  assert "'soccer' was not among its training sports" in text


def test_it_warns_of_a_model_that_was_tested_on_its_training_clips(coach, clip, monkeypatch):
  assert 'setting FIT' not in coach.assess(clip, 'basketball').describe()
  fit = ml_collections.ConfigDict(coach.config.to_dict())
  fit.split.setting = 'FIT'
  monkeypatch.setattr(coach, 'config', fit)
  assert 'Note: this model was tested on the very clips that trained it' in coach.assess(clip, 'basketball').describe()


def test_features_of_another_encoder_are_refused(coach, small_run, monkeypatch):
  other = dataclasses.replace(coach.card, encoder='0123')
  monkeypatch.setattr(Card, 'read', classmethod(lambda cls, workdir: other))
  with pytest.raises(ValueError, match='trained with the video encoder 0123.*Train it again'):
    crosstrainer_jax.load(small_run)


def test_below_the_threshold_it_is_not_sure(coach, clip, monkeypatch):
  monkeypatch.setattr(coach, 'card', dataclasses.replace(coach.card, threshold=1.01))
  result = coach.assess(clip, 'basketball')
  assert not any(segment.sure for segment in result.segments)
  assert 'not sure' in result.describe()
  monkeypatch.setattr(coach, 'card', dataclasses.replace(coach.card, threshold=0.0))
  assert all(segment.sure for segment in coach.assess(clip, 'basketball').segments)


def test_a_video_shorter_than_the_window_is_one_segment(coach, tmp_path):
  result = coach.assess(write_video(tmp_path / 'short.mp4', 1.5))
  assert len(result.segments) == 1
  assert result.segments[0].end == pytest.approx(1.5, abs=0.2)


def test_views_of_one_take(coach, clip):
  assert coach.assess([clip, clip, clip]).segments
  with pytest.raises(ValueError, match='4 views were given, but this model was trained with 3'):
    coach.assess([clip] * 4)


def test_what_is_no_video_is_a_clear_error(coach, tmp_path):
  (tmp_path / 'empty.mp4').touch()
  with pytest.raises(ValueError, match='empty.mp4'):
    coach.assess(tmp_path / 'empty.mp4')


def test_what_a_broken_file_lacks_is_left_out_and_said(coach, tmp_path):
  video = write_video(tmp_path / 'cut.mp4', 24)
  whole = coach.assess(video, 'basketball')
  assert not any('breaks off' in warning for warning in whole.warnings)
  content = video.read_bytes()
  video.write_bytes(content[: len(content) // 2])
  result = coach.assess(video, 'basketball')
  assert 0 < len(result.segments) < len(whole.segments)
  complete = len(result.segments) - 1
  assert [s.attributes for s in result.segments[:complete]] == [s.attributes for s in whole.segments[:complete]]
  assert result.warnings[0].startswith('the file is damaged or breaks off: frames are missing in ')
  assert 'left out' in result.warnings[0]


def test_it_says_why_it_is_never_sure(coach, clip, monkeypatch):
  never = dataclasses.replace(coach.card, threshold=1.01, validation_clips=5)
  monkeypatch.setattr(coach, 'card', never)
  assert 'no attribute was right often enough' in coach.assess(clip, 'basketball').describe()
  monkeypatch.setattr(coach, 'card', dataclasses.replace(never, validation_clips=0))
  assert 'too few people to validate on' in coach.assess(clip, 'basketball').describe()


def test_a_folder_without_a_model_says_how_to_get_one(tmp_path):
  with pytest.raises(FileNotFoundError, match='config.json'):
    crosstrainer_jax.load(tmp_path)
  with pytest.raises(FileNotFoundError, match='launch_tpu.sh'):
    Card.read(tmp_path)
  (tmp_path / 'model.json').write_text('{"dataset": "old"}')
  with pytest.raises(ValueError, match='another version'):
    Card.read(tmp_path)
