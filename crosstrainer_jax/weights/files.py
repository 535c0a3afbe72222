"""Writing tensors as Hugging Face does: safetensors, one file, or shards with an index."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from crosstrainer_jax.input.files import replacing, write_atomically
from crosstrainer_jax.weights.tensors import INDEX, SINGLE


def write_tensors(path: str | Path, tensors: Mapping[str, np.ndarray], notes: Mapping[str, str]) -> None:
  """One safetensors file, with `notes` in its header."""
  with replacing(path) as fresh:
    save_file({name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}, str(fresh), dict(notes))


def write_shards(
  directory: str | Path, tensors: Iterable[tuple[str, np.ndarray]], shard_bytes: int = 5 * 10**9
) -> None:
  """Tensors as they come, in files of at most `shard_bytes` (but one tensor at least), and the index over them.

  No more than one file's tensors are held at a time.
  """
  directory = Path(directory)
  directory.mkdir(parents=True, exist_ok=True)
  places: dict[str, int] = {}
  held: dict[str, np.ndarray] = {}
  sizes: list[int] = []

  def flush() -> None:
    if held:
      write_tensors(directory / f'part-{len(sizes)}', held, {'format': 'pt'})
      sizes.append(sum(tensor.nbytes for tensor in held.values()))
      held.clear()

  for name, tensor in tensors:
    if held and sum(other.nbytes for other in held.values()) + tensor.nbytes > shard_bytes:
      flush()
    held[name] = tensor
    places[name] = len(sizes)
  flush()
  # The number of files is part of their names, and known only now.
  if len(sizes) == 1:
    (directory / 'part-0').rename(directory / SINGLE)
    return
  names = [f'model-{number:05d}-of-{len(sizes):05d}.safetensors' for number in range(1, len(sizes) + 1)]
  for number, name in enumerate(names):
    (directory / f'part-{number}').rename(directory / name)
  index = {'metadata': {'total_size': sum(sizes)}, 'weight_map': {name: names[part] for name, part in places.items()}}
  write_atomically(directory / INDEX, json.dumps(index, indent=2) + '\n')
