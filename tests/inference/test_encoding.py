import dataclasses

import jax
import numpy as np
import pytest
from flax import nnx

from crosstrainer_jax.inference import encoding
from crosstrainer_jax.inference.encoding import check_rate, common_shape, encode_dataset, fitted, make_encode
from crosstrainer_jax.input import features
from crosstrainer_jax.input.record import Clip
from crosstrainer_jax.input.source import ClipSource
from crosstrainer_jax.models.encoders import Encoder
from crosstrainer_jax.models.video_transformer import VideoTransformer, VideoTransformerConfig
from crosstrainer_jax.training import sharding

CONFIG = VideoTransformerConfig(
  image_size=16, fps=2, patch=2, channels=4, keypoints=2, values=2, width=8, layers=1, heads=2, feature_dim=6
)
VIEWS, LENGTH = 2, 5
SHAPE = (VIEWS, 6)


def clip(number: int, length: int = LENGTH, views: int = VIEWS, size: int = 16) -> Clip:
  random = np.random.default_rng(number)
  frames = random.integers(0, 256, (views, length, size, size, 3), np.uint8)
  times = np.tile(np.arange(length, dtype=np.float32) / 2, (views, 1))
  # every third clip lacks the end of its second view
  if number % 3 == 0:
    frames[1:, 2:], times[1:, 2:] = 0, np.nan
  return Clip(f'c{number}', 'tiny', 'golf', 'putt', 'p', 't', ['a'] * views, frames, times)


def test_clips_of_another_frame_rate_are_refused(encoder):
  times = [one.frame_times for one in CLIPS]
  check_rate(times, encoder)
  with pytest.raises(ValueError, match='clips of 4 frames a second, but the encoder takes 2: .*--fps 2'):
    check_rate([row / 2 for row in times], encoder)
  # nothing to tell a rate from
  check_rate([np.zeros((1, 1), np.float32), np.full((2, 3), np.nan, np.float32)], encoder)


CLIPS = [clip(number) for number in range(11)]


@pytest.fixture(scope='module')
def encoder():
  graph, params = nnx.split(nnx.jit(lambda: VideoTransformer(CONFIG, nnx.Rngs(0)))(), nnx.Param)
  return Encoder('video_transformer', CONFIG, graph, params, 'abc')


@pytest.fixture(scope='module')
def source(write_dataset, tmp_path_factory):
  return ClipSource(write_dataset(tmp_path_factory.mktemp('data'), {'test': CLIPS[:4], 'train': CLIPS[4:]}))


@pytest.fixture(scope='module')
def mesh():
  return sharding.make_mesh((1, 2, 4))


@pytest.fixture(scope='module')
def expected(encoder, mesh):
  """Features of each clip, encoded in pairs."""
  encode = make_encode(encoder, mesh)
  pairs = [fitted(one.frames, one.frame_times, CONFIG.image_size, SHAPE) for one in [*CLIPS, CLIPS[0]]]
  chunks = [
    encode(*(np.stack(parts) for parts in zip(*pairs[i : i + 2], strict=True))) for i in range(0, len(pairs), 2)
  ]
  return np.concatenate(chunks)[: len(CLIPS)]


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
  monkeypatch.setattr(features, 'MOST_CLIPS', 8)


def test_a_dataset_becomes_a_cache(source, encoder, mesh, expected, tmp_path, capsys):
  cache = encode_dataset(source, tmp_path / 'features', encoder, mesh, 4, SHAPE)
  assert (len(cache), cache.shape, cache.encoder) == (11, (VIEWS, 3, 6), 'abc')
  np.testing.assert_allclose(cache.gather(range(11)), expected, atol=2e-3)
  # 3 seconds of frames, the last of which is padded; the second view of clip 0 has one second
  nothing = np.abs(cache[0]).max(-1) == 0
  np.testing.assert_array_equal(nothing, [[False] * 3, [False, True, True]])
  assert not (np.abs(cache[1]).max(-1) == 0).any()


@pytest.mark.parametrize('batch_size', [3, 16])
def test_the_batch_size_changes_nothing(source, encoder, mesh, expected, tmp_path, batch_size):
  # a part of 8 clips, and one of 3, in batches that do not fit: the rest is padded
  cache = encode_dataset(source, tmp_path, encoder, mesh, batch_size, SHAPE)
  np.testing.assert_allclose(cache.gather(range(11)), expected, atol=2e-3)


def test_features_that_are_not_finite_name_their_clips(source, encoder, mesh, tmp_path):
  params = jax.tree.map(lambda leaf: leaf * np.nan, encoder.params)
  broken = dataclasses.replace(encoder, params=params)
  with pytest.raises(ValueError, match="a clip from 'c0' to 'c3': the encoder produced features that are not finite"):
    encode_dataset(source, tmp_path, broken, mesh, 4, SHAPE)


def test_a_full_cache_is_not_encoded_again(source, encoder, mesh, tmp_path, monkeypatch):
  encode_dataset(source, tmp_path, encoder, mesh, 4, SHAPE)
  monkeypatch.setattr(encoding, 'make_encode', None)
  assert len(encode_dataset(source, tmp_path, encoder, mesh, 4, SHAPE)) == 11


def test_a_killed_encoding_goes_on(source, encoder, mesh, expected, tmp_path, monkeypatch):
  asked = []

  class Dying:
    directory = source.directory
    dies_at = 9

    def __len__(self):
      return len(source)

    def __getitem__(self, index):
      if index == self.dies_at:
        raise KeyboardInterrupt
      asked.append(index)
      return source[index]

  dying = Dying()
  with pytest.raises(KeyboardInterrupt):
    encode_dataset(dying, tmp_path, encoder, mesh, 4, SHAPE)
  assert not (tmp_path / 'header.json').exists()
  asked.clear()
  dying.dies_at = -1
  cache = encode_dataset(dying, tmp_path, encoder, mesh, 4, SHAPE)
  assert asked == [8, 9, 10]
  np.testing.assert_allclose(cache.gather(range(11)), expected, atol=2e-3)


def test_clips_that_differ_get_the_shape_that_holds_all(write_dataset, encoder, mesh, expected, tmp_path):
  clips = [*CLIPS[:3], clip(5, length=8), clip(6, views=3)]
  shape = common_shape((one.frame_times for one in clips), encoder)
  assert shape == (3, 8)
  source = ClipSource(write_dataset(tmp_path / 'data', {'train': clips}))
  cache = encode_dataset(source, tmp_path / 'features', encoder, mesh, 2, shape)
  assert cache.shape == (3, 4, 6)
  for number in range(3):
    np.testing.assert_allclose(cache[number][:VIEWS, :3], expected[number], atol=2e-3)
    assert not cache[number][VIEWS:].any()
    assert not cache[number][:, 3:].any()


def test_clips_of_another_size_are_a_clear_error(encoder):
  with pytest.raises(ValueError, match=r'clips of \(32, 32\) pixels, but the encoder takes 16 x 16: .*--size 16'):
    fitted(clip(1, size=32).frames, clip(1).frame_times, CONFIG.image_size, SHAPE)


def test_frames_are_padded_to_whole_tokens(encoder):
  frames, times = fitted(CLIPS[1].frames, CLIPS[1].frame_times, CONFIG.image_size, SHAPE)
  assert frames.shape == (VIEWS, 6, 16, 16, 3)
  np.testing.assert_array_equal(frames[:, :5], CLIPS[1].frames)
  assert not frames[:, 5].any()
  assert np.isnan(times[:, 5]).all()
  again, _ = fitted(frames, times, CONFIG.image_size, SHAPE)
  assert again is frames


@pytest.mark.parametrize('count', [1, 4, 7])
def test_batches_are_all_of_one_size(count):
  sizes = []

  def encode(frames, times):
    sizes.append(len(frames))
    return np.where(np.isfinite(times).any(-1), frames.mean((2, 3, 4, 5)), -1).astype(np.float16)

  clips = [clip(i) for i in range(count)]
  frames, times = np.stack([c.frames for c in clips]) // 128, np.stack([c.frame_times for c in clips])
  found = encoding.encode_in_batches(encode, frames, times, 4)
  np.testing.assert_array_equal(found, frames.mean((2, 3, 4, 5)).astype(np.float16))
  assert sizes == [4] * -(-count // 4)
