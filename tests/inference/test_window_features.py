"""Features of windows of a new video: those of the windows' frames, and no second twice."""

import jax
import ml_collections
import numpy as np
import pytest

from crosstrainer_jax.inference.encoding import make_encode
from crosstrainer_jax.inference.trained import Card, Trained
from crosstrainer_jax.inference.window_features import WindowEncoder
from crosstrainer_jax.input import video
from crosstrainer_jax.models import encoders
from crosstrainer_jax.training import sharding
from tests.models import hub_directories
from tests.models.test_encoders import TINY
from tests.overlapping_clips import FPS, write_video

SECONDS = 3


@pytest.fixture(scope='module')
def videos(tmp_path_factory):
  folder = tmp_path_factory.mktemp('videos')
  paths = [folder / 'long.mp4', folder / 'short.mp4']
  for path, seconds in zip(paths, (8, 2), strict=True):
    write_video(path, seconds)
  return paths


@pytest.fixture(scope='module')
def clip(tmp_path_factory):
  return encoders.load(hub_directories.write_clip(tmp_path_factory.mktemp('clip')), fps=FPS)


@pytest.fixture(scope='module')
def own():
  """An encoder that looks at whole windows."""
  config, module = encoders.build('video_transformer', TINY | {'image_size': 32})
  return encoders.Encoder('video_transformer', config, *encoders.nnx.split(module, encoders.nnx.Param), 'own')


def trained_on(encoder, devices=1):
  card = Card(
    'mine', ['golf'], simulated=False, views=2, seconds=SECONDS, frames=SECONDS * FPS, fit='letterbox', threshold=0.5,
    precision=0.5, encoder=encoder.fingerprint, validation_clips=0, frame_size=32,
  )  # fmt: skip
  config = ml_collections.ConfigDict({'encoder': {'batch_size': 4, 'source': 'features'}})
  trained = Trained(None, config, card, None, None, encoder)
  trained.__dict__['mesh'] = sharding.make_mesh((1, -1, 1), jax.devices()[:devices])
  return trained


def read(encoder, paths, stride=1.0, devices=1, calls=None):
  duration = min(video.probe(path).duration for path in paths)
  spans = video.sliding_windows(duration, float(SECONDS), stride)
  eyes = WindowEncoder(trained_on(encoder, devices), encoder)
  if calls is not None:
    encode = eyes._encode
    eyes._encode = lambda frames, times: calls.append(times) or encode(frames, times)
  timing = {'decode': 0.0, 'encode': 0.0}
  found = list(eyes.read(paths, spans, timing))
  assert all(timing.values())
  return spans, found


@pytest.mark.parametrize('kind', ['clip', 'own'])
def test_they_are_those_of_the_frames(kind, videos, request):
  encoder, path = request.getfixturevalue(kind), videos[0]
  spans, found = read(encoder, [path])
  assert len(found) == len(spans) == 6
  windows = video.read_windows(path, [[begin + i / FPS for i in range(SECONDS * FPS)] for begin, _ in spans], 32)
  frames = np.stack([window.frames for window in windows])
  encode = make_encode(encoder, trained_on(encoder).mesh)
  expected = encode(frames[:, None], np.stack([window.times for window in windows])[:, None])[:, 0]
  for ours, theirs in zip(found, expected, strict=True):
    assert ours.features.shape == (2, SECONDS, encoder.config.feature_dim)
    np.testing.assert_allclose(ours.features[0].astype(np.float32), theirs.astype(np.float32), rtol=2e-3, atol=2e-3)
    assert not ours.features[1].any()
    np.testing.assert_array_equal(ours.valid, [[True] * SECONDS, [False] * SECONDS])


def test_every_second_is_encoded_once_in_batches_of_one_size(videos, clip):
  calls = []
  _, found = read(clip, videos[:1], stride=1.0, calls=calls)
  times = np.concatenate(calls)
  # of the one view that was given; 18 seconds of windows are 8 of video
  assert {part.shape for part in calls} == {(4, 1, FPS)}
  assert np.isfinite(times[:, 0, 0]).sum() == 8
  np.testing.assert_array_equal(found[0].features[0, 1:], found[1].features[0, :2])


def test_views_end_together_and_a_short_video_leaves_seconds_out(videos, clip):
  _, found = read(clip, videos)
  assert len(found) == 1
  np.testing.assert_array_equal(found[0].valid, [[True, True, False]] * 2)
  assert not found[0].features[:, 2].any()
  assert (found[0].features[:, :2].std((1, 2)) > 0).all()


def test_what_a_file_lacks_is_said(clip, tmp_path):
  path = tmp_path / 'cut.mkv'
  write_video(path)
  content = path.read_bytes()
  path.write_bytes(content[: len(content) // 2])
  _, found = read(clip, [path], stride=3.0)
  missing = [window.missing for window in found]
  assert missing[-1]
  assert not missing[0]
  assert not found[-1].valid.any()


def test_several_devices_see_the_same(videos, clip):
  one, several = (read(clip, videos[:1], devices=devices)[1] for devices in (1, 8))
  for a, b in zip(one, several, strict=True):
    np.testing.assert_allclose(a.features.astype(np.float32), b.features.astype(np.float32), atol=2e-3)


def test_a_batch_is_no_larger_than_what_there_is(own):
  trained = trained_on(own)
  assert [trained.batch_size(rows) for rows in (1, 5, 8, 900)] == [1, 5, 8, 8]
  assert trained.batch_size(900, 32) == 32
  assert [trained_on(own, 8).batch_size(rows) for rows in (1, 900)] == [8, 8]
