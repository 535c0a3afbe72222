import numpy as np
import pytest

from crosstrainer_jax.curation import look
from crosstrainer_jax.curation.videos import Segment


def test_windows_stay_in_the_video():
  windows = look.Windows(before=1.0, after=2.0, longest=6.0, shortest=3.0)
  assert windows.around((5.0, 7.0), 60.0) == (4.0, 9.0)
  assert windows.around((5.0, 15.0), 60.0) == (4.0, 10.0)
  assert windows.around((0.2, 1.0), 60.0) == (0.0, 3.8)
  assert windows.around((58.0, 59.0), 60.0) == (57.0, 60.0)
  assert windows.around((61.0, 62.0), 60.0) is None
  assert look.Windows(shortest=1.0).around((10.0, 10.1), 60.0) == (9.5, 11.1)


def test_bad_windows_are_told():
  with pytest.raises(ValueError, match='--longest 1'):
    look.Windows(longest=1.0, shortest=2.0)
  with pytest.raises(ValueError, match='--before -1'):
    look.Windows(before=-1.0)


def test_frames_are_the_middles_of_equal_parts():
  times = look.times_of(Segment(0, 'x', (1.0, 2.0), window=(0.0, 4.0)))
  assert times == [0.25 + 0.5 * n for n in range(8)]


def picture(seed=0, size=64):
  return np.kron(np.random.default_rng(seed).integers(0, 255, (8, 8)), np.ones((size // 8, size // 8))).astype(np.uint8)


def apart(one, other):
  return (int(one, 16) ^ int(other, 16)).bit_count()


def test_a_hash_forgives_compression_and_brightness_and_tells_pictures_apart():
  first = look.perceptual_hash(picture())
  noisy = np.clip(0.8 * picture() + np.random.default_rng(1).normal(0, 6, (64, 64)), 0, 255).astype(np.uint8)
  assert apart(first, look.perceptual_hash(noisy)) <= 6
  assert apart(first, look.perceptual_hash(picture(5))) >= 20
  assert look.perceptual_hash(np.full((64, 64), 90, np.uint8)) == ''


def test_a_shaken_still_hardly_moves():
  still = picture()
  shaken = [np.roll(still, (n % 2, n % 3), (0, 1)) for n in range(6)]
  moving = [np.roll(still[:, ::1], 0) for _ in range(3)] + [picture(n) for n in (2, 3, 4)]
  assert look.motion(shaken) < look.motion(moving) / 3
  assert look.motion([still]) == 0.0


def test_every_segment_gets_its_window_and_what_is_seen(howto):
  from crosstrainer_jax.curation import scan, sentences
  from crosstrainer_jax.datasets.youtube.transcript import Limits

  table = str(howto / 'table.csv')
  video = next(v for v in scan.Folder(str(howto), table=table).videos() if v.id == 'v02')
  seen = look.Look(str(howto), look.Windows(longest=4.0)).apply(sentences.Sentences(str(howto), Limits()).apply(video))
  talk, right, mistake, _ = seen.segments
  assert all(len(segment.hashes) == look.FRAMES for segment in seen.segments)
  assert min(right.motion, mistake.motion) > 1.5 > talk.motion


def test_a_file_that_is_gone_drops_its_segments(tmp_path, video):
  video.duration = 10.0
  look.Look(str(tmp_path), look.Windows()).apply(video)
  assert {segment.reason for segment in video.segments} == {'missing'}
