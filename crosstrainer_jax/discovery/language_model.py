"""What is asked of a language model, and what it answers, whether a server stands behind it or our own decoder."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from typing import Any, Protocol

# As OpenAI's chat completions have it: {'role': …, 'content': a text, or a list of parts with texts and images}.
Message = dict[str, Any]

STOP, CUT, REFUSED = 'stop', 'length', 'refused'


class Unreadable(ValueError):
  """There is no answer that can be used; the message says why.

  Attributes:
    answered: whether there is one, which cannot be read; it is kept, so that to ask again gives the same.
  """

  answered = False


class ServerError(ValueError):
  """No further question can be answered: no connection, no permission, no such model. The message names the remedy."""


@dataclasses.dataclass(frozen=True)
class Sampling:
  """How an answer is written.

  Attributes:
    temperature: 0 takes the most probable token; below 0 leaves it to the server, for models that take no other.
    max_tokens: after which an answer is cut.
    seed: of another answer to the same question; for temperatures above 0.
  """

  temperature: float = 0.0
  max_tokens: int = 300
  seed: int = 0


@dataclasses.dataclass(frozen=True)
class Question:
  """One conversation that ends with the user.

  Attributes:
    purpose: which prompt it is, by name; what the figures of a store are kept by.
    reminder: what is said where the answer cannot be read.
  """

  messages: tuple[Message, ...]
  purpose: str
  reminder: str = ''

  def again(self, answer: str) -> Question:
    """The question after an answer that could not be read."""
    reply = [{'role': 'assistant', 'content': answer}] if answer.strip() else []
    return dataclasses.replace(self, messages=(*self.messages, *reply, {'role': 'user', 'content': self.reminder}))

  @property
  def characters(self) -> int:
    """Of all texts."""
    return sum(len(part['text']) for part in self._parts() if part['type'] == 'text')

  @property
  def images(self) -> int:
    return sum(part['type'] == 'image_url' for part in self._parts())

  def _parts(self) -> list[dict[str, Any]]:
    contents = [message['content'] for message in self.messages]
    return [
      part
      for content in contents
      for part in ([{'type': 'text', 'text': content}] if isinstance(content, str) else content)
    ]


@dataclasses.dataclass(frozen=True)
class Answer:
  """What came back.

  Attributes:
    finish: STOP, CUT (at the limit of tokens) or REFUSED.
    prompt_tokens, completion_tokens: as the model counts them; None where it does not say.
  """

  text: str
  finish: str = STOP
  prompt_tokens: int | None = None
  completion_tokens: int | None = None

  def whole(self) -> str:
    """The text, where it was written to its end. Raises Unreadable."""
    if self.finish == REFUSED:
      raise Unreadable(f'refused: {self.text[:120] or "no reason given"}')
    if self.finish == CUT:
      raise Unreadable('cut at the limit of tokens')
    return self.text


class LanguageModel(Protocol):
  """Answers questions; safe to use from several threads.

  Attributes:
    name: decides the answers together with question and sampling: answers of models of one name are interchangeable.
    group: how many questions are best asked together.
    concurrency: how many groups are best asked at the same time.
  """

  name: str
  sampling: Sampling
  group: int
  concurrency: int

  def complete(self, questions: Sequence[Question]) -> list[Answer | Unreadable]:
    """One answer for each question, or why there is none.

    Raises:
      ServerError: nothing further can be answered.
    """
    ...

  def stop(self) -> None:
    """Ends waiting, since nobody wants the answers any more; calls that are under way come to their end."""
    ...


def key(model: LanguageModel, question: Question) -> str:
  """What an answer is known by: a hash of the model's name, all messages (images included) and the sampling."""
  content = [model.name, question.messages, dataclasses.asdict(model.sampling)]
  return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
