"""The offline gates: what the words of a sentence, and the motion in its frames, tell without any model.

They were written for instructional videos in general, and cost nothing; how good they are is measured on the how-to
world (`docs/sportskills.md`), and on one's own videos by `curate audit`.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.resources
import re
import tomllib
from typing import Any

from crosstrainer_jax.curation.videos import Execution, Segment, Verdict
from crosstrainer_jax.discovery import rules as discovery_rules
from crosstrainer_jax.discovery.lexicon import LexiconDiscoverer

_CUES = importlib.resources.files('crosstrainer_jax.curation').joinpath('cues.toml')


def _fingerprint() -> str:
  """Names the words, and the rules and words of discovery; raise its number where this file comes to other verdicts."""
  return hashlib.sha256(b'3' + _CUES.read_bytes() + discovery_rules.fingerprint().encode()).hexdigest()[:8]


# Whose verdicts these are.
BY = f'rules:{_fingerprint()}'
# Grey levels (of 255) that must change from frame to frame, the shake of a camera taken away. A person who speaks
# stays below, one who moves is above; set by hand-held and static shots of the embedded world's training clips.
LEAST_MOTION = 1.5
_FILLERS = discovery_rules.word_set('fillers')
_IMPERATIVES = discovery_rules.word_set('imperatives')


@functools.cache
def _cues() -> dict[str, Any]:
  content = tomllib.loads(_CUES.read_text(encoding='utf-8'))
  return {
    name: frozenset(value.split()) if isinstance(value, str) else [re.compile(pattern) for pattern in value]
    for name, value in content.items()
  }


def _found(kind: str, text: str) -> str:
  """The words of a cue of that kind, '' for none."""
  return next((match[0] for pattern in _cues()[kind] if (match := pattern.search(text))), '')


def actionable(sentence: str) -> Verdict:
  """Whether a learner could act on a sentence: it demands something, speaks of the body, or names a mistake."""
  text = ' '.join(sentence.lower().replace('’', "'").split())
  if said := _found('talk', text):
    return Verdict(False, f'a greeting or an advert: “{said}”', BY)
  if said := _found('story', text):
    return Verdict(False, f'a story: “{said}”', BY)
  words = re.findall(r"[a-z']+", text)
  parts = [word for word in words if word in _cues()['body']]
  demand = _found('demand', text) or _imperative(text)
  if demand:
    return Verdict(True, f'a demand: “{demand}”', BY)
  if parts:
    return Verdict(True, f'speaks of the body: “{parts[0]}”', BY)
  if said := _found('wrong', text):
    return Verdict(True, f'names a mistake: “{said}”', BY)
  return Verdict(False, 'neither a demand nor the body', BY)


def demonstrated(segment: Segment) -> tuple[Verdict, Execution]:
  """Whether a segment, which was looked at, shows what is said, and how.

  Words that point at something else count against it, words that point at the picture for it; without motion nothing
  is shown whatever is said.
  """
  text = ' '.join(segment.narration.lower().replace('’', "'").split())
  motion = segment.motion or 0.0
  if motion < LEAST_MOTION:
    return Verdict(False, f'hardly anything moves ({motion:.1f})', BY), 'none'
  pointing, elsewhere = _found('shown', text), _found('told', text)
  if elsewhere and not pointing:
    return Verdict(False, f'speaks of another time: “{elsewhere}”', BY), 'none'
  wrong = _found('wrong', text)
  reason = f'it moves ({motion:.1f})' + (f', “{pointing}”' if pointing else '')
  if wrong:
    return Verdict(True, f'{reason}, a mistake: “{wrong}”', BY), 'incorrect'
  if _found('demand', text) or _imperative(text):
    return Verdict(True, reason, BY), 'correct'
  # A description without a demand: of what goes wrong where the lexicon reads a fault in it and nothing good.
  found = _lexicon().discover(segment.narration)
  if found.incorrect and not found.correct and not pointing:
    return Verdict(True, f'{reason}, a fault: {found.incorrect[0]}', BY), 'incorrect'
  return Verdict(True, reason, BY), 'correct'


@functools.cache
def _lexicon() -> LexiconDiscoverer:
  return LexiconDiscoverer()


def _imperative(text: str) -> str:
  """The verb in its plain form that a part of the sentence begins with, '' for none."""
  for part in re.split(r'[,;:.!?]| and | then | by ', text):
    words = re.findall(r"[a-z']+", part)
    while words and words[0] in _FILLERS:
      words = words[1:]
    if words and (words[0] in _IMPERATIVES or words[0] in _cues()['verbs']):
      return words[0]
  return ''
