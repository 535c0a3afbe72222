"""Decoding: the same frames for any number of workers, after a kill, and for any role of a video."""

import pathlib

import numpy as np
import pytest

from crosstrainer_jax.datasets.manifest import builder
from crosstrainer_jax.input import video

SECOND = {'mu1': 0.5, 'mu2': 0.5, 'fps': 4.0, 'size': 16}


def test_worker_count_changes_nothing(tmp_path, write_video, row, write_manifest, clips_of):
  for name in 'abc':
    write_video(tmp_path / f'{name}.mp4', 1.0)
  path = write_manifest(tmp_path, *(row(f'{name}.mp4') for name in 'abc'))
  one, three = (clips_of(builder.prepare(path, tmp_path / 'data', f'n{n}', workers=n, **SECOND)) for n in (1, 3))
  for left, right in zip(one, three, strict=True):
    assert left.clip_id == right.clip_id
    np.testing.assert_array_equal(left.frames, right.frames)


def test_the_same_video_alone_and_as_a_view(tmp_path, write_video, row, write_manifest, clips_of):
  write_video(tmp_path / 'a.mp4')
  write_video(tmp_path / 'b.mp4')
  path = write_manifest(
    tmp_path, row(commentary='x', time=2), row(['b.mp4', 'a.mp4'], commentary='y', time=1, take='t')
  )
  alone, pair = clips_of(builder.prepare(path, tmp_path / 'data', 'mine', **SECOND))
  np.testing.assert_allclose(alone.frames[0, :, 8, 8, 0], 40 * alone.frame_times[0], atol=6)
  np.testing.assert_allclose(pair.frames[1, :, 8, 8, 0], 40 * pair.frame_times[1], atol=6)
  assert pair.frame_times[1, 0] == pytest.approx(0.5, abs=0.01)


def test_a_killed_import_goes_on(tmp_path, monkeypatch, capsys, write_video, row, write_manifest):
  for name in 'abcd':
    write_video(tmp_path / f'{name}.mp4')
  path = write_manifest(tmp_path, *(row(f'{name}.mp4') for name in 'abcd'))
  decoded = []
  original = video.frames_at

  def dying(file, *args, **kwargs):
    decoded.append(pathlib.Path(file).name)
    for number, frame in enumerate(original(file, *args, **kwargs)):
      if len(decoded) == 3 and number == 4:
        raise KeyboardInterrupt
      yield frame

  monkeypatch.setattr(video, 'frames_at', dying)
  with pytest.raises(KeyboardInterrupt):
    builder.prepare(path, tmp_path / 'data', 'mine', workers=1, **SECOND)
  finished, broken, begun = set(decoded[:2]), decoded[2], len(decoded)
  decoded.clear()
  decoded += ['no death'] * 4
  assert not list((tmp_path / 'data').rglob('*.array_record*'))
  (tmp_path / 'data/mine/incomplete.x_1.0.0').mkdir()  # what TFDS leaves when it is killed while it writes
  made = builder.prepare(path, tmp_path / 'data', 'mine', workers=1, **SECOND)
  assert sorted(p.name for p in (tmp_path / 'data/mine').iterdir()) == ['1.0.0', 'import.json']
  assert broken in decoded[4:]
  assert not finished & set(decoded[4:])
  assert begun + len(decoded[4:]) <= 6  # a fourth may have begun when the third died
  # and may have been decoded whole before the death came through
  assert f'{4 - len(decoded[4:])} of 4 videos are decoded already' in capsys.readouterr().out
  assert len(made.as_data_source('train')) == 12
