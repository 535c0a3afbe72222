"""What a save costs a run, and how long a restart takes.

    python benchmarks/save_time.py --megabytes 512

Trains one matrix product with Adam on a state of that size (parameters and both moments), saves it now and then, and
prints: the time of an update, the time by which a save holds training up, the time until it has been written (while
training goes on), and, from a start of this program again (`--resume`, which it makes itself), the time from its first
line to its first update, with and without the state's reading. Saving must be the exception: where the next save begins
before the last one has ended, training waits for it.
"""

import argparse
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

START = time.monotonic()

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import optax  # noqa: E402

from crosstrainer_jax.training import sharding  # noqa: E402
from crosstrainer_jax.training.checkpoints import Checkpoints  # noqa: E402
from crosstrainer_jax.training.step import TrainState, init_state, make_step  # noqa: E402

TX = optax.chain(optax.scale_by_adam(), optax.scale(-1.0))


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--megabytes', type=int, default=512, help='of the state: parameters and two moments')
  parser.add_argument('--saves', type=int, default=5)
  parser.add_argument('--updates', type=int, default=20, help='between two saves')
  parser.add_argument('--directory', type=Path, help='where to save; default: a temporary folder')
  parser.add_argument('--resume', action='store_true', help=argparse.SUPPRESS)
  arguments = parser.parse_args()
  if arguments.resume:
    restart(arguments.directory, arguments.megabytes)
    return
  with tempfile.TemporaryDirectory(dir=arguments.directory) as folder:
    measure(Path(folder), arguments)
    command = [sys.executable, __file__, '--resume', f'--directory={folder}', f'--megabytes={arguments.megabytes}']
    subprocess.run(command, check=True)


def fresh(megabytes: int) -> tuple[TrainState, Any, Iterator[Any]]:
  """(A state of that size, its update, batches)."""
  mesh = sharding.make_mesh()
  width = 1024
  rows = megabytes * 2**20 // (3 * 4 * width)
  params = jax.device_put({'kernel': jnp.ones((rows, width)) / rows}, sharding.replicated(mesh))
  size = sharding.data_shards(mesh)

  def loss(params: Any, _: Any, batch: Any, key: jax.Array) -> Any:
    del key
    return jnp.square(batch['x'] @ params['kernel']).sum(), jnp.float32(width), {}

  batch = sharding.put_batch({'x': np.ones((size, rows), np.float32)}, mesh)
  return init_state(params, TX, 0), make_step(loss, TX, mesh), iter(lambda: batch, None)


def measure(directory: Path, arguments: argparse.Namespace) -> None:
  state, step, batches = fresh(arguments.megabytes)
  checkpoints = Checkpoints(directory, keep=2)
  rate, number = np.float32(1e-3), 0
  times: dict[str, list[float]] = {'update': [], 'update while saving': [], 'held up': [], 'written': []}

  def update(name: str) -> None:
    nonlocal state, number
    for _ in range(arguments.updates):
      begun = time.monotonic()
      state, scalars = step(state, next(batches), rate)
      jax.block_until_ready(scalars)
      times[name].append(time.monotonic() - begun)
      number += 1

  # The first turn compiles and warms up the disk; it is not counted.
  for turn in range(arguments.saves + 1):
    update('update')
    begun = time.monotonic()
    checkpoints.save(number, state, {'update': number})
    times['held up'].append(time.monotonic() - begun)
    if turn % 2:
      checkpoints.wait()
      times['written'].append(time.monotonic() - begun)
    else:
      update('update while saving')
      checkpoints.wait()
    if not turn:
      times = {name: [] for name in times}
  checkpoints.close()
  bytes_there = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
  print(f'{bytes_there / 1e6:.0f} MB of state, {len(times["held up"])} saves')
  print(
    f'{jax.device_count()} × {jax.devices()[0].device_kind}, {os.cpu_count()} cores, jax {jax.__version__}, ', end=''
  )
  print(f'Python {platform.python_version()}')
  for name, values in times.items():
    print(f'  {name + ", s":24} median {statistics.median(values):.4f} [{min(values):.4f}, {max(values):.4f}]')


def restart(directory: Path, megabytes: int) -> None:
  imported = time.monotonic()
  state, step, batches = fresh(megabytes)
  jax.block_until_ready(state)
  made = time.monotonic()
  restored = Checkpoints(directory).restore(state)
  assert restored is not None
  jax.block_until_ready(restored.state)
  read = time.monotonic()
  _, scalars = step(restored.state, next(batches), np.float32(1e-3))
  jax.block_until_ready(scalars)
  print('A restart, to its first update:')
  for name, begun, ended in (
    ('imports', START, imported), ('a fresh state', imported, made), ('reading', made, read),
    ('compiling, first update', read, time.monotonic()), ('together', START, time.monotonic()),
  ):  # fmt: skip
    print(f'  {name + ", s":24} {ended - begun:.2f}')


if __name__ == '__main__':
  main()
