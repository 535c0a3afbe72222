"""Voice-overs as text with times: captions in any of the usual formats → cues → sentences.

| files | read by |
|---|---|
| `.srt` `.vtt` `.sbv` | webvtt-py, with a count of what it drops |
| `.ttml` `.srv1` `.srv2` `.srv3` `.xml` | `timed_text` |
| `.json3`, `.json` of Whisper, lists of cues | `caption_json` |

Rolling captions, as video sites make them, show each line twice; the second showing is merged away.
"""

import io
import math
import os
import pathlib
import re
from typing import NamedTuple

import webvtt

from crosstrainer_jax.input.caption_json import read_json_captions
from crosstrainer_jax.input.cues import Cue, mean_confidence, tidy
from crosstrainer_jax.input.timed_text import read_timed_text

# Seconds. Automatic captions have no full stops: there a pause ends a sentence, or its length does.
_PAUSE = 1.0
_LONGEST = 12.0
# Cues of one rolling caption follow each other without a gap.
_ROLL_GAP = 0.15
# Bytes. Ten hours of json3 with a time for each word are below 10 MB.
_LARGEST = 64_000_000

_SENTENCE_END = re.compile(r'(?<=[.!?…])["\')\]]*\s+(?=[^a-z\s])')
_LANGUAGE = re.compile(r'^Language:\s*([\w-]+)\s*$', re.MULTILINE)
# Also such as cannot be read, to be counted.
_SBV_TIMES = re.compile(r'^\s*\d+:[^\s,]+,\d+:[^\s,]+\s*$', re.MULTILINE)

# Of rolling VTT: a time before each word but the first.
_WORD_TIMES = re.compile(r'<(\d+:\d\d:\d\d\.\d+)>')

_LINES = {'.srt': 'srt', '.vtt': 'vtt', '.sbv': 'sbv'}
_XML = ('.ttml', '.srv1', '.srv2', '.srv3', '.xml')
_JSON = ('.json3', '.json')
SUFFIXES = (*_LINES, *_XML, *_JSON)


class Captions(NamedTuple):
  """`cues` in order of time; `malformed` cues were dropped, `repeated` ones merged into their neighbours.

  `language` is what the file itself says of it, "" where it says nothing.
  """

  cues: list[Cue]
  malformed: int
  repeated: int
  language: str = ''


def read_captions(path: str | os.PathLike[str]) -> Captions:
  """Reads a file with one of `SUFFIXES`. Raises FileNotFoundError, and ValueError naming the file and the fix."""
  file = pathlib.Path(path)
  suffix = file.suffix.lower()
  if suffix not in SUFFIXES:
    known = f'{", ".join(_LINES)} or Whisper .json, or {", ".join(_XML)} or .json3'
    raise ValueError(f'{file}: captions must be {known}, not {file.suffix or "without a suffix"!r}')
  if not file.is_file():
    raise FileNotFoundError(f'{file}: no such captions file')
  if file.stat().st_size > _LARGEST:
    raise ValueError(f'{file}: larger than {_LARGEST / 1e6:.0f} MB, which no captions are')
  try:
    text = file.read_text('utf-8-sig')
  except UnicodeDecodeError as error:
    raise ValueError(f'{file}: not UTF-8 text; save the captions as UTF-8') from error
  language, rolling = '', True
  try:
    if suffix in _XML:
      cues, written = read_timed_text(text)
      # YouTube's own XML has each line once, and a line said twice is two cues.
      rolling = text.find('<timedtext') == text.find('<transcript') == -1
    elif suffix in _JSON:
      cues, written, language, rolling = read_json_captions(text)
    else:
      cues, written, language = _read_lines(text, _LINES[suffix])
  except ValueError as error:
    raise ValueError(f'{file}: {error}') from error
  valid = sorted((c for c in cues if c.text and 0 <= c.start < c.end < math.inf), key=lambda c: c[:3])
  merged = _merge_rolling(valid) if rolling else [c._replace(text=c.text.replace('\n', ' ')) for c in valid]
  return Captions(merged, max(0, written - len(valid)), len(valid) - len(merged), language)


def sentences(cues: list[Cue]) -> list[Cue]:
  """Joins cues into sentences: a full stop, a pause of a second or twelve seconds of speech end one.

  Inside a cue that ends one sentence and begins the next, time is shared out by the number of characters.
  """
  pieces = [piece for cue in cues for piece in _split(cue)]
  result: list[Cue] = []
  open_sentence = False
  for piece in pieces:
    last = result[-1] if result else None
    if last and open_sentence and piece.start - last.end < _PAUSE and piece.end - last.start <= _LONGEST:
      confidence = mean_confidence([(c.confidence, len(c.text)) for c in (last, piece)])
      result[-1] = Cue(last.start, piece.end, f'{last.text} {piece.text}', confidence)
    else:
      result.append(piece)
    open_sentence = not piece.text.rstrip('"\')]').endswith(('.', '!', '?', '…'))
  return result


def _split(cue: Cue) -> list[Cue]:
  parts = [p.strip() for p in _SENTENCE_END.split(cue.text) if p.strip()]
  total = sum(map(len, parts))
  pieces, start = [], cue.start
  for part in parts:
    end = start + (cue.end - cue.start) * len(part) / total
    pieces.append(Cue(start, end, part, cue.confidence))
    start = end
  return pieces


def _read_lines(text: str, kind: str) -> tuple[list[Cue], int, str]:
  """Cues (their lines still apart), how many lines of times the file has, and its language."""
  text = text if kind == 'vtt' else text.lstrip()
  try:
    captions = webvtt.from_buffer(io.StringIO(text), format=kind)
  except webvtt.errors.MalformedFileError as error:
    begins = {
      'vtt': 'must begin with the line WEBVTT',
      'srt': 'must begin with a cue: its number, then its times',
      'sbv': 'must begin with a cue: its times 0:00:01.000,0:00:02.000, then its text',
    }
    raise ValueError(f'not a {kind.upper()} file; it {begins[kind]}') from error
  cues = [
    Cue(_seconds(c.start), _seconds(c.end), tidy(c.text), None, _last_word(c.raw_text)) for c in captions.captions
  ]
  timings = _SBV_TIMES.findall(text) if kind == 'sbv' else [line for line in text.splitlines() if '-->' in line]
  said = _LANGUAGE.search(text.partition('-->')[0]) if kind == 'vtt' else None
  return cues, len(timings), said[1] if said else ''


def _last_word(text: str) -> float | None:
  stamps = _WORD_TIMES.findall(text)
  return _seconds(stamps[-1]) if stamps else None


def _seconds(stamp: str) -> float:
  hours, minutes, seconds = stamp.split(':')
  return int(hours) * 3600 + int(minutes) * 60 + float(seconds)


def _merge_rolling(cues: list[Cue]) -> list[Cue]:
  """Takes away the first lines of a cue that the one right before it has shown as its last; joins those left."""
  result: list[Cue] = []
  shown: list[str] = []
  shown_until = float('-inf')
  for cue in cues:
    lines = cue.text.split('\n')
    fresh = lines[_overlap(shown, lines) :] if cue.start - shown_until <= _ROLL_GAP else lines
    if fresh:
      result.append(cue._replace(text=' '.join(fresh)))
    else:
      result[-1] = result[-1]._replace(end=max(result[-1].end, cue.end))
    shown, shown_until = lines, cue.end
  return result


def _overlap(shown: list[str], lines: list[str]) -> int:
  """How many of the first `lines` are the last that were `shown`."""
  return max((n for n in range(1, min(len(shown), len(lines)) + 1) if shown[-n:] == lines[:n]), default=0)
