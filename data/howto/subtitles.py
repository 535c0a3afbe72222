"""Captions of a lesson, in the forms that video sites and people write them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from xml.sax.saxutils import escape

from crosstrainer_jax.datasets.howto.script import Piece

# Seconds after which a recogniser begins a new line.
_LINE = 2.4


def json3(pieces: Sequence[Piece], lag: float = 0.0) -> str:
  """Recognised speech as YouTube offers it: no capitals, no full stops, a time for every word."""
  events = []
  for line in _lines(pieces, lag):
    begin = line[0][0]
    words = [{'utf8': f'{" " if n else ""}{word}', 'tOffsetMs': _ms(at - begin), 'acAsrConf': 240}
             for n, (at, _, word) in enumerate(line)]  # fmt: skip
    # it stays on the screen while the next line rolls in
    events.append({'tStartMs': _ms(begin), 'dDurationMs': _ms(line[-1][1] - begin + 2), 'segs': words})
    events.append({'tStartMs': _ms(line[-1][1]), 'dDurationMs': 1000, 'aAppend': 1, 'segs': [{'utf8': '\n'}]})
  return json.dumps({'wireMagic': 'pb3', 'events': events})


def rolling_vtt(pieces: Sequence[Piece], lag: float = 0.0) -> str:
  """Recognised speech in two rolling lines: every line is shown twice."""
  blocks = ['WEBVTT\nKind: captions\nLanguage: en']
  before = ' '
  lines = _lines(pieces, lag)
  for line, following in zip(lines, [*lines[1:], None], strict=True):
    text = ' '.join(word for _, _, word in line)
    # it stays on the screen until the next one rolls in
    begin, end = line[0][0], following[0][0] if following else line[-1][1] + 1
    marked = line[0][2] + ''.join(f'<{_clock(at)}><c> {word}</c>' for at, _, word in line[1:])
    blocks += [
      f'{_clock(begin)} --> {_clock(end - 0.01)} align:start position:0%\n{before}\n{marked}',
      f'{_clock(end - 0.01)} --> {_clock(end)} align:start position:0%\n{text}\n ',
    ]
    before = text
  return '\n\n'.join(blocks) + '\n'


def srt(pieces: Sequence[Piece], lag: float = 0.0) -> str:
  """Captions by people: a sentence each, with capitals and full stops."""
  return '\n'.join(
    f'{n}\n{_clock(p.start + lag, ",")} --> {_clock(p.end + lag, ",")}\n{p.text}\n' for n, p in enumerate(pieces, 1)
  )


def srv1(pieces: Sequence[Piece], lag: float = 0.0) -> str:
  """The site's oldest XML."""
  lines = [
    f'<text start="{p.start + lag:.2f}" dur="{p.end - p.start:.2f}">{escape(escape(p.text))}</text>' for p in pieces
  ]
  return f'<?xml version="1.0" encoding="utf-8" ?><transcript>{"".join(lines)}</transcript>'


def whisper(pieces: Sequence[Piece], lag: float = 0.0) -> str:
  """A transcript that somebody made afterwards."""
  segments = [
    {'start': round(p.start + lag, 2), 'end': round(p.end + lag, 2), 'text': p.text, 'avg_logprob': -0.2,
     'no_speech_prob': 0.02} for p in pieces
  ]  # fmt: skip
  return json.dumps({'text': ' '.join(p.text for p in pieces), 'segments': segments, 'language': 'en'})


# Suffix -> (who wrote it, how).
FORMS: dict[str, tuple[str, Callable[..., str]]] = {
  'json3': ('recognised', json3),
  'vtt': ('recognised', rolling_vtt),
  'srt': ('people', srt),
  'srv1': ('people', srv1),
}


def _lines(pieces: Sequence[Piece], lag: float) -> list[list[tuple[float, float, str]]]:
  """(start, end, word) of recognised words, cut into lines where the speaker pauses or a line is full."""
  lines: list[list[tuple[float, float, str]]] = []
  for piece in pieces:
    words = piece.text.lower().rstrip('.').replace(',', '').split()
    letters = sum(len(word) + 1 for word in words)
    at = piece.start + lag
    line: list[tuple[float, float, str]] = []
    for word in words:
      end = at + (piece.end - piece.start) * (len(word) + 1) / letters
      if line and end - line[0][0] > _LINE:
        lines.append(line)
        line = []
      line.append((at, end, word))
      at = end
    lines.append(line)
  return lines


def _ms(seconds: float) -> int:
  return round(1000 * seconds)


def _clock(seconds: float, point: str = '.') -> str:
  whole, ms = divmod(_ms(max(seconds, 0.0)), 1000)
  return f'{whole // 3600:02d}:{whole // 60 % 60:02d}:{whole % 60:02d}{point}{ms:03d}'
