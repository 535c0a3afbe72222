"""Features by second, of records and of videos: each once, over kills and hosts, and the same as of whole clips."""

import shutil

import jax
import numpy as np
import pytest

from crosstrainer_jax.inference import encoding, second_encoding
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


def test_features_of_records_are_those_of_their_clips(with_frames, encoder):
  source, clips, plan = planned(with_frames, encoder)
  second_encoding.encode(plan, encoder, 8)
  found = plan.clip_features().gather(range(len(clips)))
  apply = jax.jit(encoder.apply)
  for index, clip in enumerate(clips):
    frames = source[index].frames
    expected = np.asarray(apply(encoder.params, frames, np.isfinite(clip.frame_times)))
    np.testing.assert_allclose(found[index].astype(np.float32), expected, rtol=2e-3, atol=2e-3)
  assert plan.missing() == []
  assert second_encoding.encode(plan, encoder, 8) == 0
  shutil.rmtree(plan.directory)


def test_records_without_frames_are_small_and_begin_at_whole_seconds(without_frames):
  source = ClipSource(without_frames)
  for index, clip in enumerate(source.infos()):
    assert not source[index].frames.size
    assert clip.frame_times.shape == (2, 8)
    assert float(clip.frame_times[0, 0]).is_integer()
  assert sorted(float(clip.frame_times[0, 0]) for clip in source.infos()) == [0.0, 2.0, 3.0]


def test_straight_from_videos_each_second_once(without_frames, encoder):
  _, clips, plan = planned(without_frames, encoder)
  # 0–4, 2–6 and 3–7 s of two views
  assert len(plan.seconds) == 2 * 7
  assert second_encoding.encode(plan, encoder, 8) == 14
  in_time = sorted(range(3), key=lambda index: clips[index].frame_times[0, 0])
  found = plan.clip_features().gather(in_time)
  assert found.shape == (3, 2, 4, encoder.config.feature_dim)
  np.testing.assert_array_equal(found[0, :, 2:], found[1, :, :2])
  np.testing.assert_array_equal(found[1, :, 1:], found[2, :, :3])
  assert len({row.tobytes() for row in found[0, 0]}) == 4
  assert plan.directory.parent == without_frames.parent


def test_clips_that_are_cut_otherwise_use_what_is_there(manifest, without_frames, encoder):
  _, _, plan = planned(without_frames, encoder)
  second_encoding.encode(plan, encoder, 8)
  again = imported(manifest, without_frames.parent.parent, 'lean', '--without_frames', '--mu1', '1', '--overwrite')
  _, _, other = planned(again, encoder)
  assert other.directory == plan.directory
  # windows of 3 s begin a second later: nothing new is seen
  assert other.missing() == []


def test_another_video_under_the_name_is_encoded_anew(manifest, tmp_path, encoder):
  for file in manifest.parent.iterdir():
    shutil.copy(file, tmp_path / file.name)
  directory = imported(tmp_path / 'manifest.jsonl', tmp_path / 'data', 'lean', '--without_frames')
  _, _, plan = planned(directory, encoder)
  second_encoding.encode(plan, encoder, 8)
  write_video(tmp_path / 'left.mp4', seconds=9)
  _, _, plan = planned(directory, encoder)
  assert {second.recording.split('|')[0] for second in plan.missing()} == {str(tmp_path / 'left.mp4')}
  (tmp_path / 'right.mp4').unlink()
  with pytest.raises(FileNotFoundError, match=r'right\.mp4: this video was there when the dataset was prepared'):
    planned(directory, encoder)
