"""Memory and time of loading a checkpoint of many GiB, in one process and in two that hold half each.

    python benchmarks/load_checkpoint.py --gib 4

Writes random weights in the shapes of a Llama, bfloat16, in shards of safetensors with an index. A fresh process then
loads them through crosstrainer_jax.weights, the layers stacked; afterwards two processes load them onto a mesh that
splits every matrix in halves. Counted is the memory of a process that no file backs (RssAnon and RssShmem, every 2 ms):
its peak while loading, less what was there before, must not exceed what the process holds in the end and 1.2 times the
largest tensor of the files. Beside it stands the peak with mapped files in it (VmHWM), which the system takes back when
it needs them. The files have just been written, so that reading is from memory: seconds are of the conversion alone.

What was loaded is compared with the files at random places. Exits with 1 when the bound is broken. Needs Linux, and
room on the disk and in memory for the checkpoint.
"""

import argparse
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

MEBIBYTE, GIBIBYTE = 2**20, 2**30
INDEX = 'model.safetensors.index.json'
LARGEST = 1.2  # tensors of the largest size that may be held beside what stays


class Matrix(NamedTuple):
  """A parameter of a layer or of the model.

  Attributes:
    name: in the files, `{}` for the layer.
    sizes: of the tensor in the files, in units of the hidden size.
    axes: logical axes of the parameter here, which is transposed if it has two and `linear`.
  """

  name: str
  sizes: tuple[float, ...]
  axes: tuple[str, ...]
  linear: bool = True


# Of Llama 3 8B, but for a smaller vocabulary: the bound is then the stricter.
LAYER = 'model.layers.{}.'
PARAMETERS = {
  'embedding/embedding': Matrix('model.embed_tokens.weight', (8, 1), ('vocab', 'embed'), linear=False),
  'layers/input_norm/scale': Matrix(LAYER + 'input_layernorm.weight', (1,), ('embed',)),
  'layers/attention/q_proj/kernel': Matrix(LAYER + 'self_attn.q_proj.weight', (1, 1), ('embed', 'heads')),
  'layers/attention/k_proj/kernel': Matrix(LAYER + 'self_attn.k_proj.weight', (0.25, 1), ('embed', 'kv_heads')),
  'layers/attention/v_proj/kernel': Matrix(LAYER + 'self_attn.v_proj.weight', (0.25, 1), ('embed', 'kv_heads')),
  'layers/attention/o_proj/kernel': Matrix(LAYER + 'self_attn.o_proj.weight', (1, 1), ('heads', 'embed')),
  'layers/post_attention_norm/scale': Matrix(LAYER + 'post_attention_layernorm.weight', (1,), ('embed',)),
  'layers/mlp/gate_proj/kernel': Matrix(LAYER + 'mlp.gate_proj.weight', (3.5, 1), ('embed', 'mlp')),
  'layers/mlp/up_proj/kernel': Matrix(LAYER + 'mlp.up_proj.weight', (3.5, 1), ('embed', 'mlp')),
  'layers/mlp/down_proj/kernel': Matrix(LAYER + 'mlp.down_proj.weight', (1, 3.5), ('mlp', 'embed')),
  'final_norm/scale': Matrix('model.norm.weight', (1,), ('embed',)),
  'lm_head/kernel': Matrix('lm_head.weight', (8, 1), ('embed', 'vocab')),
}


class Shape(NamedTuple):
  """Of the model: its hidden size and its number of layers."""

  hidden: int
  layers: int

  @classmethod
  def of_size(cls, nbytes: float, hidden: int) -> 'Shape':
    """As many layers as come nearest to `nbytes` in bfloat16."""
    layer, rest = (
      sum(
        2 * np.prod([hidden * size for size in matrix.sizes])
        for matrix in PARAMETERS.values()
        if stacked == ('{}' in matrix.name)
      )
      for stacked in (True, False)
    )
    return cls(hidden, max(1, round((nbytes - rest) / layer)))

  def tensor(self, matrix: Matrix) -> tuple[int, ...]:
    return tuple(int(self.hidden * size) for size in matrix.sizes)

  def shards(self) -> Iterator[dict[str, tuple[int, ...]]]:
    """The tensors of each file: what is no layer's, then a file for every layer."""
    yield {m.name: self.tensor(m) for m in PARAMETERS.values() if '{}' not in m.name}
    for layer in range(self.layers):
      yield {m.name.format(layer): self.tensor(m) for m in PARAMETERS.values() if '{}' in m.name}


def generate(folder: Path, shape: Shape) -> None:
  """Writes a random checkpoint, a few MiB at a time."""
  rng = np.random.default_rng(0)
  place, total = {}, 0
  for number, tensors in enumerate(shape.shards()):
    file = folder / f'model-{number:05}.safetensors'
    header, offset = {}, 0
    for name, sizes in tensors.items():
      end = offset + 2 * int(np.prod(sizes))
      header[name] = {'dtype': 'BF16', 'shape': sizes, 'data_offsets': [offset, end]}
      offset, place[name] = end, file.name
    encoded = json.dumps(header).encode()
    with file.open('wb') as opened:
      opened.write(len(encoded).to_bytes(8, 'little') + encoded)
      for start in range(0, offset, 4 * MEBIBYTE):
        count = min(4 * MEBIBYTE, offset - start) // 2
        # without the highest bit of the exponent: all numbers are finite
        opened.write((rng.integers(0, 2**16, count, np.uint16) & 0xBFFF).tobytes())
    total += offset
  (folder / INDEX).write_text(json.dumps({'metadata': {'total_size': total}, 'weight_map': place}))


class PeakMemory:
  """Memory of this process in bytes that no file backs: before, while (at its highest) and after the context."""

  def __enter__(self) -> 'PeakMemory':
    self.before = self.peak = anonymous()
    self._done = threading.Event()
    self._thread = threading.Thread(target=self._poll)
    self._thread.start()
    return self

  def __exit__(self, *_: object) -> None:
    self._done.set()
    self._thread.join()
    self.after = anonymous()

  def _poll(self) -> None:
    while not self._done.wait(0.002):
      self.peak = max(self.peak, anonymous())


def anonymous() -> int:
  return status('RssAnon', 'RssShmem')


def status(*fields: str) -> int:
  """Bytes of fields of /proc/self/status, summed up."""
  text = Path('/proc/self/status').read_text()
  return sum(1024 * int(re.findall(rf'^{field}:\s+(\d+) kB$', text, re.M)[0]) for field in fields)


def load(folder: Path, shape: Shape, processes: int) -> dict[str, Any]:
  """Loads the checkpoint onto all devices, and says what it cost."""
  import jax
  import jax.numpy as jnp
  from flax import nnx

  from crosstrainer_jax.training import sharding
  from crosstrainer_jax.weights import convert
  from crosstrainer_jax.weights.tensors import Tensors

  mesh = sharding.make_mesh((1, processes, 1))
  sources, variables = {}, []
  for path, matrix in PARAMETERS.items():
    transposed = matrix.linear and len(matrix.sizes) == 2
    sizes = shape.tensor(matrix)[::-1] if transposed else shape.tensor(matrix)
    axes = (*(('layers',) if '{}' in matrix.name else ()), *matrix.axes)
    sizes = (shape.layers, *sizes) if '{}' in matrix.name else sizes
    place = jax.sharding.NamedSharding(mesh, sharding.partition_spec(path, sizes, axes, mesh))
    variables.append((tuple(path.split('/')), nnx.Param(jax.ShapeDtypeStruct(sizes, jnp.bfloat16, sharding=place))))
    sources[path] = convert.Source(matrix.name, convert.LINEAR if transposed else ())
  tensors = Tensors(folder)
  with PeakMemory() as memory:
    begun = time.perf_counter()
    state = jax.block_until_ready(convert.load(tensors, sources, nnx.from_flat_state(variables)))
    seconds = time.perf_counter() - begun
  shards = [shard for leaf in jax.tree.leaves(state) for shard in leaf.addressable_shards]
  compare(convert.flat(state), sources, tensors)
  return {
    'held': sum(shard.data.nbytes for shard in shards),
    'largest': max(tensor.nbytes for tensor in tensors.values()),
    'seconds': seconds,
    'peak': memory.peak - memory.before,
    'after': memory.after - memory.before,
    'resident': status('VmHWM'),
  }


def compare(state: dict[str, Any], sources: dict[str, Any], tensors: Any, places: int = 100) -> None:
  """Raises AssertionError when what this process holds is not what the files hold, at random places."""
  rng = np.random.default_rng(1)
  for path, variable in state.items():
    for shard in variable.get_value().addressable_shards:
      part = np.asarray(shard.data)
      first = [cut.indices(size)[0] for cut, size in zip(shard.index, variable.shape, strict=True)]
      for _ in range(places):
        inside = tuple(map(int, rng.integers(part.shape)))
        layer, *place = (a + b for a, b in zip(first, inside, strict=True))
        name, axes = sources[path]
        place = place if '{}' in name else [layer, *place]
        place = place[::-1] if axes == (1, 0) else place
        assert part[inside].tobytes() == tensors[name.format(layer)].read()[tuple(place)].tobytes(), (path, inside)


def measure(folder: Path, shape: Shape, processes: int) -> list[dict[str, Any]]:
  """`load` in so many fresh processes at once."""
  with socket.socket() as free:
    free.bind(('localhost', 0))
    address = f'localhost:{free.getsockname()[1]}'
  environment = os.environ | {'JAX_PLATFORMS': 'cpu', 'JAX_CPU_COLLECTIVES_IMPLEMENTATION': 'gloo'}
  environment.pop('XLA_FLAGS', None)  # one device each
  environment['PYTHONPATH'] = os.pathsep.join([str(Path(__file__).resolve().parent.parent), *sys.path])
  command = [sys.executable, __file__, '--member', str(folder), *map(str, shape), address, str(processes)]
  members = [
    subprocess.Popen([*command, str(rank)], stdout=subprocess.PIPE, text=True, env=environment)
    for rank in range(processes)
  ]
  outputs = [member.communicate()[0] for member in members]
  if any(member.returncode for member in members):
    raise SystemExit('a process that was to load the checkpoint failed')
  return [json.loads(output.splitlines()[-1]) for output in outputs]


def member(folder: str, hidden: str, layers: str, address: str, processes: str, rank: str) -> None:
  """What a process of `measure` does; it prints the result."""
  import jax

  if int(processes) > 1:
    jax.distributed.initialize(address, int(processes), int(rank))
  result = load(Path(folder), Shape(int(hidden), int(layers)), int(processes))
  print(json.dumps(result), flush=True)


def main() -> int:
  """Prints the table; 1 if the bound is broken."""
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--gib', type=float, default=4.0, help='size of the checkpoint')
  parser.add_argument('--hidden', type=int, default=4096, help='hidden size of the model, a multiple of 8')
  parser.add_argument('--folder', type=Path, help='where the files lie while it runs; default: a temporary folder')
  parser.add_argument('--member', nargs=6, help=argparse.SUPPRESS)
  options = parser.parse_args()
  if options.member:
    member(*options.member)
    return 0
  shape = Shape.of_size(options.gib * GIBIBYTE, options.hidden)
  broken = False
  with tempfile.TemporaryDirectory(dir=options.folder) as name:
    folder = Path(name)
    generate(folder, shape)
    size = sum(file.stat().st_size for file in folder.iterdir())
    print(
      f'{size / GIBIBYTE:.2f} GiB in {shape.layers} layers of width {shape.hidden}; {os.cpu_count()} CPU cores; in MiB:'
    )
    print('| process | holds | largest tensor | peak | bound | stays | VmHWM | seconds | GiB/s |')
    print('|---|---|---|---|---|---|---|---|---|')
    for processes in (1, 2):
      for rank, found in enumerate(measure(folder, shape, processes)):
        bound = found['held'] + LARGEST * found['largest']
        broken |= found['peak'] > bound
        columns = (found['held'], found['largest'], found['peak'], bound, found['after'], found['resident'])
        row = ' | '.join(f'{value / MEBIBYTE:.0f}' for value in columns)
        rate = found['held'] / GIBIBYTE / found['seconds']
        print(f'| {rank + 1} of {processes} | {row} | {found["seconds"]:.1f} | {rate:.2f} |', flush=True)
  if broken:
    print(f'broken: the peak exceeds what is held and {LARGEST} x the largest tensor')
  return int(broken)


if __name__ == '__main__':
  sys.exit(main())
