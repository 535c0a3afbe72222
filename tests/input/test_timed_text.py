import pytest

from crosstrainer_jax.input.cues import Cue
from crosstrainer_jax.input.timed_text import read_timed_text


def test_srv1_holds_escaped_html_and_seconds():
  text = (
    '<?xml version="1.0" encoding="utf-8" ?><transcript>'
    '<text start="0.5" dur="1.04">Don&amp;#39;t &lt;i>lean&lt;/i></text><text start="5" dur="0.5"></text>'
    '<text start="6">no length</text><text dur="1">no time</text></transcript>'
  )
  cues, written = read_timed_text(text)
  assert cues == [Cue(0.5, 1.54, "Don't lean"), Cue(6.0, 9.0, 'no length')]
  assert written == 3


def test_srv2_goes_on_with_the_cue_before():
  text = (
    '<timedtext><window id="1" t="0" op="define"/><text w="1" t="80" d="4000">bend</text>'
    '<text w="1" t="400" append="1"> your knees</text><text w="1" t="2000" append="1">\n</text>'
    '<text w="1" t="3000" d="2000">and wait</text></timedtext>'
  )
  cues, written = read_timed_text(text)
  assert cues == [Cue(0.08, 3.0, 'bend your knees'), Cue(3.0, 5.0, 'and wait')]
  assert written == 2


def test_srv3_has_words_with_confidence():
  text = (
    '<?xml version="1.0" encoding="utf-8" ?><timedtext format="3"><head><pen id="1"/></head><body>'
    '<w t="0" id="1" wp="1" ws="1"/><p t="80" d="4000" w="1"><s ac="255">bend</s><s t="320" ac="127.5"> your</s>'
    '<s t="640" ac="0"> knees</s></p><p t="2000" d="2080" w="1" a="1">\n</p><p t="9000" d="500">plain</p>'
    '</body></timedtext>'
  )
  cues, written = read_timed_text(text)
  assert [c[:3] for c in cues] == [(0.08, 4.08, 'bend your knees'), (9.0, 9.5, 'plain')]
  assert cues[0].confidence == pytest.approx((4 * 1 + 5 * 0.5) / 9)
  assert cues[1].confidence is None
  assert written == 2


@pytest.mark.parametrize(
  ('times', 'expected'),
  [
    ('begin="00:00:01.500" end="00:00:02.000"', (1.5, 2.0)),
    ('begin="01:00:00" dur="2s"', (3600.0, 3602.0)),
    ('begin="00:00:01:12" end="00:00:02:00"', (1.48, 2.0)),
    ('begin="1500ms" end="0.05m"', (1.5, 3.0)),
    ('begin="50f" end="75f"', (2.0, 3.0)),
    ('begin="10000000t" end="20000000t"', (1.0, 2.0)),
    ('begin="soon" end="00:00:02.000"', None),
    ('begin="1s"', None),
  ],
)
def test_ttml_writes_times_in_many_ways(times, expected):
  text = (
    '<tt xmlns="http://www.w3.org/ns/ttml" xmlns:ttp="http://www.w3.org/ns/ttml#parameter" ttp:frameRate="25" '
    'ttp:tickRate="10000000"><body><div>'
    f'<p {times}>bend<br/>your <span>knees</span><!-- x --> now</p></div></body></tt>'
  )
  cues, written = read_timed_text(text)
  assert written == 1
  assert cues == ([Cue(*expected, 'bend\nyour knees now')] if expected else [])


@pytest.mark.parametrize(
  'head',
  [
    '<!DOCTYPE t [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]>',
    '<!DOCTYPE transcript SYSTEM "http://127.0.0.1/a.dtd">',
  ],
)
def test_entities_cannot_be_declared(head):
  with pytest.raises(ValueError, match='document type'):
    read_timed_text(f'{head}<transcript><text start="0">b</text></transcript>')


def test_depth_without_end_is_refused():
  deep = '<s>' * 5000 + 'x' + '</s>' * 5000
  with pytest.raises(ValueError, match='without end'):
    read_timed_text(f'<timedtext format="3"><body><p t="0" d="10">{deep}</p></body></timedtext>')


@pytest.mark.parametrize(('text', 'message'), [('<html/>', '<html>'), ('<transcript>', 'ends early'), ('', 'not XML')])
def test_other_files_are_refused(text, message):
  with pytest.raises(ValueError, match=message):
    read_timed_text(text)
