"""Own videos to records. The videos are made here: frame i is of one grey, 4 i."""

import dataclasses
import json
import math
import pathlib
import pickle

import av
import numpy as np
import pytest
import tensorflow_datasets as tfds

from crosstrainer_jax.datasets.manifest import builder, decoding, plan, rows, windows
from crosstrainer_jax.input import record, video

SECOND = {'mu1': 0.5, 'mu2': 0.5, 'fps': 4.0, 'size': 16}


def write_video(path, seconds=3.0, fps=10, options=None):
  path.parent.mkdir(parents=True, exist_ok=True)
  with av.open(str(path), 'w', options=options or {}) as container:
    stream = container.add_stream('libx264', rate=fps)
    stream.width, stream.height, stream.pix_fmt = 32, 32, 'yuv420p'
    for i in range(round(seconds * fps)):
      container.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((32, 32, 3), min(4 * i, 255), np.uint8), 'rgb24')))
    container.mux(stream.encode(None))
  return path


def row(videos='a.mp4', **fields):
  return {'videos': videos, 'sport': 'soccer', 'skill': 'dribbling', 'participant': 'ann', **fields}


def write_manifest(folder, *members, name='manifest.jsonl'):
  path = folder / name
  path.write_text('\n'.join(m if isinstance(m, str) else json.dumps(m) for m in members) + '\n')
  return path


def problem_of(tmp_path, *members, name='manifest.jsonl'):
  with pytest.raises(rows.ManifestError) as caught:
    rows.read_manifest(write_manifest(tmp_path, *members, name=name))
  return str(caught.value)


def clips_of(made, split='train'):
  return sorted((record.Clip.from_example(e) for e in made.as_data_source(split)), key=lambda c: c.clip_id)


# Rows


def test_a_full_row(tmp_path):
  full = row(
    ['left.mp4', 'sub/right.mp4'], views=['l', 'r'], take='t1', split='test', commentary=' Good   balance. ', time=2,
    proficiency='Early-Expert', faults=['balance'], licence='CC0-1.0', provenance='my phone',
  )  # fmt: skip
  (read,) = rows.read_manifest(write_manifest(tmp_path, '', full))
  assert read.line == 2
  assert (read.videos, read.views) == (('left.mp4', 'sub/right.mp4'), ('l', 'r'))
  assert (read.commentary, read.time, read.take, read.split) == ('Good balance.', 2.0, 't1', 'test')
  assert (record.LEVELS[read.proficiency], read.faults) == ('early expert', ('balance',))
  assert (read.licence, read.provenance) == ('CC0-1.0', 'my phone')


def test_defaults(tmp_path):
  (read,) = rows.read_manifest(write_manifest(tmp_path, row('day1/kick.mp4')))
  assert (read.take, read.views, read.proficiency, read.faults, read.split) == ('kick', ('main',), -1, None, '')
  (read,) = rows.read_manifest(write_manifest(tmp_path, row(['a.mp4', 'b.mp4'])))
  assert read.views == ('view1', 'view2')


def test_csv_with_view_columns_lists_and_bom(tmp_path):
  path = tmp_path / 'm.csv'
  path.write_text(
    '\ufeffvideo_left,video_right,sport,skill,participant,time,commentary,faults\n'
    'l.mp4,r.mp4,soccer,dribbling,ann,1.5,"Knees, please",knee bend;balance\n'
    'l.mp4,,soccer,dribbling,ann,,,\n'
  )
  both, one = rows.read_manifest(path)
  assert (both.videos, both.views) == (('l.mp4', 'r.mp4'), ('left', 'right'))
  assert (both.time, both.commentary, both.faults) == (1.5, 'Knees, please', ('knee bend', 'balance'))
  assert (one.videos, one.time, one.faults) == (('l.mp4',), None, None)


def test_csv_with_semicolons_between_views(tmp_path):
  path = tmp_path / 'm.csv'
  path.write_text('videos,views,sport,skill,participant\nl.mp4;r.mp4,left;right,soccer,dribbling,ann\n')
  assert rows.read_manifest(path)[0].views == ('left', 'right')


@pytest.mark.parametrize(
  ('fields', 'field', 'fix'),
  [
    ({'comentary': 'x'}, 'comentary', "did you mean 'commentary'"),
    ({'license': 'x'}, 'license', "did you mean 'licence'"),
    ({'zzz': 1}, 'zzz', 'known: videos'),
    ({'sport': None}, 'sport', 'missing'),
    ({'proficiency': 'pro'}, 'proficiency', 'novice, intermediate'),
    ({'split': 'dev'}, 'split', 'train, validation, test'),
    ({'time': '3'}, 'time', 'seconds'),
    ({'time': -1}, 'time', 'seconds'),
    ({'time': True}, 'time', 'seconds'),
    ({'commentary': 'x'}, 'time', 'missing'),
    ({'commentary': 'x', 'time': 1, 'start': 0}, 'time', 'not both'),
    ({'commentary': 'x', 'start': 3, 'end': 2}, 'end', 'not after'),
    ({'captions': 'a.srt', 'commentary': 'x', 'time': 1}, 'commentary', 'row of its own'),
    ({'captions': 'a.srt', 'faults': []}, 'faults', 'row of its own'),
    ({'faults': [3]}, 'faults', 'list of texts'),
    ({'sport': 3}, 'sport', 'quotes'),
    ({'videos': []}, 'videos', 'at least one'),
    ({'videos': ['a.mp4', 'a.mp4']}, 'videos', 'twice'),
    ({'views': ['l', 'r']}, 'views', '2 names for 1'),
    ({'videos': '../a.mp4'}, 'videos', 'leaves the root'),
    ({'videos': 'sub/../../a.mp4'}, 'videos', 'leaves the root'),
    ({'videos': '/etc/a.mp4'}, 'videos', 'absolute'),
    ({'videos': 'C:\\a.mp4'}, 'videos', 'absolute'),
    ({'captions': '../a.srt'}, 'captions', 'leaves the root'),
  ],
)
def test_a_problem_names_manifest_line_field_and_fix(tmp_path, fields, field, fix):
  message = problem_of(tmp_path, row(), {**row('b.mp4'), **fields})
  assert message.startswith(f'{tmp_path / "manifest.jsonl"} line 2, field {field!r}: ')
  assert fix in message
  assert '\n' not in message


def test_all_problems_are_reported_at_once(tmp_path):
  message = problem_of(tmp_path, row(sport=''), '{', '[]', row(), row())
  assert [line.split(' line ')[1].split(':')[0] for line in message.splitlines()] == ["1, field 'sport'", '2', '3', '5']
  assert 'the same as line 4' in message


def test_a_participant_belongs_to_one_split(tmp_path):
  message = problem_of(tmp_path, row(split='train'), row('b.mp4', split='test'))
  assert "line 2, field 'split'" in message
  assert "'train' on line 1" in message


def test_a_video_belongs_to_one_split(tmp_path):
  message = problem_of(tmp_path, row(split='train'), row(['b.mp4', 'a.mp4'], participant='bob', split='test'))
  assert "line 2, field 'split'" in message
  assert 'a video belongs to one split' in message


def test_csv_problems(tmp_path):
  assert 'export it with commas' in problem_of(tmp_path, 'videos;sport;skill', 'a;b;c', name='m.csv')
  head = 'videos,sport,skill,participant'
  assert 'line 2: more cells' in problem_of(tmp_path, head, 'a.mp4,soccer,dribbling,ann,Good,', name='m.csv')
  assert "'x' is no number" in problem_of(tmp_path, head + ',time', 'a.mp4,soccer,dribbling,ann,x', name='m.csv')
  assert 'not both' in problem_of(tmp_path, head + ',video_l', 'a.mp4,soccer,dribbling,ann,l.mp4', name='m.csv')


def test_other_files(tmp_path):
  with pytest.raises(FileNotFoundError, match=r'gone\.csv'):
    rows.read_manifest(tmp_path / 'gone.csv')
  assert 'jsonl or .csv' in problem_of(tmp_path, row(), name='m.xlsx')
  assert 'no rows' in problem_of(tmp_path, '')
  (tmp_path / 'm.csv').write_bytes('videos,sport\nä'.encode('latin-1'))
  with pytest.raises(rows.ManifestError, match='UTF-8'):
    rows.read_manifest(tmp_path / 'm.csv')


def test_a_link_out_of_the_root_is_refused(tmp_path):
  outside = write_video(tmp_path / 'outside.mp4', 0.5)
  root = tmp_path / 'root'
  root.mkdir()
  (root / 'link.mp4').symlink_to(outside)
  assert 'leaves the root' in problem_of(root, row('link.mp4'))


def test_same_file_names_are_different_takes(tmp_path):
  path = write_manifest(tmp_path, row('day1/a.mp4'), row('day2/a.mp4'), row('day2/a.mp4', time=1, commentary='x'))
  assert [r.take for r in rows.read_manifest(path)] == ['day1/a', 'day2/a', 'day2/a']


def test_the_guide_is_true(tmp_path):
  guide = (pathlib.Path(__file__).parents[2] / 'docs/own_videos.md').read_text()
  blocks = guide.split('```')
  (tmp_path / 'm.jsonl').write_text(next(b for b in blocks if b.startswith('json\n')).removeprefix('json\n'))
  (tmp_path / 'm.csv').write_text(next(b for b in blocks if b.startswith('\nvideos,')).lstrip())
  read = rows.read_manifest(tmp_path / 'm.jsonl')
  assert len(read) == 3
  assert [dataclasses.replace(r, line=0) for r in read] == [
    dataclasses.replace(r, line=0) for r in rows.read_manifest(tmp_path / 'm.csv')
  ]
  table = [line.split('|')[1] for line in guide.splitlines() if line.startswith('| `')]
  assert sorted(name.strip(' `') for cell in table for name in cell.split(',')) == sorted(rows.FIELDS)


# Windows and splits


def cut(tmp_path, *members, duration=10.0, **sampling):
  read = rows.read_manifest(write_manifest(tmp_path, *members))
  return windows.cut(read, {r.videos: duration for r in read}, windows.Sampling(**sampling), tmp_path)


def test_windows_around_comments_are_cut_to_the_video(tmp_path):
  members = [row(commentary='x', time=t) for t in (1.0, 5.0, 9.5, 12.0)]
  segments, skips, _ = cut(tmp_path, *members, mu1=2, mu2=3, fps=2)
  assert [(s.start, s.end, s.time) for s in segments] == [(0, 4, 1), (3, 8, 5), (7.5, 10, 9.5)]
  assert [len(s.times(windows.Sampling(mu1=2, mu2=3, fps=2))) for s in segments] == [8, 10, 5]
  assert segments[1].times(windows.Sampling(mu1=2, mu2=3, fps=2))[:2] == [3.0, 3.5]
  assert [(s.line, s.reason) for s in skips] == [(4, windows.OUTSIDE)]


def test_rows_without_commentary_slide(tmp_path):
  segments, _, _ = cut(tmp_path, row(), mu1=2, mu2=2)
  assert [(s.start, s.end) for s in segments] == [(0, 4), (4, 8), (6, 10)]
  assert all(s.commentary == '' and math.isnan(s.time) for s in segments)
  segments, _, _ = cut(tmp_path, row(start=1, end=6), mu1=2, mu2=2, stride=1)
  assert [(s.start, s.end) for s in segments] == [(1, 5), (2, 6)]


def test_a_segment_with_commentary_is_one_clip(tmp_path):
  segments, _, _ = cut(tmp_path, row(start=2, end=4, commentary='x', faults=['balance']), mu1=2, mu2=2)
  assert [(s.start, s.end, s.time) for s in segments] == [(2, 4, 3)]
  with pytest.raises(rows.ManifestError, match='line 1: .*end.*longer than mu1'):
    cut(tmp_path, row(start=2, end=9, commentary='x'), mu1=2, mu2=2)


def test_fault_labels_belong_to_one_clip(tmp_path):
  with pytest.raises(rows.ManifestError, match='line 1: .*faults.*one clip'):
    cut(tmp_path, row(faults=['balance']), mu1=1, mu2=1)
  segments, _, _ = cut(tmp_path, row(faults=['balance'], time=5), mu1=1, mu2=1)
  assert [(s.start, s.end, s.commentary) for s in segments] == [(4, 6, '')]
  assert math.isnan(segments[0].time)


def test_a_voice_over_becomes_comments(tmp_path):
  (tmp_path / 'a.srt').write_text(
    '1\n00:00:01,000 --> 00:00:02,000\nGood balance.\n\n2\n00:00:04,000 --> 00:00:05,000\nBend the\n\n'
    '3\n00:00:05,000 --> 00:00:06,000\nknees.\n\n4\n00:00:20,000 --> 00:00:21,000\nToo late.\n\n'
    '5\n00:00:08,000 --> 00:00:07,000\nbackwards\n'
  )
  segments, skips, notes = cut(tmp_path, row(captions='a.srt'), mu1=1, mu2=2)
  assert [(s.commentary, s.start, s.end) for s in segments] == [('Good balance.', 0, 3), ('Bend the knees.', 3, 6)]
  assert len(skips) == 1
  assert notes['malformed captions dropped'] == 1
  with pytest.raises(rows.ManifestError, match=r'line 1: .*gone\.srt'):
    cut(tmp_path, row(captions='gone.srt'))


def test_clips_of_one_moment_have_ids_of_their_own(tmp_path):
  segments, _, _ = cut(tmp_path, row(commentary='x', time=5), row(commentary='y', time=5))
  assert [s.clip_id for s in segments] == ['ann/a/0.000', 'ann/a/0.000#2']


def test_splits_are_by_participant_and_deterministic(tmp_path):
  members = [row(f'{i}.mp4', participant=f'p{i % 10}') for i in range(30)] + [row('x.mp4', split='validation')]
  read = rows.read_manifest(write_manifest(tmp_path, *members))
  splits = windows.assign_splits(read, 0.2, seed=0)
  assert splits['ann'] == 'validation'
  assert sorted(splits.values()).count('test') == 2
  assert splits == windows.assign_splits(read[::-1], 0.2, seed=0)
  assert any(splits != windows.assign_splits(read, 0.2, seed=seed) for seed in range(1, 5))
  assert windows.assign_splits(read[:1], 0.2, seed=0) == {'p0': 'train'}
  assert sorted(windows.assign_splits(read[:2], 0.1, seed=0).values()) == ['test', 'train']
  assert set(windows.assign_splits(read[:9], 0.0, seed=0).values()) == {'train'}


def test_participants_of_one_video_stay_together(tmp_path):
  shared = [('1', 'ann'), ('1', 'bob'), ('2', 'bob'), ('2', 'cid'), ('3', 'dan'), ('4', 'eve'), ('5', 'eve')]
  members = [row(f'{video}.mp4', participant=name, take=f'{video}{name}') for video, name in shared]
  read = rows.read_manifest(write_manifest(tmp_path, *members))
  for seed in range(8):
    splits = windows.assign_splits(read, 0.4, seed)
    assert splits.keys() == {'ann', 'bob', 'cid', 'dan', 'eve'}
    assert splits['ann'] == splits['bob'] == splits['cid']
    assert sorted({splits['ann'], splits['dan'], splits['eve']}) == ['test', 'train']


@pytest.mark.parametrize(
  'bad', [{'mu1': -1}, {'mu1': 0, 'mu2': 0}, {'fps': 0}, {'size': 1}, {'fit': 'stretch'}, {'stride': -1}]
)
def test_bad_sampling(bad):
  with pytest.raises(ValueError, match=next(iter(bad))):
    windows.Sampling(**bad)


# The import


def test_records_read_back(tmp_path):
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


def test_tfds_reads_it_by_name(tmp_path):
  write_video(tmp_path / 'a.mp4')
  builder.prepare(write_manifest(tmp_path, row()), tmp_path / 'data', 'mine', **SECOND)
  source = tfds.data_source('mine', data_dir=tmp_path / 'data')
  assert len(source['train']) == 3
  assert record.Clip.from_example(source['train'][0]).sport == 'soccer'


def test_again_returns_at_once_and_changes_are_noticed(tmp_path, monkeypatch, capsys):
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


def test_what_cannot_be_used_is_counted(tmp_path, capsys):
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


def test_names_of_other_datasets_are_refused(tmp_path):
  write_video(tmp_path / 'a.mp4')
  path = write_manifest(tmp_path, row())
  with pytest.raises(rows.ManifestError, match='dataset of TFDS'):
    builder.prepare(path, tmp_path / 'data', 'mnist', **SECOND)
  (tmp_path / 'data/skillsim/1.0.0').mkdir(parents=True)
  with pytest.raises(rows.ManifestError, match='choose another name'):
    builder.prepare(path, tmp_path / 'data', 'skillsim', overwrite=True, **SECOND)
  assert (tmp_path / 'data/skillsim/1.0.0').exists()


def test_the_reader_can_be_sent_to_workers(tmp_path):
  write_video(tmp_path / 'a.mp4')
  made = builder.prepare(write_manifest(tmp_path, row()), tmp_path / 'data', 'mine', **SECOND)
  source = pickle.loads(pickle.dumps(made.as_data_source('train')))
  assert len(source) == 3


def test_nothing_usable_is_an_error(tmp_path):
  path = write_manifest(tmp_path, row('gone.mp4'))
  with pytest.raises(rows.ManifestError, match='no clip can be made'):
    builder.prepare(path, tmp_path / 'data', 'mine', **SECOND)
  assert json.loads((tmp_path / 'data/mine/import.json').read_text())['skipped'] == {'missing': 1}


def test_a_killed_import_goes_on(tmp_path, monkeypatch, capsys):
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
  assert '2 of 4 videos are decoded already' in capsys.readouterr().out
  assert len(made.as_data_source('train')) == 12


def test_worker_count_changes_nothing(tmp_path):
  for name in 'abc':
    write_video(tmp_path / f'{name}.mp4', 1.0)
  path = write_manifest(tmp_path, *(row(f'{name}.mp4') for name in 'abc'))
  one, three = (clips_of(builder.prepare(path, tmp_path / 'data', f'n{n}', workers=n, **SECOND)) for n in (1, 3))
  for left, right in zip(one, three, strict=True):
    assert left.clip_id == right.clip_id
    np.testing.assert_array_equal(left.frames, right.frames)


def test_the_same_video_alone_and_as_a_view(tmp_path):
  write_video(tmp_path / 'a.mp4')
  write_video(tmp_path / 'b.mp4')
  path = write_manifest(
    tmp_path, row(commentary='x', time=2), row(['b.mp4', 'a.mp4'], commentary='y', time=1, take='t')
  )
  alone, pair = clips_of(builder.prepare(path, tmp_path / 'data', 'mine', **SECOND))
  np.testing.assert_allclose(alone.frames[0, :, 8, 8, 0], 40 * alone.frame_times[0], atol=6)
  np.testing.assert_allclose(pair.frames[1, :, 8, 8, 0], 40 * pair.frame_times[1], atol=6)
  assert pair.frame_times[1, 0] == pytest.approx(0.5, abs=0.01)


# The estimate and the progress


def test_the_estimate_fits(tmp_path):
  write_video(tmp_path / 'a.mp4')
  config = plan.ManifestConfig(name='mine', manifest=str(write_manifest(tmp_path, row())), **SECOND)
  estimated = plan.estimate(plan.make_plan(config), config)
  assert estimated.cache_bytes == 3 * 4 * 16 * 16 * 3
  assert 0 < estimated.dataset_bytes < estimated.cache_bytes
  assert estimated.seconds > 0


def test_progress_off_a_terminal(capsys, monkeypatch):
  now = [0.0]
  monkeypatch.setattr(decoding.time, 'monotonic', lambda: now[0])
  with decoding.Progress('decoding', 100, 'frames') as progress:
    for _ in range(4):
      now[0] += 6
      progress.advance(10)
  lines = capsys.readouterr().err.splitlines()
  assert lines[0] == 'decoding: 20/100 frames, 2/s, 48 s left'
  assert lines[-1].startswith('decoding: 40/100')
