"""Ego-Exo4D from generated trees of exactly the documented shapes, to records and to a training step."""

import json
import os
import pathlib
import tracemalloc

import numpy as np
import pytest

from crosstrainer_jax import doctor as doctor_verb
from crosstrainer_jax import features as features_verb
from crosstrainer_jax import prepare as prepare_verb
from crosstrainer_jax.datasets.egoexo4d import commentary, doctor, index, streams, taxonomy
from crosstrainer_jax.datasets.egoexo4d import source as sources
from crosstrainer_jax.datasets.egoexo4d.source import EgoExo4D
from crosstrainer_jax.datasets.takes.take import Loss, Take
from crosstrainer_jax.input import record
from crosstrainer_jax.input.source import ClipSource
from crosstrainer_jax.models import encoders
from tests.datasets.egoexo4d_release import CAMERAS, Release, write_features, write_video
from tests.datasets.training_step import one_update
from tests.models import hub_directories


@pytest.fixture(scope='session')
def video(tmp_path_factory) -> pathlib.Path:
  return write_video(tmp_path_factory.mktemp('video') / 'twenty_seconds.mp4')


@pytest.fixture
def release(tmp_path, video) -> Release:
  root = tmp_path / 'egoexo4d'
  root.mkdir()
  return Release(root, video)


def taken(release: Release, *, write: bool = True, **options) -> tuple[dict[str, Take], list[Loss]]:
  """Takes by name, and losses, of a release."""
  if write:
    release.write()
  losses: list[Loss] = []
  found = list(EgoExo4D(str(release.root), **options).takes(losses.append))
  assert len({take.name for take in found}) == len(found)
  return {take.name: take for take in found}, losses


def lost(losses: list[Loss]) -> list[tuple[str, str, str]]:
  return [(loss.what, loss.id, loss.reason) for loss in losses]


def prepared(release: Release, tmp_path: pathlib.Path, *options: str) -> dict[str, record.Clip]:
  """Clips by id, after the verb."""
  release.write()
  place = tmp_path / 'datasets'
  prepare_verb.main(['egoexo4d', '--root', str(release.root), '--data_dir', str(place), *options])
  source = ClipSource(place / 'egoexo4d' / '1.0.0')
  return {clip.clip_id: clip for clip in (source[i] for i in range(len(source)))}


def test_a_comment_becomes_a_clip_of_five_views(release, tmp_path, capsys):
  release.take('soccer_1', participant=31)
  release.said('soccer_1', 'qfbn5o', (7.0, 'Lock the  ankle.'), (18.0, 'Good balance.'))
  release.level('soccer_1', 'Early Expert')
  clips = prepared(release, tmp_path, '--fps', '2', '--size', '16')
  clip = clips['soccer_1/qfbn5o/0']
  assert list(clips) == ['soccer_1/qfbn5o/0', 'soccer_1/qfbn5o/1']
  assert (clip.dataset, clip.sport, clip.skill, clip.participant) == ('egoexo4d', 'soccer', 'dribbling', '31')
  assert (clip.commentary, clip.expert, clip.take) == ('Lock the ankle.', 'qfbn5o', 'soccer_1')
  assert record.LEVELS[clip.proficiency] == 'early expert'
  assert clip.views == ['ego', 'exo1', 'exo2', 'exo3', 'exo4']
  assert clip.frames.shape == (5, 20, 16, 16, 3)
  np.testing.assert_array_equal(clip.window, [2, 12])
  assert clip.commentary_time == 7
  # frame i of the video, five a second, is of grey 2 i
  greys = clip.frames.mean((2, 3, 4))
  np.testing.assert_allclose(greys[0], 10 * clip.frame_times[0], atol=3)
  np.testing.assert_allclose(clip.frame_times, np.tile(np.arange(2, 12, 0.5), (5, 1)), atol=0.11)
  assert clip.provenance.split(';')[0] == 'takes/soccer_1/frame_aligned_videos/downscaled/448/aria01_214-1.mp4'
  assert json.loads(clip.extra) == {'spoken_seconds': 12.5}
  # the window of the second is cut to the recording, the rest is padding
  last = clips['soccer_1/qfbn5o/1']
  np.testing.assert_allclose(last.window, [13, 20], atol=0.01)
  assert np.isfinite(last.frame_times).sum(1).tolist() == [14] * 5
  assert not last.frames[:, 14:].any()
  assert 'nothing was lost' in capsys.readouterr().out


def test_traps_of_the_commentary_file(release):
  release.take('a')
  base = {'recording': '9.webm', 'video_time': 3.0, 'text': ' Said.', 'error': False}
  remarks = [
    {**base, 'recording': '2.webm', 'video_time': 9.0, 'text': ' Later.'},
    {**base, 'recording': '0.webm', 'text': ' Sooner.', 'video_time': 3},
    {'recording': '1.webm', 'video_time': 4.0, 'error': True, '_error_desc': 'no speech'},
    {**base, 'recording': '3.webm', 'error': 'true', 'error_desc': 'noise'},
    {'recording': '4.webm', 'video_time': 4.0, 'text': ' x', 'error_desc': 'cut off'},
    {**base, 'recording': '5.webm', 'text': None},
    {'recording': '6.webm', 'video_time': 1.0, 'error': False, '_error_desc': None},
    {**base, 'recording': '7.webm', 'video_time': None},
    {**base, 'recording': '8.webm', 'video_time': '3.0'},
    {**base, 'recording': '0.webm', 'text': ' Again.'},
  ]
  release.said('a', 'aaaaaa', *remarks)
  release.said('a', 'bbbbbb', (5.0, 'Of another expert.'))
  takes, losses = taken(release)
  # by time, not in the order of transcription
  assert [(c.name, c.text, c.expert) for c in takes['a'].comments] == [
    ('aaaaaa/0', 'Sooner.', 'aaaaaa'),
    ('bbbbbb/0', 'Of another expert.', 'bbbbbb'),
    ('aaaaaa/2', 'Later.', 'aaaaaa'),
  ]
  assert sorted(lost(losses)) == [
    ('comment', 'a/aaaaaa/0', commentary.AGAIN),
    ('comment', 'a/aaaaaa/1', commentary.FAILED),
    ('comment', 'a/aaaaaa/3', commentary.FAILED),
    ('comment', 'a/aaaaaa/4', commentary.FAILED),
    ('comment', 'a/aaaaaa/5', commentary.SILENT),
    ('comment', 'a/aaaaaa/6', commentary.SILENT),
    ('comment', 'a/aaaaaa/7', commentary.NO_TIME),
    ('comment', 'a/aaaaaa/8', commentary.NO_TIME),
  ]
  assert {loss.detail for loss in losses if loss.reason == commentary.FAILED} == {'no speech', 'noise', 'cut off'}


def data_json(rating=7, ds='20240324_10:11:12', recording='0.webm', **fields):
  begun = 1_700_000_000_000
  return {
    'ds': ds,
    'annotations': [
      {
        'recording_path': recording,
        'duration_approx': 12.5,
        'video_time': 6.0,
        'start_global_time': begun,
        'events': [
          {
            'type': 'path',
            'action': 'draw',
            'global_time': begun + 1500,
            'paths': [
              {'from': {'x': 0.1, 'y': 0.2, 't': begun + 1500}, 'to': {'x': 0.2, 'y': 0.2, 't': begun + 1600}},
              {'from': {'x': 0.2, 'y': 0.2, 't': begun + 1600}, 'to': {'x': 0.3, 'y': 0.4, 't': begun + 1700}},
              {'from': {'x': 0.9, 'y': 0.9, 't': begun + 2000}, 'to': {'x': 0.8, 'y': 0.9, 't': begun + 2100}},
            ],
          },
          {'type': 'path', 'action': 'clear', 'global_time': begun + 4000, 'paths': []},
        ],
        **fields,
      }
    ],
    'proficiency': {'rating': rating, 'why': ' Good  touch. '},
  }


def test_folders_of_commentary_bring_words_drawings_and_ratings(release):
  release.take('a')
  words = {'0.webm': {'text': ' Look  here.', 'language': 'en', 'error': False, 'error_desc': None}}
  release.folder('a', 'aaaaaa', data_json(), words)
  (take,), losses = list(taken(release)[0].values()), []
  (comment,) = take.comments
  assert (comment.name, comment.text, comment.time) == ('aaaaaa/0', 'Look here.', 6.0)
  assert comment.extra['rating'] == {'of_10': 7, 'why': 'Good touch.'}
  assert comment.extra['drawings'] == [
    {
      'action': 'draw',
      'at': 1.5,
      'strokes': [[[0.1, 0.2, 1.5], [0.2, 0.2, 1.6], [0.3, 0.4, 1.7]], [[0.9, 0.9, 2.0], [0.8, 0.9, 2.1]]],
    },
    {'action': 'clear', 'at': 4.0},
  ]
  assert not losses


def test_both_forms_are_one_comment(release):
  release.take('a')
  release.said('a', 'aaaaaa', (6.0, 'As the file has it.'), (9.0, 'Without a drawing.'))
  release.said('a', 'bbbbbb', {'recording': '0.webm', 'video_time': 2.0, 'error': True})
  words = {'0.webm': {'text': ' As the folder has it.', 'error': False}}
  release.folder('a', 'aaaaaa', data_json(), words)
  # what failed in the file stays lost, though the folder has words
  release.folder('a', 'bbbbbb', data_json(3), words)
  takes, losses = taken(release)
  first, second = takes['a'].comments
  assert (first.text, len(first.extra['drawings']), first.extra['rating']['of_10']) == ('As the file has it.', 2, 7)
  assert (second.text, 'drawings' in second.extra, second.extra['rating']['of_10']) == ('Without a drawing.', False, 7)
  assert lost(losses) == [('comment', 'a/bbbbbb/0', commentary.FAILED)]


def test_the_newest_folder_of_an_expert_counts(release):
  release.take('a')
  words = {'0.webm': {'text': ' Said.', 'error': False}}
  release.folder('a', 'aaaaaa', data_json(5, ds='20240324_10:11:12'), words, folder='first')
  release.folder('a', 'aaaaaa', data_json(9, ds='20240401_00:00:00'), words, folder='second')
  release.folder('a', 'aaaaaa', data_json(1, ds='20230101_00:00:00'), words, folder='third')
  release.folder('a', 'cccccc', '{"user_id": "cccccc", "annot', {}, folder='broken')
  takes, losses = taken(release)
  (comment,) = takes['a'].comments
  assert comment.extra['rating']['of_10'] == 9
  assert sorted(lost(losses)) == [
    ('commentary folder', 'a/broken', commentary.BROKEN),
    ('commentary folder', 'a/first', commentary.OLDER),
    ('commentary folder', 'a/third', commentary.OLDER),
  ]


@pytest.mark.parametrize('bare_lists', [True, False])
def test_levels_go_by_name_from_lists_and_dicts(release, bare_lists):
  labels = ['Novice', 'Intermediate Expert', 'Early Expert', 'Late Expert', 'Master', None]
  for number, label in enumerate(labels):
    release.take(f't{number}')
    release.said(f't{number}', 'aaaaaa', (3.0, 'Said.'))
    release.level(f't{number}', label)
  release.take('silent')
  release.level('silent', 'Novice')
  release.level('nowhere', 'Novice')
  release.write(bare_lists)
  takes, losses = taken(release, write=False)
  levels = [take.proficiency for take in takes.values()]
  assert levels == [0, 1, 2, 3, -1, -1]
  assert [record.LEVELS[level] for level in levels[:4]] == ['novice', 'intermediate', 'early expert', 'late expert']
  assert sorted(lost(losses)) == [
    ('proficiency', 'silent', sources.NO_COMMENTARY),
    ('proficiency', 't4', sources.UNKNOWN_LEVEL),
    ('proficiency', 'uid-nowhere', index.NO_TAKE),
  ]


def test_takes_without_commentary_are_for_levels_alone(release, tmp_path):
  for name, span in (('task', (6.0, 10.0)), ('take', (None, None)), ('test', (None, None)), ('endless', (None, None))):
    release.take(name, split='test' if name == 'test' else 'train', task_start_sec=span[0], task_end_sec=span[1])
    release.level(name, None if name == 'test' else 'Novice', split='test' if name == 'test' else 'train')
  release.takes[-1]['duration_sec'] = None
  release.take('unjudged')
  assert not taken(release)[0]
  takes, losses = taken(release, unspoken=True)
  assert {name: (take.split, take.proficiency, take.comments[0].text) for name, take in takes.items()} == {
    'task': ('train', 0, ''), 'take': ('train', 0, ''), 'test': ('test', -1, '')
  }  # fmt: skip
  assert lost(losses) == [('proficiency', 'endless', sources.NO_LENGTH)]
  clips = prepared(release, tmp_path, '--unspoken', '--size', '16', '--fps', '1', '--mu1', '3', '--mu2', '3')
  assert [(name, clip.window.tolist()) for name, clip in clips.items()] == [
    ('test/whole', [7, 13]),
    ('task/whole', [6, 10]),
    ('take/whole', [7, 13]),
  ]
  assert all(np.isnan(clip.commentary_time) for clip in clips.values())


def test_good_executions_and_tips_go_to_the_nearest_comment(release):
  release.take('a')
  release.said('a', 'aaaaaa', (3.0, 'First.'), (8.0, 'Second.'))
  release.said('a', 'bbbbbb', (7.5, 'Of another.'))
  good = {'video_time': 7.4, 'list': ['Soft  touch', 'Head up'], 'expert_uid': 'aaaaaa', 'video_name': 'a'}
  tip = {'video_time': 7.4, 'list': ['Bend the knee'], 'expert_uid': 'zzzzzz', 'video_name': 'a'}
  far = {'video_time': 19.0, 'list': ['Nobody near'], 'expert_uid': 'aaaaaa', 'video_name': 'a'}
  release.demonstration('a', good_executions=[good], tips_for_improvement=[tip, far])
  release.demonstration('nowhere', good_executions=[good])
  takes, losses = taken(release)
  first, of_another, second = takes['a'].comments
  assert 'good_executions' not in first.extra
  assert second.extra['good_executions'] == ['Soft touch', 'Head up']
  assert of_another.extra['tips_for_improvement'] == ['Bend the knee']
  assert lost(losses) == [
    ('demonstration', 'uid-nowhere', index.NO_TAKE),
    ('tip', 'a/aaaaaa@19.0', commentary.FAR),
  ]


def test_cameras_of_any_name_and_those_that_are_none(release):
  release.take('aria', cameras=('Aria', 'gp02', 'gp01'))
  release.take('moblie', cameras=('aria02', 'cam01', 'moblie', 'cam02', 'cam03', 'cam04', 'cam05'), small=False)
  release.take('blind', cameras=())
  null = release.take('null', cameras=('aria', 'cam01'))
  null['frame_aligned_videos']['cam01']['0']['relative_path'] = None
  for name in ('aria', 'moblie', 'blind', 'null'):
    release.said(name, 'aaaaaa', (3.0, 'Said.'))
  takes, losses = taken(release)
  small = 'frame_aligned_videos/downscaled/448'
  assert dict(zip(takes['aria'].views, takes['aria'].videos, strict=True)) == {
    'ego': f'takes/aria/{small}/Aria_214-1.mp4',
    'exo1': f'takes/aria/{small}/gp01.mp4',
    'exo2': f'takes/aria/{small}/gp02.mp4',
  }
  # only the full size is there
  assert takes['moblie'].videos[1] == 'takes/moblie/frame_aligned_videos/cam01.mp4'
  assert takes['moblie'].views == ('ego', 'exo1', 'exo2', 'exo3', 'exo4')
  assert takes['null'].views == ('ego',)
  assert sorted(lost(losses)) == [
    ('comment', 'blind/aaaaaa/0', sources.NO_CAMERA),
    ('view', 'moblie/cam05', sources.MORE),
    ('view', 'moblie/moblie', sources.STRAY),
    ('view', 'null/cam01', sources.NO_FILE),
  ]


def test_sports_and_skills_come_from_the_task(release):
  tasks = {
    'mikan': 6001, 'reverse': 6002, 'jump': 6003, 'climb': 7018, 'drib': 8003, 'kick': 8005, 'juggle': 8004,
    'dance': 9002, 'cpr': 2005,
  }  # fmt: skip
  for name, task in tasks.items():
    release.take(name, task, task_name='Performing the  Advanced choreography')
    release.said(name, 'aaaaaa', (3.0, 'Said.'), task=task)
  takes, losses = taken(release)
  assert {name: (take.sport, take.skill) for name, take in takes.items()} == {
    'mikan': ('basketball', 'mikan layup'),
    'reverse': ('basketball', 'reverse layup'),
    'jump': ('basketball', 'mid-range jump shot'),
    'climb': ('rock climbing', 'rock climbing'),
    'drib': ('soccer', 'dribbling'),
    'kick': ('soccer', 'penalty kick'),
  }
  assert lost(losses) == [('comment', 'juggle/aaaaaa/0', index.OTHER_DRILL)]
  takes, losses = taken(release, write=False, sports=('soccer', 'dance'), all_drills=True)
  assert {name: (take.sport, take.skill) for name, take in takes.items()} == {
    'drib': ('soccer', 'dribbling'),
    'kick': ('soccer', 'penalty kick'),
    'juggle': ('soccer', 'juggling'),
    'dance': ('dance', 'performing the advanced choreography'),
  }
  assert not losses
  with pytest.raises(ValueError, match="'chess' is not one of cooking, health"):
    EgoExo4D(str(release.root), sports=('chess',))


@pytest.mark.real
def test_the_table_of_tasks_is_that_of_the_taxonomy(real_data):
  rows = (real_data / 'ego4d_taxonomy' / 'scenario.csv').read_text().splitlines()[1:]
  names = {int(row.split(',')[0]): row.split(',', 1)[1].strip().lower() for row in rows if row[0].isdigit()}
  for task, sport in taxonomy.SCENARIOS.items():
    assert names[task] in (sport, 'campsite')
  for task in (6001, 6002, 6003, 8001, 8002, 8003, 8004, 8005):
    skill = taxonomy.skill_of(task, '').removesuffix(' shot')
    assert skill.split()[0] in names[task]
    assert skill.split()[-1] in names[task]


def test_annotations_that_find_no_take_are_lost_by_reason(release):
  release.take('dropped', is_dropped=True)
  release.take('cooking', 1003)
  release.take('nosplit')
  del release.splits['uid-nosplit']
  for name in ('dropped', 'cooking', 'nowhere'):
    release.said(name, 'aaaaaa', (3.0, 'Said.'), (4.0, 'Also.'))
  # of no interest: cooking that is not in takes.json either
  release.said('other', 'aaaaaa', (3.0, 'Said.'), task=1003)
  words = {'0.webm': {'text': ' Said.', 'error': False}}
  release.folder('nosplit', 'aaaaaa', data_json(), words)
  release.folder('unknown', 'aaaaaa', data_json(), words)
  release.folder('cooking', 'aaaaaa', data_json(), words)
  takes, losses = taken(release)
  assert not takes
  assert sorted(lost(losses)) == [
    ('comment', 'dropped/aaaaaa/0', index.DROPPED),
    ('comment', 'dropped/aaaaaa/1', index.DROPPED),
    ('comment', 'nosplit/aaaaaa/0', sources.NO_SPLIT),
    ('comment', 'nowhere/aaaaaa/0', index.NO_TAKE),
    ('comment', 'nowhere/aaaaaa/1', index.NO_TAKE),
    ('commentary folder', 'unknown', index.NO_TAKE),
  ]


def test_splits_and_people(release):
  release.take('a', participant=1, split='train')
  release.take('b', participant=1, split='val')
  release.take('c', participant=None, split='val')
  release.take('d', participant=0)
  # the file says it where splits.json is silent
  del release.splits['uid-d']
  for name in 'abcd':
    release.said(name, 'aaaaaa', (3.0, 'Said.'), split='val' if name == 'd' else 'train')
  takes, losses = taken(release)
  assert {name: (take.split, take.participant) for name, take in takes.items()} == {
    'a': ('train', '1'), 'b': ('test', '1'), 'c': ('test', 'of capture_c'), 'd': ('test', '0')
  }  # fmt: skip
  assert not losses


def test_a_broken_or_missing_file_is_named_with_the_remedy(release):
  with pytest.raises(FileNotFoundError, match='expert_commentary_train.json is missing.*egoexo -o .* --parts annot'):
    taken(release, write=False)
  release.take('a')
  release.said('a', 'aaaaaa', (3.0, 'Said.'))
  release.write()
  file = release.root / 'annotations' / 'expert_commentary_train.json'
  file.write_text(file.read_text()[:-40])
  with pytest.raises(streams.BrokenFile, match=r'expert_commentary_train.json: broken JSON.*doctor egoexo4d'):
    taken(release, write=False)
  # as the documentation shows it
  file.write_text('{"ds": "x", "annotations": {"uid-a": [{"task_id": 8003, // a comment\n}]}}')
  with pytest.raises(streams.BrokenFile):
    taken(release, write=False)
  (release.root / 'takes.json').unlink()
  with pytest.raises(FileNotFoundError, match='takes.json is missing; download it: egoexo -o .* --parts metadata -y'):
    taken(release, write=False)
  with pytest.raises(SystemExit, match='error: --root /nowhere: no such folder'):
    prepare_verb.main(['egoexo4d', '--root', '/nowhere'])


def test_missing_views_and_paths_that_escape_are_counted(release, tmp_path, capsys):
  outside = tmp_path / 'outside.mp4'
  os.link(release.video, outside)
  release.take('partly')
  small = release.root / 'takes/partly/frame_aligned_videos/downscaled/448'
  (small / 'cam03.mp4').unlink()
  (small / 'cam02.mp4').unlink()
  (small / 'cam02.mp4').touch()
  (small / 'cam04.mp4').unlink()
  (small / 'cam04.mp4').symlink_to(outside)
  absolute = release.take('absolute', videos=False)
  absolute['root_dir'] = str(tmp_path)
  upwards = release.take('upwards', videos=False)
  upwards['root_dir'] = '../../' + tmp_path.name
  for name in ('partly', 'absolute', 'upwards'):
    release.said(name, 'aaaaaa', (3.0, 'Said.'))
  clips = prepared(release, tmp_path, '--size', '16', '--fps', '1')
  assert [clip.views for clip in clips.values()] == [['ego', 'exo1']]
  out = capsys.readouterr().out
  assert '11 × view: a path that leaves the root' in out
  assert '1 × view: missing (first: partly/exo3)' in out
  assert '1 × view: empty file (first: partly/exo2)' in out
  assert '2 × comment: no view of the take can be read (first: absolute/aaaaaa/0, upwards/aaaaaa/0)' in out
  kept = [json.loads(line) for line in (tmp_path / 'datasets/egoexo4d/losses.jsonl').read_text().splitlines()]
  assert len(kept) == 15
  assert {'what': 'view', 'id': 'partly/exo2', 'reason': 'empty file'}.items() <= kept[0].items()
  counts = json.loads((tmp_path / 'datasets/egoexo4d/import.json').read_text())['lost']
  assert [row['count'] for row in counts] == [11, 2, 1, 1]


def test_the_doctor_tells_what_to_do(release, tmp_path, capsys):
  root = release.root
  with pytest.raises(SystemExit) as caught:
    doctor_verb.main(['egoexo4d', str(root)])
  assert caught.value.code == 1
  out = capsys.readouterr().out
  assert f' MISSING  takes.json: not there\n          egoexo -o {root} -y --parts metadata\n' in out
  release.take('a')
  release.take('b')
  release.take('unspoken', videos=False)
  for name in 'ab':
    release.said(name, 'aaaaaa', (3.0, 'Said.'))
  release.write()
  doctor_verb.main(['egoexo4d', str(root)])
  assert '2 takes complete, 10 files' in capsys.readouterr().out
  small = root / 'takes/b/frame_aligned_videos/downscaled/448'
  whole = release.video.read_bytes()
  for name, content in (('cam01', whole[: len(whole) // 2]), ('cam02', b''), ('cam03', None)):
    (small / f'{name}.mp4').unlink()
    if content is not None:
      (small / f'{name}.mp4').write_bytes(content)
  levels = root / 'annotations' / 'proficiency_demonstrator_train.json'
  levels.write_text(levels.read_text()[:-1])
  with pytest.raises(SystemExit):
    doctor_verb.main(['egoexo4d', str(root)])
  out = capsys.readouterr().out
  assert f'rm {levels} && egoexo -o {root} -y --parts annotations' in out
  levels.write_text(levels.read_text() + '}')
  with pytest.raises(SystemExit):
    doctor_verb.main(['egoexo4d', str(root), '--missing', str(tmp_path / 'uids')])
  out = capsys.readouterr().out
  assert 'MISSING  videos: 1 files (first: takes/b/frame_aligned_videos/downscaled/448/cam03.mp4)' in out
  assert 'BROKEN  videos: 2 files' in out
  assert '0 bytes' in out
  assert f'--parts downscaled_takes/448 --uids $(cat {tmp_path / "uids"})' in out
  assert (tmp_path / 'uids').read_text() == 'uid-b\n'


def test_the_doctor_compares_with_the_manifest(release, capsys):
  release.take('a')
  release.said('a', 'aaaaaa', (3.0, 'Said.'))
  root = release.write()
  path = 'takes/a/frame_aligned_videos/downscaled/448/cam01.mp4'
  size = release.video.stat().st_size
  item = {'relative_path': path, 'size': size, 'checksum': '0' * 32, 'views': [], 'source_path': 's3://x'}
  outside = {'relative_path': '../../etc/passwd', 'size': 1, 'checksum': ''}
  entry = {'uid': 'uid-a', 'paths': [item, outside], 'splits': ['train'], 'benchmarks': []}
  (root / 'manifest.json').write_text(json.dumps([entry]))
  doctor_verb.main(['egoexo4d', str(root)])
  assert 'manifest.json: sizes: 1 files are as it says' in capsys.readouterr().out
  with pytest.raises(SystemExit):
    doctor_verb.main(['egoexo4d', str(root), '--checksums'])
  assert '(another checksum)' in capsys.readouterr().out
  item['size'] = size + 1
  (root / 'manifest.json').write_text(json.dumps([entry]))
  with pytest.raises(SystemExit):
    doctor_verb.main(['egoexo4d', str(root)])
  assert f'{path} ({size} of {size + 1} bytes)' in capsys.readouterr().out
  assert doctor._same(release.video, 'a-part-of-an-etag-7') is None


def test_features_of_the_release_end_in_a_training_step(release, tmp_path, capsys):
  random = np.random.default_rng(0)
  rows = random.normal(size=(30 * 20 // 16 - 1, 24))
  for number in range(4):
    name = f't{number}'
    release.take(name, participant=number, split='val' if number == 3 else 'train', videos=False)
    release.said(name, 'aaaaaa', (6.0, 'Lock the ankle.'), (18.0, 'Well balanced.'))
    for camera in CAMERAS:
      stream = 'rgb' if camera.startswith('aria') else '0'
      file = release.root / f'features/omnivore_video/uid-{name}_{camera}_{stream}.pt'
      if (number, camera) != (0, 'cam04'):
        write_features(file, rows + number)
  (release.root / 'features/omnivore_video/uid-t1_cam04_0.pt').write_bytes(b'PK')
  clips = prepared(release, tmp_path, '--features', 'omnivore_video')
  clip = clips['t2/aaaaaa/0']
  assert (clip.encoder, clip.features.shape, clip.frames.size) == ('omnivore_video', (5, 10, 24), 0)
  np.testing.assert_array_equal(clip.frame_times, np.tile(np.arange(1.0, 11.0), (5, 1)))
  # row i has seen 32 frames from frame 16 i on, its middle is at (16 i + 16) / 30 s: in the second from 1 lie rows 1, 2
  np.testing.assert_allclose(clip.features[0, 0], (rows[1:3] + 2).mean(0), atol=2e-3)
  np.testing.assert_allclose(clip.features[0, 1], (rows[3:5] + 2).mean(0), atol=2e-3)
  # cut short by the end
  last = clips['t2/aaaaaa/1']
  assert np.isfinite(last.frame_times).sum(1).tolist() == [7] * 5
  assert not last.features[:, 7:].any()
  assert [len(clips[f't{number}/aaaaaa/0'].views) for number in range(4)] == [4, 4, 5, 5]
  out = capsys.readouterr().out
  assert '1 × view: missing (first: t0/exo4)' in out
  assert '1 × view: not a file of features (first: t1/exo4)' in out
  directory = tmp_path / 'datasets/egoexo4d/1.0.0'
  run = one_update(directory, tmp_path / 'run', 'encoder.weights=records')
  assert (run.views, run.seconds, run.video_encoder.fingerprint) == (5, 10, 'omnivore_video')
  with pytest.raises(ValueError, match='other videos cannot be encoded'):
    encoders.load('records')


def test_features_are_made_straight_from_the_videos(release, tmp_path, capsys):
  release.take('a')
  release.said('a', 'aaaaaa', (4.5, 'Lock the ankle.'), (6.5, 'Well balanced.'))
  clips = prepared(release, tmp_path, '--without_frames', '--fps', '2', '--mu1', '2', '--mu2', '2')
  assert [(clip.frames.size, clip.frame_times.shape) for clip in clips.values()] == [(0, (5, 8))] * 2
  encoder = hub_directories.write_clip(tmp_path / 'clip')
  dataset = str(tmp_path / 'datasets/egoexo4d/1.0.0')
  features_verb.main([dataset, '--encoder', str(encoder), '--fps', '2', '--batch_size', '8'])
  # windows from 2 and 4 s share two of four seconds; all views are links to one video, which is looked at once
  assert '6 seconds of video, 6 of them not encoded yet' in capsys.readouterr().out


def test_memory_does_not_grow_with_takes(release):
  peaks = []
  for count in (10, 120):
    for number in range(len(release.takes), count):
      release.take(f't{number}', videos=False, objects=['x' * 200] * 100)
      release.said(f't{number}', 'aaaaaa', *((1.0 + i, 'Keep the ankle locked. ' * 100) for i in range(10)))
      release.level(f't{number}', 'Novice')
    release.write()
    source = EgoExo4D(str(release.root))
    tracemalloc.start()
    assert sum(1 for _ in source.takes(lambda _: None)) == count
    peaks.append(tracemalloc.get_traced_memory()[1])
    tracemalloc.stop()
  sizes = [(release.root / name).stat().st_size for name in ('takes.json', 'annotations/expert_commentary_train.json')]
  assert min(sizes) > 2_400_000
  assert peaks[1] - peaks[0] < 1_200_000


def test_it_ends_in_a_training_step(release, tmp_path):
  words = ('Lock the ankle.', 'Keep your head up.', 'Knees are too straight.', 'Well balanced.')
  for number in range(4):
    name = f't{number}'
    release.take(name, (8003, 8005, 6001, 7018)[number], participant=number, split='val' if number == 3 else 'train')
    release.said(name, 'aaaaaa', *((4.0 + 3 * i, text) for i, text in enumerate(words)), task=8003)
  prepared(release, tmp_path)
  run = one_update(tmp_path / 'datasets/egoexo4d/1.0.0', tmp_path / 'run')
  assert (run.views, run.seconds, len(run.split.train), len(run.split.test)) == (5, 10, 12, 4)
