"""Features by second, of records and of videos: each once, over kills and hosts, and the same as of whole clips."""

import dataclasses
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from crosstrainer_jax.inference import encoding, second_encoding
from crosstrainer_jax.input import video
from crosstrainer_jax.input.source import ClipSource
from crosstrainer_jax.models import encoders
from tests.models import hub_directories
from tests.overlapping_clips import FPS, imported, write_manifest, write_video


@pytest.fixture(scope='module')
def encoder_directory(tmp_path_factory):
  return hub_directories.write_clip(tmp_path_factory.mktemp('clip'))


@pytest.fixture(scope='module')
def encoder(encoder_directory):
  return encoders.load(encoder_directory, fps=FPS)


@pytest.fixture(scope='module')
def manifest(tmp_path_factory):
  return write_manifest(tmp_path_factory.mktemp('videos'))


def planned(directory, encoder):
  source = ClipSource(directory)
  clips = source.infos()
  encoding.to_common_shape(clips, encoder)
  return source, clips, second_encoding.make_plan(source, clips, encoder)


@pytest.fixture(scope='module')
def with_frames(manifest, tmp_path_factory):
  return imported(manifest, tmp_path_factory.mktemp('frames'), 'with_frames')


@pytest.fixture
def without_frames(manifest, tmp_path):
  return imported(manifest, tmp_path, 'lean', '--without_frames')


@pytest.fixture(scope='module')
def apply(encoder):
  return jax.jit(encoder.apply)


def test_features_of_records_are_those_of_their_clips(with_frames, encoder, apply):
  source, clips, plan = planned(with_frames, encoder)
  second_encoding.encode(plan, encoder, 8)
  found = plan.clip_features().gather(range(len(clips)))
  for index, clip in enumerate(clips):
    frames = source[index].frames
    expected = np.asarray(apply(encoder.params, frames, np.isfinite(clip.frame_times)))
    np.testing.assert_allclose(found[index].astype(np.float32), expected, rtol=2e-3, atol=2e-3)
  assert plan.missing() == []
  assert second_encoding.encode(plan, encoder, 8) == 0
  shutil.rmtree(plan.directory)


@pytest.fixture(scope='module')
def of_the_last_clip(manifest, encoder, apply):
  """Features float32[2, 4, D] of its frames, which are read from the videos here: seconds 3 to 6, by their `fit`."""

  def encoded(fit):
    times = [[3 + i / FPS for i in range(4 * FPS)]]
    files = [manifest.parent / f'{view}.mp4' for view in ('left', 'right')]
    windows = [video.read_windows(file, times, encoder.config.image_size, fit)[0] for file in files]
    return np.asarray(apply(encoder.params, np.stack([w.frames for w in windows]), np.ones((2, 4 * FPS), bool)))

  return encoded


def test_records_without_frames_are_small_and_begin_at_whole_seconds(without_frames):
  source = ClipSource(without_frames)
  for index, clip in enumerate(source.infos()):
    assert not source[index].frames.size
    assert clip.frame_times.shape == (2, 8)
    assert float(clip.frame_times[0, 0]).is_integer()
  assert sorted(float(clip.frame_times[0, 0]) for clip in source.infos()) == [0.0, 2.0, 3.0]


def test_straight_from_videos_each_second_once(without_frames, encoder, of_the_last_clip):
  _, clips, plan = planned(without_frames, encoder)
  # 0–4, 2–6 and 3–7 s of two views
  assert len(plan.seconds) == 2 * 7
  assert second_encoding.encode(plan, encoder, 8) == 14
  in_time = sorted(range(3), key=lambda index: clips[index].frame_times[0, 0])
  found = plan.clip_features().gather(in_time)
  assert found.shape == (3, 2, 4, encoder.config.feature_dim)
  np.testing.assert_array_equal(found[0, :, 2:], found[1, :, :2])
  np.testing.assert_array_equal(found[1, :, 1:], found[2, :, :3])
  assert plan.directory.parent == without_frames.parent
  np.testing.assert_allclose(found[2], of_the_last_clip('letterbox'), rtol=2e-3, atol=2e-3)


def test_clips_that_are_cut_otherwise_use_what_is_there(manifest, without_frames, encoder):
  _, _, plan = planned(without_frames, encoder)
  second_encoding.encode(plan, encoder, 8)
  again = imported(manifest, without_frames.parent.parent, 'lean', '--without_frames', '--mu1', '1', '--overwrite')
  _, _, other = planned(again, encoder)
  assert other.directory == plan.directory
  # windows of 3 s begin a second later: nothing new is seen
  assert other.missing() == []


def test_other_pictures_of_the_same_seconds_are_encoded_anew(manifest, without_frames, encoder, of_the_last_clip):
  _, _, plan = planned(without_frames, encoder)
  second_encoding.encode(plan, encoder, 8)
  again = imported(manifest, without_frames.parent.parent, 'lean', '--without_frames', '--fit', 'crop', '--overwrite')
  _, clips, other = planned(again, encoder)
  assert second_encoding.encode(other, encoder, 8) == 14
  last = max(range(3), key=lambda index: clips[index].frame_times[0, 0])
  found = other.clip_features()[last]
  np.testing.assert_allclose(found, of_the_last_clip('crop'), rtol=2e-3, atol=2e-3)
  assert np.abs(found - of_the_last_clip('letterbox')).max() > 0.1
  (line,) = second_encoding.others(other, encoder)
  assert line == f'{plan.directory} has features by clip that are of no use here: another fit'


@pytest.fixture
def copied(manifest, tmp_path):
  """A dataset of videos of its own, which a test may change."""
  for file in manifest.parent.iterdir():
    shutil.copy(file, tmp_path / file.name)
  return imported(tmp_path / 'manifest.jsonl', tmp_path / 'data', 'lean', '--without_frames')


def test_what_is_encoded_needs_no_video_any_more(copied, tmp_path, encoder):
  _, _, plan = planned(copied, encoder)
  second_encoding.encode(plan, encoder, 8)
  expected = plan.clip_features().gather(range(3))
  for name in ('left', 'right'):
    (tmp_path / f'{name}.mp4').unlink()
  moved = (tmp_path / 'data').rename(tmp_path / 'elsewhere') / copied.relative_to(tmp_path / 'data')
  _, _, plan = planned(moved, encoder)
  assert second_encoding.encode(plan, encoder, 8) == 0
  np.testing.assert_array_equal(plan.clip_features().gather(range(3)), expected)


def test_a_copy_of_a_video_is_the_same_video(manifest, without_frames, copied, encoder):
  _, _, one = planned(without_frames, encoder)
  _, _, other = planned(copied, encoder)
  assert one.seconds == other.seconds


def test_videos_that_are_needed_are_looked_at_first(copied, encoder, monkeypatch):
  monkeypatch.setattr(video, 'read_windows', lambda *_: pytest.fail('one was read before all were looked at'))
  _, _, plan = planned(copied, encoder)
  last = Path(plan.recordings.name(plan.seconds[-1].recording))
  write_video(last, seconds=9)
  with pytest.raises(ValueError, match=rf'{last}: it was another video .* prepare the dataset again'):
    second_encoding.encode(plan, encoder, 8)
  last.unlink()
  with pytest.raises(FileNotFoundError, match=f'{last}: this video was there when the dataset was prepared'):
    second_encoding.encode(plan, encoder, 8)


def test_what_cannot_be_read_is_no_feature(copied, tmp_path, encoder, monkeypatch):
  def broken(path, windows, size, fit):
    return [
      found if times[0] < 5 else found._replace(times=np.full_like(found.times, np.nan), missing=len(times))
      for times, found in zip(windows, read(path, windows, size, fit), strict=True)
    ]

  read = video.read_windows
  monkeypatch.setattr(video, 'read_windows', broken)
  _, _, plan = planned(copied, encoder)
  with pytest.raises(video.VideoError, match=r'mp4: truncated \(no frame at 5 s, .*prepare the dataset again'):
    second_encoding.encode(plan, encoder, 4)


def test_a_feature_that_is_not_finite_names_its_second(without_frames, encoder):
  """The videos grow brighter, and this encoder fails where they are bright."""

  def overflows(params, frames, valid=None):
    light = frames.astype(jnp.float32).mean((1, 2, 3, 4))[:, None, None]
    return jnp.where(light > 100, jnp.inf, light) * jnp.ones((1, 1, encoder.config.feature_dim))

  class Failing(encoders.Encoder):
    apply = staticmethod(overflows)

  failing = Failing(**{field.name: getattr(encoder, field.name) for field in dataclasses.fields(encoder)})
  _, _, plan = planned(without_frames, failing)
  with pytest.raises(ValueError, match=r'(left|right)\.mp4 at 5 s: the encoder produced features that are not finite'):
    second_encoding.encode(plan, failing, 8)


def test_records_without_frames_and_without_videos_are_named(without_frames, encoder):
  (without_frames.parent / 'import.json').unlink()
  _, _, plan = planned(without_frames, encoder)
  with pytest.raises(ValueError, match=r'nothing says where their videos are, since .*import\.json is missing'):
    second_encoding.encode(plan, encoder, 8)


def test_features_under_other_settings_are_named(without_frames, encoder, encoder_directory):
  _, _, plan = planned(without_frames, encoder)
  second_encoding._describe(plan.directory, encoder)
  half = encoders.load(encoder_directory, fps=FPS, dtype='bfloat16')
  _, _, other = planned(without_frames, half)
  (line,) = second_encoding.others(other, half)
  assert line.endswith('of no use here: dtype float32, here bfloat16')
  assert second_encoding.others(plan, encoder) == []
