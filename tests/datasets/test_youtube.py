"""Folders as yt-dlp makes them: what is found, which captions are trusted, and every way to lose a video."""

from __future__ import annotations

import json
import os
import pathlib
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from crosstrainer_jax.datasets.takes.take import Loss, Take
from crosstrainer_jax.datasets.youtube import folder, source, transcript
from crosstrainer_jax.datasets.youtube.folder import CaptionFile, Download
from crosstrainer_jax.datasets.youtube.source import YouTube
from crosstrainer_jax.input.cues import Cue

STEM = 'Throw it. Further! [aB-3_x]'


def json3(cues: Sequence[tuple[float, str, float]], seconds: float = 2.0) -> str:
  """`cues` are (time, words, confidence)."""
  events: list[dict[str, Any]] = [{'tStartMs': 0, 'dDurationMs': 99_000, 'id': 1}]
  for time, words, confidence in cues:
    segment = {'utf8': words, 'acAsrConf': confidence}
    events.append({'tStartMs': time * 1000, 'dDurationMs': seconds * 1000, 'wWinId': 1, 'segs': [segment]})
    events.append({'tStartMs': time * 1000 + 10, 'wWinId': 1, 'aAppend': 1, 'segs': [{'utf8': '\n'}]})
  return json.dumps({'wireMagic': 'pb3', 'events': events})


def vtt(cues: Sequence[tuple[float, str]], seconds: float = 2.0) -> str:
  blocks = [
    f'00:{t // 60:02.0f}:{t % 60:06.3f} --> 00:{(t + seconds) // 60:02.0f}:{(t + seconds) % 60:06.3f}\n{words}'
    for t, words in cues
  ]
  return '\n\n'.join(['WEBVTT\nKind: captions\nLanguage: en', *blocks])


def whisper(cues: Sequence[tuple[float, str]], language: str = 'en', **more: float) -> str:
  segments = [{'start': t, 'end': t + 2.0, 'text': f' {words}', **more} for t, words in cues]
  return json.dumps({'text': '…', 'segments': segments, 'language': language})


INFO: dict[str, Any] = {
  'id': 'aB-3_x', 'title': 'Throw it. Further!', 'duration': 60, 'channel_id': 'UC1', 'channel': 'Coach Kim',
  'uploader': None, 'language': 'en', 'license': None, 'webpage_url': 'https://www.youtube.com/watch?v=aB-3_x',
  'subtitles': {}, 'automatic_captions': {'en': [], 'en-orig': [], 'de': []}, '_type': 'video',
}  # fmt: skip
GOOD = [(3.0, 'Bend your knees more.', 0.9), (10.0, 'Keep the elbow high.', 0.0)]


@pytest.fixture
def videos(tmp_path: pathlib.Path) -> Callable[..., tuple[list[Take], list[Loss]]]:
  """Writes files of one video, by what follows its stem, and reads the folder."""

  def reader(
    files: dict[str, str], info: dict[str, Any] | None = None, stem: str = STEM, video: bool = True, **settings: Any
  ) -> tuple[list[Take], list[Loss]]:
    root = tmp_path / 'videos'
    root.mkdir(exist_ok=True)
    written = {'info.json': json.dumps(INFO if info is None else info), **({'mp4': ''} if video else {}), **files}
    for rest, content in written.items():
      (root / f'{stem}.{rest}').write_text(content)
    lost: list[Loss] = []
    return list(YouTube(str(root), **({'sport': 'frisbee'} | settings)).takes(lost.append)), lost

  return reader


def reasons(lost: list[Loss]) -> dict[str, int]:
  return dict(Counter(loss.reason for loss in lost))


def said(takes: list[Take]) -> list[tuple[str, float | None]]:
  return [(comment.text, comment.time) for take in takes for comment in take.comments]


def test_a_video_with_narration(videos):
  takes, lost = videos({'en.json3': json3(GOOD)}, skill='forehand')
  assert said(takes) == [('Bend your knees more.', 3.0), ('Keep the elbow high.', 10.0)]
  (take,) = takes
  assert (take.name, take.participant, take.sport, take.skill) == ('aB-3_x', 'UC1', 'frisbee', 'forehand')
  assert (take.videos, take.licence) == ((f'{STEM}.mp4',), 'YouTube standard licence')
  assert take.comments[0].expert == 'Coach Kim'
  assert take.comments[0].extra == {
    'spoken': [3.0, 5.0], 'captions': f'{STEM}.en.json3', 'confidence': 0.9, 'url': INFO['webpage_url']
  }  # fmt: skip
  assert 'confidence' not in take.comments[1].extra
  assert not lost


A, B = 'Bend your knees more.', 'Keep the elbow high.'


@pytest.mark.parametrize(
  ('rest', 'content'),
  [
    ('en.vtt', vtt([(3, A), (5, f'{A}\n{B}')])),
    ('en-US.srv1', f'<transcript><text start="3" dur="2">{A}</text><text start="5">{B}</text></transcript>'),
    ('en.srv2', f'<timedtext><text t="3000" d="2000">{A}</text><text t="5000">{B}</text></timedtext>'),
    ('a.en.srv3', f'<timedtext format="3"><body><p t="3000" d="9000">{A}</p><p t="5000">{B}</p></body></timedtext>'),
    ('en-eEY6OEpapPo.srt', f'1\n00:00:03,000 --> 00:00:05,000\n{A}\n\n2\n00:00:05,000 --> 00:00:07,000\n{B}'),
    ('sbv', f'0:00:03.000,0:00:05.000\n{A}\n\n0:00:05.000,0:00:07.000\n{B}\n'),
    ('en.ttml', f'<tt><body><p begin="3s" end="5s">{A}</p><p begin="5s" end="7s">{B}</p></body></tt>'),
    ('json', whisper([(3.0, A), (5.0, B)])),
  ],
)
def test_captions_of_every_format(videos, rest, content):
  takes, lost = videos({rest: content})
  assert said(takes) == [('Bend your knees more.', 3.0), ('Keep the elbow high.', 5.0)]
  assert not lost


@pytest.mark.parametrize('info', [{}, dict.fromkeys(INFO), {'duration': True, 'subtitles': [], 'id': 3}, 'nonsense'])
def test_fields_that_are_null_missing_or_something_else(videos, info):
  takes, lost = videos({'en.json3': json3(GOOD)}, info)
  assert (takes[0].name, takes[0].participant) == ('aB-3_x', 'aB-3_x')
  assert len(takes[0].comments) == 2
  assert reasons(lost) == ({source.BAD_INFO: 1} if info == 'nonsense' else {})


def test_playlists_halves_and_what_is_missing(videos, tmp_path):
  videos({'en.json3': json3(GOOD)})
  root = tmp_path / 'videos'
  (root / 'List [PL1].info.json').write_text('{"_type": "playlist", "entries": []}')
  (root / 'Cut [c1].info.json').write_text('{"id": "c1", "title')
  for name in (
    'Half [h1].mp4.part', 'Half [h1].mp4.ytdl', 'Parts [p1].f137.mp4', 'Parts [p1].f140.m4a', 'Parts [p1].info.json',
    'Temp [t1].temp.mp4', 'Said [s1].en.vtt', 'Mute [m1].mp4', 'cover.jpg', 'notes.json', 'Cut [c1].live_chat.json',
  ):  # fmt: skip
    (root / name).write_text('{}' if name.endswith('json') else '')
  (root / 'deeper').mkdir()
  (root / 'deeper' / 'Final.mp4').touch()
  takes, lost = videos({})
  assert [take.name for take in takes] == ['aB-3_x']
  found = {(loss.what, loss.id): loss.reason for loss in lost}
  assert found == {
    ('playlist', 'List [PL1].info.json'): source.PLAYLIST,
    ('info', 'Cut [c1].info.json'): source.BAD_INFO,
    ('video', 'c1'): source.NO_VIDEO,
    ('video', 'h1'): source.HALF,
    ('video', 'p1'): source.HALF,
    ('video', 't1'): source.HALF,
    ('video', 's1'): source.NO_VIDEO,
    ('video', 'm1'): transcript.NO_CAPTIONS,
    ('video', 'Final'): transcript.NO_CAPTIONS,
  }


def test_names_with_full_stops_and_of_other_encodings(tmp_path):
  for name in ('a.mp4', 'a.b.mp4', 'a.b.en.vtt', 'a.en-US.vtt', 'a.final.webm'):
    (tmp_path / name).touch()
  (tmp_path / os.fsdecode(b'\xff.mp4')).touch()
  refused: list[str] = []
  found = {d.stem: d for d in folder.downloads(tmp_path, refused.append)}
  assert {stem: [c.tag for c in d.captions] for stem, d in found.items()} == {
    'a': ['en-US'],
    'a.b': ['en'],
    'a.final': [],
  }
  assert refused == ['?.mp4']


def test_a_link_that_leaves_the_folder_is_not_read(videos, tmp_path):
  (tmp_path / 'outside.json3').write_text(json3(GOOD))
  (tmp_path / 'videos').mkdir()
  (tmp_path / 'videos' / f'{STEM}.en.json3').symlink_to(tmp_path / 'outside.json3')
  takes, lost = videos({})
  assert not takes
  assert reasons(lost) == {transcript.UNREADABLE: 1, transcript.UNUSABLE: 1}


def candidates(tags: dict[str, str], info: dict[str, Any]) -> tuple[list[str], list[Loss]]:
  lost: list[Loss] = []
  files = [CaptionFile(f'x.{tag}.{suffix}', tag) for tag, suffix in tags.items()]
  found = transcript._candidates(files, info, transcript.Limits(), lost.append)
  return [file.path for file in found], lost


def test_people_come_before_recognition_and_the_original_before_its_copy():
  manual = INFO | {'subtitles': {'en-GB': []}}
  order, lost = candidates({'en': 'json3', 'en-orig': 'vtt', 'en-GB': 'srt', 'de': 'json3'}, manual)
  assert order == ['x.en-GB.srt', 'x.en-orig.vtt', 'x.en.json3']
  assert reasons(lost) == {transcript.OTHER_LANGUAGE: 1}


def test_a_machines_translation_is_not_what_was_said():
  """The site offers every video in every language."""
  german = INFO | {'language': None, 'automatic_captions': {'de-orig': [], 'en': []}}
  assert reasons(candidates({'en': 'json3'}, german)[1]) == {transcript.TRANSLATED: 1}
  by_people = german | {'subtitles': {'en': []}}
  assert candidates({'en': 'json3'}, by_people) == (['x.en.json3'], [])


def test_sounds_are_no_speech(videos):
  cues = [
    (1.0, '[Music]', 0.0), (4.0, '♪ la la ♪', 0.0), (8.0, '(applause)', 0.0),
    (12.0, '[Music] >> bend (a bit) more.', 0.0), (16.0, '>> Keep [ __ ] going.', 0.0),
  ]  # fmt: skip
  takes, lost = videos({'en.json3': json3(cues)})
  assert said(takes) == [('bend (a bit) more.', 12.0), ('Keep going.', 16.0)]
  assert reasons(lost) == {transcript.SOUND: 3}
  takes, lost = videos({'en.json3': json3(cues[:3])})
  assert not takes
  assert reasons(lost) == {transcript.SOUND: 3, transcript.SILENT: 1}


def test_what_was_recognised_too_unsurely_is_lost(videos):
  cues = [(3.0, 'Bend your knees.', 60.0), (10.0, 'Elbow high.', 200.0)]
  takes, lost = videos({'en.json3': json3(cues)})
  assert said(takes) == [('Elbow high.', 10.0)]
  assert reasons(lost) == {transcript.UNSURE: 1}
  assert len(said(videos({'en.json3': json3(cues)}, min_confidence=0.2)[0])) == 2


def test_whispers_inventions_in_silence_are_lost(videos):
  invented = whisper([(3.0, 'Thanks for watching.')], avg_logprob=-0.5, no_speech_prob=0.8)
  _, lost = videos({'json': invented})
  assert reasons(lost) == {transcript.UNSURE: 1, transcript.SILENT: 1}


def test_captions_of_a_longer_cut(videos):
  takes, lost = videos({'en.json3': json3([*GOOD, (70.0, 'Goodbye.', 0.0)]), 'en.vtt': vtt([(3, 'Bend.')])})
  assert said(takes) == [('Bend.', 3.0)]
  assert reasons(lost) == {transcript.OVERRUN: 1}
  takes, _ = videos({'en.json3': json3([*GOOD, (61.0, 'Goodbye.', 0.0)])})
  assert len(said(takes)) == 3


PHRASES = [(5.0 * n, f'Now keep the number {n} elbow high and wait {n} seconds.') for n in range(10)]


def test_captions_that_drift_from_whisper_give_way_to_it(videos):
  late = vtt([(time + 4.0, words) for time, words in PHRASES])
  takes, lost = videos({'en.vtt': late, 'json': whisper(PHRASES)})
  assert [time for _, time in said(takes)] == [time for time, _ in PHRASES]
  (loss,) = lost
  assert (loss.reason, loss.detail[:5]) == (transcript.DRIFT, '4.0 s')
  takes, lost = videos({'en.vtt': late, 'json': whisper(PHRASES)}, max_drift=5.0)
  assert said(takes)[0][1] == 4.0
  assert not lost


def test_captions_of_another_video(videos):
  others = [(5.0 * n, f'Today we cook soup number {n} with onions and {n} potatoes.') for n in range(10)]
  takes, lost = videos({'en.vtt': vtt(others), 'json': whisper(PHRASES)})
  assert said(takes)[0][0].startswith('Now keep')
  assert reasons(lost) == {transcript.OTHER_WORDS: 1}


def test_drift_is_the_median_over_phrases_that_occur_once():
  one = [Cue(0, 4, 'a b c d'), Cue(10, 14, 'again and again'), Cue(20, 24, 'again and again'), Cue(30, 34, 'e f g h')]
  other = [cue._replace(start=cue.start + 1.5, end=cue.end + 1.5) for cue in one]
  found = transcript.drift(one, other)
  assert found.seconds == pytest.approx(1.5)
  assert found.phrases == 10  # of twelve, two are the same
  assert transcript.drift(one, [Cue(0, 1, 'x y')]) == (0, 0, 0.0)


def test_whisper_of_another_language(videos):
  _, lost = videos({'json': whisper([(3.0, 'Knie beugen.')], 'de')})
  assert reasons(lost) == {transcript.OTHER_LANGUAGE: 1, transcript.UNUSABLE: 1}
  assert len(videos({}, languages=('de',))[0]) == 1


def test_a_table_tells_the_sport_of_each_video(videos, tmp_path):
  table = tmp_path / 'sports.csv'
  table.write_text('id,sport,skill\naB-3_x,water polo,egg beater\n')
  (take,), _ = videos({'en.json3': json3(GOOD)}, table=str(table))
  assert (take.sport, take.skill) == ('water polo', 'egg beater')
  lines = tmp_path / 'sports.jsonl'
  lines.write_text('{"id": "other", "sport": "polo"}\n\n')
  takes, lost = videos({}, table=str(lines), sport='')
  assert not takes
  assert reasons(lost) == {source.NOT_IN_TABLE: 1}
  (take,), _ = videos({}, table=str(lines))
  assert (take.sport, take.skill) == ('frisbee', source.UNSORTED)


@pytest.mark.parametrize(
  ('name', 'content', 'message'),
  [
    ('a.csv', 'video,sport\nx,polo\n', 'line 2: id and sport'),
    ('a.csv', 'id,sport\nx,polo\nx,golf\n', 'line 3.*twice'),
    ('a.jsonl', '{"id": "x", "sport": "polo"}\n{"id"\n', 'line 2'),
    ('a.jsonl', '[]', 'line 1'),
    ('a.txt', '', '.csv or .jsonl'),
  ],
)
def test_a_table_that_cannot_be_read(tmp_path, name, content, message):
  (tmp_path / name).write_text(content)
  with pytest.raises(ValueError, match=message):
    source.read_table(tmp_path / name)


def test_settings_that_make_no_sense():
  for settings in (
    {},
    {'sport': 'x', 'languages': ()},
    {'sport': 'x', 'min_confidence': 2},
    {'sport': 'x', 'max_drift': 0},
    {'sport': 'x', 'test_fraction': 1},
  ):
    with pytest.raises(ValueError, match=r'sport|languages|min_confidence|max_drift|test_fraction'):
      YouTube('.', **settings)
  with pytest.raises(FileNotFoundError, match='doctor youtube'):
    list(YouTube('/nowhere', sport='x').takes(lambda _: None))


def test_a_channel_stays_in_its_split_and_content_follows_the_files(videos, tmp_path):
  for number in range(40):
    info = INFO | {'id': f'v{number}', 'channel_id': f'UC{number % 20}'}
    takes, _ = videos({'en.json3': json3(GOOD)}, info, stem=f'V [v{number}]')
  splits: dict[str, set[str]] = {}
  for take in takes:
    splits.setdefault(take.participant, set()).add(take.split)
  assert all(len(found) == 1 for found in splits.values())
  assert 1 <= sum('test' in found for found in splits.values()) <= 9
  read = YouTube(str(tmp_path / 'videos'), sport='frisbee')
  before = read.content()
  assert read.content() == before
  (tmp_path / 'videos' / 'V [v3].en.json3').write_text('{}')
  assert read.content() != before
  json.dumps(before)


def test_the_id_is_in_the_brackets():
  assert Download('a/T [x] [aB-3_x]', None, (), (), None, ()).bracketed_id == 'aB-3_x'
  assert Download('a/Title', None, (), (), None, ()).bracketed_id == 'Title'
