"""Files for the benchmark of proficiency, from a run whose views are called as there."""

import dataclasses
import json

import numpy as np
import pytest

from crosstrainer_jax import level_submission
from crosstrainer_jax.evaluation import submission


@pytest.fixture
def ego(run):
  """The small run as if its three views were two exocentric ones around the egocentric one."""
  clips = [dataclasses.replace(clip, views=['exo1', 'ego', 'exo2']) for clip in run.clips]
  return dataclasses.replace(run, clips=clips)


def test_logits_are_by_view_with_the_egocentric_first(ego):
  take = ego.clips[0].take
  members = [i for i, clip in enumerate(ego.clips) if clip.take == take]
  found = level_submission.view_logits(ego, {take})
  assert found.keys() == {take}
  assert found[take].shape == (3, 4)
  video, valid = ego.videos(members, (1,))
  alone = ego.probe().logits(ego.assessor(ego.params('stage2')).pooled(video, valid))
  np.testing.assert_allclose(found[take][0], np.asarray(alone).mean(0), rtol=1e-5)
  assert not np.allclose(found[take][0], found[take][1])


def test_labels_are_written_in_the_order_of_the_list(ego, tmp_path):
  takes = sorted({clip.take for clip in ego.clips})[:2][::-1]
  listed = tmp_path / 'proficiency_demonstrator_test.json'
  entries = [{'video_paths': {'ego': f'takes/{take}/frame_aligned_videos/aria01_214-1.mp4'}} for take in takes]
  listed.write_text(json.dumps({'annotations': entries}))
  path = level_submission.write(ego, str(tmp_path / 'out.json'), str(listed), 'labels')
  written = json.loads(path.read_text())
  assert written['videos'] == takes
  assert set(written['predictions']) <= set(submission.CLASSES)
  # three views are not the four exocentric ones that the benchmark asks for
  with pytest.raises(ValueError, match='exo logits of another shape'):
    level_submission.write(ego, str(tmp_path / 'out.json'), str(listed), 'logits')


def test_the_accuracy_is_told_where_the_levels_are_known(ego, tmp_path, monkeypatch, capsys):
  takes = sorted({clip.take for clip in ego.clips})[:4]
  level = {clip.take: clip.proficiency for clip in ego.clips}
  # every view is sure of the right level, in all takes but the first
  logits = {take: np.tile(5 * np.eye(4)[(level[take] + (take == takes[0])) % 4], (5, 1)) for take in takes}
  monkeypatch.setattr(level_submission, 'view_logits', lambda run, takes: logits)
  (tmp_path / 'list.txt').write_text('\n'.join(takes))
  level_submission.write(ego, str(tmp_path / 'out.json'), str(tmp_path / 'list.txt'), 'logits')
  assert (
    'these 4 takes, whose levels the dataset knows: ego 75.0 %, exo 75.0 %, combined 75.0 %' in capsys.readouterr().out
  )
  unknown = dataclasses.replace(ego, clips=[dataclasses.replace(clip, proficiency=-1) for clip in ego.clips])
  level_submission.write(unknown, str(tmp_path / 'out.json'), str(tmp_path / 'list.txt'), 'logits')
  assert 'accuracy' not in capsys.readouterr().out


def test_what_cannot_be_submitted(run, ego, tmp_path):
  with pytest.raises(ValueError, match="have no view 'ego'"):
    level_submission.view_logits(run, {run.clips[0].take})
  (tmp_path / 'list.txt').write_text('nobody\n')
  with pytest.raises(ValueError, match='nobody'):
    level_submission.write(ego, str(tmp_path / 'out.json'), str(tmp_path / 'list.txt'), 'labels')
  (tmp_path / 'list.json').write_text('{"annotations": [{}]}')
  with pytest.raises(ValueError, match='no list of takes'):
    level_submission.read_test_list(str(tmp_path / 'list.json'))
  with pytest.raises(FileNotFoundError):
    level_submission.read_test_list(str(tmp_path / 'none.json'))
