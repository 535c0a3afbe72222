"""Latency and memory of the exact index, for as many vectors as SportSkills has clips.

    python benchmarks/index_latency.py --vectors 638399 --width 512

Random unit vectors; each search is timed to its end, after one that compiles. One query at a time, then batches.
"""

import argparse
import resource
import time

import jax
import numpy as np

from crosstrainer_jax.retrieval.index import Index


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--vectors', type=int, default=638_399, help='(default: %(default)s)')
  parser.add_argument('--width', type=int, default=512, help='(default: %(default)s)')
  parser.add_argument('--k', type=int, default=50, help='(default: %(default)s)')
  parser.add_argument('--searches', type=int, default=50, help='timed, of each kind (default: %(default)s)')
  parser.add_argument('--batch', type=int, default=64, help='queries of a batch (default: %(default)s)')
  parser.add_argument('--dtypes', nargs='+', default=['float32', 'bfloat16'], help='(default: %(default)s)')
  options = parser.parse_args()
  rng = np.random.default_rng(0)
  vectors = rng.standard_normal((options.vectors, options.width), dtype=np.float32)
  vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
  before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
  print(f'{options.vectors} x {options.width} on {jax.devices()[0].device_kind}, k = {options.k}')
  print(f'the vectors themselves, float32: {vectors.nbytes / 2**20:.0f} MB')
  for dtype in options.dtypes:
    index = Index(vectors, dtype)
    for size in (1, options.batch):
      queries = vectors[: size * (options.searches + 1)].reshape(-1, size, options.width)[: options.searches + 1]
      index.search(queries[0], options.k)
      times, found = [], 0
      for number, batch in enumerate(queries[1:], 1):
        begun = time.perf_counter()
        _, places = index.search(batch, options.k)
        times.append(time.perf_counter() - begun)
        found += int((places[:, 0] == np.arange(number * size, (number + 1) * size)).sum())
      p50, p99 = (1e3 * float(np.percentile(times, q)) for q in (50, 99))
      right = 100 * found / (size * len(times))
      print(f'{dtype:9s} {size:3d} queries: p50 {p50:7.1f} ms, p99 {p99:7.1f} ms; itself first in {right:.1f} %')
    del index
  print(f'peak of memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB ({before:.0f} before)')


if __name__ == '__main__':
  main()
