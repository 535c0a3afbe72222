"""Decoding by time. Frame i of a made video shows i as eight black or white bars, legible after any codec."""

import contextlib
import math
from fractions import Fraction

import av
import numpy as np
import pytest

from crosstrainer_jax.input import video

CODECS = [('h264.mp4', 'libx264'), ('h264.mov', 'libx264'), ('hevc.mp4', 'libx265'), ('vp9.webm', 'libvpx-vp9')]
CODECS += [('mpeg4.avi', 'mpeg4'), ('mpeg4.mp4', 'mpeg4')]


def bars(number, width=64, height=48):
  """uint8[height, width, 3]: the bits of `number`, lowest on the left."""
  image = np.zeros((height, width, 3), np.uint8)
  for bit in range(8):
    image[:, bit * width // 8 : (bit + 1) * width // 8] = 255 * (number >> bit & 1)
  return image


def read_bars(image):
  size = image.shape[1]
  return sum(int(image[size // 2, size * (2 * bit + 1) // 16].mean() > 128) << bit for bit in range(8))


def write(
  path,
  codec='libx264',
  stamps=None,
  fps=25,
  images=None,
  rotation=0,
  audio=False,
  gop=10,
  options=None,
  pixel_format='yuv420p',
  pixel_aspect=1,
):
  """A video of `images` (by default bars 0…) at `stamps` (seconds; by default 50 frames at `fps`)."""
  stamps = [i / fps for i in range(50)] if stamps is None else stamps
  images = [bars(i) for i in range(len(stamps))] if images is None else images
  milliseconds = Fraction(1, 1000)
  with av.open(str(path), 'w', options=options or {}) as container:
    stream = container.add_stream(
      codec, rate=fps, options={'x265-params': 'log-level=none'} if codec == 'libx265' else {}
    )
    stream.height, stream.width = images[0].shape[:2]
    stream.pix_fmt, stream.codec_context.gop_size = pixel_format, gop
    stream.codec_context.sample_aspect_ratio = Fraction(pixel_aspect)
    exact = codec != 'mpeg4'  # MPEG-4 and AVI count frames, the others take any time
    if exact:
      stream.time_base = stream.codec_context.time_base = milliseconds
    if rotation:
      stream.set_display_rotation(rotation)
    sound = container.add_stream('aac', rate=16000, layout='mono') if audio else None
    for number, (stamp, image) in enumerate(zip(stamps, images, strict=True)):
      frame = av.VideoFrame.from_ndarray(image, 'rgb24')
      frame.time_base = milliseconds if exact else Fraction(1, fps)
      frame.pts = round(stamp * 1000) if exact else number
      container.mux(stream.encode(frame))
    container.mux(stream.encode(None))
    if sound:
      silence(container, sound, stamps[-1])
  return path


def silence(container, stream, seconds):
  for block in range(int(seconds * 16000 / 1024)):
    frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), 'fltp', 'mono')
    frame.sample_rate, frame.pts = 16000, block * 1024
    container.mux(stream.encode(frame))
  container.mux(stream.encode(None))


def numbers(path, times, **kwargs):
  return [read_bars(image) for image in video.read_frames(path, times, 64, **kwargs)]


@pytest.mark.parametrize(('name', 'codec'), CODECS)
def test_every_codec_gives_the_frame_of_the_time(tmp_path, name, codec):
  path = write(tmp_path / name, codec)
  info = video.probe(path)
  assert (info.width, info.height, info.has_audio) == (64, 48, False)
  assert info.duration == pytest.approx(2.0, abs=0.05)
  assert info.fps == pytest.approx(25, rel=0.01)
  assert numbers(path, [0.0, 0.5, 1.01, 1.96]) == [0, round(0.5 * 25), 25, 49]


@pytest.mark.parametrize(('name', 'codec'), [*CODECS, ('hevc.mkv', 'libx265')])
def test_when_frames_are_shown_without_decoding_them(tmp_path, name, codec):
  """Also where they come in another order than they are shown in, and where the first is not at zero."""
  stamps = [2 + i / 25 for i in range(50)] if codec != 'mpeg4' else [i / 25 for i in range(50)]
  path = write(tmp_path / name, codec, stamps, audio=name.endswith('mp4'))
  times = video.frame_times(path)
  decoded = [time for _, time, _ in video.frames_at(path, list(times), 8)]
  assert len(times) == 50
  np.testing.assert_allclose(times, decoded, atol=2e-3)


def test_when_frames_of_a_broken_file_are_shown(tmp_path):
  path = write(tmp_path / 'a.mkv')
  path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
  assert 0 < len(video.frame_times(path)) < 50
  with pytest.raises(video.VideoError):
    video.frame_times(tmp_path / 'none.mp4')


def test_times_may_come_in_any_order_and_twice(tmp_path):
  path = write(tmp_path / 'a.mp4')
  assert numbers(path, [1.2, 0.4, 1.2, 0.0]) == [30, 10, 30, 0]


def test_the_nearest_frame_is_taken(tmp_path):
  path = write(tmp_path / 'a.mp4')
  assert numbers(path, [0.4 + 0.019, 0.4 + 0.021, 0.4 - 0.019]) == [10, 11, 10]


def test_seeking_and_sweeping_agree(tmp_path):
  stamps = [i / 25 for i in range(250)]
  path = write(tmp_path / 'a.mp4', stamps=stamps, gop=20)
  wanted = [0.32, 4.04, 4.08, 9.0, 9.96]
  assert numbers(path, wanted) == [round(t * 25) for t in wanted]
  swept = video.read_frames(path, stamps, 64)
  sparse = video.read_frames(path, wanted, 64)
  np.testing.assert_array_equal(sparse, swept[[round(t * 25) for t in wanted]])


def test_far_apart_times_are_reached_by_jumping(tmp_path, monkeypatch):
  path = write(tmp_path / 'a.mp4', stamps=[i / 25 for i in range(250)], gop=10)
  decoded = []
  advance = video._Video._advance
  monkeypatch.setattr(video._Video, '_advance', lambda self: (decoded.append(1), advance(self))[1])
  assert numbers(path, [0.0, 9.0]) == [0, 225]
  assert len(decoded) < 40  # of 225


def test_variable_frame_rate_goes_by_time_stamps(tmp_path):
  stamps = [0.0, 0.1, 0.15, 0.2, 1.0, 1.05, 2.0]
  path = write(tmp_path / 'a.mp4', stamps=stamps)
  window = video.read_windows(path, [[0.0, 0.16, 0.5, 0.7, 1.04, 1.6]], 64)[0]
  assert [read_bars(image) for image in window.frames] == [0, 2, 3, 4, 5, 6]
  np.testing.assert_allclose(window.times, [0.0, 0.15, 0.2, 1.0, 1.05, 2.0], atol=1e-3)


def test_240_frames_per_second(tmp_path):
  path = write(tmp_path / 'a.mp4', stamps=[i / 240 for i in range(120)], fps=240, gop=60)
  assert video.probe(path).fps == pytest.approx(240, rel=0.02)
  assert numbers(path, [0.0, 0.25, 0.45]) == [0, 60, 108]


@pytest.mark.parametrize('start', [5.0, 0.5])
@pytest.mark.parametrize('name', ['a.mp4', 'a.mkv'])
def test_time_counts_from_the_start_of_the_file(tmp_path, start, name):
  path = write(tmp_path / name, stamps=[start + i / 25 for i in range(50)])
  assert numbers(path, [0.0, 1.0]) == [0, 25]
  assert video.probe(path).duration == pytest.approx(2.0, abs=0.05)


def corners():
  """Red top left, green top right, blue bottom left, black bottom right; 64 wide, 48 high."""
  image = np.zeros((48, 64, 3), np.uint8)
  image[:24, :32, 0] = image[:24, 32:, 1] = image[24:, :32, 2] = 255
  return image


@pytest.mark.parametrize('rotation', [0, 90, 180, 270])
def test_rotation_is_undone(tmp_path, rotation):
  path = write(tmp_path / 'a.mp4', stamps=[0.0, 0.1], images=[corners()] * 2, rotation=rotation)
  info = video.probe(path)
  assert (info.width, info.height) == ((64, 48) if rotation % 180 == 0 else (48, 64))
  assert info.rotation == rotation
  frame = video.read_frames(path, [0.0], 64)[0]
  upright = np.rot90(corners(), rotation // 90)  # counter-clockwise, as the metadata means it
  height, width = upright.shape[:2]
  for y, x in ((0.25, 0.25), (0.25, 0.75), (0.75, 0.25), (0.75, 0.75)):
    seen = frame[int((64 - height) / 2 + y * height), int((64 - width) / 2 + x * width)]
    expected = upright[int(y * height), int(x * width)]
    assert np.abs(seen.astype(int) - expected).max() < 30


def test_mirrored_display_matrix():
  image = corners()
  np.testing.assert_array_equal(video._upright(image, np.array([[-1, 0], [0, 1]])), image[:, ::-1])
  np.testing.assert_array_equal(video._upright(image, np.array([[0, 1], [1, 0]])), image.swapaxes(0, 1))


def test_portrait_letterboxed_and_cropped(tmp_path):
  white = np.full((96, 48, 3), 255, np.uint8)
  path = write(tmp_path / 'a.mp4', stamps=[0.0, 0.1], images=[white] * 2)
  letterboxed = video.read_frames(path, [0.0], 32)[0]
  assert (letterboxed[:, 10:22] > 240).all()
  assert (letterboxed[:, :8] == 0).all()
  assert (letterboxed[:, 24:] == 0).all()
  cropped = video.read_frames(path, [0.0], 32, fit='crop')[0]
  assert (cropped > 240).all()


def test_crop_takes_the_middle(tmp_path):
  image = np.zeros((48, 96, 3), np.uint8)
  image[:, 24:72] = 255
  path = write(tmp_path / 'a.mp4', stamps=[0.0, 0.1], images=[image] * 2)
  assert (video.read_frames(path, [0.0], 24, fit='crop')[0][:, 1:-1] > 200).all()


def test_oblong_pixels_are_shown_as_wide_as_they_are(tmp_path):
  white = np.full((48, 48, 3), 255, np.uint8)
  path = write(tmp_path / 'a.mp4', stamps=[0.0, 0.1], images=[white] * 2, pixel_aspect=2)
  assert (video.probe(path).width, video.probe(path).height) == (96, 48)
  frame = video.read_frames(path, [0.0], 32)[0]
  assert (frame[10:22] > 240).all()
  assert (frame[:7] == 0).all()


def test_ten_bits_per_colour(tmp_path):
  path = write(tmp_path / 'a.mp4', 'libx265', pixel_format='yuv420p10le')
  assert numbers(path, [0.0, 1.0]) == [0, 25]


def test_shrinking_averages_over_the_area(tmp_path):
  checks = (np.indices((256, 256)).sum(0) % 2 * 255).astype(np.uint8)[..., None].repeat(3, -1)
  path = write(tmp_path / 'a.mp4', stamps=[0.0, 0.1], images=[checks] * 2, options={'crf': '1'})
  assert np.abs(video.read_frames(path, [0.0], 16)[0].astype(int) - 127).max() < 16


def test_beyond_the_video_is_padding(tmp_path):
  path = write(tmp_path / 'a.mp4')
  window = video.read_windows(path, [[-1.0, 0.0, 1.96, 2.5]], 64)[0]
  assert window.missing == 0
  assert np.isnan(window.times).tolist() == [True, False, False, True]
  assert not window.frames[[0, 3]].any()
  assert window.frames[2].any()


def test_windows_are_decoded_in_one_pass(tmp_path, monkeypatch):
  path = write(tmp_path / 'a.mp4')
  opened = []
  original = av.open
  monkeypatch.setattr(av, 'open', lambda *args, **kwargs: (opened.append(1), original(*args, **kwargs))[1])
  windows = video.read_windows(path, [[1.0, 1.2], [0.0, 0.2, 0.4], [1.12]], 64)
  assert [[read_bars(f) for f in w.frames] for w in windows] == [[25, 30], [0, 5, 10], [28]]
  assert len(opened) == 1


def test_truncated_gives_what_is_there_and_counts_the_rest(tmp_path):
  path = write(tmp_path / 'a.mp4', stamps=[i / 25 for i in range(200)], options={'movflags': 'faststart'})
  content = path.read_bytes()
  path.write_bytes(content[: len(content) * 2 // 3])
  assert video.probe(path).duration == pytest.approx(8.0, abs=0.05)  # what the header promises
  early, late = video.read_windows(path, [[0.0, 0.4], [7.0, 7.4]], 64)
  assert [read_bars(image) for image in early.frames] == [0, 10]
  assert (early.missing, late.missing) == (0, 2)
  with pytest.raises(video.VideoError) as caught:
    video.read_frames(path, [0.0, 7.0], 64)
  assert caught.value.reason == video.TRUNCATED
  assert '1 of 2' in str(caught.value)


def test_truncated_webm(tmp_path):
  path = write(tmp_path / 'a.webm', 'libvpx-vp9', stamps=[i / 25 for i in range(100)])
  content = path.read_bytes()
  path.write_bytes(content[: len(content) // 2])
  early, late = video.read_windows(path, [[0.0], [3.8]], 64)
  assert (early.missing, late.missing) == (0, 1)


def test_an_mp4_without_its_index_is_truncated(tmp_path):
  path = write(tmp_path / 'a.mp4')
  content = path.read_bytes()
  path.write_bytes(content[: len(content) // 2])
  with pytest.raises(video.VideoError) as caught:
    video.probe(path)
  assert caught.value.reason == video.TRUNCATED
  assert caught.value.path == str(path)


def test_an_mp4_with_half_an_index_cannot_be_decoded(tmp_path):
  path = write(tmp_path / 'a.mp4')
  path.write_bytes(path.read_bytes()[:-1000])
  with pytest.raises(video.VideoError, match='export it again') as caught:
    video.probe(path)
  assert caught.value.reason == video.UNDECODABLE


def test_damage_in_the_middle_is_passed_over(tmp_path):
  path = write(tmp_path / 'a.avi', 'mpeg4', gop=5)
  content = bytearray(path.read_bytes())
  middle = len(content) // 2
  content[middle : middle + 400] = b'\xff' * 400
  path.write_bytes(content)
  assert numbers(path, [0.0, 1.92]) == [0, 48]


@pytest.mark.parametrize(('name', 'codec'), CODECS)
def test_whatever_is_broken_is_a_video_error(tmp_path, name, codec):
  content = write(tmp_path / name, codec).read_bytes()
  rng = np.random.default_rng(0)
  path = tmp_path / f'broken_{name}'
  for _ in range(30):
    broken = np.frombuffer(content, np.uint8).copy()
    start = rng.integers(len(broken))
    broken[start : start + rng.integers(1, 2000)] = rng.integers(256)
    path.write_bytes(broken[: rng.integers(1, 2 * len(broken))].tobytes())
    with contextlib.suppress(video.VideoError):
      video.probe(path)
      video.read_windows(path, [[0.0, 0.5], [1.9]], 32)


def test_audio_only_zero_bytes_text_missing_and_folder(tmp_path):
  sound = tmp_path / 'sound.mp4'
  with av.open(str(sound), 'w') as container:
    silence(container, container.add_stream('aac', rate=16000, layout='mono'), 1.0)
  (tmp_path / 'empty.mp4').touch()
  (tmp_path / 'text.mp4').write_text('this is no video\n' * 100)
  cases = {'sound.mp4': video.NO_VIDEO_STREAM, 'empty.mp4': video.EMPTY, 'text.mp4': video.NOT_A_VIDEO}
  for name, reason in (cases | {'gone.mp4': video.MISSING, '.': video.MISSING}).items():
    with pytest.raises(video.VideoError) as caught:
      video.read_frames(tmp_path / name, [0.0], 64)
    assert caught.value.reason == reason
    assert caught.value.path == str(tmp_path / name)


def test_a_playlist_that_names_other_files_is_refused(tmp_path):
  write(tmp_path / 'a.mp4')
  (tmp_path / 'list.mp4').write_text(f'ffconcat version 1.0\nfile {tmp_path / "a.mp4"}\n')
  with pytest.raises(video.VideoError, match='not a video'):
    video.probe(tmp_path / 'list.mp4')


def test_silent_and_voiced_files_give_the_same_frames(tmp_path):
  silent, voiced = write(tmp_path / 'a.mp4'), write(tmp_path / 'b.mp4', audio=True)
  assert video.probe(voiced).has_audio
  assert numbers(voiced, [0.0, 1.0]) == numbers(silent, [0.0, 1.0])


def test_a_file_without_a_duration_is_measured(tmp_path):
  path = write(tmp_path / 'a.webm', 'libvpx-vp9', options={'live': '1'})  # as browsers record
  assert video.probe(path).duration == pytest.approx(2.0, abs=0.05)
  assert numbers(path, [0.0, 1.0, 1.96]) == [0, 25, 49]


def test_bad_arguments(tmp_path):
  path = write(tmp_path / 'a.mp4', stamps=[0.0, 0.1])
  with pytest.raises(ValueError, match='letterbox'):
    video.read_frames(path, [0.0], 64, fit='stretch')
  with pytest.raises(ValueError, match='finite'):
    video.read_frames(path, [math.nan], 64)


def test_sliding_windows():
  assert video.sliding_windows(10, 4, 2) == [(0, 4), (2, 6), (4, 8), (6, 10)]
  assert video.sliding_windows(10, 4, 4) == [(0, 4), (4, 8), (6, 10)]
  assert video.sliding_windows(8.2, 4, 4) == [(0, 4), (4, 8)]  # 0.2 s are not worth a clip
  assert video.sliding_windows(3, 4, 2) == [(0, 3)]
  assert video.sliding_windows(0, 4, 2) == []
  with pytest.raises(ValueError, match='stride'):
    video.sliding_windows(10, 4, 0)


@pytest.mark.real
def test_real_videos(real_data):
  for path in sorted(real_data.glob('*/*.[mM][pO][4V]')):
    info = video.probe(path)
    window = video.read_windows(path, [[0.0, info.duration / 2, info.duration - 0.01]], 32)[0]
    assert window.missing == 0, path
    assert window.frames.reshape(3, -1).any(1).all(), path
    np.testing.assert_allclose(window.times, [0.0, info.duration / 2, info.duration], atol=0.1 + 1 / info.fps)
