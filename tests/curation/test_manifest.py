import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from crosstrainer_jax.curation import manifest
from crosstrainer_jax.curation.videos import Verdict, Video


def test_every_sentence_and_every_dead_video_has_a_row(video, tmp_path):
  first, second = video.segments
  first.window, first.execution, first.demonstrated = (0.5, 4.0), 'correct', Verdict(True, 'it moves', 'rules:1')
  second.drop('actionable', 'not actionable', 'an advert')
  dead = Video('gone', '', {}, '')
  dead.drop('videos', 'no video file')
  rows = [row for item in (video, dead) for row in manifest.rows_of(item, 0.2, 0)]
  assert manifest.write(tmp_path / manifest.FILE, rows) == 3
  kept, dropped, lost = manifest.read(tmp_path)
  assert (kept['id'], kept['kept'], kept['start'], kept['execution']) == ('abc/0000', True, 0.5, 'correct')
  assert (kept['demonstrated'], kept['demonstrated_by'], kept['actionable']) == (True, 'rules:1', None)
  assert (dropped['kept'], dropped['dropped_by'], dropped['actionable'], dropped['detail']) == (
    False, 'actionable', False, 'an advert',
  )  # fmt: skip
  assert (lost['id'], lost['clip_id'], lost['reason'], lost['split']) == ('gone', None, 'no video file', None)
  totals = manifest.totals(tmp_path)
  assert (totals.videos, totals.clips, totals.sports) == (1, 1, {'soccer': 1})
  assert totals.hours == pytest.approx(3.5 / 3600)


def test_an_empty_manifest_is_one(tmp_path):
  assert manifest.write(tmp_path / manifest.FILE, []) == 0
  assert list(manifest.read(tmp_path)) == []


def test_a_row_can_be_changed(video, tmp_path):
  manifest.write(tmp_path / manifest.FILE, manifest.rows_of(video, 0.2, 0))
  changed = manifest.rewrite(
    tmp_path / manifest.FILE, lambda row: row | {'last_seen': '2026-01-01'} if row['id'].endswith('1') else row
  )
  assert changed == 1
  assert [row['last_seen'] for row in manifest.read(tmp_path)] == [None, '2026-01-01']


def test_a_channel_is_in_one_split():
  splits = [manifest.split_of(f'channel {n}', 0.25, 0) for n in range(400)]
  assert 60 < splits.count('test') < 140
  assert splits == [manifest.split_of(f'channel {n}', 0.25, 0) for n in range(400)]
  assert splits != [manifest.split_of(f'channel {n}', 0.25, 1) for n in range(400)]


def test_what_is_no_manifest_is_told(tmp_path):
  with pytest.raises(FileNotFoundError, match='curate run'):
    next(manifest.read(tmp_path))
  (tmp_path / 'x.parquet').write_bytes(b'PAR0')
  with pytest.raises(ValueError, match='no Parquet'):
    next(manifest.read(tmp_path / 'x.parquet'))
  pq.write_table(pa.table({'a': [1]}), tmp_path / 'y.parquet')
  with pytest.raises(ValueError, match='no manifest of a curation'):
    next(manifest.read(tmp_path / 'y.parquet'))
