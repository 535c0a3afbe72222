"""Questions to a language model: answered from the store where they were asked before, asked again where they cannot be
read, several at a time, and counted before anything is spent.
"""

from __future__ import annotations

import collections
import dataclasses
import itertools
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent import futures
from typing import TypeVar

from crosstrainer_jax.discovery.answers import AnswerStore
from crosstrainer_jax.discovery.language_model import Answer, LanguageModel, Question, Unreadable, key

T = TypeVar('T')
Item = TypeVar('Item')

# Where no answer of a model tells: English text has about 4 characters to a token …
CHARACTERS_PER_TOKEN = 4.0
# … and Qwen2-VL, whose rule is public, takes one token for 28 x 28 pixels of an image.
PIXELS_PER_TOKEN = 28 * 28


class Asker:
  """Asks a model, and keeps what it answers.

  Args:
    store: of the answers.
    retries: how often a question is asked again, with a reminder, when its answer cannot be read.

  Attributes:
    called: questions that the model was asked now.
    reused: questions that were answered from the store.
  """

  def __init__(self, model: LanguageModel, store: AnswerStore, retries: int = 2):
    self.model, self.store, self.retries = model, store, retries
    self.called = self.reused = 0
    self._lock = threading.Lock()

  def ask(self, questions: Sequence[Question], read: Callable[[Answer], T]) -> list[T | Unreadable]:
    """What `read` makes of the answers, in the order of the questions.

    Every answer is kept, those that cannot be read too: the reminders depend on them.

    Args:
      read: raises Unreadable.
    """
    results: dict[int, T | Unreadable] = {}
    current = dict(enumerate(questions))
    for _ in range(1 + self.retries):
      following = {}
      for (number, question), answer in zip(current.items(), self._answers(list(current.values())), strict=True):
        if isinstance(answer, Unreadable):
          results[number] = answer
          continue
        try:
          results[number] = read(answer)
        except Unreadable as error:
          error.answered = True
          results[number] = error
          following[number] = question.again(answer.text)
      current = following
      if not current:
        break
    return [results[number] for number in range(len(questions))]

  def complete(self, prompt: str, purpose: str = 'prompt') -> str:
    """The whole answer to one prompt; kept as others are.

    Raises:
      Unreadable: there is none, or it is cut or refused.
    """
    question = Question(({'role': 'user', 'content': prompt},), purpose, 'Answer again, in fewer words.')
    (answer,) = self.ask([question], Answer.whole)
    if isinstance(answer, Unreadable):
      raise answer
    return answer

  def _answers(self, questions: Sequence[Question]) -> list[Answer | Unreadable]:
    keys = [key(self.model, question) for question in questions]
    found: dict[str, Answer | Unreadable] = {
      name: answer for name, answer in zip(keys, self.store.get(keys), strict=True) if answer is not None
    }
    missing = {name: question for name, question in zip(keys, questions, strict=True) if name not in found}
    with self._lock:
      self.called += len(missing)
      self.reused += len(questions) - len(missing)
    for (name, question), answer in zip(
      missing.items(), self.model.complete(list(missing.values())) if missing else [], strict=True
    ):
      found[name] = answer
      if isinstance(answer, Answer):
        self.store.put(name, self.model.name, question, answer)
    return [found[name] for name in keys]

  def each(self, work: Callable[[list[Item]], T], items: Iterable[Item]) -> Iterator[T]:
    """What `work` makes of groups of items, as many at a time as suit the model; in the order in which they are done.

    Where the caller leaves early nothing further is begun, and what was asked is waited for and kept. Items are taken
    as they are needed.
    """
    workers = max(1, self.model.concurrency)
    with futures.ThreadPoolExecutor(workers) as pool:
      waiting: set[futures.Future[T]] = set()
      try:
        for group in _grouped(items, max(1, self.model.group)):
          waiting.add(pool.submit(work, group))
          if len(waiting) >= 2 * workers:
            done, waiting = futures.wait(waiting, return_when=futures.FIRST_COMPLETED)
            yield from (future.result() for future in done)
        while waiting:
          done, waiting = futures.wait(waiting, return_when=futures.FIRST_COMPLETED)
          yield from (future.result() for future in done)
      except BaseException:
        begun = sum(not future.cancel() and not future.done() for future in waiting)
        self.model.stop()
        if begun:
          print(f'\nwaiting for {begun} calls that are under way, to keep their answers', file=sys.stderr, flush=True)
        raise


def _grouped(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
  rest = iter(items)
  while group := list(itertools.islice(rest, size)):
    yield group


class Uncalled:
  """In the place of a model: counts what it would be asked, and answers nothing."""

  def __init__(self, model: LanguageModel):
    self.name, self.sampling, self.group, self.concurrency = model.name, model.sampling, model.group, 1
    self.counts: dict[str, Count] = collections.defaultdict(Count)

  def complete(self, questions: Sequence[Question]) -> list[Answer | Unreadable]:
    for question in questions:
      count = self.counts[question.purpose]
      count.calls += 1
      count.characters += question.characters
      count.images += question.images
    return [Unreadable('not asked: this is an estimate') for _ in questions]

  def stop(self) -> None:
    pass


@dataclasses.dataclass
class Count:
  """Questions of one purpose that are not answered yet; characters of their texts, and images in them."""

  calls: int = 0
  characters: int = 0
  images: int = 0


# What would be asked, by an asker that calls nobody.
Dry = Callable[[Asker], Iterable[object]]


def estimate(asker: Asker, ask: Dry, *, pixels: int = 0, price_in: float = 0.0, price_out: float = 0.0) -> str:
  """Calls, tokens and price of what `ask` would ask, and how they were counted; nothing is asked.

  Args:
    ask: does the work with the asker that it is given.
    pixels: height and width of images.
    price_in, price_out: of a million tokens of prompts and of answers; 0 where nothing is paid.
  """
  uncalled = Uncalled(asker.model)
  dry = Asker(uncalled, asker.store, asker.retries)
  collections.deque(ask(dry), maxlen=0)
  total, lines = Count(), []
  prompt = completion = 0.0
  for purpose, count in sorted(uncalled.counts.items()):
    usage = asker.store.usage(uncalled.name, purpose)
    if usage:
      # A call with images costs about what the others did; texts differ in their length.
      one = usage.prompt_tokens * (1 if count.images else count.characters / count.calls / max(usage.characters, 1))
      asked, said = one * count.calls, usage.completion_tokens * count.calls
      how = f'by the {usage.answers} answers of {uncalled.name} that are kept'
    else:
      asked = count.characters / CHARACTERS_PER_TOKEN + count.images * pixels**2 / PIXELS_PER_TOKEN
      said = float(uncalled.sampling.max_tokens * count.calls)
      images = f', {PIXELS_PER_TOKEN} pixels of an image' if count.images else ''
      how = f'prompts: a token is {CHARACTERS_PER_TOKEN:g} characters{images}; answers: as long as they may be'
    shown = f'{count.images} images, ' if count.images else ''
    lines.append(f'  {purpose}: {count.calls} calls, {shown}about {asked:.0f} tokens in and {said:.0f} out ({how})')
    prompt, completion = prompt + asked, completion + said
    total.calls += count.calls
  lines.insert(0, f'{total.calls} calls to make; {dry.reused} answers are kept already')
  lines.append(f'in all about {prompt:.0f} tokens in and {completion:.0f} out; nothing was asked')
  if price_in or price_out:
    cost = (prompt * price_in + completion * price_out) / 1e6
    lines.append(f'price: about {cost:.2f}, at {price_in:g} and {price_out:g} for a million tokens in and out')
  lines.append('calls after a failure, or an answer that cannot be read, come on top')
  return '\n'.join(lines)
