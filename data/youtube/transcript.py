"""What is said in a video: which of its captions to trust, and their sentences.

Captions are tried in this order: written by people, then recognised in the language that is spoken; of those the format
that keeps the most (json3 has a confidence for each word); last Whisper's transcript. A file is lost, with its reason,
where it

- cannot be read, or is a machine's translation of what is said;
- runs on after the end of the video: its last cue begins more than `max_drift` seconds after it, as captions of a
  longer cut do;
- drifts from Whisper, where a transcript is there: phrases of three words that occur once in either are compared, and
  the median of the time between them is above `max_drift`; or hardly any phrase is in both.

Cues of sounds ("[Music]", "♪ …") are lost, and sentences whose recognition is less sure than `min_confidence`.
"""

import dataclasses
import pathlib
import re
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from crosstrainer_jax.datasets.manifest.rows import resolve
from crosstrainer_jax.datasets.takes.take import Lose, Loss
from crosstrainer_jax.datasets.youtube.folder import CaptionFile, Download, language_of, tags, text
from crosstrainer_jax.input import captions
from crosstrainer_jax.input.captions import Captions, Cue

# Reasons of losses.
NO_CAPTIONS = 'no captions'
OTHER_LANGUAGE = 'captions in another language'
TRANSLATED = 'captions translated by a machine'
UNREADABLE = 'captions that cannot be read'
OVERRUN = 'captions run on after the end of the video'
DRIFT = 'captions drift from Whisper'
OTHER_WORDS = 'captions have other words than Whisper'
SOUND = 'a sound and no speech'
UNSURE = 'recognition too unsure'
SILENT = 'no speech in its captions'
UNUSABLE = 'none of its captions can be used'

_BEST_FIRST = ('.json3', '.srv3', '.vtt', '.ttml', '.srv2', '.srv1', '.xml', '.srt', '.sbv')
# "[Music]", "[ __ ]" for a word that may not be shown, "♪ la la ♪"; round brackets only where they are all of the cue,
# since people write their own words in them.
_SOUND = re.compile(r'\[[^][]*\]|♪[^♪]*♪?|^\s*\([^)]*\)\s*$')
_SPEAKER = re.compile(r'^\s*>>+\s*')
_WORD = re.compile(r"\w[\w'’]*")
_PHRASE = 3
# Phrases in common below which nothing is said about drift, or about the words.
_FEWEST = 5
_ENOUGH, _SHARE = 50, 0.05


@dataclasses.dataclass(frozen=True)
class Limits:
  """`languages` are those to take; `min_confidence` from 0 to 1; `max_drift` in seconds."""

  languages: tuple[str, ...] = ('en',)
  min_confidence: float = 0.4
  max_drift: float = 2.0

  def __post_init__(self) -> None:
    if not self.languages:
      raise ValueError('languages: name at least one, for example en')
    if not 0 <= self.min_confidence <= 1:
      raise ValueError(f'min_confidence {self.min_confidence} must be from 0 to 1')
    if not self.max_drift > 0:
      raise ValueError(f'max_drift {self.max_drift} must be seconds above 0')


class Drift(NamedTuple):
  """How two transcripts lie to each other: phrases in common, and the median of the seconds between them."""

  phrases: int
  possible: int
  seconds: float


class Transcript(NamedTuple):
  """The sentences of a video and the file that they are from."""

  path: str
  sentences: list[Cue]


def transcript(
  download: Download,
  info: Mapping[str, Any],
  name: str,
  root: str,
  limits: Limits,
  lose: Lose,
  split: Callable[[list[Cue]], list[Cue]] = captions.sentences,
) -> Transcript | None:
  """What is said in a video that its losses call `name`, or None where nothing can be trusted.

  Args:
    split: cues without sounds -> sentences.
  """
  duration = info.get('duration')
  length = float(duration) if isinstance(duration, int | float) and not isinstance(duration, bool) else None
  heard = _heard(download, root, limits, lose)
  chosen, path = None, ''
  for file in _candidates(download.captions, info, limits, lose):
    chosen = _read(root, file.path, lose)
    if chosen and _fits(chosen, file.path, heard, length, limits, lose):
      path = file.path
      break
    chosen = None
  if chosen is None and heard and _fits(heard, str(download.whisper), None, length, limits, lose):
    chosen, path = heard, str(download.whisper)
  if chosen is None:
    there = download.captions or download.whisper
    lose(Loss('video', name, UNUSABLE if there else NO_CAPTIONS, ', '.join(f.tag or f.path for f in download.captions)))
    return None
  said = []
  for number, sentence in enumerate(split(_speech(chosen.cues, name, lose))):
    if sentence.confidence is not None and sentence.confidence < limits.min_confidence:
      lose(Loss('sentence', f'{name}/{number:04d}', UNSURE, f'{sentence.confidence:.2f}: {sentence.text}'))
    else:
      said.append(sentence)
  if not said:
    lose(Loss('video', name, SILENT, path))
  return Transcript(path, said) if said else None


def spoken_language(info: Mapping[str, Any]) -> str:
  """The language of the video, as the site says it; '' where it does not."""
  original = [tag for tag in sorted(tags(info, 'automatic_captions')) if tag.endswith('-orig')]
  return language_of(text(info, 'language') or (original[0] if original else ''))


def _candidates(
  files: Sequence[CaptionFile], info: Mapping[str, Any], limits: Limits, lose: Lose
) -> Iterable[CaptionFile]:
  """Captions to try, the best first."""
  written, spoken = tags(info, 'subtitles'), spoken_language(info)
  good = []
  for file in files:
    by_people = file.tag in written
    if file.tag and file.language not in limits.languages:
      lose(Loss('captions', file.path, OTHER_LANGUAGE, file.tag))
    elif file.tag and not by_people and spoken and file.language != spoken:
      lose(Loss('captions', file.path, TRANSLATED, f'{file.tag} of {spoken}'))
    else:
      suffix = pathlib.PurePosixPath(file.path).suffix.lower()
      good.append((not by_people, not file.tag.endswith('-orig'), _BEST_FIRST.index(suffix), file.path, file))
  return [file for *_, file in sorted(good, key=lambda entry: entry[:4])]


def _heard(download: Download, root: str, limits: Limits, lose: Lose) -> Captions | None:
  """Whisper's transcript, where it is of a chosen language."""
  found = _read(root, download.whisper, lose) if download.whisper else None
  if found and found.language and language_of(found.language) not in limits.languages:
    lose(Loss('captions', str(download.whisper), OTHER_LANGUAGE, found.language))
    return None
  return found


def _read(root: str, path: str, lose: Lose) -> Captions | None:
  try:
    found = captions.read_captions(resolve(root, path))
  except (ValueError, OSError) as error:
    lose(Loss('captions', path, UNREADABLE, str(error)))
    return None
  if not found.cues:
    lose(Loss('captions', path, SILENT))
    return None
  return found


def _fits(found: Captions, path: str, heard: Captions | None, length: float | None, limits: Limits, lose: Lose) -> bool:
  """Whether captions are of this video and in time with it."""
  last = max(cue.start for cue in found.cues)
  if length is not None and last > length + limits.max_drift:
    lose(Loss('captions', path, OVERRUN, f'a cue begins at {last:.1f} s of {length:.1f} s'))
    return False
  if heard is None:
    return True
  lag = drift(found.cues, heard.cues)
  if lag.possible >= _ENOUGH and lag.phrases < _SHARE * lag.possible:
    lose(Loss('captions', path, OTHER_WORDS, f'{lag.phrases} phrases of {lag.possible} in common'))
    return False
  if lag.phrases >= _FEWEST and lag.seconds > limits.max_drift:
    lose(Loss('captions', path, DRIFT, f'{lag.seconds:.1f} s over {lag.phrases} phrases'))
    return False
  return True


def drift(one: Sequence[Cue], other: Sequence[Cue]) -> Drift:
  """Compares two transcripts by the phrases of three words that occur once in each."""
  first, second = _phrases(one), _phrases(other)
  gaps = [abs(first[phrase] - second[phrase]) for phrase in first.keys() & second.keys()]
  return Drift(len(gaps), min(len(first), len(second)), statistics.median(gaps) if gaps else 0.0)


def _phrases(cues: Sequence[Cue]) -> dict[tuple[str, ...], float]:
  """Phrases that occur once, with their time; within a cue words are spread by their letters."""
  words, times = [], []
  for cue in cues:
    for found in _WORD.finditer(cue.text):
      words.append(found[0].lower())
      times.append(cue.start + (cue.end - cue.start) * found.start() / len(cue.text))
  phrases = [tuple(words[i : i + _PHRASE]) for i in range(len(words) - _PHRASE + 1)]
  counts = Counter(phrases)
  return {phrase: time for phrase, time in zip(phrases, times, strict=False) if counts[phrase] == 1}


def _speech(cues: Sequence[Cue], name: str, lose: Lose) -> list[Cue]:
  """Cues without sounds and marks of speakers."""
  spoken = []
  for cue in cues:
    words = ' '.join(_SPEAKER.sub('', _SOUND.sub(' ', cue.text)).split())
    if _WORD.search(words):
      spoken.append(cue._replace(text=words))
    else:
      lose(Loss('cue', f'{name} at {cue.start:.2f} s', SOUND, cue.text))
  return spoken
