"""The words around a clip: the prompts of F_a and F_t, and skill-attributes as text (paper, section 3.3).

The templates, and which of their words are the paper's, are in `prompts.toml`. `serialize_attributes` and
`parse_attributes` are the only pair that turns a list of attributes into text and back.
"""

import functools
import importlib.resources
import random
import re
import string
import tomllib
from collections.abc import Iterable

VIDEO = '<video>'
EMPTY = 'none'
DEFAULT_K = 3

_SEPARATORS = re.compile(r'[,;|\n，、；]|(?<=\s)\(?\d{1,2}[.):](?=\s)')
_BULLETS = re.compile(r'^(?:(?:\(?\d{1,2}[.):](?=\s)|[-*•–·])\s*)+')
_EDGES = ' .!?:"\'`()[]{}'
_NOTHING = frozenset({EMPTY, 'nothing', 'n/a', 'na', 'nil', 'null', 'no', 'no faults', 'none needed'})


@functools.cache
def templates() -> dict[str, str]:
  """The prompts by task, with {sport}, {attributes} and {k} to be filled in; each holds `<video>` exactly once."""
  text = importlib.resources.files('crosstrainer_jax.input').joinpath('prompts.toml').read_text(encoding='utf-8')
  return tomllib.loads(text)


def attribute_prompt(sport: str, k: int = DEFAULT_K) -> str:
  """Prompt of F_a: asks for up to `k` attributes that are done incorrectly; holds `<video>` exactly once."""
  if k < 1:
    raise ValueError(f'k must be at least 1, got {k}: it is the largest number of attributes that F_a is asked for')
  return templates()['attributes'].format(sport=_sport(sport), k=k)


def feedback_prompt(sport: str, attributes: Iterable[str]) -> str:
  """Prompt of F_t: asks for feedback given the attributes of the first pass as text; holds `<video>` exactly once."""
  return templates()['feedback'].format(sport=_sport(sport), attributes=serialize_attributes(attributes))


def direct_prompt(sport: str) -> str:
  """Prompt of feedback in one stage, without attributes (the paper's "w/o two-stage"); holds `<video>` exactly once."""
  return templates()['direct'].format(sport=_sport(sport))


def unchanging(k: int = DEFAULT_K) -> list[str]:
  """The stretches of all prompts that are the same for every clip, without the space before what is filled in."""
  whole = [template.replace('{k}', str(k)) for template in templates().values()]
  stretches = (stretch.rstrip() for template in whole for stretch in re.split(r'<video>|\{[a-z]+\}', template))
  return [stretch for stretch in dict.fromkeys(stretches) if stretch]


@functools.cache
def invented_names(count: int = 64) -> tuple[str, ...]:
  """Names of sports that do not exist: what an unseen sport's name is to a decoder that starts from nothing.

  Short, since to a tokenizer that never read them they are hardly more than letters, as the true name is.
  """
  draw = random.Random(0)
  return tuple(''.join(draw.choices(string.ascii_lowercase, k=draw.randint(3, 6))) for _ in range(count))


def serialize_attributes(attributes: Iterable[str]) -> str:
  """`['Balance', 'knee bend']` -> `'balance, knee bend'`; `'none'` for an empty list.

  Lower case, in the given order without duplicates. A comma (or another separator) inside an attribute becomes a
  space, so that `parse_attributes` never finds more attributes than went in.
  """
  return ', '.join(_unique(_SEPARATORS.sub(' ', _plain(attribute)) for attribute in attributes)) or EMPTY


def parse_attributes(text: str) -> list[str]:
  """Inverse of `serialize_attributes` that forgives what a model writes.

  Numbering, bullets, line breaks, full stops, `None.`, empty items and repeats are dropped.
  """
  return _unique(_SEPARATORS.split(_plain(text)))


def list_rules() -> dict[str, str | list[str]]:
  """What `parse_attributes` goes by, as data for programs in which this module is not there."""
  return {
    'separators': _SEPARATORS.pattern,
    'bullets': _BULLETS.pattern,
    'edges': _EDGES,
    'nothing': sorted(_NOTHING),
    'empty': EMPTY,
  }


def _unique(attributes: Iterable[str]) -> list[str]:
  tidy = (_tidy(attribute) for attribute in attributes)
  return list(dict.fromkeys(attribute for attribute in tidy if attribute and attribute not in _NOTHING))


def _plain(text: str) -> str:
  # Angle brackets would let generated text forge a <video> placeholder or a special token.
  return re.sub(r'[<>]', ' ', text).lower()


def _tidy(attribute: str) -> str:
  attribute = ' '.join(attribute.split())
  before = None
  while attribute != before:  # Stripping one layer may lay another bare: "- 1. balance.".
    before = attribute
    attribute = _BULLETS.sub('', attribute).strip(_EDGES).removeprefix('and ')
  return attribute


def _sport(sport: str) -> str:
  if not sport.strip() or VIDEO in sport:
    raise ValueError(f'{sport!r} is no name of a sport: it must not be empty or contain {VIDEO}')
  return sport.strip()
