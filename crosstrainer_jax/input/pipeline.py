"""The Grain pipeline of training: the number of an update decides what it holds, for any number of hosts.

Each update is a fixed set of clips, all of one task. Every host works out the same rows for them, and makes and reads
those rows only that lie on its devices. So the iterator's whole state is the number of the next update.

Rows hold a clip each, of similar length within an update, so that little is padded; or, with `row_tokens`, they hold as
many clips as fit (`packing`).
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import grain
import numpy as np

from crosstrainer_jax.input import examples, packing, prompts
from crosstrainer_jax.input.packing import Shape, Sizes
from crosstrainer_jax.input.source import ClipInfo


@dataclasses.dataclass(frozen=True)
class Task:
  """One task of a stage: how often it comes, and from which lists its prompt takes attributes.

  Attributes:
    name: one of the tasks of `examples`.
    share: number of batches in each cycle of the stage.
    predicted: clip index -> attributes predicted out of fold, for the prompt of F_t; empty where there are none.
    true_ratio: probability that an F_t prompt shows the true attributes although predicted ones exist.
  """

  name: str
  share: int
  predicted: dict[int, list[str]] = dataclasses.field(default_factory=dict)
  true_ratio: float = 1.0


@dataclasses.dataclass(frozen=True)
class Stage:
  """What one stage of training draws from.

  Attributes:
    view_dropout: probability that a view is hidden.
    name_dropout: probability that the prompt calls the sport by an invented name. A decoder that starts from nothing
      knows no sport but those of its training, and is thrown off by the name of another one.
  """

  clips: Sequence[ClipInfo]
  train: Sequence[int]
  tasks: Sequence[Task]
  encoder: examples.PromptTokenizer
  view_dropout: float
  seconds: int
  name_dropout: float = 0.0

  def task_of(self, batch: int) -> Task:
    """Batches go round the tasks in proportion to their shares."""
    place = batch % sum(task.share for task in self.tasks)
    for task in self.tasks:
      if place < task.share:
        return task
      place -= task.share
    raise AssertionError('shares are positive')

  def sizes(self, task: Task) -> Sizes:
    """What each clip of `train` needs under `task` at most, whatever its prompt shows."""
    sizes = Sizes(np.zeros(len(self.train), np.int32), np.zeros(len(self.train), np.int32))
    longer = {sport: self._longer(task.name, sport) for sport in {self.clips[index].sport for index in self.train}}
    for row, index in enumerate(self.train):
      clip = self.clips[index]
      unseen = int((~self.encoder.valid(clip.frame_times, self.seconds)).sum())
      for attributes in (clip.incorrect, task.predicted.get(index)):
        if attributes is not None:
          tokens = self.encoder.tokens(task.name, clip, attributes)
          needed = len(tokens.prompt) - unseen + longer[clip.sport] + len(tokens.target)
          sizes.tokens[row], sizes.targets[row] = max(sizes.tokens[row], needed), len(tokens.target)
    return sizes

  def _longer(self, task: str, sport: str) -> int:
    """How many tokens a prompt is longer at most under an invented name."""
    names = (sport, *prompts.invented_names()) if self.name_dropout else (sport,)
    lengths = [len(self.encoder.prompt(task, name)) for name in names]
    return max(lengths) - lengths[0]


class Order:
  """Which clip stands at each place of the endless stream, epoch after epoch.

  An epoch is shuffled; then, within windows of `window` batches, clips of similar length come together, and the batches
  are shuffled. All follows from seed and place.

  Args:
    sizes: by the name of the task, from `Stage.sizes`.
    window: 1 leaves clips of any length together.
  """

  def __init__(self, sizes: dict[str, Sizes], batch_size: int, seed: int, window: int = 16):
    self._sizes, self._batch_size, self._seed, self._window = sizes, batch_size, seed, window
    self._longest = np.max([needed.tokens for needed in sizes.values()], axis=0)
    self._epochs: dict[int, np.ndarray] = {}

  def __getitem__(self, place: int) -> int:
    epoch, within = divmod(place, len(self._longest))
    return int(self._epoch(epoch)[within])

  def update(self, number: int) -> np.ndarray:
    """The clips of an update, as rows of the tables of sizes."""
    return np.array([self[place] for place in range(number * self._batch_size, (number + 1) * self._batch_size)])

  def needed(self, number: int, task: str) -> Sizes:
    """What the clips of an update need."""
    return self._sizes[task][self.update(number)]

  def _epoch(self, number: int) -> np.ndarray:
    if number not in self._epochs:
      # Readers run ahead of each other by less than an epoch or two.
      self._epochs = {n: order for n, order in self._epochs.items() if abs(n - number) < 3}
      self._epochs[number] = self._shuffled(number)
    return self._epochs[number]

  def _shuffled(self, number: int) -> np.ndarray:
    count, size = len(self._longest), self._batch_size
    random = np.random.default_rng([self._seed, number])
    rows = random.permutation(count)
    for start in range(0, count, self._window * size):
      window = rows[start : start + self._window * size]
      rows[start : start + self._window * size] = window[np.argsort(self._longest[window], kind='stable')]
    # The batches that the epoch touches; the first and the last one may be shared with its neighbours.
    batches = np.arange(number * count, (number + 1) * count) // size
    places = np.argsort(random.permutation(batches[-1] - batches[0] + 1)[batches - batches[0]], kind='stable')
    order = np.empty_like(rows)
    order[places] = rows
    return order


# clip index -> {'features': float16[V, S, D]}, or {'frames': uint8[V, T, H, W, 3], 'frames_valid': bool[V, T]}
Video = Callable[[int], dict[str, np.ndarray]]


def example(stage: Stage, task: Task, index: int, random: np.random.Generator) -> tuple[examples.Tokens, np.ndarray]:
  """The tokens of clip `index` under `task`, and bool[V * S], which of its placeholders are seen."""
  clip = stage.clips[index]
  attributes = clip.incorrect
  if index in task.predicted and random.random() >= task.true_ratio:
    attributes = task.predicted[index]
  valid = examples.drop_views(stage.encoder.valid(clip.frame_times, stage.seconds), stage.view_dropout, random)
  name = clip.sport
  if random.random() < stage.name_dropout:
    name = random.choice(prompts.invented_names())
  return stage.encoder.tokens(task.name, clip, attributes, name), valid.reshape(-1)


class Updates:
  """The host's part of every update of a stage, by number.

  A value of its own, since reader processes get a copy of it: nothing of JAX may be in it.

  Args:
    stage, video: what is learnt from.
    batch_size: clips of an update, over all hosts.
    count: of updates.
    multiple: of the rows of an update.
    row_tokens: the longest row that clips may share; 0 gives each clip its own.
    own_rows: of the number of rows of an update, those that this host makes; by default all.

  Attributes:
    shapes: of the arrays of each task, where clips share rows.
    needed: tokens that an update of each task needs on average, there.
  """

  def __init__(
    self,
    stage: Stage,
    video: Video,
    batch_size: int,
    seed: int,
    count: int,
    multiple: int = 1,
    row_tokens: int = 0,
    own_rows: Callable[[int], Sequence[int]] = range,
  ):
    self.count, self.shapes, self.needed = count, dict[str, Shape](), dict[str, float]()
    self.batch_size = batch_size
    self._stage, self._video, self._seed = stage, video, seed
    self._multiple, self._own_rows = multiple, own_rows
    self._train = np.asarray(stage.train)
    # All clips have its shapes and types.
    self._first_video = video(int(self._train[0]))
    sizes = {task.name: stage.sizes(task) for task in stage.tasks}
    self._order = Order(sizes, batch_size, seed, 1 if row_tokens else 16)
    if row_tokens:
      for name in sizes:
        own = [self._order.needed(k, name) for k in range(count) if stage.task_of(k).name == name]
        if own:
          self.shapes[name] = packing.choose_shape(own, row_tokens, multiple)
          self.needed[name] = float(np.mean([update.tokens.sum() for update in own]))

  def packed(self) -> list[str]:
    """A line for each task whose clips share rows: how many rows, and how full they are."""
    return [
      f'{name}: {self.batch_size} clips an update in {shape.rows} x {shape.tokens:,} tokens, of which '
      f'{self.needed[name]:,.0f} are needed on average ({self.needed[name] / (shape.rows * shape.tokens):.0%})'
      for name, shape in self.shapes.items()
    ]

  def rows(self, number: int) -> tuple[Shape, list[list[int]]]:
    """The shape of an update, and the places of the clips that each of its rows holds."""
    task = self._stage.task_of(number)
    needed = self._order.needed(number, task.name)
    shape = self.shapes.get(task.name)
    if shape is not None:
      rows = packing.pack(needed, shape)
      assert rows is not None, 'the shape was chosen so that every update fits'
      return shape, rows
    count = -(-self.batch_size // self._multiple) * self._multiple
    length, targets = (examples.bucket(int(size.max())) for size in (needed.tokens, needed.targets))
    return Shape(count, length, targets, 1), [[place] if place < self.batch_size else [] for place in range(count)]

  def __call__(self, number: int) -> dict[str, np.ndarray]:
    """The host's rows of update `number`."""
    stage, task = self._stage, self._stage.task_of(number)
    shape, rows = self.rows(number)
    own = [rows[row] for row in self._own_rows(shape.rows)]
    indices = self._train[self._order.update(number)]
    arrays: list[dict[str, np.ndarray]] = []
    videos = {
      name: np.zeros((len(own), shape.clips, *like.shape), like.dtype) for name, like in self._first_video.items()
    }
    for row, places in enumerate(own):
      clips = []
      for column, place in enumerate(places):
        # Of its own for each place in the stream, whoever asks for it.
        random = np.random.default_rng([self._seed, number, place])
        clips.append(example(stage, task, int(indices[place]), random))
        for name, value in self._video(int(indices[place])).items():
          videos[name][row, column] = value
      words = stage.encoder
      arrays.append(
        examples.row_arrays(clips, shape.tokens, shape.targets, words.video_id, words.pad_id, words.pictures)
      )
    return {name: np.stack([row[name] for row in arrays]) for name in arrays[0]} | videos


class ByNumber(Protocol):
  """Makes the host's part of every update by its number; readers call it side by side."""

  count: int
  batch_size: int

  def __call__(self, number: int) -> Any: ...


class Batches:
  """Host batches of `updates`, read ahead; `get_state` is the number of the next one.

  Args:
    workers: spawned reader processes; 0 reads in threads of this one, which is faster up to a few cores.
    threads: that make batches side by side.
    prefetch: batches that the readers may be ahead.
  """

  def __init__(self, updates: ByNumber, workers: int = 0, threads: int = 1, prefetch: int = 4):
    self.updates = updates
    self._options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=prefetch)
    self._workers = workers
    self._next = 0
    self._iterator: Any = None

  def __iter__(self) -> Iterator[Any]:
    return self

  def __next__(self) -> Any:
    if self._iterator is None:
      # Begun anew from a number, so that neither the state nor the order knows of the readers.
      numbers = grain.MapDataset.range(self._next, self.updates.count).map(self.updates)
      dataset = numbers.to_iter_dataset(self._options)
      if self._workers:
        dataset = dataset.mp_prefetch(grain.MultiprocessingOptions(num_workers=self._workers))
      self._iterator = iter(dataset)
    batch = next(self._iterator)
    self._next += 1
    return batch

  def get_state(self) -> dict[str, int]:
    return {'next_update': self._next}

  def set_state(self, state: dict[str, int]) -> None:
    self.close()
    # Checkpoints of earlier versions count clips.
    clips = state.get('global_next_index', 0)
    self._next = state.get('next_update', clips // self.updates.batch_size)

  def close(self) -> None:
    """Ends the readers."""
    if self._iterator is not None:
      self._iterator.close()
      self._iterator = None
