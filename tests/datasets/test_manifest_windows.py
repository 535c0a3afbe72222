"""From rows to clips: their windows, and the split of each participant."""

import math

import pytest

from crosstrainer_jax.datasets.manifest import rows, windows


@pytest.fixture
def cut(write_manifest):
  """`windows.cut` of the rows of a manifest whose recordings are all of one duration."""

  def cut_rows(folder, *members, duration=10.0, **sampling):
    read = rows.read_manifest(write_manifest(folder, *members))
    return windows.cut(read, {r.videos: duration for r in read}, windows.Sampling(**sampling), folder)

  return cut_rows


def test_windows_around_comments_are_cut_to_the_video(tmp_path, row, cut):
  members = [row(commentary='x', time=t) for t in (1.0, 5.0, 9.5, 12.0)]
  segments, skips, _ = cut(tmp_path, *members, mu1=2, mu2=3, fps=2)
  assert [(s.start, s.end, s.time) for s in segments] == [(0, 4, 1), (3, 8, 5), (7.5, 10, 9.5)]
  assert [len(s.times(windows.Sampling(mu1=2, mu2=3, fps=2))) for s in segments] == [8, 10, 5]
  assert segments[1].times(windows.Sampling(mu1=2, mu2=3, fps=2))[:2] == [3.0, 3.5]
  assert [(s.line, s.reason) for s in skips] == [(4, windows.OUTSIDE)]


def test_rows_without_commentary_slide(tmp_path, row, cut):
  segments, _, _ = cut(tmp_path, row(), mu1=2, mu2=2)
  assert [(s.start, s.end) for s in segments] == [(0, 4), (4, 8), (6, 10)]
  assert all(s.commentary == '' and math.isnan(s.time) for s in segments)
  segments, _, _ = cut(tmp_path, row(start=1, end=6), mu1=2, mu2=2, stride=1)
  assert [(s.start, s.end) for s in segments] == [(1, 5), (2, 6)]


def test_a_segment_with_commentary_is_one_clip(tmp_path, row, cut):
  segments, _, _ = cut(tmp_path, row(start=2, end=4, commentary='x', faults=['balance']), mu1=2, mu2=2)
  assert [(s.start, s.end, s.time) for s in segments] == [(2, 4, 3)]
  with pytest.raises(rows.ManifestError, match='line 1: .*end.*longer than mu1'):
    cut(tmp_path, row(start=2, end=9, commentary='x'), mu1=2, mu2=2)


def test_fault_labels_belong_to_one_clip(tmp_path, row, cut):
  with pytest.raises(rows.ManifestError, match='line 1: .*faults.*one clip'):
    cut(tmp_path, row(faults=['balance']), mu1=1, mu2=1)
  segments, _, _ = cut(tmp_path, row(faults=['balance'], time=5), mu1=1, mu2=1)
  assert [(s.start, s.end, s.commentary) for s in segments] == [(4, 6, '')]
  assert math.isnan(segments[0].time)


def test_a_voice_over_becomes_comments(tmp_path, row, cut):
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


def test_a_voice_over_without_a_comment_is_counted(tmp_path, row, cut):
  (tmp_path / 'v.json').write_text('{"segments": []}')
  segments, skips, _ = cut(tmp_path, row(captions='v.json'), row())
  assert len(segments) >= 1
  assert [(s.line, s.reason, s.detail) for s in skips] == [(1, windows.SILENT, 'v.json')]


def test_clips_of_one_moment_have_ids_of_their_own(tmp_path, row, cut):
  segments, _, _ = cut(tmp_path, row(commentary='x', time=5), row(commentary='y', time=5))
  assert [s.clip_id for s in segments] == ['ann/a/0.000', 'ann/a/0.000#2']


def test_splits_are_by_participant_and_deterministic(tmp_path, row, write_manifest):
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


def test_participants_of_one_video_stay_together(tmp_path, row, write_manifest):
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
