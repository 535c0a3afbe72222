"""The prompts of attribute discovery: `instructions.toml`, or a file of one's own with the same three texts."""

from __future__ import annotations

import functools
import importlib.resources
import tomllib
from pathlib import Path

from crosstrainer_jax.discovery.language_model import Question
from crosstrainer_jax.discovery.prompt import Prompt

DEFAULT, CONDENSE = 'paper', 'condense'
_FIELDS = ('system', 'user', 'reminder')


class Instruction(Prompt):
  """A prompt about a comment, with the slots {sport} and {commentary}."""

  strict = False

  def question(self, commentary: str, sport: str) -> Question:
    """The question about one comment on a drill of `sport`; "" for a sport that is not known."""
    return self.filled(sport=sport.strip() or 'sports', commentary=commentary)


@functools.cache
def names() -> tuple[str, ...]:
  """The prompts for attributes that come with the package."""
  return tuple(name for name in _shipped() if name != CONDENSE)


def load(name: str) -> Instruction:
  """The prompt `name`, or that of a TOML file of one's own with `system`, `user` and `reminder`.

  Raises:
    ValueError: no such prompt, or a file that lacks something.
    FileNotFoundError: no such file.
  """
  if not name.endswith('.toml'):
    if name not in _shipped():
      raise ValueError(f'no prompt {name!r}; known: {", ".join(names())}, or a TOML file of your own')
    return Instruction(name, **_shipped()[name])
  path = Path(name)
  if not path.is_file():
    raise FileNotFoundError(f'{path}: no such prompt file')
  try:
    content = tomllib.loads(path.read_text(encoding='utf-8'))
  except ValueError as error:
    raise ValueError(f'{path}: not TOML ({error})') from error
  lacking = [field for field in _FIELDS if not isinstance(content.get(field), str)]
  if lacking or set(content) != set(_FIELDS):
    raise ValueError(f'{path}: a prompt file has the texts {", ".join(_FIELDS)} and nothing else')
  if '{commentary}' not in content['user']:
    raise ValueError(f'{path}: `user` does not hold {{commentary}}, so that the model would not see the comment')
  return Instruction(path.stem, **content)


@functools.cache
def _shipped() -> dict[str, dict[str, str]]:
  source = importlib.resources.files('crosstrainer_jax.discovery').joinpath('instructions.toml')
  return tomllib.loads(source.read_text(encoding='utf-8'))
