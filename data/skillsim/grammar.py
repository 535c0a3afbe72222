"""Commentary from a grammar file: what an expert would say about a clip.

The file (`grammar.toml` describes its own format) holds the words; this module chooses and joins them. Which faults
are spoken of is the business of the expert: with noise, one is omitted or imagined now and then.
"""

import functools
import pathlib
import tomllib
import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from crosstrainer_jax.datasets.skillsim.faults import FAULTS, NAMES, Fault

if TYPE_CHECKING:
  from crosstrainer_jax.datasets.skillsim.world import Spec

DEFAULT = pathlib.Path(__file__).with_name('grammar.toml')
_SLOTS = ('action', 'moment', 'load', 'finish', 'implement', 'athlete')
_MIN_PHRASINGS = 8


@functools.cache
def load(path: pathlib.Path) -> dict[str, Any]:
  """A checked grammar file.

  Raises:
    FileNotFoundError: there is none at `path`.
    ValueError: a fault, direction, praise or slot is missing; the message lists all that are.
  """
  if not path.is_file():
    raise FileNotFoundError(f'No grammar file at {path}; give the path of a file shaped like {DEFAULT.name}.')
  words = tomllib.loads(path.read_text(encoding='utf-8'))
  missing = []
  for name, directions in FAULTS.items():
    for direction in directions:
      found = words.get('criticism', {}).get(name, {}).get(direction, {}).get('phrasings', [])
      if len(found) < _MIN_PHRASINGS:
        missing.append(f'[criticism."{name}"."{direction}"] has {len(found)} phrasings of {_MIN_PHRASINGS}')
    if not words.get('praise', {}).get(name, {}).get('phrasings'):
      missing.append(f'[praise."{name}"] has no phrasings')
  for sport, skills in words.get('words', {}).items():
    for skill, slots in skills.items():
      if skill != 'nouns' and set(slots) != set(_SLOTS):
        missing.append(f'[words."{sport}"."{skill}"] needs exactly the slots {", ".join(_SLOTS)}')
  for section, key in (
    ('words', None),
    ('praise', 'whole'),
    ('joins', 'turn'),
    ('joins', 'more'),
    ('joins', 'close'),
    ('degree', 'mild'),
  ):
    if section not in words or (key and not words[section].get(key)):
      missing.append(f'[{section}] {key or ""} is absent')
  if missing:
    raise ValueError(f'{path}: ' + '; '.join(missing))
  return words


def nouns(path: pathlib.Path = DEFAULT) -> dict[str, list[str]]:
  """The words of each sport that give it away, to mask them in text scores."""
  return {sport: list(skills['nouns']) for sport, skills in load(path)['words'].items()}


def heard(faults: Sequence[Fault], noise: float, rng: np.random.Generator) -> list[Fault]:
  """The faults that the expert speaks of: each omitted with probability `noise`, one imagined with half of it."""
  spoken = [fault for fault in faults if rng.uniform() >= noise]
  others = [name for name in NAMES if name not in {fault.name for fault in faults}]
  if rng.uniform() < noise / 2:
    name = others[rng.integers(len(others))]
    spoken.append(Fault(name, FAULTS[name][rng.integers(2)], 0.4))
  return [spoken[i] for i in rng.permutation(len(spoken))]


def render(
  spec: 'Spec', grammar_file: pathlib.Path | str = DEFAULT, noise: float = 0.0, rng: np.random.Generator | None = None
) -> str:
  """Commentary on the clip of `spec`; by default the choice of words follows from the clip's id."""
  words = load(pathlib.Path(grammar_file))
  rng = rng or np.random.default_rng(zlib.crc32(spec.clip_id.encode()))
  try:
    slots = dict(words['words'][spec.sport][spec.skill])
  except KeyError:
    raise ValueError(f'{grammar_file}: no [words."{spec.sport}"."{spec.skill}"]; add its slots.') from None
  slots['action_noun'] = slots['action'].removeprefix('the ')

  def pick(options: Sequence[str], fault: Fault | None = None) -> str:
    degree = words['degree']['strong' if fault and fault.severity > 0.65 else 'mild']
    text = options[int(rng.integers(len(options)))]
    return text.format(**slots, degree=degree[int(rng.integers(len(degree)))])

  spoken = heard(spec.faults, noise, rng)
  wrong = {fault.name for fault in spec.faults} | {fault.name for fault in spoken}
  right = [name for name in NAMES if name not in wrong]
  right = [right[i] for i in rng.permutation(len(right))]
  if not spoken:
    praise = [pick(words['praise']['whole'])]
    praise += [pick(words['praise'][name]['phrasings']) for name in right[: int(rng.integers(0, 3))]]
    return _sentences([praise[i] for i in rng.permutation(len(praise))])
  praise = [pick(words['praise'][name]['phrasings']) for name in right[: int(rng.choice(3, p=[0.35, 0.45, 0.2]))]]
  criticism = [pick(words['criticism'][f.name][f.direction]['phrasings'], f) for f in spoken]
  joined = [f'{pick(words["joins"]["more"])} {c}' if i and rng.uniform() < 0.6 else c for i, c in enumerate(criticism)]
  close = pick(words['joins']['close'])
  if not praise:
    return _sentences([*joined, close])
  if rng.uniform() < 0.25:
    return _sentences([*joined, *praise, close])
  turned = f'{pick(words["joins"]["turn"])} {joined[0]}'
  if rng.uniform() < 0.5:
    return _sentences([*praise[:-1], f'{praise[-1]}, {turned}', *joined[1:], close])
  return _sentences([*praise, turned, *joined[1:], close])


def _sentences(parts: Sequence[str]) -> str:
  whole = [part.strip().rstrip('.') for part in parts if part.strip()]
  return ' '.join(part[0].upper() + part[1:] + '.' for part in whole)
