"""The shared importer: from the takes of any source to records, resumed, reported, without growing memory."""

import dataclasses
import os
import pathlib
import pickle
import signal
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from crosstrainer_jax.datasets.manifest.windows import Sampling
from crosstrainer_jax.datasets.takes import builder, clips, feature_files, findings, journal, making, survey
from crosstrainer_jax.datasets.takes.take import Comment, Lose, Loss, Take
from crosstrainer_jax.input import record
from crosstrainer_jax.input.recordings import Recordings
from crosstrainer_jax.input.source import ClipSource
from tests.datasets.egoexo4d_release import write_features, write_video


@dataclasses.dataclass(frozen=True)
class Listed:
  """A source of given takes."""

  root: str
  listed: tuple[Take, ...]
  lost: tuple[Loss, ...] = ()
  name: str = 'listed'

  def content(self) -> dict[str, Any]:
    return {'takes': len(self.listed)}

  def takes(self, lose: Lose) -> Iterator[Take]:
    for loss in self.lost:
      lose(loss)
    yield from self.listed


def take(name: str, *comments: Comment, **fields: Any) -> Take:
  given = {'participant': name, 'split': 'train', 'views': ('main',), 'videos': ('a.mp4',), **fields}
  return Take(name, 'soccer', 'dribbling', comments=comments or (Comment('0', 'Said.', 3.0),), **given)


@pytest.fixture
def root(tmp_path: pathlib.Path) -> pathlib.Path:
  folder = tmp_path / 'root'
  folder.mkdir()
  write_video(folder / 'a.mp4', seconds=8.0)
  return folder


def prepare(source: Listed, tmp_path: pathlib.Path, **config: Any) -> list[record.Clip]:
  made = builder.prepare(source, tmp_path / 'data', **{'fps': 1.0, 'size': 16, **config})
  found = ClipSource(pathlib.Path(made.data_dir))
  return [found[i] for i in range(len(found))]


SAMPLING = Sampling(2.0, 2.0, 1.0, 16)


@pytest.mark.parametrize(
  ('comment', 'start', 'end'),
  [
    (Comment('0', 'Said.', 3.0), 1.0, 5.0),
    (Comment('0', 'Said.', 0.5), 0.0, 2.5),
    (Comment('0', 'Said.', 7.5), 5.5, 8.0),
    # a window of its own, with and without a time
    (Comment('0', 'Said.', 3.0, start=2.0, end=4.5), 2.0, 4.5),
    (Comment('0', '', start=2.0, end=4.5, faults=()), 2.0, 4.5),
    # longer than a clip: its middle
    (Comment('0', '', start=1.0, end=7.0), 2.0, 6.0),
    (Comment('0', 'Said.', start=6.0, end=20.0), None, None),
    # no window at all falls back on the time
    (Comment('0', 'Said.', 3.0, start=4.0, end=4.0), 1.0, 5.0),
  ],
)
def test_windows(comment, start, end):
  losses = []
  windows = clips.cut(take('t', comment), 8.0, SAMPLING, losses.append)
  if start is None:
    assert [(loss.id, loss.reason) for loss in losses] == [('t/0', clips.OUTSIDE)]
  else:
    assert [(window.start, window.end) for window in windows] == [(start, end)]
    assert not losses


def test_comments_that_have_no_window_are_lost():
  comments = (
    Comment('late', 'Said.', 9.0),
    Comment('none', 'Said.'),
    Comment('nan', 'Said.', float('nan')),
    Comment('twice', 'Said.', 3.0),
    Comment('twice', 'Said.', 4.0),
    Comment('before', 'Said.', 0.5),
  )
  losses = []
  windows = clips.cut(take('t', *comments, start=1.0), 8.0, SAMPLING, losses.append)
  assert [window.comment.name for window in windows] == ['twice']
  assert [(loss.id, loss.reason) for loss in losses] == [
    ('t/late', clips.OUTSIDE),
    ('t/none', clips.NO_TIME),
    ('t/nan', clips.NO_TIME),
    ('t/twice', clips.TWICE),
    ('t/before', clips.OUTSIDE),
  ]


def test_a_take_of_a_longer_recording_has_windows_in_it_alone():
  (window,) = clips.cut(take('t', Comment('0', 'Said.', 3.0), start=2.0, end=4.0), 8.0, SAMPLING, lambda _: None)
  assert (window.start, window.end) == (2.0, 4.0)


def test_takes_and_settings_travel(root):
  comment = Comment('é', 'Said.', 3.0, faults=('a', 'b'), extra={'drawings': [[0.1, None]]}, proficiency=2)
  whole = take('t', comment, Comment('1', faults=()), features=('x.pt',), encoder='maws_clip_2b', start=1.5)
  assert Take.from_json(whole.to_json()) == whole
  settings = clips.Settings('d', str(root), SAMPLING)
  assert pickle.loads(pickle.dumps((whole, settings))) == (whole, settings)


def test_records_hold_what_a_take_tells(root, tmp_path, capsys):
  comments = (
    Comment('e/1', 'Said.', 3.0, expert='e', prefix='Here:', proficiency=1, extra={'rating': 7}),
    Comment('labels', start=4.0, end=6.0, faults=('knee in',)),
  )
  both = {'views': ('left', 'right'), 'videos': ('a.mp4', 'gone.mp4')}
  source = Listed(
    str(root),
    (
      take('t', *comments, proficiency=3, licence='CC0-1.0', **both),
      take('u', split='test', participant='t'),
      take('u', split='test'),
    ),
    (Loss('comment', 'x/1', 'no words'),),
  )
  _, said, labelled = found = prepare(source, tmp_path, name='mine', mu1=2.0, mu2=2.0)
  assert [(c.clip_id, c.dataset, c.expert, c.prefix, c.extra, c.proficiency) for c in found] == [
    ('u/0', 'mine', '', '', '', -1),
    ('t/e/1', 'mine', 'e', 'Here:', '{"rating": 7}', 1),
    ('t/labels', 'mine', '', '', '', 3),
  ]
  assert (said.has_faults, labelled.has_faults, labelled.faults) == (False, True, ['knee in'])
  assert np.isnan(labelled.commentary_time)
  assert (labelled.views, labelled.licence, labelled.provenance) == (['left'], 'CC0-1.0', 'a.mp4')
  out = capsys.readouterr().out
  assert '1 × comment: no words (first: x/1)' in out
  assert f'1 × take: {making.TWICE} (first: u)' in out
  assert f'1 × comment: {making.TWICE} (first: u/0)' in out
  assert '1 × view: missing (first: t/right)' in out
  assert '1 participants are in several splits' in out
  assert 'mine/1.0.0: 3 clips (test 1, train 2)' in out
  assert sorted(p.name for p in (tmp_path / 'data/mine').iterdir()) == ['1.0.0', 'import.json', 'losses.jsonl']


def test_the_same_again_is_said_and_another_needs_overwrite(root, tmp_path, capsys):
  source = Listed(str(root), (take('t'),))
  first = prepare(source, tmp_path)
  capsys.readouterr()
  assert prepare(source, tmp_path)[0].to_example().keys() == first[0].to_example().keys()
  assert 'prepared already' in capsys.readouterr().out
  with pytest.raises(ValueError, match=r'made otherwise \(fps 1.0 → 2.0\); choose another --name, or --overwrite'):
    prepare(source, tmp_path, fps=2.0)
  # a video that came later is noticed too
  write_video(root / 'a.mp4', seconds=4.0)
  with pytest.raises(ValueError, match='the annotations or the videos'):
    prepare(source, tmp_path)
  assert prepare(source, tmp_path, overwrite=True)[0].window[1] == pytest.approx(4.0)
  with pytest.raises(ValueError, match='is a dataset of TFDS'):
    prepare(source, tmp_path, name='mnist')
  with pytest.raises(ValueError, match="name '../x' must be letters"):
    prepare(source, tmp_path, name='../x')


def test_a_report_is_never_beside_records_that_it_is_not_of(root, tmp_path, monkeypatch):
  prepare(Listed(str(root), (take('t'),)), tmp_path)
  write = builder._write

  def killed(*_):
    raise KeyboardInterrupt

  for step in ('_report', '_write'):
    monkeypatch.setattr(builder, step, killed)
    with pytest.raises(KeyboardInterrupt):
      prepare(Listed(str(root), (take('t'), take('u'))), tmp_path, overwrite=True)
    monkeypatch.undo()
    assert not (tmp_path / 'data/listed/1.0.0').exists()
  assert builder._write is write
  assert len(prepare(Listed(str(root), (take('t'), take('u'))), tmp_path)) == 2


def test_nothing_to_import_leaves_nothing(root, tmp_path):
  with pytest.raises(ValueError, match=r'no take to import\nlost:\n  1 × take: x'):
    prepare(Listed(str(root), (), (Loss('take', 'a', 'x'),)), tmp_path)
  assert not (tmp_path / 'data' / 'listed').exists()
  with pytest.raises(
    ValueError, match=r'no clip can be made of it(.|\n)*no view of the take can be read \(first: t/0\)'
  ):
    prepare(Listed(str(root), (take('t', videos=('gone.mp4',)),)), tmp_path)


def test_a_killed_import_goes_on_where_it_was(root, tmp_path):
  """Killed outright after some takes: the next one decodes the others alone."""
  program = f"""
    import os, signal, sys
    sys.path.insert(0, {os.getcwd()!r})
    from tests.datasets.test_takes import *
    made = making.make
    def make(key, take, *rest):
      if take.name == 't4':
        os.kill(os.getpid(), signal.SIGKILL)
      return made(key, take, *rest)
    making.make = make
    prepare(Listed({str(root)!r}, tuple(take(f't{{i}}') for i in range(8))), pathlib.Path({str(tmp_path)!r}), workers=1)
  """
  done = subprocess.run([sys.executable, '-c', textwrap.dedent(program)], capture_output=True)
  assert done.returncode == -signal.SIGKILL, done.stderr.decode()
  cache = builder.cache_of(tmp_path / 'data' / 'listed')
  kept = journal.Journal(cache / 'journal.sqlite')
  finished = kept.count()[1]
  kept.close()
  assert 1 <= finished <= 4
  asked = []
  made = making.make

  def make(key, take, *rest):
    asked.append(take.name)
    return made(key, take, *rest)

  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(making, 'make', make)
    found = prepare(Listed(str(root), tuple(take(f't{i}') for i in range(8))), tmp_path, workers=1)
  assert asked == [f't{i}' for i in range(finished, 8)]
  assert [clip.take for clip in found] == [f't{i}' for i in range(8)]
  assert not cache.exists()


def test_shards_hold_whole_takes_in_order(root, tmp_path, monkeypatch):
  monkeypatch.setattr(builder, '_SHARD_BYTES', 3000)
  found = prepare(Listed(str(root), tuple(take(f't{i}') for i in range(9))), tmp_path, workers=2)
  assert [clip.take for clip in found] == [f't{i}' for i in range(9)]
  files = sorted((tmp_path / 'data/listed/1.0.0').glob('*.array_record*'))
  assert len(files) > 2
  assert files[-1].name.endswith(f'{len(files) - 1:05d}-of-{len(files):05d}')


def test_without_frames_takes_name_their_videos(root, tmp_path):
  write_video(root / 'b.mp4', seconds=5.0)
  comments = (Comment('0', 'Said.', 3.3), Comment('1', 'Said.', 7.0))
  source = Listed(
    str(root),
    (
      take('t', *comments, views=('left', 'right'), videos=('a.mp4', 'b.mp4')),
      take('u', *comments, views=('left', 'right'), videos=('gone.mp4', 'a.mp4')),
    ),
  )
  first, second, third, _ = prepare(source, tmp_path, frames=False, mu1=2.0, mu2=2.0, fps=2.0)
  assert first.frames.size == 0
  assert first.window[0] == 1.0
  # the second view ends before the second comment's window does
  assert np.isfinite(second.frame_times).sum(1).tolist() == [6, 0]
  known = Recordings(tmp_path / 'data/listed/import.json')
  assert known
  left, right = known.of(first.clip_id, 't')
  assert known.file(left).samefile(root / 'a.mp4')
  assert known.file(right).samefile(root / 'b.mp4')
  assert known.of(third.clip_id, 'u') == [left]
  assert third.views == ['right']


def test_a_truncated_view_is_padding_where_another_shows_the_window(root, tmp_path, capsys):
  content = write_video(root / 'long.mp4', seconds=20.0, front=True).read_bytes()
  first = content.find(b'mdat')
  (root / 'cut.mp4').write_bytes(content[: first + (len(content) - first) * 6 // 10])
  comments = (Comment('early', 'Said.', 3.0), Comment('late', 'Said.', 17.0))
  source = Listed(
    str(root),
    (
      take('t', *comments, views=('left', 'right'), videos=('long.mp4', 'cut.mp4')),
      take('u', *comments, videos=('cut.mp4',)),
    ),
  )
  for frames in (True, False):
    found = {c.clip_id: c for c in prepare(source, tmp_path, mu1=2.0, mu2=2.0, frames=frames, overwrite=True)}
    assert list(found) == ['t/early', 't/late', 'u/early']
    seen = {name: np.isfinite(clip.frame_times).all(1).tolist() for name, clip in found.items()}
    assert seen == {'t/early': [True, True], 't/late': [True, False], 'u/early': [True]}
    if frames:
      assert found['t/late'].frames.any((1, 2, 3, 4)).tolist() == [True, False]
    out = capsys.readouterr().out
    assert f'1 × view of a clip: {clips.NOTHING_SEEN} (first: t/late: right)' in out
    assert f'1 × comment: {clips.NOTHING_SEEN} (first: u/late)' in out


def test_a_dry_run_and_an_estimate_write_nothing(root, tmp_path):
  source = Listed(str(root), (take('t'), take('u', split='test'), take('v', videos=('gone.mp4',))))
  shown = survey.describe(source, builder.TakesConfig(fps=1.0, size=16), sample=True)
  assert '3 takes → 2 clips of 2 takes by 2 participants' in shown
  assert 'splits: test 1, train 1' in shown
  assert '1 × comment: no view of the take can be read (first: v/0)' in shown
  assert '2 clips: about 0.00 MB' in shown
  assert list(tmp_path.iterdir()) == [root]


def test_what_a_look_at_a_file_tells(tmp_path):
  whole = write_video(tmp_path / 'a.mp4', seconds=2.0)
  content = whole.read_bytes()
  assert findings.fault(whole) == ''
  assert findings.fault(write_video(tmp_path / 'front.mp4', seconds=2.0, front=True)) == ''
  for name, part, message in (
    ('half.mp4', content[: len(content) // 2], 'bytes are missing'),
    ('head.mp4', content[:32], 'without mdat, moov'),
    ('zeros.mp4', bytes(5000), 'not an mp4'),
    ('none.mp4', b'', '0 bytes'),
    ('text.mp4', b'<html>Not found</html>', 'not an mp4'),
    ('a.pt', b'PK\x03\x04' + bytes(100), 'not a whole file of PyTorch'),
    ('small.json', b'{"a": [1, 2}', 'broken JSON'),
    ('large.json', b'[' + b'"word", ' * 10_000, 'JSON that ends early'),
    ('large.txt', b'anything', ''),
    ('good.json', b' \n{"a": 1}\n', ''),
  ):
    file = tmp_path / name
    file.write_bytes(part)
    assert (message in findings.fault(file)) if message else findings.fault(file) == '', name


@pytest.mark.parametrize(
  ('rows', 'message'),
  [
    (np.zeros((0, 4)), 'one tensor'),
    (np.zeros((5,)), 'one tensor'),
    (np.zeros((2, 3, 4)), 'one tensor'),
  ],
)
def test_a_file_of_features_has_one_matrix(tmp_path, rows, message):
  write_features(tmp_path / 'x.pt', rows)
  with pytest.raises(feature_files.FeatureFileError, match=message):
    feature_files.FeatureFile(tmp_path / 'x.pt', 'omnivore_video')


def test_features_by_second(tmp_path):
  rows = np.arange(301, dtype=np.float32)[:, None].repeat(3, 1)
  write_features(tmp_path / 'x.pt', rows)
  frames = feature_files.FeatureFile(tmp_path / 'x.pt', 'maws_clip_2b')
  assert frames.duration == pytest.approx(301 / 30)
  # thirty rows a second; of the last second one is there; after it the last one stands in
  np.testing.assert_array_equal(frames.seconds([0.0, 2.5, 10.0, 40.0])[:, 0], [14.5, 89.5, 300, 300])
  clips_of_frames = feature_files.FeatureFile(tmp_path / 'x.pt', 'omnivore_video')
  assert clips_of_frames.duration == pytest.approx((300 * 16 + 32) / 30)
  # the middles of rows 1 and 2 lie in the second from 1 s, and of 0 alone in the first
  np.testing.assert_array_equal(clips_of_frames.seconds([0.0, 1.0])[:, 0], [0, 1.5])
  rows[7] = np.inf
  write_features(tmp_path / 'y.pt', rows)
  with pytest.raises(feature_files.FeatureFileError, match='not finite'):
    feature_files.FeatureFile(tmp_path / 'y.pt', 'maws_clip_2b').seconds([0.0])
  for name, reason in (('gone.pt', 'missing'), ('empty.pt', 'empty file'), ('text.pt', 'not a file of features')):
    if name != 'gone.pt':
      (tmp_path / name).write_text('' if name == 'empty.pt' else 'words')
    with pytest.raises(feature_files.FeatureFileError) as caught:
      feature_files.FeatureFile(tmp_path / name, 'maws_clip_2b')
    assert caught.value.reason == reason


# TFDS on the older protobuf that Beam brings
@pytest.mark.filterwarnings('ignore::DeprecationWarning')
def test_beam_makes_what_threads_make(root, tmp_path, capsys):
  """On its local runner, with everything sent as to another machine."""
  pytest.importorskip('apache_beam', reason='the extra beam is not installed')
  comments = (Comment('0', 'Said.', 3.0), Comment('late', 'Said.', 90.0))
  takes = tuple(take(f't{i}', *comments, split='test' if i == 3 else 'train') for i in range(4))
  source = Listed(str(root), (*takes, take('gone', videos=('gone.mp4',))), (Loss('comment', 'x', 'no words'),))
  for config in ({}, {'frames': False}):
    threads = prepare(source, tmp_path / 'threads', overwrite=True, **config)
    reports = [capsys.readouterr().out.splitlines()[:-1]]
    piped = prepare(source, tmp_path / 'beam', overwrite=True, beam_options=['--runner=DirectRunner'], **config)
    reports.append(capsys.readouterr().out.splitlines()[:-1])
    by_id = {clip.clip_id: clip for clip in piped}
    assert sorted(by_id) == sorted(clip.clip_id for clip in threads) == [f't{i}/0' for i in range(4)]
    for clip in threads:
      for name, value in clip.to_example().items():
        np.testing.assert_array_equal(by_id[clip.clip_id].to_example()[name], value)
    assert [line.strip() for line in reports[0][:-3]] == [line.strip() for line in reports[1][:-3]]
    known = [Recordings(tmp_path / way / 'data/listed/import.json') for way in ('threads', 'beam')]
    assert bool(known[0]) == bool(known[1]) == bool(config)
    if config:
      assert known[0].of('', 't1') == known[1].of('', 't1')


def test_beam_that_is_not_there_is_said(root, tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, 'apache_beam', None)
  monkeypatch.delitem(sys.modules, 'crosstrainer_jax.datasets.takes.beam_pipeline', raising=False)
  with pytest.raises(ValueError, match=r"Apache Beam is not installed; .*pip install 'crosstrainer_jax\[beam\]'"):
    prepare(Listed(str(root), (take('t'),)), tmp_path, beam_options=[])


def test_a_full_disk_is_said(root, tmp_path, monkeypatch):
  def full(*_):
    raise sqlite3.OperationalError('database or disk is full')

  monkeypatch.setattr(journal.Journal, 'finish', full)
  with pytest.raises(OSError, match=r'cannot be written \(database or disk is full\); is the disk full'):
    prepare(Listed(str(root), (take('t'),)), tmp_path)
  # what was made is kept
  assert builder.cache_of(tmp_path / 'data/listed').is_dir()
