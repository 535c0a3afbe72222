import collections
import json

import pytest

from crosstrainer_jax.datasets.howto import folder


def test_fates_come_in_their_shares_and_copies_after_their_originals():
  videos = folder.posted(0, 600)
  fates = collections.Counter(video.fate for video in videos)
  assert set(fates) == set(folder.FATES)
  assert 0.72 < fates['whole'] / 600 < 0.84
  places = {video.name: place for place, video in enumerate(videos)}
  for video in videos:
    if video.fate == folder.COPY:
      assert places[video.copy_of] < places[video.name]
      assert videos[places[video.copy_of]].channel != video.channel
  assert videos[:50] == folder.posted(0, 50)


def test_a_folder_is_one_of_yt_dlp_with_its_truth(tmp_path):
  folder.write(tmp_path, 3, 2)
  truth = folder.read_truth(tmp_path)
  assert len(truth) == 2
  info = json.loads(next(tmp_path.glob('*.info.json')).read_text())
  assert info['id'] in truth
  assert info['duration'] == 4 * len(truth[info['id']]['pieces'])
  assert (tmp_path / folder.TABLE_FILE).read_text().startswith('id,sport,skill\n')
  before = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob('*.mp4')}
  folder.write(tmp_path, 3, 2)
  assert before == {path.name: path.stat().st_mtime_ns for path in tmp_path.glob('*.mp4')}
  with pytest.raises(ValueError, match='another how-to world'):
    folder.write(tmp_path, 4, 2)


def test_a_folder_without_truth_has_none(tmp_path):
  assert folder.read_truth(tmp_path) == {}
