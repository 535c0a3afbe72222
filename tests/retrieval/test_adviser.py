"""What a finished run says of a video that is new."""

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
  found = adviser.advise([video], [(0, 2), (2, 4)], 'soccer', [['knee bend'], []], 4, told.append)
  assert [len(clips) for clips in found] == [4, 4]
  assert told == [1, 1]
  for clips in found:
    odds = [clip.relevance for clip in clips]
    assert len({clip.narration for clip in clips}) == len(clips)
    assert odds == sorted(odds, reverse=True)
    assert all(clip.url == f'https://v.test/{clip.clip_id.removeprefix("lessons")}' for clip in clips)
    assert all(clip.narration.startswith('Bend your knees and sink.') for clip in clips)
    assert all(0 < clip.relevance < 1 and -1 <= clip.similarity <= 1 for clip in clips)
    assert {(clip.start, clip.end) for clip in clips} == {(0.0, 2.0)}
  assert {clip.shared for clip in found[0]} <= {('knee bend',), ()}
  assert {clip.shared for clip in found[1]} == {()}


def test_a_segment_alone_gets_the_same(adviser, video):
  whole = adviser.advise([video], [(0, 2), (2, 4)], 'soccer', [[], []])
  alone = adviser.advise([video], [(2, 4)], 'soccer', [[]])
  assert [clip.clip_id for clip in whole[1]] == [clip.clip_id for clip in alone[0]]
  np.testing.assert_allclose([c.relevance for c in whole[1]], [c.relevance for c in alone[0]], rtol=1e-4)


def test_another_sport_is_looked_for_everywhere(adviser, video):
  assert adviser.sports == ['soccer']
  assert len(adviser.advise([video], [(0, 2)], 'judo', [[]], 2)[0]) == 2


def test_without_a_re_ranker_the_towers_decide(retrieved, video, tmp_path):
  shutil.copytree(retrieved / 'run', tmp_path / 'run')
  shutil.rmtree(tmp_path / 'run' / 'rows' / 're-ranked')
  (clips,) = Adviser(tmp_path / 'run').advise([video], [(0, 2)], 'soccer', [[]])
  assert [clip.relevance for clip in clips] == [None] * 3
  similarities = [clip.similarity for clip in clips]
  assert similarities == sorted(similarities, reverse=True)


def test_what_is_not_there_is_told(retrieved, tmp_path):
  with pytest.raises(FileNotFoundError, match='no library to search here'):
    Adviser(tmp_path)
  shutil.copytree(retrieved / 'run', tmp_path / 'run')
  record = tmp_path / 'run' / 'environment.json'
  record.write_text(record.read_text().replace(str(retrieved / 'lessons'), str(tmp_path / 'gone')))
  with pytest.raises(FileNotFoundError, match='is no longer there'):
    Adviser(tmp_path / 'run')
