import json

import pytest

from crosstrainer_jax.curation import scan


def found(folder):
  return {video.id: video for video in folder.videos()}


def test_every_video_is_told_of_dead_ones_too(howto):
  videos = found(scan.Folder(str(howto), table=str(howto / 'table.csv')))
  assert len(videos) == 14
  reasons = {name: video.reason for name, video in videos.items() if video.dropped}
  assert reasons == {'v09': scan.PRIVATE, 'v10': scan.NOT_THERE, 'v11': 'a download that has not ended'}
  whole = videos['v00']
  assert (whole.sport, whole.skill) == ('soccer', whole.skill)
  assert whole.channel == 'channel-000'
  assert whole.availability == 'public'
  assert whole.last_seen.startswith('20')
  assert whole.url.endswith('v00')
  assert scan.download_of(whole).captions[0].tag == 'en-orig'


def test_a_search_tells_sport_and_skill(tmp_path):
  (tmp_path / 'videos' / 'q00001').mkdir(parents=True)
  (tmp_path / 'videos' / 'q00001' / 'x [id1].mp4').write_bytes(b'1')
  (tmp_path / 'videos' / 'other [id2].mp4').write_bytes(b'1')
  (tmp_path / 'q.csv').write_text('id,sport,skill,query\nq00001,judo,hip throw,judo hip throw drills\n')
  videos = found(scan.Folder(str(tmp_path / 'videos'), queries=str(tmp_path / 'q.csv')))
  assert (videos['id1'].sport, videos['id1'].skill, videos['id1'].query) == (
    'judo',
    'hip throw',
    'judo hip throw drills',
  )
  assert videos['id2'].reason == scan.NO_SPORT


def test_a_video_that_two_searches_found_counts_once(tmp_path):
  for name in ('a', 'b'):
    (tmp_path / name).mkdir()
    (tmp_path / name / 'x [same].mp4').write_bytes(b'1')
  assert [video.path for video in scan.Folder(str(tmp_path), sport='judo').videos()] == ['a/x [same].mp4']


def test_an_info_file_that_cannot_be_read_is_no_end(tmp_path):
  (tmp_path / 'x [id].mp4').write_bytes(b'1')
  (tmp_path / 'x [id].info.json').write_text('{"id": ')
  (tmp_path / 'list.info.json').write_text(json.dumps({'_type': 'playlist', 'id': 'p'}))
  (video,) = scan.Folder(str(tmp_path), sport='judo').videos()
  assert not video.dropped
  assert 'info.json' in video.detail or 'cannot be read' in video.detail


def test_another_file_is_another_stamp(tmp_path):
  file = tmp_path / 'x [id].mp4'
  file.write_bytes(b'1')
  folder = scan.Folder(str(tmp_path), sport='judo')
  (before,) = folder.videos()
  file.write_bytes(b'22')
  (after,) = folder.videos()
  assert before.stamp != after.stamp


def test_mistakes_are_told(tmp_path):
  with pytest.raises(ValueError, match='--queries'):
    scan.Folder(str(tmp_path))
  with pytest.raises(FileNotFoundError, match='doctor youtube'):
    list(scan.Folder(str(tmp_path / 'nowhere'), sport='judo').videos())


def test_a_download_that_failed_does_not_hide_one_that_did_not(tmp_path):
  for name, file in (('a', 'x [same].mp4.part'), ('b', 'x [same].mp4')):
    (tmp_path / name).mkdir()
    (tmp_path / name / file).write_bytes(b'1')
  (video,) = scan.Folder(str(tmp_path), sport='judo').videos()
  assert (video.path, video.dropped) == ('b/x [same].mp4', '')


def test_an_address_is_not_made_up(tmp_path):
  (tmp_path / 'my lesson.mp4').write_bytes(b'1')
  (tmp_path / 'x [dQw4w9WgXcQ].mp4').write_bytes(b'1')
  urls = {video.id: video.url for video in scan.Folder(str(tmp_path), sport='judo').videos()}
  assert urls == {'my lesson': '', 'dQw4w9WgXcQ': 'https://www.youtube.com/watch?v=dQw4w9WgXcQ'}
