"""Pairs of a clip and a text for contrastive training: the number of an update decides which.

As in `pipeline`, every host works out the same pairs and reads the clips of its own rows alone, and the whole state of
the iterator is the number of the next update.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from crosstrainer_jax.input import examples
from crosstrainer_jax.input.shuffled import Shuffled


@dataclasses.dataclass(frozen=True)
class Texts:
  """Different texts as tokens: ids int32[T, L], mask bool[T, L], False behind the end; how many texts were cut."""

  ids: np.ndarray
  mask: np.ndarray
  cut: int = 0

  @classmethod
  def of(cls, tokens: Sequence[Sequence[int]], longest: int) -> Texts:
    """From the tokens of each text; those of more than `longest` lose their end. L is one of few sizes."""
    length = min(examples.bucket(max((len(ids) for ids in tokens), default=1)), longest)
    ids, mask = np.zeros((len(tokens), length), np.int32), np.zeros((len(tokens), length), bool)
    for row, text in enumerate(tokens):
      kept = text[:length]
      ids[row, : len(kept)], mask[row, : len(kept)] = kept, True
    return cls(ids, mask, sum(len(text) > length for text in tokens))


@dataclasses.dataclass(frozen=True)
class Material:
  """What pairs are drawn from.

  Attributes:
    clips: indices of the clips, N of them; each has at least one text.
    texts: all T texts.
    right: for each of the N clips, the numbers of the texts that are right for it.
    sources: int32[N], equal for clips that are nearly the same, for example of one take.
    show: place of a clip in `clips`, and random numbers -> the arrays that the video tower takes.
  """

  clips: Sequence[int]
  texts: Texts
  right: Sequence[Sequence[int]]
  sources: np.ndarray
  show: Callable[[int, np.random.Generator], dict[str, np.ndarray]]


@dataclasses.dataclass(frozen=True)
class ShownClips:
  """Shows clips by their cached features, or frames. A value of its own, since reader processes get a copy of it.

  Attributes:
    clips: indices of N clips.
    valid: bool[N, V, S], which of their video tokens are real.
    video: index of a clip -> what is seen of it, for example {'features': float16[V, S, D]}.
    view_dropout: probability that a view is hidden.
  """

  clips: Sequence[int]
  valid: np.ndarray
  video: Callable[[int], dict[str, np.ndarray]]
  view_dropout: float = 0.0

  def __call__(self, place: int, random: np.random.Generator) -> dict[str, np.ndarray]:
    """What `video` gives, and 'valid': bool[V, S]"""
    valid = examples.drop_views(self.valid[place], self.view_dropout, random)
    return {**self.video(self.clips[place]), 'valid': valid}


class PairUpdates:
  """The host's rows of every update, by number.

  Args:
    batch_size: pairs of an update, over all hosts.
    count: of updates.
    multiple: of the rows of an update; those that fill up weigh nothing.
    own_rows: of the number of rows of an update, those that this host makes.

  Raises:
    ValueError: no clip has a text.
  """

  def __init__(
    self,
    material: Material,
    batch_size: int,
    seed: int,
    count: int,
    multiple: int = 1,
    own_rows: Callable[[int], Sequence[int]] = range,
  ):
    if not material.clips:
      raise ValueError('no training clip has a text to be paired with: nothing can be learnt from pairs')
    self.batch_size, self.count = batch_size, count
    self._material, self._seed = material, seed
    self._multiple, self._own_rows = multiple, own_rows
    most = max(map(len, material.right))
    self._right = np.full((len(material.clips), most), -1, np.int32)
    for row, numbers in enumerate(material.right):
      self._right[row, : len(numbers)] = numbers
    self._order = Shuffled(len(material.clips), seed)

  def __call__(self, number: int) -> dict[str, Any]:
    """{'clips': arrays of the video tower, 'texts': of the text tower, 'labels': as `training.contrastive.Labels`}."""
    material = self._material
    rows = -(-self.batch_size // self._multiple) * self._multiple
    own = self._own_rows(rows)
    places = [self._order[number * self.batch_size + row] if row < self.batch_size else 0 for row in own]
    text, shown = [], []
    for row, place in zip(own, places, strict=True):
      # Of its own for each place in the stream, whoever asks for it.
      random = np.random.default_rng([self._seed, number, row])
      text.append(random.choice(material.right[place]))
      shown.append(material.show(place, random))
    labels = {
      'number': np.asarray(own, np.int32),
      'text': np.asarray(text, np.int32),
      'source': material.sources[places].astype(np.int32),
      'right': self._right[places],
      'weight': np.asarray([row < self.batch_size for row in own], np.float32),
    }
    return {
      'clips': {name: np.stack([arrays[name] for arrays in shown]) for name in shown[0]},
      'texts': {'ids': material.texts.ids[text], 'mask': material.texts.mask[text]},
      'labels': labels,
    }
