"""Reads the two lines that a language model is asked for: Correct and Incorrect, each with concepts.

What models write around them is forgiven: thoughts, Markdown, numbering, a heading with its list below it, other
dashes, either order, or a JSON object of the two. What is no list of concepts is not: a missing line, sentences, the
form itself sent back.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.resources
import json
import re

from crosstrainer_jax.discovery.backend import Attributes
from crosstrainer_jax.discovery.language_model import Answer, Unreadable
from crosstrainer_jax.input import prompts

# A concept is a word or a short phrase; what is longer is a sentence.
MOST_WORDS = 8
# More than any remark is about: a model that repeats itself.
MOST_CONCEPTS = 30

_THOUGHTS = re.compile(r'<(think|thinking|reasoning)>.*?</\1>', re.DOTALL | re.IGNORECASE)
_OPEN_THOUGHT = re.compile(r'<(think|thinking|reasoning)>', re.IGNORECASE)
_HEADING = re.compile(
  r'^[\W_\d]*(?P<name>correct|incorrect)(?:ly)?\b(?:[ _]*(?:concepts?|line|aspects?|executed|done|phrases?))*'
  r'[*_`"\s]*(?:\([^)]*\))?[*_`"\s]*(?:[:=–—-]+[>*_`"\s]*(?P<rest>.*)|$)',
  re.IGNORECASE,
)
# "Correct - … Incorrect - …" on one line
_BESIDE = re.compile(r'(?<=\S)[ \t]+(?=[*_]*(?:Correct|Incorrect)[*_]*\s?[:–—-])')
_OBJECT = re.compile(r'\{.*\}', re.DOTALL)
_NOTHING = re.compile(
  r'(?:none|nothing|no|not|n/a)'
  r'(?: (?:any|of|in|the|this|concepts?|aspects?|faults?|errors?|issues?|incorrect|correct|execution|specifically|'
  r'explicitly|mentioned|noted|named|stated|specified|identified|listed|given|found|provided|applicable|was|were|are|is|by|expert|'
  r'transcript|commentary))*'
)
_PLACEHOLDER = re.compile(
  r'(?:the )?(?:short )?(?:comma[- ]separated )?(?:concepts?|phrases?|aspects?)(?: separated by commas)?|…|\.\.\.|'
  r'separated by commas|phrases the expert (?:approves of|wants changed)'
)


def read(answer: Answer) -> Attributes:
  """The attributes of an answer.

  A concept in both lists is kept as incorrect: the expert asks for a change of it.

  Raises:
    Unreadable: the answer is cut, refused, or not in the form that was asked for; the message says what is wrong.
  """
  text = _THOUGHTS.sub('', answer.whole())
  if _OPEN_THOUGHT.search(text):
    raise Unreadable('nothing but thoughts')
  if not text.strip():
    raise Unreadable('an empty answer')
  lists = _from_object(text) or _from_lines(text)
  missing = [name for name in ('correct', 'incorrect') if name not in lists]
  if missing:
    raise Unreadable(f'no line {" and no line ".join(name.capitalize() for name in missing)}: {_shown(text)}')
  correct, incorrect = (_concepts(lists[name], text) for name in ('correct', 'incorrect'))
  return Attributes([concept for concept in correct if concept not in incorrect], incorrect)


@functools.cache
def fingerprint() -> str:
  """Hash of the rules by which an answer is read: attributes of other rules are not taken for these."""
  source = importlib.resources.files('crosstrainer_jax.discovery').joinpath('two_lines.py').read_bytes()
  return hashlib.sha256(source).hexdigest()[:10]


def _from_lines(text: str) -> dict[str, str]:
  """What stands behind each heading and on the lines below it. The last of equal headings counts: drafts come first."""
  found: dict[str, str] = {}
  current = ''
  for line in _BESIDE.sub('\n', text).splitlines():
    heading = _HEADING.match(line)
    if heading:
      current = heading['name'].lower()
      found[current] = heading['rest'] or ''
    elif current and re.match(r'\s*(?:[-*•–·]|\(?\d{1,2}[.):])\s*\S', line):
      found[current] += f'\n{line}'
    elif line.strip(' `') and current:
      if not found[current].strip() or found[current].rstrip().endswith(','):
        found[current] += f' {line}'
      else:  # a remark behind the list
        current = ''
  return found


def _from_object(text: str) -> dict[str, str]:
  """The two lists of a JSON object; {} where there is none."""
  match = _OBJECT.search(text)
  if match is None:
    return {}
  try:
    content = json.loads(match[0])
  except ValueError:
    return {}
  found = {}
  for name, value in content.items() if isinstance(content, dict) else ():
    if name.lower() in ('correct', 'incorrect'):
      found[name.lower()] = '\n'.join(map(str, value)) if isinstance(value, list) else str(value or '')
  return found


def _concepts(listed: str, text: str) -> list[str]:
  concepts = [
    concept for concept in prompts.parse_attributes(re.sub(r'[*_`]', '', listed)) if not _NOTHING.fullmatch(concept)
  ]
  if any(_PLACEHOLDER.fullmatch(concept) for concept in concepts):
    raise Unreadable(f'the form itself came back: {_shown(text)}')
  if len(concepts) > MOST_CONCEPTS:
    raise Unreadable(f'{len(concepts)} concepts on one line: {_shown(text)}')
  longest = max(concepts, key=lambda concept: len(concept.split()), default='')
  if len(longest.split()) > MOST_WORDS:
    raise Unreadable(f'a sentence in the place of a concept: “{_shown(longest)}”')
  return concepts


def _shown(text: str) -> str:
  """The beginning of a text on one line."""
  line = ' '.join(text.split())
  return line if len(line) <= 80 else f'{line[:80]}…'
