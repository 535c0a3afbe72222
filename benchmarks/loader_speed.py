"""Clips per second of the Grain pipeline with 0, 1 and 2 worker processes, side by side.

    python benchmarks/loader_speed.py runs/cross_sport

Reads the features and texts of a finished run, as its stage II does, without a model. Start-up of workers is counted
apart.
"""

import argparse
import os
import platform
import sys
import time
from pathlib import Path

from absl import flags

from crosstrainer_jax import datasets, provenance
from crosstrainer_jax.input import examples, pipeline
from crosstrainer_jax.run import Run, open_run


def measure(run: Run, workers: int, batches: int, batch_size: int) -> tuple[float, float]:
  """Seconds to the first batch, and clips per second afterwards."""
  task = pipeline.Task(examples.FEEDBACK, 1)
  stage = pipeline.Stage(run.clips, run.split.train, [task], run.text, 0.2, run.seconds)
  start = time.monotonic()
  iterator = pipeline.batches(stage, run.video, batch_size, 0, workers=workers, threads=2)
  next(iter(iterator))
  first = time.monotonic() - start
  start = time.monotonic()
  for _ in range(batches):
    next(iter(iterator))
  seconds = time.monotonic() - start
  iterator.close()
  return first, batches * batch_size / seconds


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('workdir', type=Path, help='a finished run')
  parser.add_argument('--data_dir', default='runs/datasets')
  parser.add_argument('--batches', type=int, default=60)
  parser.add_argument('--batch_size', type=int, default=64)
  parser.add_argument('--repeats', type=int, default=3)
  options = parser.parse_args()
  flags.FLAGS(sys.argv[:1])  # Grain's worker processes read absl's flags
  config = provenance.recorded_config(options.workdir)
  run = open_run(config, options.workdir, datasets.prepare(config.data, options.data_dir))
  print(f'{os.cpu_count()} CPU cores, Python {platform.python_version()}; best of {options.repeats}')
  for workers in (0, 1, 2):
    results = [measure(run, workers, options.batches, options.batch_size) for _ in range(options.repeats)]
    first, rate = min(r[0] for r in results), max(r[1] for r in results)
    print(f'workers {workers}: first batch after {first:.1f} s, then {rate:.0f} clips/s')


if __name__ == '__main__':
  main()
