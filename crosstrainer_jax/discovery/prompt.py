"""A question in words that are kept apart from the code: what the model is told, what it is asked, what reminds it."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Sequence
from typing import Any, ClassVar

from crosstrainer_jax.discovery.language_model import Message, Question

_SLOT = re.compile(r'\{(\w+)\}')


@dataclasses.dataclass(frozen=True)
class Prompt:
  """One prompt of a TOML file.

  Attributes:
    user: with slots as {name}.
    reminder: said after an answer that could not be read.
  """

  name: str
  system: str
  user: str
  reminder: str
  # Whether every {name} is a slot; else others are the prompt's own.
  strict: ClassVar[bool] = True

  @property
  def sha(self) -> str:
    """Names its words."""
    return hashlib.sha256('\0'.join((self.system, self.user, self.reminder)).encode()).hexdigest()[:10]

  def filled(self, images: Sequence[str] = (), **slots: str) -> Question:
    """The question with its slots filled; `images` are URLs, which come first.

    Raises:
      KeyError: a slot that nothing is given for.
    """

    def fill(match: re.Match[str]) -> str:
      if match[1] not in slots and not self.strict:
        return match[0]
      return ' '.join(slots[match[1]].split())

    # In one pass: braces of what is filled in are its own.
    words = _SLOT.sub(fill, self.user)
    content: Any = words.strip()
    if images:
      shown = [{'type': 'image_url', 'image_url': {'url': url}} for url in images]
      content = [*shown, {'type': 'text', 'text': words.strip()}]
    messages: tuple[Message, ...] = ({'role': 'system', 'content': self.system}, {'role': 'user', 'content': content})
    return Question(messages, self.name, self.reminder)
