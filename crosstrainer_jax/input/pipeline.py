"""The Grain pipeline of training: one global example index decides what every batch holds, for any number of hosts.

All examples of one batch are of one task, chosen by the batch's number, and of similar length, so that little is
padded. The iterator is Grain's ElasticIterator: its state is the global index, it shards by itself, and nothing before
it filters.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import grain
import numpy as np

from crosstrainer_jax.input import examples, prompts
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

  def sizes(self, task: Task) -> tuple[np.ndarray, np.ndarray]:
    """Tokens that each clip of `train` needs under `task`, whatever its prompt shows: int32[N] in all at most, and
    int32[N] of its target.
    """
    totals, targets = np.zeros(len(self.train), np.int32), np.zeros(len(self.train), np.int32)
    longer = {sport: self._longer(task.name, sport) for sport in {self.clips[index].sport for index in self.train}}
    for row, index in enumerate(self.train):
      clip = self.clips[index]
      for attributes in (clip.incorrect, task.predicted.get(index)):
        if attributes is not None:
          tokens = self.encoder.tokens(task.name, clip, attributes)
          targets[row] = len(tokens.target)
          totals[row] = max(totals[row], len(tokens.prompt) + longer[clip.sport] + len(tokens.target))
    return totals, targets

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
    sizes: task name -> int32[N] tokens that each clip needs in all, int32[N] those of its target; from `Stage.sizes`.
  """

  def __init__(self, sizes: dict[str, tuple[np.ndarray, np.ndarray]], batch_size: int, seed: int, window: int = 16):
    self._sizes, self._batch_size, self._seed, self._window = sizes, batch_size, seed, window
    self._longest = np.max([totals for totals, _ in sizes.values()], axis=0)
    self._epochs: dict[int, np.ndarray] = {}

  def __getitem__(self, place: int) -> int:
    epoch, within = divmod(place, len(self._longest))
    return int(self._epoch(epoch)[within])

  def lengths(self, batch: int, task: str) -> examples.Lengths:
    """The sizes of the arrays of a batch, of which there are few, so that few updates are compiled."""
    rows = [self[place] for place in range(batch * self._batch_size, (batch + 1) * self._batch_size)]
    total, target = (examples.bucket(int(needed[rows].max())) for needed in self._sizes[task])
    return examples.Lengths(total, target)

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


Video = Callable[[int], dict[str, np.ndarray]]


def example(
  stage: Stage, lengths: examples.Lengths, video: Video, task: Task, index: int, random: np.random.Generator
) -> dict[str, Any]:
  """The arrays of clip `index` under `task`, with its video."""
  clip = stage.clips[index]
  attributes = clip.incorrect
  if index in task.predicted and random.random() >= task.true_ratio:
    attributes = task.predicted[index]
  valid = examples.drop_views(examples.valid_tokens(clip.frame_times, stage.seconds), stage.view_dropout, random)
  name = clip.sport
  if random.random() < stage.name_dropout:
    name = random.choice(prompts.invented_names())
  tokens = stage.encoder.tokens(task.name, clip, attributes, name)
  row = examples.arrays(tokens, lengths, valid.reshape(-1), stage.encoder.video_id, stage.encoder.pad_id)
  return row | video(index) | {'weight': np.float32(1.0)}


def batches(
  stage: Stage,
  video: Video,
  batch_size: int,
  seed: int,
  workers: int = 0,
  threads: int = 1,
  prefetch: int = 4,
  shard: grain.sharding.ShardOptions | None = None,
) -> grain.experimental.ElasticIterator:
  """An endless, globally shuffled, elastic iterator of host batches.

  Args:
    video: clip index -> {'features': float16[V, S, D]}, or {'frames': uint8[V, T, H, W, 3], 'frames_valid': bool[V,
      T]}.
    batch_size: global; every process gets its share of each batch.
    workers: spawned reader processes; 0 reads in threads of this one, which is faster up to a few cores.
    prefetch: batches that the readers may be ahead.
    shard: which part of each batch to read; by default that of this JAX process.
  """
  train = np.asarray(stage.train)
  order = Order({task.name: stage.sizes(task) for task in stage.tasks}, batch_size, seed)

  def build(place: int, random: np.random.Generator) -> dict[str, Any]:
    batch = place // batch_size
    task = stage.task_of(batch)
    return example(stage, order.lengths(batch, task.name), video, task, int(train[order[place]]), random)

  dataset = grain.MapDataset.range(len(train)).seed(seed).repeat()
  dataset = dataset.map_with_index(lambda place, row: place).random_map(build)
  return grain.experimental.ElasticIterator(
    dataset,
    batch_size,
    shard or grain.sharding.ShardByJaxProcess(),
    read_options=grain.ReadOptions(num_threads=threads, prefetch_buffer_size=prefetch * batch_size),
    multiprocessing_options=grain.MultiprocessingOptions(num_workers=workers) if workers else None,
  )
