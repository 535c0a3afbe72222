"""The questions of curation, `prompts.toml`, and how answers are read."""

from __future__ import annotations

import functools
import importlib.resources
import re
import tomllib
from collections.abc import Sequence

from crosstrainer_jax.discovery.language_model import Answer, Unreadable
from crosstrainer_jax.discovery.prompt import Prompt

_THOUGHTS = re.compile(r'<(think|thinking|reasoning)>.*?(</\1>|$)', re.DOTALL | re.IGNORECASE)


@functools.cache
def load(name: str) -> Prompt:
  """The prompt of that name."""
  source = importlib.resources.files('crosstrainer_jax.curation').joinpath('prompts.toml')
  return Prompt(name, **tomllib.loads(source.read_text(encoding='utf-8'))[name])


def plain(answer: Answer) -> str:
  """The whole text of an answer without thoughts and Markdown. Raises Unreadable."""
  text = re.sub(r'[*_`#]', '', _THOUGHTS.sub('', answer.whole())).strip()
  if not text:
    raise Unreadable('an empty answer')
  return text


def field(text: str, name: str, allowed: Sequence[str]) -> str:
  """The value of a line "name: value" in an answer. Raises Unreadable where it is none of those allowed."""
  found = re.search(rf'^\W*{name}\s*[:=–—-]+\s*(\w+)', text, re.IGNORECASE | re.MULTILINE)
  if found is None:
    raise Unreadable(f'no line “{name}: …”')
  value = found[1].lower()
  if value not in allowed:
    raise Unreadable(f'“{name}: {value}” is none of {", ".join(allowed)}')
  return value


def reason(text: str) -> str:
  """What an answer says after "Reason:", '' for nothing."""
  found = re.search(r'^\W*reason\s*[:=–—-]+\s*(.+)', text, re.IGNORECASE | re.MULTILINE)
  return ' '.join(found[1].split())[:200] if found else ''
