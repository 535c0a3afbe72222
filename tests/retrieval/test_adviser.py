"""What a finished run says of a video that is new."""

import json
import shutil

import numpy as np
import pytest

from crosstrainer_jax.retrieval.adviser import Adviser
from tests.overlapping_clips import write_video


@pytest.fixture(scope='module')
def adviser(retrieved):
  return Adviser(retrieved / 'run')


@pytest.fixture(scope='module')
def video(tmp_path_factory):
  path = tmp_path_factory.mktemp('video') / 'mine.mp4'
  write_video(path, seconds=4, fps=4)
  return path


def test_each_segment_gets_its_clips(adviser, video):
  told = []
  found = adviser.advise([video], [(0, 2), (2, 4)], 'soccer', [['knee bend'], ['gaze']], 4, told.append)
  assert [len(clips) for clips in found] == [4, 4]
  assert sum(told) == 2
  for clips in found:
    odds = [clip.relevance for clip in clips]
    assert len({clip.narration for clip in clips}) == len(clips)
    assert odds == sorted(odds, reverse=True)
    assert all(clip.url == f'https://v.test/{clip.clip_id.removeprefix("lessons")}' for clip in clips)
    assert all(clip.narration.startswith(('Bend your knees', 'Keep your balance')) for clip in clips)
    assert all(0 < clip.relevance < 1 and -1 <= clip.similarity <= 1 for clip in clips)
    assert {(clip.start, clip.end) for clip in clips} == {(0.0, 2.0)}
  for clip in found[0]:
    assert clip.shared == (('knee bend',) if 'knees' in clip.narration else ())
  assert {clip.shared for clip in found[1]} == {()}


def test_a_segment_alone_gets_the_same(adviser, video):
  whole = adviser.advise([video], [(0, 2), (2, 4)], 'soccer', [[], []])
  alone = adviser.advise([video], [(2, 4)], 'soccer', [[]])
  assert [clip.clip_id for clip in whole[1]] == [clip.clip_id for clip in alone[0]]
  np.testing.assert_allclose([c.relevance for c in whole[1]], [c.relevance for c in alone[0]], rtol=1e-4)


def test_another_sport_is_looked_for_everywhere(adviser, video):
  assert adviser.sports == ['judo', 'soccer']
  own, other = (adviser.advise([video], [(0, 2)], sport, [[]], 18)[0] for sport in ('judo', 'rugby'))
  assert {int(clip.clip_id.removeprefix('lessons')) % 3 for clip in own} == {2}
  assert len(other) == 18


def test_what_was_not_looked_at_is_said(adviser, video):
  assert adviser.warnings(2, [(0, 2)], 'soccer') == []
  sport, views, window = adviser.warnings(3, [(0, 5)], 'rugby')
  assert 'of 3 views the first 2' in views
  assert 'the first 2 of 5 s' in window
  assert "no clips of 'rugby' but of judo, soccer" in sport
  # More views than it knows are no error.
  two, three = (adviser.advise([video] * views, [(0, 2)], 'soccer', [[]], 1) for views in (2, 3))
  assert two == three


def test_without_a_re_ranker_the_towers_decide(retrieved, video, tmp_path):
  shutil.copytree(retrieved / 'run', tmp_path / 'run')
  shutil.rmtree(tmp_path / 'run' / 'rows' / 're-ranked')
  with pytest.raises(FileNotFoundError, match='re-ranked is not trained'):
    Adviser(tmp_path / 'run')
  record = tmp_path / 'run' / 'config.json'
  content = json.loads(record.read_text())
  content['retrieve']['rows'].remove('re-ranked')
  record.write_text(json.dumps(content))
  (clips,) = Adviser(tmp_path / 'run').advise([video], [(0, 2)], 'soccer', [[]])
  assert [clip.relevance for clip in clips] == [None] * 3
  similarities = [clip.similarity for clip in clips]
  assert similarities == sorted(similarities, reverse=True)


def test_what_is_not_there_is_told(retrieved, tmp_path):
  with pytest.raises(FileNotFoundError, match='no library to search here'):
    Adviser(tmp_path)
  shutil.copytree(retrieved / 'run', tmp_path / 'run')
  card = tmp_path / 'run' / 'model.json'
  written = card.read_text()
  card.unlink()
  with pytest.raises(FileNotFoundError, match='not finished'):
    Adviser(tmp_path / 'run')
  card.write_text(written)
  record = tmp_path / 'run' / 'environment.json'
  record.write_text(record.read_text().replace(str(retrieved / 'lessons'), str(tmp_path / 'gone')))
  with pytest.raises(FileNotFoundError, match='is no longer there'):
    Adviser(tmp_path / 'run')
