"""Clips and bytes per second of the whole host pipeline of training, alone: features and texts to packed host batches.

    python benchmarks/input.py                      # the paper's: 5 views of 10 seconds, 4096 wide, 128 clips an update
    python benchmarks/input.py --store seconds      # windows cut out of a store by second, as overlapping clips share

Writes random features and comments into a temporary folder in the format of training, then reads updates as stage II
does, without a model. Rates are the median of `--repeats` passes, with their range.
The files are in the page cache: what a disk or a bucket gives is a limit of its own.
"""

import argparse
import os
import platform
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from crosstrainer_jax.input import examples, features, pipeline, prompts, second_features
from crosstrainer_jax.input.source import ClipInfo
from crosstrainer_jax.input.tokenizer import train_tokenizer

COMMENT = 'keep your knees bent and the weight on the front foot through the whole swing then look up'


def write_clips(options: argparse.Namespace, directory: Path) -> tuple[pipeline.Stage, pipeline.Video]:
  """Comments of 20 to 60 words, and their features on disk."""
  random = np.random.default_rng(options.seed)
  times = np.tile(np.arange(options.seconds, dtype=np.float32), (options.views, 1))
  words = COMMENT.split()
  said = [' '.join(random.choice(words, random.integers(20, 61))) for _ in range(options.clips)]
  clips = [
    ClipInfo(f'c{i}', 'soccer', 'pass', f'p{i}', f't{i}', 'train', ['exo'] * options.views, comment, times, [],
             ['balance', 'follow-through'], [], False, -1)
    for i, comment in enumerate(said)
  ]  # fmt: skip
  shape = (options.views, options.seconds, options.width)

  def made(first: int) -> np.ndarray:
    return np.random.default_rng(first).standard_normal((1, *shape), np.float32).astype(np.float16)

  if options.store == 'clips':
    cache = features.write(
      directory / 'features', options.clips, 'random', lambda n: map(made, range(n, options.clips))
    )
  else:
    seconds = [
      second_features.Second(f'take {clip}', f'view {view}', 1000 * second)
      for clip in range(options.clips) for view in range(options.views) for second in range(options.seconds)
    ]  # fmt: skip
    rows = (made(clip).reshape(-1, options.width) for clip in range(options.clips))
    second_features.write(directory / 'features', seconds, rows)
    store = second_features.SecondStore(directory / 'features')
    places = np.array([store.place(second) for second in seconds]).reshape(options.clips, *shape[:2])
    cache = second_features.ClipFeatures(store, places)
  texts = [prompts.feedback_prompt('soccer', ['balance']).replace(prompts.VIDEO, ''), *said]
  tokenizer = train_tokenizer(texts, 1024, directory / 'tokenizer')
  encoder = examples.PromptTokenizer(tokenizer, options.views * options.seconds, 3)
  task = pipeline.Task(examples.FEEDBACK, 1)
  stage = pipeline.Stage(clips, range(options.clips), [task], encoder, 0.0, options.seconds)
  return stage, lambda index: {'features': cache[index]}


def rate(updates: pipeline.Updates, options: argparse.Namespace, threads: int) -> tuple[float, float]:
  """Clips and gigabytes per second of one pass."""
  iterator = pipeline.Batches(updates, threads=threads)
  start, size = time.monotonic(), 0
  for batch in iterator:
    size += sum(array.nbytes for array in batch.values())
  seconds = time.monotonic() - start
  iterator.close()
  return updates.count * options.batch_size / seconds, size / seconds / 1e9


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--clips', type=int, default=2560)
  parser.add_argument('--views', type=int, default=5)
  parser.add_argument('--seconds', type=int, default=10)
  parser.add_argument('--width', type=int, default=4096)
  parser.add_argument('--batch_size', type=int, default=128, help='clips of an update')
  parser.add_argument('--row_tokens', type=int, default=2048, help='0: each clip a row of its own')
  parser.add_argument('--store', choices=('clips', 'seconds'), default='clips')
  parser.add_argument('--threads', type=int, nargs='+', default=[1, 2, 4])
  parser.add_argument('--repeats', type=int, default=3)
  parser.add_argument('--seed', type=int, default=0)
  options = parser.parse_args()
  print(f'{os.cpu_count()} CPU cores, Python {platform.python_version()}; seed {options.seed}, n = {options.repeats}')
  with tempfile.TemporaryDirectory() as folder:
    stage, video = write_clips(options, Path(folder))
    count = options.clips // options.batch_size
    updates = pipeline.Updates(
      stage, video, options.batch_size, options.seed, count, row_tokens=options.row_tokens
    )  # fmt: skip
    clip = options.views * options.seconds * options.width * 2
    print(f'{options.clips} clips of {clip / 1e3:.0f} KB features, by {options.store}')
    for line in updates.packed():
      print(line)
    print('| threads | clips/s | range | GB/s of batches |\n|---|---|---|---|')
    for threads in options.threads:
      rates = [rate(updates, options, threads) for _ in range(options.repeats)]
      clips = sorted(part for part, _ in rates)
      size = statistics.median(part for _, part in rates)
      print(f'| {threads} | {statistics.median(clips):,.0f} | {clips[0]:,.0f} to {clips[-1]:,.0f} | {size:.2f} |')


if __name__ == '__main__':
  main()
