"""ExpertAF's lists, joined to a generated tree of Ego-Exo4D."""

import json
import pathlib

import numpy as np
import pytest

from crosstrainer_jax import doctor as doctor_verb
from crosstrainer_jax import prepare as prepare_verb
from crosstrainer_jax.datasets.egoexo4d.index import NO_TAKE
from crosstrainer_jax.datasets.expertaf import doctor, source
from crosstrainer_jax.input.source import ClipSource
from tests.datasets.egoexo4d_release import Release, write_video

ANSWER = f'{source.PREFIX} Keep the ball closer to your foot.'


@pytest.fixture
def release(tmp_path) -> Release:
  root = tmp_path / 'egoexo4d'
  root.mkdir()
  return Release(root, write_video(tmp_path / 'video.mp4'))


def entry(number, video='a', span='[90, 240]', answer=ANSWER, **fields):
  return {
    'id': number,
    'video1': video,
    'video1_range': span,
    'video2': 'b',
    'video2_range': '[30, 180]',
    'conversations': [
      {'from': 'human', 'value': 'The learner: <pose1> An expert: <pose2>\nWhat should be better?'},
      {'from': 'gpt', 'value': answer},
    ],
    **fields,
  }


def write(path: pathlib.Path, *entries) -> pathlib.Path:
  path.write_text(json.dumps(list(entries)))
  return path


def test_ranges_are_read_and_never_run(tmp_path):
  assert source.parse_range('[90, 240]') == (90, 240)
  assert source.parse_range(' (90, 240.5)\n') == (90, 240.5)
  assert source.parse_range([90, 240]) == (90, 240)
  mark = tmp_path / 'ran'
  for bad in (
    f'__import__("pathlib").Path({str(mark)!r}).touch() or [1, 2]', '[90, 240', '[240, 90]', '[-3, 4]', '[1]',
    '1, 2, 3', '[True, 4]', '["a", 4]', '[1, 1e400]', '[' * 5000, '(' * 90, '[1, ' + '9' * 200 + ']', None, 7, {}, '',
  ):  # fmt: skip
    assert source.parse_range(bad) is None, bad
  assert not mark.exists()


def test_the_prefix_is_kept_apart():
  conversation = entry(0)['conversations']
  question = 'The learner: <pose1> An expert: <pose2> What should be better?'
  assert source.parse_answer(conversation) == (question, source.PREFIX, 'Keep the ball closer to your foot.')
  for answer, expected in (
    ('Keep it close.', ('', 'Keep it close.')),
    (source.PREFIX, (source.PREFIX, '')),
    ('<pose2>', ('', '')),
    (None, ('', '')),
  ):
    conversation[1]['value'] = answer
    assert source.parse_answer(conversation)[1:] == expected
  assert source.parse_answer(None) == ('', '', '')
  assert source.parse_answer([3, {'from': 'system', 'value': 'x'}]) == ('', '', '')


def test_lists_become_clips_of_the_takes_they_name(release, tmp_path, capsys):
  for name, split in (('a', 'train'), ('b', 'train'), ('c', 'val')):
    release.take(name, participant=ord(name), split=split)
    release.level(name, 'Novice')
  release.write()
  train = write(
    tmp_path / 'train.json',
    entry(1),
    entry(2, 'uid-b'),
    entry(2, 'b', '[0, 60]'),
    entry(3, 'gone'),
    entry(4, span='eval("1")'),
    entry(5, answer='<pose2>'),
    entry(6, 'c'),
    entry(7, span='[9000, 9300]'),
  )
  test = write(tmp_path / 'test.json', entry(1, 'c', '[0, 900]'))
  command = ['expertaf', '--root', str(release.root), '--train', str(train), '--test', str(test), '--size', '16']
  prepare_verb.main([*command, '--data_dir', str(tmp_path / 'data')])
  found = ClipSource(tmp_path / 'data/expertaf/1.0.0')
  clips = {found[i].clip_id: found[i] for i in range(len(found))}
  assert list(clips) == ['c/test-1', 'a/train-1', 'b/train-2', 'b/train-2#1']
  clip = clips['a/train-1']
  assert (clip.commentary, clip.prefix) == ('Keep the ball closer to your foot.', source.PREFIX)
  np.testing.assert_allclose(clip.window, [3, 8])
  assert clip.commentary_time == 5.5
  assert clip.frames.shape[:2] == (5, 40)
  assert np.isfinite(clip.frame_times).sum(1).tolist() == [20] * 5
  assert json.loads(clip.extra)['shown_well'] == {'take': 'b', 'start': 1.0, 'end': 6.0}
  assert clip.proficiency == 0
  # 30 s are more than a clip holds: the middle of them
  np.testing.assert_allclose(clips['c/test-1'].window, [10, 20])
  out = capsys.readouterr().out
  for line in (
    f'1 × comment: {NO_TAKE} (first: gone/train-3)',
    f'1 × comment: {source.BAD_RANGE} (first: a/train-4)',
    f'1 × comment: {source.NO_ANSWER} (first: a/train-5)',
    f'1 × comment: {source.ALSO_TESTED} (first: c/train-6)',
    '1 × comment: outside the recording (first: a/train-7)',
  ):
    assert line in out


def test_mistakes_are_said(release, tmp_path):
  with pytest.raises(ValueError, match='--train and --test: name at least one'):
    source.ExpertAF(str(release.root))
  with pytest.raises(FileNotFoundError, match='--test .*no such file; data/expertaf/README.md'):
    source.ExpertAF(str(release.root), test='nowhere.json')
  with pytest.raises(ValueError, match='--range_fps 0'):
    source.ExpertAF(str(release.root), test=str(write(tmp_path / 'x.json')), range_fps=0)


def test_the_doctor_looks_at_the_lists_and_at_the_takes(release, tmp_path, capsys):
  release.take('a')
  release.write()
  train = write(tmp_path / 'train.json', entry(1), entry(2, 'gone'))
  command = ['expertaf', str(release.root), '--train', str(train)]
  with pytest.raises(SystemExit):
    doctor_verb.main(command)
  out = capsys.readouterr().out
  assert 'videos of 1 takes with commentary: 1 takes complete, 5 files' in out
  assert '1 entries of takes that takes.json has not (first: gone/train-2)' in out
  write(train, entry(1))
  (release.root / 'takes/a/frame_aligned_videos/downscaled/448/cam01.mp4').unlink()
  with pytest.raises(SystemExit):
    doctor_verb.main(command)
  assert '--parts downscaled_takes/448 --uids uid-a' in capsys.readouterr().out
  train.write_text('[{"id": 1')
  with pytest.raises(SystemExit):
    doctor_verb.main(command)
  assert f'BROKEN  {train}: broken JSON' in capsys.readouterr().out
  assert doctor.__doc__
