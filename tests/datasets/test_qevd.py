"""QEVD on trees of the documented shapes: sessions, short clips, and every trap of their files."""

from __future__ import annotations

import json
import os
import pathlib
import pickle
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from crosstrainer_jax.datasets.qevd import archives, exercises, labels, sessions, short_clips
from crosstrainer_jax.datasets.qevd.source import QEVD
from crosstrainer_jax.datasets.takes.take import Loss, Take

FPS = 10
# When the first frame of a session was taken, on the clock of the feedback.
BEGIN = 1_707_460_300.0


def dense(*parts: tuple[str, int]) -> list[str]:
  """`parts` are (text, frames)."""
  return [text for text, frames in parts for _ in range(frames)]


def write_session(
  folder: pathlib.Path,
  name: str,
  feedbacks: list[str],
  stamps: list[float] | None = None,
  flags: list[bool] | None = None,
  **more: Any,
) -> dict[str, Any]:
  """A record of feedbacks_long_range.json and its frame times; by default each closed span has an entry."""
  videos = folder / 'long_range_videos'
  videos.mkdir(parents=True, exist_ok=True)
  nanoseconds = ((BEGIN - 28_800 + np.arange(len(feedbacks)) / FPS) * 1e9).astype(np.int64)
  np.save(videos / f'{name}_timestamps.npy', nanoseconds)
  closed = [span for span in sessions.spans(feedbacks) if span.last < len(feedbacks) - 1]
  stamps = [BEGIN + span.first / FPS for span in closed] if stamps is None else stamps
  if flags is None:
    flags = [span.text.startswith(('First', 'Moving', 'That')) for span in closed]
  return {
    'long_range_video_file': f'./long_range_videos/{name}.mp4',
    'video_timestamps': f'./long_range_videos/{name}_timestamps.npy',
    'feedbacks': feedbacks,
    'feedback_timestamps': stamps,
    'is_transition': flags,
    **more,
  }


def write_sessions(folder: pathlib.Path, *records: Any) -> None:
  folder.mkdir(parents=True, exist_ok=True)
  (folder / archives.LONG_RANGE).write_text(json.dumps(records))


def read(source: QEVD) -> tuple[list[Take], list[Loss]]:
  lost: list[Loss] = []
  return list(source.takes(lost.append)), lost


def reasons(lost: list[Loss]) -> dict[str, int]:
  return dict(Counter(loss.reason for loss in lost))


def said(take: Take) -> list[tuple[str, float | None]]:
  return [(comment.text, comment.time) for comment in take.comments]


WORKOUT = dense(
  ('', 5), ('Hello!', 5), ('', 5), ('First up are high knees!', 10), ('', 5), ('Nice!', 5), ('', 5),
  ('Knees higher.', 5), ('', 5), ('Moving on to armcrosschest!', 10), ('', 10),
  ('Pull the armcrosschest closer.', 10), ('', 10),
  ("That's the end of the session.", 10), ('', 5), ('Bye.', 3), ('', 2),
)  # fmt: skip


@pytest.fixture
def coach(tmp_path: pathlib.Path) -> Callable[..., tuple[list[Take], list[Loss]]]:
  """Reads one session with these feedbacks from an archive for training."""

  def reader(feedbacks: list[str], *times: Any, **more: Any) -> tuple[list[Take], list[Loss]]:
    folder = tmp_path / 'QEVD-FIT-COACH'
    write_sessions(folder, write_session(folder, '0006', feedbacks, *times, **more))
    return read(QEVD(str(tmp_path)))

  return reader


def test_a_session_is_cut_at_its_announcements(coach):
  takes, lost = coach(WORKOUT)
  assert [(t.name, t.sport, t.skill) for t in takes] == [
    ('coach/0006/0', exercises.CARDIO, 'high knees'),
    ('coach/0006/1', exercises.STRETCHES, 'deltoid stretch'),
  ]
  assert said(takes[0]) == [('Nice!', 3.0), ('Knees higher.', 4.0)]
  assert said(takes[1]) == [('Pull the deltoid stretch closer.', 7.0)]
  assert (takes[0].start, takes[0].end, takes[1].start, takes[1].end) == (1.5, 5.0, 5.0, 9.0)
  assert takes[0].videos == ('QEVD-FIT-COACH/long_range_videos/0006.mp4',)
  assert {t.participant for t in takes} == {'coach/0006'}
  assert {t.split for t in takes} == {'train'}
  assert takes[0].comments[0].extra == {'spoken': [3.0, 3.4]}
  assert reasons(lost) == {sessions.TOO_EARLY: 1, sessions.ANNOUNCEMENT: 3, sessions.TOO_LATE: 1}


def test_a_span_that_runs_to_the_last_frame_is_kept_without_an_entry(coach):
  takes, lost = coach(dense(('First up are squats!', 5), ('', 5), ('Deeper.', 5), ('', 5), ('Good', 5)))
  assert said(takes[0]) == [('Deeper.', 1.0), ('Good', 2.0)]
  assert takes[0].end is None  # no closing sentence: the exercise lasts as long as the recording
  assert reasons(lost) == {sessions.ANNOUNCEMENT: 1}


def test_and_with_one(coach):
  feedbacks = dense(('First up are squats!', 5), ('', 5), ('Deeper.', 5))
  takes, _ = coach(feedbacks, [BEGIN, BEGIN + 1.01], [True, False])
  assert said(takes[0]) == [('Deeper.', 1.01)]


def test_two_equal_feedbacks_back_to_back_are_two(coach):
  feedbacks = dense(('First up are squats!', 5), ('', 5), ('Nice!', 10), ('', 5))
  takes, _ = coach(feedbacks, [BEGIN, BEGIN + 1.0, BEGIN + 1.5], [True, False, False])
  assert said(takes[0]) == [('Nice!', 1.0), ('Nice!', 1.5)]
  assert [c.extra['spoken'] for c in takes[0].comments] == [[1.0, 1.5], [1.5, 1.9]]


def test_both_traps_at_once_shift_nothing(coach):
  """The lists are as long as the spans, and the entries are not theirs in order."""
  feedbacks = dense(
    ('First up are squats!', 5), ('', 5), ('Nice!', 10), ('Moving on to pushups!', 5), ('', 5), ('Lower', 5)
  )
  stamps = [BEGIN, BEGIN + 1.0, BEGIN + 1.5, BEGIN + 2.0]
  takes, _ = coach(feedbacks, stamps, [True, False, False, True])
  assert len(stamps) == len(sessions.spans(feedbacks))
  assert [said(take) for take in takes] == [[('Nice!', 1.0), ('Nice!', 1.5)], [('Lower', 3.0)]]


def test_feedback_on_another_clock_is_timed_by_its_frames(coach):
  feedbacks = dense(('First up are squats!', 5), ('', 5), ('Deeper.', 5), ('', 5))
  takes, lost = coach(feedbacks, [BEGIN + 3600, BEGIN + 3601], [True, False])
  assert said(takes[0]) == [('Deeper.', 1.0)]
  assert reasons(lost) == {sessions.OTHER_CLOCK: 1, sessions.ANNOUNCEMENT: 1}


def test_an_entry_without_feedback_is_lost_and_a_feedback_without_entry_kept(coach):
  feedbacks = dense(('First up are squats!', 5), ('', 5), ('Deeper.', 5), ('', 20))
  takes, lost = coach(feedbacks, [BEGIN, BEGIN + 3.0, None, 'soon'], [True, False, False, False])
  assert said(takes[0]) == [('Deeper.', 1.0)]
  assert reasons(lost) == {sessions.OTHER_CLOCK: 1, sessions.ANNOUNCEMENT: 1}
  takes, lost = coach(feedbacks, [BEGIN, BEGIN + 1.0, BEGIN + 3.0], [True, False, False])
  assert said(takes[0]) == [('Deeper.', 1.0)]
  assert reasons(lost) == {sessions.ELSEWHERE: 1, sessions.ANNOUNCEMENT: 1}


def test_times_of_the_frames_decide_and_not_a_frame_rate(coach, tmp_path):
  feedbacks = dense(('First up are squats!', 5), ('', 5), ('Deeper.', 5), ('', 5))
  folder = tmp_path / 'QEVD-FIT-COACH'
  record = write_session(folder, '0006', feedbacks, [BEGIN, BEGIN + 4.0], [True, False])
  slow = ((BEGIN - 28_800 + np.arange(20) * 0.4) * 1e9).astype(np.int64)
  np.save(folder / 'long_range_videos' / '0006_timestamps.npy', slow)
  write_sessions(folder, record)
  takes, _ = read(QEVD(str(tmp_path)))
  assert said(takes[0]) == [('Deeper.', 4.0)]


def test_times_are_those_at_which_the_video_shows_the_frame():
  """A camera that dropped frames took them at other times than a video of a constant rate shows them."""
  taken = np.array([0.0, 0.1, 0.2, 1.2, 1.3])
  found = sessions.in_video(np.array([[0.2, 1.3], [0.7, 1.2]]), taken, np.arange(5) / 10)
  np.testing.assert_allclose(found, [[0.2, 0.4], [0.25, 0.3]])
  # of a video that breaks off, what comes later is still later
  np.testing.assert_allclose(sessions.in_video(np.array([0.1, 1.3]), taken, np.arange(3) / 10), [0.1, 1.3])
  np.testing.assert_allclose(sessions.in_video(taken[[1, 4]], taken, np.arange(9) / 10), [0.1, 0.4])


def test_an_unsorted_exercise_is_lost_by_name(coach):
  takes, lost = coach(dense(('First up are burpees!', 5), ('', 5), ('Faster.', 5), ('', 5)))
  assert not takes
  assert [(loss.reason, loss.detail) for loss in lost if loss.reason == sessions.UNSORTED] == [
    (sessions.UNSORTED, 'burpees: Faster.')
  ]


def test_an_exercise_without_feedback_is_counted(coach):
  _, lost = coach(dense(('First up are squats!', 5), ('', 5), ('Moving on to pushups!', 5), ('Low', 5), ('', 5)))
  assert reasons(lost) == {sessions.ANNOUNCEMENT: 2, sessions.NOTHING_SAID: 1}


@pytest.mark.parametrize(
  ('values', 'message'),
  [
    (np.array([{'a': 1}], dtype=object), 'Python objects'),
    (np.zeros((3, 2)), 'not one list'),
    (np.array([3, 1, 2]), 'forward'),
    (np.array([0.0, np.nan]), 'forward'),
    (np.array(['x']), 'type'),
    (None, 'No such file'),
  ],
)
def test_frame_times_that_cannot_be_read_lose_the_session(tmp_path, values, message):
  folder = tmp_path / 'QEVD-FIT-COACH'
  bad, good = (write_session(folder, name, WORKOUT) for name in ('0000', '0001'))
  clock = folder / 'long_range_videos' / '0000_timestamps.npy'
  clock.unlink()
  if values is not None:
    np.save(clock, values, allow_pickle=True)
  write_sessions(folder, bad, good)
  takes, lost = read(QEVD(str(tmp_path)))
  assert {take.participant for take in takes} == {'coach/0001'}
  assert [loss.id for loss in lost if loss.reason == sessions.BAD_CLOCK] == ['coach/0000']
  assert message in next(loss.detail for loss in lost if loss.reason == sessions.BAD_CLOCK)


class _Ran:
  """Unpickled, it makes a folder."""

  def __init__(self, path: pathlib.Path):
    self.path = path

  def __reduce__(self) -> tuple[Any, ...]:
    return os.mkdir, (str(self.path),)


def test_a_pickle_under_the_name_of_frame_times_does_not_run(tmp_path):
  folder = tmp_path / 'QEVD-FIT-COACH'
  write_sessions(folder, write_session(folder, '0000', WORKOUT))
  (folder / 'long_range_videos' / '0000_timestamps.npy').write_bytes(pickle.dumps(_Ran(tmp_path / 'ran')))
  _, lost = read(QEVD(str(tmp_path)))
  assert reasons(lost) == {sessions.BAD_CLOCK: 1}
  assert not (tmp_path / 'ran').exists()


def test_a_path_that_leaves_the_root_is_not_opened(tmp_path):
  folder = tmp_path / 'root' / 'QEVD-FIT-COACH'
  np.save(tmp_path / 'outside.npy', np.arange(9))
  record = write_session(folder, '0000', WORKOUT) | {'video_timestamps': '../../outside.npy'}
  write_sessions(folder, record, {'long_range_video_file': None}, 'nonsense')
  takes, lost = read(QEVD(str(tmp_path / 'root')))
  assert not takes
  assert reasons(lost) == {sessions.BAD_CLOCK: 1, sessions.NO_VIDEO_FIELD: 2}
  assert 'leaves the root' in lost[0].detail


def test_more_feedbacks_than_frame_times(tmp_path):
  folder = tmp_path / 'QEVD-FIT-COACH'
  record = write_session(folder, '0000', dense(('First up are squats!', 5), ('Low', 3)))
  record['feedbacks'] += dense(('', 3), ('Beyond', 3))
  write_sessions(folder, record)
  takes, lost = read(QEVD(str(tmp_path)))
  assert said(takes[0]) == [('Low', 0.5)]
  assert reasons(lost) == {sessions.TOO_MANY: 1, sessions.ANNOUNCEMENT: 1}


def test_the_competition_names_its_exercises_and_counts_from_its_start(tmp_path):
  folder = tmp_path / 'QEVD-FIT-COACH-Competition-CVPR2025'
  feedbacks = dense(('Hm', 5), ('', 5), ('Deeper.', 5), ('', 5), ('Lower', 5), ('', 5))
  named = {
    'exercises': ['squats', 'push-ups', 'lost'],
    'exercise_start_timestamps': [0.8, 1.9], 'exercise_end_timestamps': [1.9, 2.9],
  }  # fmt: skip
  shown = write_session(folder, '0000', feedbacks, [0.0, 1.0, 2.0], [False] * 3, **named)
  hidden = write_session(folder, '0001', feedbacks, **named)
  del hidden['feedbacks'], hidden['feedback_timestamps'], hidden['is_transition']
  for name in ('0000', '0001'):
    np.save(folder / 'long_range_videos' / f'{name}_timestamps.npy', np.arange(30) / FPS)
  write_sessions(folder, shown, hidden)
  takes, lost = read(QEVD(str(tmp_path)))
  assert [(t.name, t.skill, t.split, t.start, t.end, said(t)) for t in takes] == [
    ('competition/0000/0', 'squats', 'test', 0.8, 1.9, [('Deeper.', 1.0)]),
    ('competition/0000/1', 'pushups', 'test', 1.9, 2.9, [('Lower', 2.0)]),
  ]
  assert reasons(lost) == {sessions.TOO_EARLY: 1, sessions.NO_TIMES: 1, sessions.UNPUBLISHED: 1}


def test_archives_in_folders_of_their_own_name_and_splits_by_archive(tmp_path):
  train = tmp_path / 'QEVD-FIT-COACH' / 'QEVD-FIT-COACH'
  test = tmp_path / 'QEVD-FIT-COACH-Benchmark'
  write_sessions(train, write_session(train, '0000', WORKOUT))
  write_sessions(test, write_session(test, '0000', WORKOUT))
  source = QEVD(str(tmp_path))
  takes, _ = read(source)
  assert {(t.participant, t.split) for t in takes} == {('coach/0000', 'train'), ('benchmark/0000', 'test')}
  assert takes[0].videos == ('QEVD-FIT-COACH/QEVD-FIT-COACH/long_range_videos/0000.mp4',)
  assert len(source.content()['files']) == 4
  assert all(source.content()['files'].values())
  alone, _ = read(QEVD(str(test)))
  assert {t.split for t in alone} == {'test'}
  assert alone[0].videos == ('long_range_videos/0000.mp4',)


def test_files_that_are_not_whole(tmp_path):
  with pytest.raises(FileNotFoundError, match='doctor qevd'):
    read(QEVD(str(tmp_path)))
  folder = tmp_path / 'QEVD-FIT-COACH'
  write_sessions(folder, write_session(folder, '0000', WORKOUT))
  whole = (folder / archives.LONG_RANGE).read_text()
  for text in (whole[: len(whole) // 2], '{}', ''):
    (folder / archives.LONG_RANGE).write_text(text)
    with pytest.raises(ValueError, match=archives.LONG_RANGE):
      read(QEVD(str(tmp_path)))


def test_the_five_sports_hold_the_papers_exercises():
  assert sorted(map(len, exercises.GROUPS.values())) == [2, 4, 5, 6, 6]
  assert exercises.place('armcrosschest') == exercises.place('Deltoid  stretch') == ('stretches', 'deltoid stretch')
  assert exercises.place('Push-Ups') == (exercises.CORE, 'pushups')
  assert exercises.place('squat  jumps') == (exercises.LEGS, 'squat jumps')
  assert exercises.place('Bear  crawl') == (exercises.OTHER, 'bear crawl')
  with pytest.raises(ValueError, match='leg strength'):
    QEVD('.', sports=('legs',))


@pytest.mark.parametrize(
  ('label', 'exercise', 'variation', 'kind'),
  [
    ('high plank - hips too high', 'high plank', 'hips too high', 'fault'),
    ('squats - back not straight', 'squats', 'back not straight', 'fault'),
    ('pushups - shallow', 'pushups', 'shallow', 'fault'),
    ('squats - no obvious issue', 'squats', 'no obvious issue', 'clean'),
    ('squats - No issues', 'squats', 'No issues', 'clean'),
    ('high knees - speed=2.25 rps', 'high knees', 'speed=2.25 rps', 'level'),
    ('squats - shoulder-width', 'squats', 'shoulder-width', 'style'),
    ('lunges (left) - depth=2', 'lunges', 'left, depth=2', 'level'),
    ('catching your breath', 'catching your breath', '', 'style'),
  ],
)
def test_a_label_is_read_by_its_words(label, exercise, variation, kind):
  parsed = labels.parse(label)
  assert (parsed.exercise, parsed.variation, parsed.kind) == (exercise, variation, kind)


def test_faults_nothing_wrong_and_nobody_knows():
  def faults(*variations: str) -> tuple[str, ...] | None:
    return labels.faults_of(labels.parse(f'squats - {variation}') for variation in variations)

  assert faults('Shallow', 'no obvious issue', 'shallow', 'speed=2 rps') == ('shallow',)
  assert faults('no obvious issue', 'narrow') == ()
  assert faults('narrow', 'speed=2 rps') is None


@pytest.fixture
def clips(tmp_path: pathlib.Path) -> pathlib.Path:
  """Labels, feedbacks in all their forms, workers, and the videos in several folders."""
  folder = tmp_path / 'QEVD-FIT-COACH'
  folder.mkdir()
  names = [f'{n:08d}' for n in range(12)]
  label_of = {
    3: ['squats - narrow'],
    4: ['squats - shallow', 'pushups - shallow'],
    5: [],
    6: ['bear crawl - too slow'],
    11: ['squats - narrow'],
  }
  split_of = {1: 'val', 2: 'test', 7: 'test', 9: 'holdout'}
  records: list[Any] = [
    {
      'video_path': f'./{name}.mp4',
      'labels': label_of.get(n, ['squats - shallow', 'squats - speed=1.0 rps']),
      'labels_descriptive': ['squats - the squat is shallow'],
      'split': split_of.get(n, 'train'),
    }
    for n, name in enumerate(names)
  ]
  (folder / archives.LABELS).write_text(json.dumps([*records, {'labels': ['squats - shallow']}]))
  feedbacks = [
    {'video_path': './00000000.mp4', 'split': 'train', 'feedbacks': ['Go deeper.', 'Nice  pace.', 'Go deeper.']},
    {'video_path': './00000001.mp4', 'split': 'train', 'feedback': ['Deeper!']},
    {'video_path': './00000002.mp4', 'split': 'test', 'feedbacks': 'Lower.'},
    {'video_path': './00000003.mp4', 'split': 'train', 'feedback': 'Fine.', 'feedbacks': []},
    {'video_path': './00000099.mp4', 'split': 'train', 'feedback': 'Who?'},
    {'feedback': 'Nobody.'},
  ]
  (folder / archives.FEEDBACKS).write_text(json.dumps(feedbacks))
  workers = [{'video_path': f'./{name}.mp4', 'worker_id': 1750} for name in (names[0], names[7])]
  (tmp_path / archives.WORKERS).write_text(json.dumps(workers))
  for number, place in enumerate(['short_clips', 'QEVD-FIT-300k-Part-2', 'QEVD-FIT-300k-Part-3/QEVD-FIT-300k-Part-3']):
    (tmp_path / place).mkdir(parents=True)
    for name in names[number:10:3]:
      (tmp_path / place / f'{name}.mp4').touch()
  return tmp_path


def test_short_clips_are_joined(clips):
  source = QEVD(str(clips), part='short')
  takes, lost = read(source)
  found = {take.name[-2:]: take for take in takes}
  assert sorted(found) == ['00', '01', '02', '03', '06', '08']
  assert said(found['00']) == [('Go deeper.', None), ('Nice pace.', None)]
  assert found['00'].participant == 'worker-1750'
  assert [said(found[n])[0][0] for n in ('01', '02', '03', '08')] == ['Deeper!', 'Lower.', 'Fine.', '']
  assert [found[n].split for n in ('00', '01', '02')] == ['train', 'validation', 'test']
  assert [found[n].comments[0].faults for n in ('00', '03', '06')] == [('shallow',), None, ('too slow',)]
  assert (found['06'].sport, found['06'].skill) == (exercises.OTHER, 'bear crawl')
  assert found['01'].videos == ('QEVD-FIT-300k-Part-2/00000001.mp4',)
  assert found['02'].videos == ('QEVD-FIT-300k-Part-3/QEVD-FIT-300k-Part-3/00000002.mp4',)
  assert found['00'].comments[0].extra == {'labels': ['squats - shallow', 'squats - speed=1.0 rps']}
  assert reasons(lost) == {
    short_clips.SEVERAL: 1,
    short_clips.NO_LABELS: 1,
    short_clips.CROSSING: 1,
    short_clips.NO_SPLIT: 1,
    short_clips.NO_VIDEO: 1,
    short_clips.NOTHING_KNOWN: 1,
    short_clips.NO_FIELD: 2,
    short_clips.NO_CLIP: 1,
  }
  assert len(source.content()['files']) == 3


def test_short_clips_of_chosen_sports_and_without_the_other_files(clips):
  (clips / archives.WORKERS).unlink()
  (clips / 'QEVD-FIT-COACH' / archives.FEEDBACKS).unlink()
  takes, lost = read(QEVD(str(clips), part='short', sports=(exercises.OTHER,)))
  assert [(t.name, t.participant, said(t)) for t in takes] == [('00000006', 'clip-00000006', [('', None)])]
  assert reasons(lost)[sessions.UNSORTED] == 8
