"""Voice-overs as text with times: SRT, WebVTT and Whisper's JSON → cues → sentences.

Parsing is webvtt-py's, with a count of what it drops. Rolling captions, as video sites make them, show each line twice;
the second showing is merged away.
"""

import html
import io
import json
import os
import pathlib
import re
from typing import NamedTuple

import webvtt

# Seconds. Automatic captions have no full stops: there a pause ends a sentence, or its length does.
_PAUSE = 1.0
_LONGEST = 12.0
# Cues of one rolling caption follow each other without a gap.
_ROLL_GAP = 0.15

_SENTENCE_END = re.compile(r'(?<=[.!?…])["\')\]]*\s+(?=[^a-z\s])')
_OVERRIDE = re.compile(r'\{\\[^}]*\}')  # positioning codes such as {\an8} in SRT


class Cue(NamedTuple):
  """`text` is spoken from `start` to `end` (seconds)."""

  start: float
  end: float
  text: str


class Captions(NamedTuple):
  """`cues` in order of time; `malformed` cues were dropped, `repeated` ones merged into their neighbours."""

  cues: list[Cue]
  malformed: int
  repeated: int


def read_captions(path: str | os.PathLike[str]) -> Captions:
  """Reads .srt, .vtt or Whisper .json. Raises FileNotFoundError, and ValueError naming the file and the fix."""
  file = pathlib.Path(path)
  parser = {'.srt': _read_srt, '.vtt': _read_vtt, '.json': _read_whisper}.get(file.suffix.lower())
  if parser is None:
    raise ValueError(f'{file}: captions must be .srt, .vtt or Whisper .json, not {file.suffix or "without a suffix"!r}')
  if not file.is_file():
    raise FileNotFoundError(f'{file}: no such captions file')
  try:
    text = file.read_text('utf-8-sig')
  except UnicodeDecodeError as error:
    raise ValueError(f'{file}: not UTF-8 text; save the captions as UTF-8') from error
  cues, written = parser(file, text)
  valid = sorted(c for c in cues if c.text and 0 <= c.start < c.end)
  merged = _merge_rolling(valid)
  return Captions(merged, written - len(valid), len(valid) - len(merged))


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
      result[-1] = Cue(last.start, piece.end, f'{last.text} {piece.text}')
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
    pieces.append(Cue(start, end, part))
    start = end
  return pieces


def _read_vtt(file: pathlib.Path, text: str) -> tuple[list[Cue], int]:
  return _read_webvtt(file, text, 'vtt')


def _read_srt(file: pathlib.Path, text: str) -> tuple[list[Cue], int]:
  return _read_webvtt(file, text.lstrip(), 'srt')


def _read_webvtt(file: pathlib.Path, text: str, kind: str) -> tuple[list[Cue], int]:
  """Cues (their lines still apart) and how many timing lines the file has."""
  try:
    captions = webvtt.from_buffer(io.StringIO(text), format=kind)
  except webvtt.errors.MalformedFileError as error:
    hint = 'must begin with the line WEBVTT' if kind == 'vtt' else 'must begin with a cue: its number, then its times'
    raise ValueError(f'{file}: not a {kind.upper()} file; it {hint}') from error
  cues = [Cue(_seconds(c.start), _seconds(c.end), _clean(c.text)) for c in captions.captions]
  return cues, sum('-->' in line for line in text.splitlines())


def _read_whisper(file: pathlib.Path, text: str) -> tuple[list[Cue], int]:
  try:
    content = json.loads(text)
  except json.JSONDecodeError as error:
    raise ValueError(f'{file}: not JSON (line {error.lineno}: {error.msg})') from error
  segments = content.get('segments') if isinstance(content, dict) else content
  if not isinstance(segments, list):
    raise ValueError(f"{file}: no list 'segments' in it; write it with `whisper --output_format json`")
  cues = []
  for segment in segments:
    try:
      cues.append(Cue(float(segment['start']), float(segment['end']), _clean(str(segment['text']))))
    except (KeyError, TypeError, ValueError):
      continue
  return cues, len(segments)


def _seconds(stamp: str) -> float:
  hours, minutes, seconds = stamp.split(':')
  return int(hours) * 3600 + int(minutes) * 60 + float(seconds)


def _clean(text: str) -> str:
  """Lines kept, markup and surplus blanks gone."""
  lines = (' '.join(html.unescape(_OVERRIDE.sub('', line)).split()) for line in text.splitlines())
  return '\n'.join(line for line in lines if line)


def _merge_rolling(cues: list[Cue]) -> list[Cue]:
  """Takes away the first lines of a cue that the one right before it has shown as its last; joins those left."""
  result: list[Cue] = []
  shown: list[str] = []
  shown_until = float('-inf')
  for cue in cues:
    lines = cue.text.split('\n')
    fresh = lines[_overlap(shown, lines) :] if cue.start - shown_until <= _ROLL_GAP else lines
    if fresh:
      result.append(Cue(cue.start, cue.end, ' '.join(fresh)))
    else:
      result[-1] = result[-1]._replace(end=max(result[-1].end, cue.end))
    shown, shown_until = lines, cue.end
  return result


def _overlap(shown: list[str], lines: list[str]) -> int:
  """How many of the first `lines` are the last that were `shown`."""
  return max((n for n in range(1, min(len(shown), len(lines)) + 1) if shown[-n:] == lines[:n]), default=0)
