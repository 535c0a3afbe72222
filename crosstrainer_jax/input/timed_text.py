"""Captions in XML: TTML, and srv1, srv2 and srv3 of YouTube, told apart by their root and not by the file's name.

| format | a cue | times |
|---|---|---|
| srv1 | `<transcript><text start dur>` | seconds; the text holds escaped HTML |
| srv2 | `<timedtext><text t d append>` | milliseconds; `append` goes on with the cue before |
| srv3 | `<timedtext format="3"><body><p t d><s t ac>` | milliseconds; `ac` is a confidence from 0 to 255 |
| TTML | `<tt><body><div><p begin end dur>` | clock (`00:01:02.500`, with frames `00:01:02:12`) or offset (`62.5s`) |

Files come from strangers: a document type, in which alone entities can be declared, is refused, and so is depth without
end.
"""

import html
import math
import re
from collections.abc import Iterator
from xml.etree import ElementTree

from crosstrainer_jax.input.cues import Cue, mean_confidence, one_at_a_time, tidy

_TAG = re.compile(r'</?[A-Za-z][^<>]*>')
_CLOCK = re.compile(r'(\d+):([0-5]\d):([0-5]\d(?:\.\d+)?)(?::(\d+)(?:\.\d+)?)?')
_OFFSET = re.compile(r'(\d+(?:\.\d+)?)(h|ms|m|s|f|t)')
# Elements within elements; captions have six.
_DEEPEST = 32
_SECONDS = {'h': 3600.0, 'm': 60.0, 's': 1.0, 'ms': 1e-3}


def read_timed_text(text: str) -> tuple[list[Cue], int]:
  """Cues (their lines still apart, and not yet checked), and how many the file has.

  Raises:
    ValueError: the text is none of these formats; the message says what it is instead.
  """
  if '<!DOCTYPE' in text or '<!ENTITY' in text:
    raise ValueError('it declares a document type, which captions have not; save the captions again as .vtt')
  try:
    root = ElementTree.fromstring(text)
  except (ElementTree.ParseError, ValueError, RecursionError) as error:
    raise ValueError(f'not XML, or it ends early ({error}); fetch the captions again') from error
  if _depth(root) > _DEEPEST:
    raise ValueError('not captions: elements within elements without end')
  name = _local(root.tag)
  if name == 'transcript':
    found = [_srv1(element) for element in root.iter() if _local(element.tag) == 'text']
  elif name == 'timedtext' and any(_local(e.tag) == 'p' for e in root.iter()):
    found = [_srv3(element) for element in root.iter() if _local(element.tag) == 'p']
  elif name == 'timedtext':
    found = _srv2(root)
  elif name == 'tt':
    rates = _Rates(root)
    return _checked([_ttml(element, rates) for element in root.iter() if _local(element.tag) == 'p'])
  else:
    raise ValueError(f'its root is <{name}>; captions begin with <transcript>, <timedtext> or <tt>')
  cues, written = _checked(found)
  return one_at_a_time(cues), written


def _checked(found: list[Cue | None]) -> tuple[list[Cue], int]:
  """The cues with readable times; those without words are on the screen for its layout, and count as not written."""
  cues = [cue for cue in found if cue is not None and cue.text]
  return cues, len(cues) + sum(cue is None for cue in found)


def _srv1(element: ElementTree.Element) -> Cue | None:
  start, length = _number(element, 'start'), _number(element, 'dur')
  # Escaped twice: XML hands out HTML.
  text = tidy(_TAG.sub('', html.unescape(_text(element))))
  return None if start is None else Cue(start, start + (math.inf if length is None else length), text)


def _srv2(root: ElementTree.Element) -> list[Cue | None]:
  found: list[Cue | None] = []
  for element in root.iter():
    if _local(element.tag) != 'text':
      continue
    start, length = _number(element, 't', 1e-3), _number(element, 'd', 1e-3)
    words = html.unescape(_text(element))
    last = found[-1] if found else None
    if element.get('append') == '1' and last and start is not None:
      end = last.end if length is None else max(last.end, start + length)
      found[-1] = last._replace(end=end, text=f'{last.text}{words}')
    else:
      found.append(None if start is None else Cue(start, start + (math.inf if length is None else length), words))
  return [cue and cue._replace(text=tidy(_TAG.sub('', cue.text))) for cue in found]


def _srv3(element: ElementTree.Element) -> Cue | None:
  start, length = _number(element, 't', 1e-3), _number(element, 'd', 1e-3)
  words = [(_number(s, 'ac', 1 / 255), len(_text(s))) for s in element if _local(s.tag) == 's']
  # 0 stands for a confidence that was not worked out.
  confidence = mean_confidence([(c or None, n) for c, n in words])
  end = math.inf if start is None or length is None else start + length
  return None if start is None else Cue(start, end, tidy(_text(element)), confidence)


class _Rates:
  """What a TTML file counts frames and ticks by."""

  def __init__(self, root: ElementTree.Element):
    given = {_local(name): value for name, value in root.attrib.items()}
    self.frames = _positive(given.get('frameRate'), 30.0)
    self.ticks = _positive(given.get('tickRate'), self.frames if 'frameRate' in given else 1.0)

  def seconds(self, value: str | None) -> float | None:
    """A time expression (TTML1, section 10.3.1) in seconds; None where it is absent or no time."""
    clock, offset = _CLOCK.fullmatch((value or '').strip()), _OFFSET.fullmatch((value or '').strip())
    if clock:
      hours, minutes, seconds, frames = clock.groups()
      return int(hours) * 3600 + int(minutes) * 60 + float(seconds) + int(frames or 0) / self.frames
    if offset:
      scale = _SECONDS | {'f': 1 / self.frames, 't': 1 / self.ticks}
      return float(offset[1]) * scale[offset[2]]
    return None


def _ttml(element: ElementTree.Element, rates: _Rates) -> Cue | None:
  start, end, length = (rates.seconds(element.get(name)) for name in ('begin', 'end', 'dur'))
  if end is None and start is not None and length is not None:
    end = start + length
  return None if start is None or end is None else Cue(start, end, tidy(_text(element)))


def _text(element: ElementTree.Element) -> str:
  """All words below an element; <br/> is the end of a line."""

  def pieces(item: ElementTree.Element) -> Iterator[str]:
    yield '\n' if _local(item.tag) == 'br' else item.text or ''
    for child in item:
      yield from pieces(child)
      yield child.tail or ''

  return ''.join(pieces(element))


def _depth(root: ElementTree.Element) -> int:
  """Levels of elements; as many as would be too many, where there are more."""
  level, depth = [root], 0
  while level and depth <= _DEEPEST:
    level, depth = [child for element in level for child in element], depth + 1
  return depth


def _local(tag: object) -> str:
  """A name without its namespace; '' for a comment."""
  return tag.rpartition('}')[2] if isinstance(tag, str) else ''


def _number(element: ElementTree.Element, name: str, scale: float = 1.0) -> float | None:
  try:
    value = float(element.get(name, 'nan')) * scale
  except ValueError:
    return None
  return value if math.isfinite(value) else None


def _positive(text: str | None, default: float) -> float:
  try:
    value = float(text or 'nan')
  except ValueError:
    return default
  return value if math.isfinite(value) and value > 0 else default
