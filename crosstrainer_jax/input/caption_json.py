"""Captions in JSON: json3 of YouTube, Whisper's transcripts and plain lists, told apart by what they hold.

| format | a cue |
|---|---|
| json3 | `{"events": [{"tStartMs", "dDurationMs", "segs": [{"utf8", "tOffsetMs", "acAsrConf"}]}]}` |
| Whisper | `{"segments": [{"start", "end", "text", "avg_logprob", "no_speech_prob"}], "language"}` |
| Whisper | `{"segments": {"0": [start, end, text]}}` |
| list | `[{"start", "end" or "duration", "text"}]` |

Events of json3 without `segs`, or with the end of a line alone, place the others on the screen and are no cues.
`acAsrConf` is written as a share of 1 or of 255; 0 stands for a confidence that was not worked out. Whisper's
confidence is exp(avg_logprob) · (1 − no_speech_prob): that the words are right, and that there is speech at all.
"""

import json
import math
from collections.abc import Mapping
from typing import Any

from crosstrainer_jax.input.cues import Cue, mean_confidence, one_at_a_time, tidy


def read_json_captions(text: str) -> tuple[list[Cue], int, str, bool]:
  """Cues (not yet checked), how many the file has, its language ("" where unsaid), and whether lines may be rolling.

  Raises:
    ValueError: the text is none of these formats; the message says what is missing.
  """
  try:
    content = json.loads(text)
  except json.JSONDecodeError as error:
    raise ValueError(f'not JSON (line {error.lineno}: {error.msg})') from error
  except RecursionError as error:
    raise ValueError('not captions: brackets within brackets without end') from error
  if isinstance(content, dict) and isinstance(content.get('events'), list):
    cues, written = _events(content['events'])
    return cues, written, '', False
  segments = content.get('segments') if isinstance(content, dict) else content
  if isinstance(segments, dict):
    segments = list(segments.values())
  if not isinstance(segments, list):
    raise ValueError(
      "no list 'segments' (Whisper) or 'events' (json3) in it; write it with `whisper --output_format json`"
    )
  language = content.get('language') if isinstance(content, dict) else ''
  cues = [cue for cue in map(_segment, segments) if cue is not None]
  return cues, len(segments), language if isinstance(language, str) else '', True


def _events(events: list[Any]) -> tuple[list[Cue], int]:
  cues, broken = [], 0
  for event in events:
    segments = event.get('segs') if isinstance(event, dict) else None
    if not isinstance(segments, list):
      continue
    words = [(segment, str(segment.get('utf8') or '')) for segment in segments if isinstance(segment, dict)]
    text = tidy(''.join(word for _, word in words))
    if not text:
      continue
    start, length = _number(event, 'tStartMs'), _number(event, 'dDurationMs')
    if start is None:
      broken += 1
      continue
    start += _number(next(segment for segment, word in words if word.strip()), 'tOffsetMs') or 0.0
    end = math.inf if length is None else (_number(event, 'tStartMs') or 0.0) + length
    confidence = mean_confidence([(_asr_confidence(segment), len(word)) for segment, word in words])
    offsets = [
      offset for segment, word in words if word.strip() and (offset := _number(segment, 'tOffsetMs')) is not None
    ]
    last = ((_number(event, 'tStartMs') or 0.0) + max(offsets)) / 1e3 if offsets else None
    cues.append(Cue(start / 1e3, end / 1e3, text, confidence, last))
  return one_at_a_time(cues), len(cues) + broken


def _asr_confidence(segment: Mapping[str, Any]) -> float | None:
  value = _number(segment, 'acAsrConf')
  if value is None or not 0 < value <= 255:
    return None
  return value if value <= 1 else value / 255


def _segment(segment: Any) -> Cue | None:
  if isinstance(segment, list) and len(segment) == 3:
    segment = dict(zip(('start', 'end', 'text'), segment, strict=True))
  if not isinstance(segment, dict) or not isinstance(segment.get('text'), str):
    return None
  start, end, length = (_number(segment, name) for name in ('start', 'end', 'duration'))
  if end is None and start is not None and length is not None:
    end = start + length
  if start is None or end is None:
    return None
  return Cue(start, end, tidy(segment['text']), _whisper_confidence(segment))


def _whisper_confidence(segment: Mapping[str, Any]) -> float | None:
  logprob, silence = _number(segment, 'avg_logprob'), _number(segment, 'no_speech_prob')
  if logprob is None:
    return None
  return math.exp(min(logprob, 0.0)) * (1 - min(max(silence or 0.0, 0.0), 1.0))


def _number(values: Mapping[str, Any], name: str) -> float | None:
  value = values.get(name)
  if isinstance(value, bool) or not isinstance(value, int | float | str):
    return None
  try:
    number = float(value)
  except (ValueError, OverflowError):
    return None
  return number if math.isfinite(number) else None
