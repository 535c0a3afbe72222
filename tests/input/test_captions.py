import json

import pytest

from crosstrainer_jax.input import captions
from crosstrainer_jax.input.captions import Cue


def read(tmp_path, name, text, encoding='utf-8'):
  path = tmp_path / name
  path.write_bytes(text.encode(encoding))
  return captions.read_captions(path)


def test_srt_with_bom_markup_and_entities(tmp_path):
  text = (
    '\ufeff\n1\n00:00:01,000 --> 00:00:02,500\n<i>Nice</i> &amp; <font color="red">low</font>\n\n'
    '2\n01:00:02,000 --> 01:00:03,000\n{\\an8}Bend\nyour knees\n'
  )
  cues = read(tmp_path, 'a.srt', text).cues
  assert cues == [Cue(1.0, 2.5, 'Nice & low'), Cue(3602.0, 3603.0, 'Bend your knees')]


def test_windows_line_ends(tmp_path):
  text = '1\n00:00:01,000 --> 00:00:02,000\nGood.\n\n2\n00:00:03,000 --> 00:00:04,000\nBetter.\n'.replace('\n', '\r\n')
  assert [c.text for c in read(tmp_path, 'a.srt', text).cues] == ['Good.', 'Better.']


def test_vtt_with_comments_settings_tags_identifiers_and_styles(tmp_path):
  text = (
    'WEBVTT - a lesson\nKind: captions\n\nSTYLE\n::cue { color: red }\n\nNOTE not spoken\n\n'
    'first\n00:01.000 --> 00:02.000 line:0 align:start\n<v Coach>Bend <00:01.500><c.red>more</c></v>\n\n'
    '2\n00:00:03.000 --> 00:00:04.000\n- Again.\n\nNOTE the end\n'
  )
  assert read(tmp_path, 'a.vtt', text)[:3] == ([Cue(1, 2, 'Bend more'), Cue(3, 4, '- Again.')], 0, 0)


def test_malformed_cues_are_dropped_and_counted(tmp_path):
  text = (
    'WEBVTT\n\n00:00:0x.000 --> 00:00:02.000\nbad time\n\n00:05.000 --> 00:03.000\nbackwards\n\n'
    '00:06.000 --> 00:07.000\n\n00:08.000 --> 00:09.000\nGood.\n'
  )
  assert read(tmp_path, 'a.vtt', text)[:3] == ([Cue(8, 9, 'Good.')], 3, 0)


def test_rolling_captions_are_merged(tmp_path):
  text = (
    'WEBVTT\n\n00:00.000 --> 00:02.000 align:start position:0%\nso bend\n\n'
    '00:02.000 --> 00:02.010\nso bend\n\n'
    '00:02.010 --> 00:04.000\nso bend\nthe<00:03.000><c> knees</c>\n\n'
    '00:04.000 --> 00:04.010\nthe knees\n\n'
    '00:04.010 --> 00:06.000\nthe knees\nand wait\n'
  )
  spoken = read(tmp_path, 'a.vtt', text)
  assert [c.text for c in spoken.cues] == ['so bend', 'the knees', 'and wait']
  assert spoken.cues[0] == Cue(0.0, 2.01, 'so bend')
  assert (spoken.malformed, spoken.repeated) == (0, 2)


def test_sbv_of_rolling_lines(tmp_path):
  text = (
    '0:00:01.920,0:00:06.690\nbend your\n\n0:00:04.290,0:00:08.000\nbend your\nknees\n\n'
    '0:00:08.x00,0:00:09.000\nlost\n\n0:01:00.000,0:01:02.000\nGood.\n'
  )
  spoken = read(tmp_path, 'a.sbv', text)
  assert [c.text for c in spoken.cues] == ['bend your', 'knees', 'Good.']
  assert (spoken.malformed, spoken.repeated) == (1, 0)


def test_a_line_said_twice_is_two_cues_where_lines_do_not_roll(tmp_path):
  text = '<transcript><text start="1" dur="1">Again</text><text start="2" dur="1">Again</text></transcript>'
  assert [c.start for c in read(tmp_path, 'a.srv1', text).cues] == [1, 2]
  events = [{'tStartMs': t, 'dDurationMs': 1000, 'segs': [{'utf8': 'Again'}]} for t in (1000, 2000)]
  assert [c.start for c in read(tmp_path, 'a.json3', json.dumps({'events': events})).cues] == [1, 2]


def test_the_language_that_a_file_says(tmp_path):
  assert (
    read(tmp_path, 'a.vtt', 'WEBVTT\nKind: captions\nLanguage: en-GB\n\n00:01.000 --> 00:02.000\nx').language == 'en-GB'
  )
  assert read(tmp_path, 'a.json', '{"segments": [], "language": "de"}').language == 'de'
  assert read(tmp_path, 'a.srt', '1\n00:00:01,000 --> 00:00:02,000\nLanguage: en\n').language == ''


def test_a_file_of_no_captions_size_is_not_read(tmp_path):
  path = tmp_path / 'a.json'
  with path.open('wb') as file:
    file.truncate(100_000_000)
  with pytest.raises(ValueError, match='larger than 64 MB'):
    captions.read_captions(path)


def test_times_without_end_are_dropped(tmp_path):
  text = '{"segments": [{"start": 0, "end": 1e999, "text": "x"}, {"start": "nan", "end": 1, "text": "y"}]}'
  assert read(tmp_path, 'a.json', text)[:3] == ([], 2, 0)


def test_a_repetition_after_a_pause_is_kept(tmp_path):
  text = 'WEBVTT\n\n00:00.000 --> 00:01.000\nGood.\n\n00:05.000 --> 00:06.000\nGood.\n'
  assert len(read(tmp_path, 'a.vtt', text).cues) == 2


def test_whisper(tmp_path):
  segments = [{'start': 2.5, 'end': 4, 'text': ' Eyes  up. '}, {'start': 0.0, 'end': 2.0, 'text': ' Good\n start.'}]
  segments += [{'start': 5.0, 'text': 'no end'}, {'start': 7.0, 'end': 6.0, 'text': 'backwards'}]
  spoken = read(tmp_path, 'a.json', json.dumps({'text': '…', 'segments': segments}))
  assert spoken[:3] == ([Cue(0.0, 2.0, 'Good start.'), Cue(2.5, 4.0, 'Eyes up.')], 2, 0)


@pytest.mark.parametrize(
  ('name', 'text', 'message'),
  [
    ('a.txt', 'x', 'must be .srt, .vtt, .sbv or Whisper .json'),
    ('a.vtt', '', 'WEBVTT'),
    ('a.srt', 'some words', 'its number'),
    ('a.json', '{', 'not JSON'),
    ('a.json', '{"text": "x"}', 'segments'),
    ('a.json3', '[' * 100_000, 'brackets'),
    ('a.sbv', 'some words', '0:00:01.000'),
    ('a.srv3', '<timedtext><body>', 'ends early'),
    ('a.ttml', '<html></html>', '<html>'),
  ],
)
def test_other_files_are_refused_with_the_fix(tmp_path, name, text, message):
  with pytest.raises(ValueError, match=message) as caught:
    read(tmp_path, name, text)
  assert str(tmp_path / name) in str(caught.value)


def test_wrong_encoding_and_missing_file(tmp_path):
  with pytest.raises(ValueError, match='UTF-8'):
    read(tmp_path, 'a.srt', '1\n00:00:01,000 --> 00:00:02,000\nÄtsch\n', 'latin-1')
  with pytest.raises(FileNotFoundError, match='gone.srt'):
    captions.read_captions(tmp_path / 'gone.srt')


def test_cues_join_to_sentences():
  cues = [Cue(0, 2, 'Your balance is'), Cue(2, 4, 'very good. Now keep'), Cue(4, 6, 'the head up!'), Cue(6, 7, 'Again')]
  joined = captions.sentences(cues)
  assert [c.text for c in joined] == ['Your balance is very good.', 'Now keep the head up!', 'Again']
  assert joined[0].start == 0
  assert 2 < joined[0].end < 4
  assert joined[0].end == joined[1].start
  assert joined[2] == Cue(6, 7, 'Again')


def test_speech_without_full_stops_is_parted_by_pauses_and_length():
  cues = [Cue(0, 1, 'bend'), Cue(1.2, 2, 'more'), Cue(6, 7, 'good')]
  assert [c.text for c in captions.sentences(cues)] == ['bend more', 'good']
  endless = [Cue(i, i + 1, 'and') for i in range(60)]
  assert max(c.end - c.start for c in captions.sentences(endless)) <= 12


def test_the_confidence_of_a_sentence_is_the_mean_over_its_letters():
  joined = captions.sentences([Cue(0, 1, 'aaa', 0.9), Cue(1, 2, 'b', 0.5), Cue(2, 3, 'cc.'), Cue(9, 10, 'd.')])
  assert joined[0].confidence == pytest.approx((3 * 0.9 + 0.5) / 4, abs=0.06)  # the blank counts as a letter too
  assert joined[1].confidence is None


def test_decimals_and_abbreviations_do_not_split():
  assert [c.text for c in captions.sentences([Cue(0, 2, 'Drop 2.5 cm, e.g. here.')])] == ['Drop 2.5 cm, e.g. here.']


@pytest.mark.real
@pytest.mark.parametrize(
  ('name', 'cues', 'malformed', 'repeated'),
  [
    ('captions_with_bom.vtt', 4, 0, 0),
    ('comments.vtt', 3, 0, 0),
    ('cue_tags.vtt', 3, 0, 0),
    ('invalid_timeframe.vtt', 6, 1, 0),
    ('invalid_timeframe_in_cue_text.vtt', 3, 1, 0),
    ('metadata_headers_multiline.vtt', 2, 0, 0),
    ('missing_caption_text.srt', 4, 1, 0),
    ('missing_caption_text.vtt', 4, 1, 0),
    ('no_captions.vtt', 0, 0, 0),
    ('sample.srt', 5, 0, 0),
    ('sample.vtt', 16, 0, 0),
    ('sample.sbv', 4, 1, 0),
    ('invalid_timeframe.sbv', 3, 2, 0),
    ('two_captions.sbv', 2, 0, 0),
    ('styles.vtt', 1, 0, 0),
    ('using_identifiers.vtt', 6, 0, 0),
    ('youtube_dl.vtt', 3, 0, 1),
  ],
)
def test_real_files(real_data, name, cues, malformed, repeated):
  spoken = captions.read_captions(real_data / 'webvtt_fixtures' / name)
  assert (len(spoken.cues), spoken.malformed, spoken.repeated) == (cues, malformed, repeated)
  assert not any('<' in c.text or '-->' in c.text for c in spoken.cues)


@pytest.mark.real
@pytest.mark.parametrize(
  'name', ['empty.vtt', 'invalid.vtt', 'invalid_format.sbv', *(f'invalid_format{i}.srt' for i in range(1, 5))]
)
def test_real_files_that_are_no_captions(real_data, name):
  with pytest.raises(ValueError, match=name):
    captions.read_captions(real_data / 'webvtt_fixtures' / name)


@pytest.mark.real
def test_every_real_file_is_read_or_refused_by_name(real_data, tmp_path):
  """Replies of the video site too, under each suffix that someone may give them."""
  readable = [p for p in (real_data / 'webvtt_fixtures').iterdir() if p.suffix in captions.SUFFIXES]
  refused = []
  for path in readable:
    try:
      captions.read_captions(path)
    except ValueError as error:
      refused.append(str(path) in str(error))
  assert all(refused)
  assert len(readable) - len(refused) > 20
  for path in sorted((real_data / 'youtube_transcript_api_fixtures').glob('*.static')):
    for suffix in ('.srv1', '.xml', '.json', '.json3', '.vtt'):
      copy = tmp_path / f'{path.name}{suffix}'
      copy.write_bytes(path.read_bytes())
      if path.name.startswith('transcript.xml') and suffix in ('.srv1', '.xml'):
        spoken = captions.read_captions(copy)
        assert [c.text for c in spoken.cues][1] == 'this is not the original transcript'
        assert [(c.start, c.end) for c in spoken.cues] == [(0, 1.54), (1.54, 5.7), (5.7, pytest.approx(8.939))]
      else:
        with pytest.raises(ValueError, match='static'):
          captions.read_captions(copy)
