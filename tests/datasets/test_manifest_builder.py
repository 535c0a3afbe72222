"""The import of own videos into records."""

import json
import pickle

import av
import numpy as np
import pytest
import tensorflow_datasets as tfds

from crosstrainer_jax.datasets.manifest import builder, decoding, rows, windows
from crosstrainer_jax.input import record, recordings, video
from crosstrainer_jax.input.source import ClipSource

SECOND = {'mu1': 0.5, 'mu2': 0.5, 'fps': 4.0, 'size': 16}


def test_records_read_back(tmp_path, write_video, row, write_manifest, clips_of):
  write_video(tmp_path / 'a.mp4')
  write_video(tmp_path / 'b.mp4', seconds=1.9)
  full = row(
    ['a.mp4', 'b.mp4'], commentary='Good.', time=1.5, faults=['balance'], proficiency='NOVICE', licence='CC0-1.0'
  )
  path = write_manifest(tmp_path, full, row(['a.mp4', 'b.mp4'], commentary='Late.', time=2.5))
  made = builder.prepare(path, tmp_path / 'data', 'mine', **SECOND)
  middle, late = clips_of(made)
  assert (middle.clip_id, middle.dataset, middle.views) == ('ann/a/1.000', 'mine', ['view1', 'view2'])
  assert (middle.commentary, middle.commentary_time, middle.window.tolist()) == ('Good.', 1.5, [1.0, 2.0])
  assert (middle.faults, middle.has_faults, middle.proficiency) == (['balance'], True, 0)
  assert (late.faults, late.has_faults, late.proficiency) == ([], False, -1)
  assert middle.token_lengths.tolist() == late.token_lengths.tolist() == [0, 0]  # no tokenizer exists yet
  assert (middle.licence, middle.provenance) == ('CC0-1.0', 'a.mp4;b.mp4')
  assert middle.frames.shape == (2, 4, 16, 16, 3)
  # nearest to 1.0, 1.25, 1.5, 1.75 s at 10 frames a second; 1.25 lies between two
  np.testing.assert_allclose(middle.frame_times[0], [1.0, 1.25, 1.5, 1.75], atol=0.051)
  np.testing.assert_allclose(middle.frames[0, :, 8, 8, 0], 40 * middle.frame_times[0], atol=6)
  # the second view is over before 2 s
  assert np.isnan(late.frame_times[1]).all()
  assert not late.frames[1].any()
  assert late.frames[0].any()
  assert not (tmp_path / 'data/mine/.decoded').exists()


def test_tfds_reads_it_by_name(tmp_path, write_video, row, write_manifest):
  write_video(tmp_path / 'a.mp4')
  builder.prepare(write_manifest(tmp_path, row()), tmp_path / 'data', 'mine', **SECOND)
  source = tfds.data_source('mine', data_dir=tmp_path / 'data')
  assert len(source['train']) == 3
  assert record.Clip.from_example(source['train'][0]).sport == 'soccer'


def test_again_returns_at_once_and_changes_are_noticed(tmp_path, monkeypatch, capsys, write_video, row, write_manifest):
  write_video(tmp_path / 'a.mp4')
  path = write_manifest(tmp_path, row())
  builder.prepare(path, tmp_path / 'data', 'mine', **SECOND)
  monkeypatch.setattr(decoding, 'decode_all', lambda *_: pytest.fail('decoded again'))
  made = builder.prepare(path, tmp_path / 'data', 'mine', **SECOND)
  assert len(made.as_data_source('train')) == 3
  assert 'prepared already' in capsys.readouterr().out
  with pytest.raises(rows.ManifestError, match='size 16 → 32.*overwrite'):
    builder.prepare(path, tmp_path / 'data', 'mine', **SECOND | {'size': 32})
  write_manifest(tmp_path, row(), row(time=1, commentary='x'))
  with pytest.raises(rows.ManifestError, match='the manifest or its files'):
    builder.prepare(path, tmp_path / 'data', 'mine', **SECOND)
  monkeypatch.undo()
  made = builder.prepare(path, tmp_path / 'data', 'mine', overwrite=True, **SECOND)
  assert len(made.as_data_source('train')) == 4


def test_what_cannot_be_used_is_counted(tmp_path, capsys, write_video, row, write_manifest, clips_of):
  write_video(tmp_path / 'a.mp4')
  whole = write_video(tmp_path / 'cut.mp4', 8.0, options={'movflags': 'faststart'}).read_bytes()
  (tmp_path / 'cut.mp4').write_bytes(whole[: len(whole) * 3 // 4])
  (tmp_path / 'empty.mp4').touch()
  (tmp_path / 'text.mp4').write_text('no video')
  with av.open(str(tmp_path / 'sound.mp4'), 'w') as container:
    stream = container.add_stream('aac', rate=16000, layout='mono')
    frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), 'fltp', 'mono')
    frame.sample_rate = 16000
    container.mux([*stream.encode(frame), *stream.encode(None)])
  names = ['empty.mp4', 'text.mp4', 'sound.mp4', 'gone.mp4', 'cut.mp4']
  members = [row(commentary='x', time=99.0), *(row(name) for name in names), row()]
  made = builder.prepare(write_manifest(tmp_path, *members), tmp_path / 'data', 'mine', **SECOND)
  report = json.loads((tmp_path / 'data/mine/import.json').read_text())
  assert set(report['skipped']) == {
    video.EMPTY, video.NOT_A_VIDEO, video.NO_VIDEO_STREAM, video.MISSING, video.TRUNCATED, windows.OUTSIDE
  }  # fmt: skip
  assert {s['line']: s['reason'] for s in report['skips']}[2] == video.EMPTY
  kept = [c for c in clips_of(made) if c.take == 'cut']
  assert 0 < len(kept) < 8
  assert report['skipped'][video.TRUNCATED] == 8 - len(kept)
  assert not any(np.isnan(c.frame_times).any() for c in kept)
  out = capsys.readouterr().out
  assert '1 × empty file (first: line 2, empty.mp4: 0 bytes)' in out


@pytest.mark.parametrize('views', [['cut.mp4'], ['a.mp4', 'cut.mp4']])
def test_without_frames_the_same_clips_are_there(tmp_path, write_video, row, write_manifest, clips_of, views):
  """Of a file that breaks off, its earlier clips; and the times that are asked for are all of the video."""
  write_video(tmp_path / 'a.mp4', 9.0)
  whole = write_video(tmp_path / 'cut.mp4', 8.0, options={'movflags': 'faststart'}).read_bytes()
  (tmp_path / 'cut.mp4').write_bytes(whole[: len(whole) * 3 // 4])
  path = write_manifest(tmp_path, row(views), row(['a.mp4', 'gone.mp4']))
  found = {}
  for frames in (True, False):
    made = builder.prepare(path, tmp_path / 'data', f'frames_{frames}', **SECOND, frames=frames)
    report = json.loads((tmp_path / f'data/frames_{frames}/import.json').read_text())
    found[frames] = [clip.clip_id for clip in clips_of(made)], report['skips']
  assert found[True] == found[False]
  assert 0 < len(found[False][0]) < 8
  assert {s['reason'] for s in found[False][1]} == {video.TRUNCATED, video.MISSING}
  files = [str(tmp_path / name) for name in views]
  assert report['identities'] == {file: recordings.identify(file) for file in files}
  assert set(map(tuple, report['recordings'].values())) == {tuple(files)}


def test_the_records_remember_how_a_frame_became_a_square(tmp_path, write_video, row, write_manifest):
  write_video(tmp_path / 'a.mp4')
  path = write_manifest(tmp_path, row())
  for name, options in (('boxed', {}), ('cropped', {'fit': 'crop'})):
    made = builder.prepare(path, tmp_path / 'data', name, **SECOND, **options)
    assert ClipSource(made.data_dir).fit == options.get('fit', 'letterbox')


def test_names_of_other_datasets_are_refused(tmp_path, write_video, row, write_manifest):
  write_video(tmp_path / 'a.mp4')
  path = write_manifest(tmp_path, row())
  with pytest.raises(rows.ManifestError, match='dataset of TFDS'):
    builder.prepare(path, tmp_path / 'data', 'mnist', **SECOND)
  (tmp_path / 'data/skillsim/1.0.0').mkdir(parents=True)
  with pytest.raises(rows.ManifestError, match='choose another name'):
    builder.prepare(path, tmp_path / 'data', 'skillsim', overwrite=True, **SECOND)
  assert (tmp_path / 'data/skillsim/1.0.0').exists()


def test_the_reader_can_be_sent_to_workers(tmp_path, write_video, row, write_manifest):
  write_video(tmp_path / 'a.mp4')
  made = builder.prepare(write_manifest(tmp_path, row()), tmp_path / 'data', 'mine', **SECOND)
  source = pickle.loads(pickle.dumps(made.as_data_source('train')))
  assert len(source) == 3


def test_nothing_usable_is_an_error(tmp_path, row, write_manifest):
  path = write_manifest(tmp_path, row('gone.mp4'))
  with pytest.raises(rows.ManifestError, match='no clip can be made'):
    builder.prepare(path, tmp_path / 'data', 'mine', **SECOND)
  assert json.loads((tmp_path / 'data/mine/import.json').read_text())['skipped'] == {'missing': 1}
