"""Sentences of captions that have no full stops, as recognised speech has none.

A language model puts punctuation in, and is believed only where it has changed no word. Without one, rules cut where
the speaker pauses, and before words that open a new thought. A pause is seen although automatic captions stay on the
screen until the next ones come: where words have times, from the last one on; else a cue that stands much longer than
its letters take to say ends with silence.
"""

from __future__ import annotations

import dataclasses
import functools
import re
import statistics
from collections.abc import Sequence

from crosstrainer_jax.curation import prompts
from crosstrainer_jax.discovery.asking import Asker
from crosstrainer_jax.discovery.language_model import Answer, Unreadable
from crosstrainer_jax.input.captions import sentences
from crosstrainer_jax.input.cues import Cue, mean_confidence

# Raise it when the rules come to other sentences.
BY = 'rules:1'
# Seconds of silence that end a sentence; where no times of words are known it must be longer, since speed varies.
PAUSE, UNSURE_PAUSE = 0.3, 0.7
# Seconds that the last word takes: a beginning, and each letter.
_ONSET, _LETTER = 0.1, 0.045
# Words of a sentence: before fewer no opener cuts, after more the longest pause does.
FEWEST, MOST = 6, 30
# A line is said as fast as the quickest tenth of the video's; slower ones hold a pause.
_QUICK = 0.9
# Lines this short tell nothing of the speed.
_LETTERS = 12
_OPENERS = frozenset({'so', 'now', 'okay', 'ok', 'alright', 'next', 'finally'})
# After an opener these show that the sentence goes on: "so that", "next to".
_GOES_ON = frozenset({'that', 'to', 'you', 'your', 'it'})
_STOP = re.compile(r'[.!?…]')
_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
# Words that a model is asked about at once.
_CHUNK = 150


@dataclasses.dataclass(frozen=True)
class _Word:
  text: str
  start: float
  end: float
  confidence: float | None
  silence: float  # after it
  pause: bool = False


def has_full_stops(cues: Sequence[Cue]) -> bool:
  """Whether sentences can be told by what is written: one full stop at least for every `MOST` words."""
  words = sum(len(cue.text.split()) for cue in cues)
  return sum(len(_STOP.findall(cue.text)) for cue in cues) * MOST >= words > 0


def restore(cues: Sequence[Cue]) -> list[Cue]:
  """Sentences by pauses and openers; the first letter becomes a capital, and a full stop is put behind each."""
  return _cut(_words(cues))


def _cut(words: Sequence[_Word]) -> list[Cue]:
  found: list[Cue] = []
  begun = 0
  while begun < len(words):
    end = _end(words, begun)
    found.append(_sentence(words[begun:end], ' '.join(word.text for word in words[begun:end])))
    begun = end
  return found


def restore_by_model(cues: Sequence[Cue], asker: Asker) -> tuple[list[Cue], int]:
  """Sentences as a language model punctuates them, where it changes no word, else by rules; and how many words of these
  nobody answered about.
  """
  words = _words(cues)
  found: list[Cue] = []
  unread = 0
  prompt = prompts.load('punctuate')
  for part in _chunks(words):
    question = prompt.filled(narration=' '.join(word.text for word in part))
    (answer,) = asker.ask([question], functools.partial(_read, words=part))
    if isinstance(answer, Unreadable):
      unread += 0 if answer.answered else len(part)
      found += _cut(part)
      continue
    spans = [Cue(word.start, word.end, text, word.confidence) for word, text in zip(part, answer, strict=True)]
    found += sentences(spans)
  return found, unread


def _read(answer: Answer, words: Sequence[_Word]) -> list[str]:
  """The words of an answer with their punctuation. Raises Unreadable where they are not those that were asked about."""
  joined = _tokens(prompts.plain(answer))
  if [_bare(token) for token in joined] != [_bare(word.text) for word in words]:
    raise Unreadable('the words are not those of the transcript')
  return joined


def _bare(token: str) -> str:
  return ''.join(_WORD.findall(token)).lower().replace('’', "'")


def _chunks(words: Sequence[_Word]) -> list[Sequence[_Word]]:
  """Parts of about `_CHUNK` words, cut at the longest pause of their last third."""
  parts = []
  begun = 0
  while len(words) - begun > _CHUNK:
    places = range(begun + 2 * _CHUNK // 3, begun + _CHUNK)
    cut = max(places, key=lambda place: words[place].silence) + 1
    parts.append(words[begun:cut])
    begun = cut
  return [*parts, words[begun:]] if begun < len(words) else parts


def _end(words: Sequence[_Word], begun: int) -> int:
  for place in range(begun, len(words)):
    if words[place].pause:
      return place + 1
    following, then = [word.text.lower() for word in [*words[place + 1 : place + 3], words[-1], words[-1]]][:2]
    if following in _OPENERS and then not in _GOES_ON and place + 1 - begun >= FEWEST:
      return place + 1
    if place + 1 - begun >= MOST:
      return max(range(begun + FEWEST, place + 1), key=lambda other: words[other].silence) + 1
  return len(words)


def _sentence(words: Sequence[_Word], text: str) -> Cue:
  confidence = mean_confidence([(word.confidence, len(word.text)) for word in words])
  return Cue(words[0].start, words[-1].end, f'{text[0].upper()}{text[1:]}.', confidence)


def _tokens(text: str) -> list[str]:
  """Words; a sign between blanks belongs to the word before it, or else behind it."""
  found: list[str] = []
  for token in text.split():
    if found and not (_WORD.search(token) and _WORD.search(found[-1])):
      found[-1] += f' {token}'
    else:
      found.append(token)
  return found


def _words(cues: Sequence[Cue]) -> list[_Word]:
  """All words with their times: within a cue by their letters, as fast as speech is, so that silence is left."""
  rates = sorted(len(cue.text) / (cue.end - cue.start) for cue in cues if len(cue.text) >= _LETTERS)
  quick = (rates or [15.0])[-1]
  if len(rates) > 1:
    quick = statistics.quantiles(rates, n=10, method='inclusive')[round(10 * _QUICK) - 1]
  words: list[_Word] = []
  for number, cue in enumerate(cues):
    following = cues[number + 1].start if number + 1 < len(cues) else cue.end
    tokens = _tokens(cue.text)
    took = min(cue.end - cue.start, len(cue.text) / quick)
    if cue.last_word is not None:
      spoken = cue.last_word + _ONSET + _LETTER * len(tokens[-1])
      took = max(0.1, min(following, spoken) - cue.start)
    enough = UNSURE_PAUSE if cue.last_word is None else PAUSE
    letters = sum(len(token) + 1 for token in tokens)
    at = cue.start
    for place, token in enumerate(tokens):
      end = at + took * (len(token) + 1) / letters
      last = place == len(tokens) - 1
      silence = max(following - end, 0.0) if last else 0.0
      words.append(_Word(token, at, end, cue.confidence, silence, silence >= enough))
      at = end
  return words
