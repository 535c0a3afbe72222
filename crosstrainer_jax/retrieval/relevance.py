"""The question that a re-ranker answers, and how it is learnt: is this the clip to watch for what that learner does?

[P] a model that sees both clips says whether the candidate is relevant or not. [O] the words, and that the candidate's
narration is among them:

    A learner of soccer: <video> | A how-to clip: <video> Its words: … Does it show how to correct the learner? yes

What stands before the bar is the same for all candidates of a learner, so that it is computed once for them.

[O] A small L that starts from nothing answers with the attributes that the learner lacks and the clip speaks of, or
with `none`, which is its no: to name them it has to add what it sees to what it reads, where for a bare yes it would
have to compare them, which it does not learn from so few pairs (docs/sportskills.md).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from crosstrainer_jax.input import examples, prompts
from crosstrainer_jax.input.examples import PromptTokenizer
from crosstrainer_jax.input.shuffled import Shuffled

LEARNER, CANDIDATE, WORDS = 'A learner of', 'A how-to clip:', 'Its words:'
QUESTION, WHICH = 'Does it show how to correct the learner?', 'What of the learner does it show how to correct?'
YES, NO = 'yes', 'no'
# Kinds of answer: `config.rerank.answer`.
YES_OR_NO, ATTRIBUTES = 'yes/no', 'attributes'
# Of our own tokenizer one token each: nothing is learnt from their parts.
PHRASES = (LEARNER, CANDIDATE, WORDS, QUESTION, WHICH, f' {prompts.EMPTY}')
# What such a tokenizer reads, beside the library, so that it has the answers among its words.
ANSWERS = (f' {YES}', f' {NO}')


class Question:
  """The question about a pair of clips in token ids.

  Args:
    most: tokens of a narration; longer ones lose their end.
    answer: `YES_OR_NO` or `ATTRIBUTES`.

  Attributes:
    yes, no: ids of the tokens in which the answers first differ; `yes` is None where every token but `no` is one.

  Raises:
    ValueError: yes and no begin alike in this vocabulary.
  """

  def __init__(self, words: PromptTokenizer, most: int, answer: str = YES_OR_NO):
    self._words, self._most, self._answer = words, most, answer
    self.yes: int | None = None
    if answer == ATTRIBUTES:
      self.no = words.text(prompts.EMPTY)[0]
      return
    self.yes, self.no = words.text(YES)[0], words.text(NO)[0]
    if self.yes == self.no:
      raise ValueError(f'the tokenizer begins {YES!r} and {NO!r} alike: a re-ranker cannot tell them apart')

  def about(self, sport: str) -> list[int]:
    """What all questions about a learner begin with: ids, with placeholders of the learner's clip."""
    words = self._words
    return [*words.layout.before, *words.ids(LEARNER), *words.ids(f' {sport}: '), *words.clip()]

  def asked(self, narration: str) -> list[int]:
    """The rest, about one candidate: ids, with placeholders of its clip."""
    words = self._words
    said = words.ids(f' {narration} ')[: self._most]
    question = words.ids(QUESTION if self.yes is not None else WHICH)
    return [*words.ids(CANDIDATE), *words.clip(), *words.ids(WORDS), *said, *question, *words.layout.after]

  def answer(self, relevant: bool, shared: Sequence[str]) -> list[int]:
    """Ids of what is to be learnt.

    Args:
      shared: attributes that the learner lacks and the candidate speaks of.
    """
    if self.yes is not None:
      return [self.yes if relevant else self.no]
    return [*self._words.text(prompts.serialize_attributes(shared if relevant else ())), *self._words.layout.close]

  def cut(self, narrations: Sequence[str]) -> int:
    """How many narrations are longer than what is asked."""
    return sum(len(self._words.ids(f' {narration} ')) > self._most for narration in narrations)


@dataclasses.dataclass(frozen=True)
class Shown:
  """What the model sees of clips. A value of its own, since reader processes get a copy of it.

  Attributes:
    video: index of a clip -> {'features': float16[V, S, D]}.
    valid: bool[N, V, S], which video tokens of clips are real.
  """

  video: Callable[[int], dict[str, np.ndarray]]
  valid: np.ndarray


@dataclasses.dataclass(frozen=True)
class Pairs:
  """Pairs of clips, by index, and whether they belong together.

  Attributes:
    learners, candidates: int32[P], indices of clips.
    relevant: bool[P].
    shared: P lists of attributes.
  """

  learners: np.ndarray
  candidates: np.ndarray
  relevant: np.ndarray
  shared: Sequence[Sequence[str]]

  def __len__(self) -> int:
    return len(self.learners)


class RelevanceUpdates:
  """The host's rows of every update, by number: a row is a pair, and its targets the answer.

  Nothing of JAX is in it, since reader processes get a copy.

  Args:
    pairs: at least one.
    sports, narrations: of all clips.
    batch_size: pairs of an update, over all hosts.
    count: of updates.
    multiple: of the rows of an update; those that fill up weigh nothing.
    own_rows: of the number of rows of an update, those that this host makes.
    view_dropout: probability that a view of the learner is hidden.
    blind: hides the learner's clip.
    longest: tokens that the decoder takes.

  Raises:
    ValueError: a question is longer.
  """

  def __init__(
    self,
    pairs: Pairs,
    question: Question,
    words: PromptTokenizer,
    shown: Shown,
    sports: Sequence[str],
    narrations: Sequence[str],
    batch_size: int,
    seed: int,
    count: int,
    multiple: int = 1,
    own_rows: Callable[[int], Sequence[int]] = range,
    view_dropout: float = 0.0,
    blind: bool = False,
    longest: int = 2**31,
  ):
    self.batch_size, self.count = batch_size, count
    self._pairs, self._question, self._words, self._shown = pairs, question, words, shown
    self._sports, self._narrations = sports, narrations
    self._seed, self._multiple, self._own_rows = seed, multiple, own_rows
    self._view_dropout, self._blind = view_dropout, blind
    # Placeholders of what is not seen are left out.
    hidden = (~shown.valid).reshape(len(shown.valid), -1).sum(1)
    whole = shown.valid[0].size
    about = max(
      len(question.about(sports[index])) - (whole if blind else int(hidden[index]))
      for index in set(pairs.learners.tolist())
    )
    asked = max(len(question.asked(narrations[index])) - int(hidden[index]) for index in set(pairs.candidates.tolist()))
    answers = {(bool(one), tuple(named)) for one, named in zip(pairs.relevant, pairs.shared, strict=True)}
    self._targets = max(len(question.answer(*answer)) for answer in answers)
    # One shape for all updates, so that one program is compiled.
    self._length = examples.bucket(about + asked + self._targets)
    if self._length > longest:
      raise ValueError(
        f'questions of up to {self._length} tokens, with both clips, do not fit decoder.max_position={longest}: '
        'raise that, or show less (data.window, data.views, encoder.size)'
      )
    self._order = Shuffled(len(pairs), seed)

  def __call__(self, number: int) -> dict[str, np.ndarray]:
    """Arrays as of `examples`, in which a row holds one pair: features are float16[R, 1, 2 V, S, D]."""
    rows = -(-self.batch_size // self._multiple) * self._multiple
    made = [self._row(number, row) for row in self._own_rows(rows)]
    return {name: np.stack([row[name] for row in made]) for name in made[0]}

  def _row(self, number: int, row: int) -> dict[str, np.ndarray]:
    words, blank = self._words, row >= self.batch_size
    place = self._order[number * self.batch_size + (0 if blank else row)]
    learner, candidate = int(self._pairs.learners[place]), int(self._pairs.candidates[place])
    # Of its own for each place in the stream, whoever asks for it.
    random = np.random.default_rng([self._seed, number, row])
    seen = examples.drop_views(self._shown.valid[learner], self._view_dropout, random) & (not self._blind)
    valid = np.concatenate([seen, self._shown.valid[candidate]]).reshape(-1)
    prompt = [
      *self._question.about(self._sports[learner]),
      *self._question.asked(self._narrations[candidate]),
    ]
    answer = self._question.answer(bool(self._pairs.relevant[place]), self._pairs.shared[place])
    pair = (examples.Tokens(prompt, answer), valid)
    arrays = examples.row_arrays(
      [] if blank else [pair], self._length, self._targets, words.video_id, words.pad_id, words.pictures
    )  # fmt: skip
    both = [self._shown.video(index)['features'] for index in (learner, candidate)]
    return arrays | {'features': np.concatenate(both)[None]}
