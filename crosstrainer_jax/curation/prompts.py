"""The questions of curation: `prompts.toml`, filled, with images where a gate looks, and how answers are read."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import importlib.resources
import re
import tomllib
from collections.abc import Sequence
from typing import Any

from crosstrainer_jax.discovery.language_model import Answer, Message, Question, Unreadable

_SLOT = re.compile(r'\{(\w+)\}')
_THOUGHTS = re.compile(r'<(think|thinking|reasoning)>.*?(</\1>|$)', re.DOTALL | re.IGNORECASE)


@dataclasses.dataclass(frozen=True)
class Prompt:
  """One question of `prompts.toml`."""

  name: str
  system: str
  user: str
  reminder: str

  @property
  def sha(self) -> str:
    """Names its words."""
    return hashlib.sha256('\0'.join((self.system, self.user, self.reminder)).encode()).hexdigest()[:10]

  def question(self, images: Sequence[str] = (), **slots: str) -> Question:
    """The question with its slots filled; `images` are URLs, which come first."""
    # In one pass: braces of a narration are its own.
    words = _SLOT.sub(lambda match: ' '.join(slots[match[1]].split()), self.user.strip())
    content: Any = words
    if images:
      content = [*({'type': 'image_url', 'image_url': {'url': url}} for url in images), {'type': 'text', 'text': words}]
    messages: tuple[Message, ...] = ({'role': 'system', 'content': self.system}, {'role': 'user', 'content': content})
    return Question(messages, self.name, self.reminder)


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
