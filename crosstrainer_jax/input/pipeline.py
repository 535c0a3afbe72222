"""The Grain pipeline of training: one global example index decides what every batch holds, for any number of hosts.

All examples of one batch are of one task, chosen by the batch's number, so that each task keeps its own short length.
The iterator is Grain's ElasticIterator: its state is the global index, it shards by itself, and nothing before it
filters.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import grain
import numpy as np

from crosstrainer_jax.input import examples
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
  """What one stage of training draws from."""

  clips: Sequence[ClipInfo]
  train: Sequence[int]
  tasks: Sequence[Task]
  encoder: examples.Encoder
  video_id: int
  pad_id: int
  view_dropout: float
  seconds: int

  def task_of(self, batch: int) -> Task:
    """Batches go round the tasks in proportion to their shares."""
    place = batch % sum(task.share for task in self.tasks)
    for task in self.tasks:
      if place < task.share:
        return task
      place -= task.share
    raise AssertionError('shares are positive')

  def lengths(self) -> dict[str, examples.Lengths]:
    """The sizes that hold every example of each task, whichever attributes its prompt shows.

    They are rounded up, so that stages on parts of the data mostly share one compiled update.
    """
    result = {}
    for task in self.tasks:
      rows = [self.encoder.tokens(task.name, self.clips[i], self.clips[i].incorrect) for i in self.train]
      rows += [
        self.encoder.tokens(task.name, self.clips[i], task.predicted[i]) for i in self.train if i in task.predicted
      ]
      result[task.name] = examples.longest(rows)
    return result


Video = Callable[[int], dict[str, np.ndarray]]


def example(
  stage: Stage, lengths: dict[str, examples.Lengths], video: Video, task: Task, index: int, random: np.random.Generator
) -> dict[str, Any]:
  """The arrays of clip `index` under `task`, with its video."""
  clip = stage.clips[index]
  attributes = clip.incorrect
  if index in task.predicted and random.random() >= task.true_ratio:
    attributes = task.predicted[index]
  valid = examples.drop_views(examples.valid_tokens(clip.frame_times, stage.seconds), stage.view_dropout, random)
  tokens = stage.encoder.tokens(task.name, clip, attributes)
  row = examples.arrays(tokens, lengths[task.name], valid.reshape(-1), stage.video_id, stage.pad_id)
  return row | video(index) | {'weight': np.float32(1.0)}


def batches(
  stage: Stage,
  video: Video,
  batch_size: int,
  seed: int,
  workers: int = 0,
  threads: int = 1,
  shard: grain.sharding.ShardOptions | None = None,
) -> grain.experimental.ElasticIterator:
  """An endless, globally shuffled, elastic iterator of host batches.

  Args:
    video: clip index -> {'features': float16[V, S, D]} or {'frames': uint8[V, T, H, W, 3]}.
    batch_size: global; every process gets its share of each batch.
    workers: spawned reader processes; 0 reads in threads of this one, which is faster up to a few cores.
    shard: which part of each batch to read; by default that of this JAX process.
  """
  lengths = stage.lengths()
  train = np.asarray(stage.train)

  def build(numbers: tuple[int, int], random: np.random.Generator) -> dict[str, Any]:
    place, row = numbers
    return example(stage, lengths, video, stage.task_of(place // batch_size), int(train[row]), random)

  dataset = grain.MapDataset.range(len(train)).seed(seed).shuffle().repeat()
  dataset = dataset.map_with_index(lambda place, row: (place, row)).random_map(build)
  return grain.experimental.ElasticIterator(
    dataset,
    batch_size,
    shard or grain.sharding.ShardByJaxProcess(),
    read_options=grain.ReadOptions(num_threads=threads, prefetch_buffer_size=4 * batch_size),
    multiprocessing_options=grain.MultiprocessingOptions(num_workers=workers) if workers else None,
  )
