"""QEVD from the folder to records and to a training step, and what the doctor says of the folder."""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import shutil
import types
import zipfile

import av
import numpy as np
import pytest

from crosstrainer_jax import doctor as doctor_verb
from crosstrainer_jax import prepare as prepare_verb
from crosstrainer_jax.datasets.qevd import archives, doctor, exercises, sessions
from crosstrainer_jax.datasets.takes.findings import Finding, well
from crosstrainer_jax.inference import second_encoding
from crosstrainer_jax.input import record
from crosstrainer_jax.input.source import ClipSource
from tests.datasets.egoexo4d_release import write_video
from tests.datasets.test_qevd import dense, write_session, write_sessions
from tests.datasets.training_step import one_update


@pytest.fixture(scope='session')
def video(tmp_path_factory) -> pathlib.Path:
  """Twenty seconds, ten frames a second; frame i is of grey 2 i."""
  return write_video(tmp_path_factory.mktemp('video') / 'session.mp4', fps=10)


@pytest.fixture(scope='session')
def clip(tmp_path_factory) -> pathlib.Path:
  return write_video(tmp_path_factory.mktemp('video') / 'clip.mp4', seconds=5)


WORKOUT = dense(
  ('', 10), ('First up are squats!', 20), ('', 10), ('Go deeper.', 10), ('', 10), ('Keep the back straight.', 10),
  ('', 10),
  ('Moving on to high knees!', 20), ('', 10), ('Knees higher.', 10), ('', 10), ('Nice pace!', 10), ('', 10),
  ("That's the end of the session.", 10), ('', 30), ('Bye', 10),
)  # fmt: skip


@pytest.fixture
def root(tmp_path: pathlib.Path, video: pathlib.Path) -> pathlib.Path:
  """Three sessions for training, two for test; each is of the same video."""
  found = tmp_path / 'qevd'
  for archive, names in (('QEVD-FIT-COACH', ('0000', '0001', '0002')), ('QEVD-FIT-COACH-Benchmark', ('0000', '0001'))):
    folder = found / archive
    write_sessions(folder, *(write_session(folder, name, WORKOUT) for name in names))
    for name in names:
      os.link(video, folder / 'long_range_videos' / f'{name}.mp4')
  return found


def prepared(root: pathlib.Path, name: str, *options: str) -> dict[str, record.Clip]:
  """Clips by id, after the verb."""
  place = root.parent / 'datasets'
  prepare_verb.main(['qevd', '--root', str(root), '--data_dir', str(place), *options])
  source = ClipSource(place / name / '1.0.0')
  return {clip.clip_id: clip for clip in (source[i] for i in range(len(source)))}


def test_sessions_become_clips_around_their_feedback_and_train(root, tmp_path, capsys):
  (root / 'QEVD-FIT-COACH-Benchmark' / 'long_range_videos' / '0001.mp4').unlink()
  clips = prepared(root, 'qevd', '--mu1', '2', '--mu2', '3')
  assert len(clips) == 4 * 4
  clip = clips['coach/0001/1/005']
  assert (clip.dataset, clip.sport, clip.skill, clip.take) == ('qevd', exercises.CARDIO, 'high knees', 'coach/0001/1')
  assert (clip.commentary, clip.licence) == ('Nice pace!', sessions.LICENCE)
  assert clip.commentary_time == pytest.approx(13.0)
  np.testing.assert_allclose(clips['coach/0001/0/001'].window, [2, 7], atol=1e-3)
  # the exercise ends with the announcement of the next or of the end, and the clip with it
  np.testing.assert_allclose(clips['coach/0001/0/002'].window, [4, 8], atol=1e-3)
  np.testing.assert_allclose(clip.window, [11, 15], atol=1e-3)
  early = clips['coach/0001/0/001']
  seen = np.isfinite(early.frame_times[0])
  np.testing.assert_allclose(early.frames[0].mean((1, 2, 3))[seen], 20 * early.frame_times[0, seen], atol=3)
  losses = [json.loads(line) for line in (tmp_path / 'datasets' / 'qevd' / 'losses.jsonl').read_text().splitlines()]
  assert {loss['reason'] for loss in losses} >= {sessions.ANNOUNCEMENT, sessions.TOO_LATE}
  assert 'benchmark/0001/0' in '\n'.join(loss['id'] for loss in losses)
  printed = capsys.readouterr().out
  assert sessions.ANNOUNCEMENT in printed
  one_update(tmp_path / 'datasets' / 'qevd' / '1.0.0', tmp_path / 'run', 'split.held_out=')


@pytest.fixture(scope='session')
def wide(tmp_path_factory) -> pathlib.Path:
  """Twenty seconds of a picture that is white on the left and black on the right."""
  path = tmp_path_factory.mktemp('video') / 'wide.mp4'
  image = np.zeros((32, 64, 3), np.uint8)
  image[:, :32] = 255
  with av.open(str(path), 'w') as container:
    stream = container.add_stream('libx264', rate=10, options={'preset': 'ultrafast'})
    stream.width, stream.height, stream.pix_fmt = 64, 32, 'yuv420p'
    for _ in WORKOUT:
      container.mux(stream.encode(av.VideoFrame.from_ndarray(image, 'rgb24')))
    container.mux(stream.encode(None))
  return path


def is_turned(frame: np.ndarray) -> bool:
  """A quarter turn clockwise brings what was on the left to the top."""
  half = len(frame) // 2
  top, bottom, left, right = (part.mean() for part in (frame[:half], frame[half:], frame[:, :half], frame[:, half:]))
  assert max(top - bottom, left - right) > 100
  return bool(top - bottom > left - right)


@pytest.mark.parametrize('ways', [(), ('--without_frames',)])
def test_the_sessions_that_lie_on_their_side_are_turned(tmp_path, wide, ways):
  folder = tmp_path / 'qevd' / 'QEVD-FIT-COACH'
  write_sessions(folder, *(write_session(folder, name, WORKOUT) for name in ('0145', '0146')))
  for name in ('0145', '0146'):
    shutil.copyfile(wide, folder / 'long_range_videos' / f'{name}.mp4')
  with (folder / 'long_range_videos' / '0146.mp4').open('ab') as file:
    file.write(b'\0\0\0\x08free')  # by content another video
  clips = prepared(tmp_path / 'qevd', 'qevd', '--mu1', '2', '--mu2', '2', *ways)
  if ways:
    source = ClipSource(tmp_path / 'datasets' / 'qevd' / '1.0.0')
    encoder = types.SimpleNamespace(
      each=1, config=types.SimpleNamespace(fps=4, image_size=32, frames_per_token=4), fingerprint='none'
    )
    plan = second_encoding.make_plan(source, source.infos(), encoder)
    seen = {
      pathlib.Path(plan.name(second).partition(' at ')[0]).stem: frames[0]
      for second, frames in zip(plan.seconds, plan.frames(plan.seconds)[0], strict=True)
    }
  else:
    seen = {name: clips[f'coach/{name}/0/001'].frames[0, 0] for name in ('0145', '0146')}
  assert {name: is_turned(frame) for name, frame in seen.items()} == {'0145': True, '0146': False}


def test_a_session_that_was_taken_at_another_rate_than_it_is_shown(root, tmp_path):
  """Its frames were taken 0.2 s apart, and the video shows them 0.1 s apart; it also has one more than are listed."""
  folder = root / 'QEVD-FIT-COACH'
  record = write_session(folder, '0000', WORKOUT[:-1])
  clock = folder / 'long_range_videos' / '0000_timestamps.npy'
  taken = np.load(clock)
  np.save(clock, taken[0] + 2 * (taken - taken[0]))
  begin = record['feedback_timestamps'][0] - 1.0
  record['feedback_timestamps'] = [begin + 2 * (stamp - begin) for stamp in record['feedback_timestamps']]
  write_sessions(folder, record)
  clips = prepared(root, 'qevd')
  assert clips['coach/0000/0/001'].commentary_time == pytest.approx(4.0, abs=2e-3)
  assert sessions.OTHER_FRAMES in (tmp_path / 'datasets' / 'qevd' / 'losses.jsonl').read_text()


def test_short_clips_are_seen_whole_whatever_their_window(tmp_path, clip):
  root = tmp_path / 'qevd'
  (root / 'short_clips').mkdir(parents=True)
  os.link(clip, root / 'short_clips' / '00000000.mp4')
  labels = [{'video_path': './00000000.mp4', 'labels': ['squats - shallow'], 'split': 'test'}]
  (root / archives.LABELS).write_text(json.dumps(labels))
  (found,) = prepared(root, 'qevd_short', '--part', 'short').values()
  assert (found.faults, found.has_faults, found.commentary) == (['shallow'], True, '')
  np.testing.assert_allclose(found.window, [0, 5], atol=1e-3)
  assert np.isfinite(found.frame_times).sum() == 20
  assert json.loads(found.extra) == {'labels': ['squats - shallow']}
  shorter = prepared(root, 'narrow', '--part', 'short', '--name', 'narrow', '--mu1', '1', '--mu2', '1')
  np.testing.assert_allclose(shorter['00000000/0'].window, [1.5, 3.5], atol=1e-3)


def examined(root: pathlib.Path, part: str = 'coach') -> tuple[list[Finding], str]:
  found = doctor.examine(argparse.Namespace(root=str(root), part=part))
  return found, '\n'.join(f'{f.state} {f.what}: {f.detail}\n{f.remedy}' for f in found)


def test_a_whole_folder_is_well(root):
  found, text = examined(root)
  assert well(found)
  assert '3 sessions of 149 as published, 3 complete' in text
  doctor_verb.main(['qevd', str(root)])


def test_what_is_missing_or_half_there(root, capsys):
  videos = root / 'QEVD-FIT-COACH' / 'long_range_videos'
  whole = (videos / '0000.mp4').read_bytes()
  (videos / '0000.mp4').unlink()
  (videos / '0000.mp4').write_bytes(whole[: len(whole) // 2])
  (videos / '0001.mp4').unlink()
  (videos / '0002_timestamps.npy').write_bytes(b'\x93NUMPY')
  shutil.rmtree(root / 'QEVD-FIT-COACH-Benchmark')
  found, text = examined(root)
  assert not well(found)
  assert '3 sessions of 149 as published, 0 complete' in text
  assert '1 files (first: QEVD-FIT-COACH/long_range_videos/0001.mp4)' in text
  assert '2 files (first: QEVD-FIT-COACH/long_range_videos/0000.mp4 (ends early' in text
  assert 'curl -L -C -' in text
  assert 'QEVD-FIT-COACH-Benchmark/QEVD-FIT-COACH-Benchmark.zip' in text
  with pytest.raises(SystemExit):
    doctor_verb.main(['qevd', str(root)])
  assert 'MISSING  QEVD-FIT-COACH-Benchmark' in capsys.readouterr().out


def test_archives_that_are_downloaded_in_part_or_not_unpacked(tmp_path):
  (tmp_path / 'QEVD-FIT-COACH.zip').write_bytes(b'PK\x03\x04 and no end')
  with zipfile.ZipFile(tmp_path / 'QEVD-FIT-COACH-Benchmark.zip', 'w') as archive:
    archive.writestr('a', 'b')
  found, text = examined(tmp_path)
  assert [f.state for f in found] == ['broken', 'missing', 'absent']
  assert f'unzip -n {tmp_path}/QEVD-FIT-COACH-Benchmark.zip -d {tmp_path}' in text


def test_an_annotation_that_ends_early(root):
  file = root / 'QEVD-FIT-COACH' / archives.LONG_RANGE
  file.write_text(file.read_text()[:-20])
  found, text = examined(root)
  assert not well(found)
  assert 'broken QEVD-FIT-COACH/feedbacks_long_range.json' in text


def test_volumes_are_joined_and_clips_counted(tmp_path, clip):
  for name in (
    'QEVD-FIT-300k-Part-1.z01',
    'QEVD-FIT-300k-Part-1.z02',
    'QEVD-FIT-300k-Part-1.zip',
    'QEVD-FIT-300k-Part-2.z02',
  ):
    (tmp_path / name).write_bytes(b'x')
  (tmp_path / 'QEVD-FIT-300k-Part-3').mkdir()
  os.link(clip, tmp_path / 'QEVD-FIT-300k-Part-3' / '00000000.mp4')
  (tmp_path / 'QEVD-FIT-300k-Part-3' / '00000001.mp4').touch()
  labels = [{'video_path': f'./0000000{n}.mp4', 'labels': ['squats - shallow']} for n in range(3)]
  (tmp_path / archives.LABELS).write_text(json.dumps(labels))
  found, text = examined(tmp_path, 'short')
  assert f'7z x -aos -o{tmp_path} {tmp_path}/QEVD-FIT-300k-Part-1.zip' in text
  assert f'zip -s 0 {tmp_path}/QEVD-FIT-300k-Part-1.zip --out {tmp_path}/QEVD-FIT-300k-Part-1-joined.zip' in text
  assert '2 of 3 volumes are missing' in text
  assert '/QEVD-FIT-300k-Part-2/QEVD-FIT-300k-Part-2.z01' in text
  assert 'there QEVD-FIT-300k-Part-3: unpacked' in text
  assert '1 of 3 labelled clips are whole' in text
  assert '00000001.mp4 (0 bytes)' in text
  assert {f.what: f.state for f in found}[archives.WORKERS] == 'absent'


def test_a_folder_with_nothing(tmp_path):
  for part in ('coach', 'short'):
    found, text = examined(tmp_path, part)
    assert not well(found)
    assert doctor.PAGE in text
