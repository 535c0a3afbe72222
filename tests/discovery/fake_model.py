"""A language model that answers by a function, and counts."""

import threading
from collections.abc import Callable, Sequence

from crosstrainer_jax.discovery.language_model import Answer, Question, Sampling, Unreadable


class FakeModel:
  """Answers by `behaviour`: a text, an `Answer` or an `Unreadable` for each question; an exception is raised."""

  def __init__(self, behaviour: Callable[[Question], str | Answer | Unreadable], group: int = 1, concurrency: int = 1):
    self.name, self.sampling, self.group, self.concurrency = 'fake', Sampling(), group, concurrency
    self.behaviour = behaviour
    self.questions: list[Question] = []
    self.groups: list[int] = []
    self.stopped = False
    self._lock = threading.Lock()

  def complete(self, questions: Sequence[Question]) -> list[Answer | Unreadable]:
    with self._lock:
      self.questions += questions
      self.groups.append(len(questions))
    found = [self.behaviour(question) for question in questions]
    return [Answer(one, 'stop', 100, 20) if isinstance(one, str) else one for one in found]

  def stop(self) -> None:
    self.stopped = True


def text_of(question: Question) -> str:
  """What the user said last."""
  return question.messages[-1]['content']
