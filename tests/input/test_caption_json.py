import json
import math

import pytest

from crosstrainer_jax.input.caption_json import read_json_captions
from crosstrainer_jax.input.cues import Cue


def test_json3_as_the_site_makes_it():
  events = [
    {'tStartMs': 0, 'dDurationMs': 1170720, 'id': 1, 'wpWinPosId': 1, 'wsWinStyleId': 1},
    {'tStartMs': 40, 'dDurationMs': 5080, 'wWinId': 1, 'segs': [
      {'utf8': 'bend', 'acAsrConf': 0}, {'utf8': ' your', 'tOffsetMs': 240, 'acAsrConf': 0}]},
    {'tStartMs': 1670, 'dDurationMs': 3450, 'wWinId': 1, 'aAppend': 1, 'segs': [{'utf8': '\n'}]},
    {'tStartMs': 1680, 'dDurationMs': 5599, 'wWinId': 1, 'segs': [
      {'utf8': '\n', 'acAsrConf': 200}, {'utf8': 'knees', 'tOffsetMs': 20, 'acAsrConf': 204}]},
    {'tStartMs': 9000, 'segs': [{'utf8': 'good'}, {}, {'utf8': None}]},
    {'dDurationMs': 5, 'segs': [{'utf8': 'no time'}]},
    'nonsense',
  ]  # fmt: skip
  cues, written, language, rolling = read_json_captions(json.dumps({'wireMagic': 'pb3', 'events': events}))
  assert [c[:3] for c in cues] == [(0.04, 1.7, 'bend your'), (1.7, 7.279, 'knees'), (9.0, 12.0, 'good')]
  assert [c.confidence for c in cues] == [None, pytest.approx((200 + 5 * 204) / 6 / 255), None]
  assert (written, language, rolling) == (4, '', False)


def test_a_confidence_may_be_a_share_of_one():
  event = {'tStartMs': 0, 'dDurationMs': 9, 'segs': [{'utf8': 'a', 'acAsrConf': 0.9}]}
  assert read_json_captions(json.dumps({'events': [event]}))[0][0].confidence == 0.9


def test_whisper_knows_how_sure_it_is():
  segments = [
    {'start': 0, 'end': 2, 'text': ' Bend.', 'avg_logprob': -0.2, 'no_speech_prob': 0.1},
    {'start': 2, 'end': 4, 'text': ' Thanks for watching.', 'avg_logprob': -1.2, 'no_speech_prob': 0.9},
    {'start': 4, 'end': 5, 'text': None},
    {'start': 4, 'text': 'no end'},
  ]
  cues, written, language, _ = read_json_captions(json.dumps({'segments': segments, 'language': 'en'}))
  assert [c.confidence for c in cues] == pytest.approx([math.exp(-0.2) * 0.9, math.exp(-1.2) * 0.1])
  assert (written, language) == (4, 'en')


def test_segments_by_number_and_lists_of_lengths():
  numbered = json.dumps({'segments': {'0': [0.0, 2.5, ' Bend.'], '1': [3, 4]}})
  assert read_json_captions(numbered)[0] == [Cue(0.0, 2.5, 'Bend.')]
  listed = json.dumps([{'text': 'Bend.', 'start': 1.5, 'duration': 2}])
  assert read_json_captions(listed)[0] == [Cue(1.5, 3.5, 'Bend.')]


@pytest.mark.parametrize(
  ('text', 'message'), [('{', 'not JSON'), ('{}', 'segments'), ('3', 'segments'), ('[' * 99_999, 'brackets')]
)
def test_other_files_are_refused(text, message):
  with pytest.raises(ValueError, match=message):
    read_json_captions(text)
