"""One LoRA update against `transformers` and PEFT on PyTorch: the same weights, adapters, examples and precision.

    python benchmarks/train.py

A random model of the Llama family is written as a directory of the Hugging Face hub and read by both; adapters of the
paper's form sit on every linear layer but the head, dropout off, AdamW on both sides. The examples are sequences of the
lengths of the paper's: a prompt, of which nothing is learnt, and a target. Updates of equally many clips:

- ours: several clips share a row, the loss is computed at the targets alone (`packing`, `cross_entropy`);
- theirs, padded: batches of clips as they come, padded to the longest (what `Trainer` does by default);
- theirs, by length: all clips sorted by length before they are cut into batches (`group_by_length`).

All pass over the same clips; passes alternate, after a warm-up that compiles. Rates count real tokens: padding is no
work done. Before that both compute the loss and the norm of the adapters' gradient on the same clips, which must agree,
or it exits with 1. Memory is the peak of a pass in a process of its own, weights included: on a CPU what that process
holds at most beyond what it held before the model was read, on a GPU what the allocator gave out at most.
"""

import argparse
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

# Both sides share a GPU's memory.
os.environ.setdefault('XLA_PYTHON_CLIENT_PREALLOCATE', 'false')

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from flax import nnx

from crosstrainer_jax.configs import paper
from crosstrainer_jax.input import packing
from crosstrainer_jax.input.packing import Shape, Sizes
from crosstrainer_jax.models import llama_family
from crosstrainer_jax.models.cross_entropy import cross_entropy, pieces_of
from crosstrainer_jax.models.decoder import Decoder
from crosstrainer_jax.models.lora import LoRAConfig
from crosstrainer_jax.training import optimizer, sharding
from crosstrainer_jax.training.stages import divide
from crosstrainer_jax.training.step import init_state, make_step
from crosstrainer_jax.weights import convert
from crosstrainer_jax.weights.tensors import Tensors

sys.path.insert(0, str(Path(__file__).parent))
from random_llama import COMMON, SIZES, write_model  # noqa: E402

FROZEN = ('^(?!.*lora_)',)

# The clips of one update: of each its tokens, and how many of them, at the end, are targets.
Clips = list[tuple[np.ndarray, int]]
# A side makes one update, and says its loss and the norm of its gradient.
Update = Callable[[Clips], tuple[float, float]]


def draw(count: int, vocab: int, mean: float, seed: int) -> Clips:
  """Sequences of about `mean` tokens, as skewed as comments are, of which a third are targets."""
  random = np.random.default_rng(seed)
  lengths = np.clip(random.lognormal(np.log(mean) - 0.08, 0.4, count), 24, 3 * mean).astype(int)
  return [(random.integers(0, vocab, length), max(1, length // 3)) for length in lengths]


# --- Ours


def rows_of(clips: Clips, shape: Shape, places: list[list[int]]) -> dict[str, np.ndarray]:
  """The arrays of an update, as `input.examples` makes them, of sequences without video."""
  names = ('tokens', 'segment_ids', 'positions')
  batch = {name: np.zeros((shape.rows, shape.tokens), np.int32) for name in names}
  batch |= {name: np.zeros((shape.rows, shape.targets), np.int32) for name in ('target_slots', 'target_ids')}
  batch['target_weights'] = np.zeros((shape.rows, shape.targets), np.float32)
  for row, members in enumerate(places):
    start = first = 0
    for number, member in enumerate(members):
      ids, targets = clips[member]
      stop, last = start + len(ids), first + targets
      batch['tokens'][row, start:stop] = ids
      batch['segment_ids'][row, start:stop] = number + 1
      batch['positions'][row, start:stop] = np.arange(len(ids))
      batch['target_slots'][row, first:last] = np.arange(stop - targets - 1, stop - 1)
      batch['target_ids'][row, first:last] = ids[-targets:]
      batch['target_weights'][row, first:last] = 1.0
      start, first = stop, last
  return batch


def ours(directory: Path, options: argparse.Namespace, updates: Sequence[Clips], adapter: Path) -> Update:
  """Updates of packed rows; the adapters' start is written as a directory of PEFT, for the other side to read."""
  config = llama_family.read_config(
    directory, dtype=options.dtype, param_dtype=options.dtype, remat=options.remat,
    lora=LoRAConfig(options.rank, 2.0 * options.rank, 0.0),
  )  # fmt: skip
  graph, abstract, rest = nnx.split(nnx.eval_shape(lambda: Decoder(config, nnx.Rngs(0))), nnx.Param, ...)
  mesh = sharding.make_mesh((1, 1, 1), jax.devices()[:1])
  adapters, base = divide(abstract, FROZEN)
  frozen = convert.load(Tensors(directory), llama_family.sources(config), base, llama_family.ignored(config))
  random = np.random.default_rng(options.seed)
  trained = jax.tree.map(
    lambda leaf: jnp.asarray(random.standard_normal(leaf.shape) * 0.02, leaf.dtype), adapters
  )  # fmt: skip
  np.savez(adapter, **{path: np.asarray(leaf[...]) for path, leaf in convert.flat(trained).items()})

  def loss(trained: nnx.State, frozen: nnx.State, batch: dict[str, jax.Array], key: jax.Array) -> Any:
    del key
    decoder = nnx.merge(graph, nnx.merge_state(trained, frozen), rest, copy=True)
    hidden, _ = decoder(decoder.embed(batch['tokens']), batch['positions'], batch['segment_ids'], False)
    states = jnp.take_along_axis(hidden, batch['target_slots'][..., None], axis=1)
    weights = batch['target_weights']
    pieces = pieces_of(states.shape[1], len(states), config.vocab_size)
    total, _ = cross_entropy(states, decoder.head(), batch['target_ids'], weights, pieces)
    return total, weights.sum(), {}

  settings: ml_collections.ConfigDict = paper.preset().training.optimizer
  tx = optimizer.make_optimizer(settings)
  state = init_state(jax.device_put(trained, sharding.replicated(mesh)), tx, 0)
  step = make_step(loss, tx, mesh, jax.device_put(frozen, sharding.replicated(mesh)))
  needed = [Sizes(np.array([len(ids) for ids, _ in clips]), np.array([n for _, n in clips])) for clips in updates]
  shape = packing.choose_shape(needed, options.row_tokens, 1)
  fill = np.mean([size.tokens.sum() for size in needed]) / (shape.rows * shape.tokens)
  print(f'Ours: {options.batch_size} clips in {shape.rows} rows of {shape.tokens} tokens, {fill:.0%} filled.')
  places = {id(clips): packing.pack(size, shape) for clips, size in zip(updates, needed, strict=True)}

  def update(clips: Clips) -> tuple[float, float]:
    nonlocal state
    batch = sharding.put_batch(rows_of(clips, shape, places[id(clips)]), mesh)
    state, scalars = step(state, batch, np.float32(settings.learning_rate))
    return float(scalars['loss']), float(scalars['grad_norm'])

  return update


# --- Theirs


def theirs(directory: Path, options: argparse.Namespace, adapter: Path) -> Update:
  """Updates of padded batches, with PEFT's adapters in the same state."""
  import peft
  import torch
  import transformers

  transformers.logging.set_verbosity_error()
  transformers.logging.disable_progress_bar()
  device = 'cuda' if torch.cuda.is_available() else 'cpu'
  model: Any = transformers.AutoModelForCausalLM.from_pretrained(directory, dtype=getattr(torch, options.dtype))
  targets = ['q_proj', 'k_proj', 'v_proj', 'o_proj', 'gate_proj', 'up_proj', 'down_proj']
  model = peft.get_peft_model(
    model, peft.LoraConfig(r=options.rank, lora_alpha=2 * options.rank, lora_dropout=0.0, target_modules=targets)
  )
  start = np.load(adapter)
  for name, parameter in model.named_parameters():
    if 'lora_' not in name:
      continue
    parts = name.split('.')
    layer, path = int(parts[parts.index('layers') + 1]), parts[parts.index('layers') + 2 :]
    module = 'attention' if path[0] == 'self_attn' else 'mlp'
    value = start[f'layers/{module}/{path[1]}/{path[2].lower()}'][layer].T
    parameter.data = torch.tensor(value, dtype=torch.float32)
  model = model.to(device).train()
  if options.remat == 'full':
    # its name in later versions of transformers, and in earlier ones
    enable = getattr(model, 'activation_checkpointing_enable', None) or model.gradient_checkpointing_enable
    enable({'use_reentrant': False})
    model.enable_input_require_grads()
  trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
  adam = torch.optim.AdamW(trained, lr=2e-4, betas=(0.9, 0.999), weight_decay=0.0)

  def update(clips: Clips) -> tuple[float, float]:
    longest = max(len(ids) for ids, _ in clips)
    tokens, labels, mask = (torch.zeros((len(clips), longest), dtype=torch.long) for _ in range(3))
    labels -= 100
    for row, (ids, count) in enumerate(clips):
      tokens[row, : len(ids)] = torch.tensor(ids)
      labels[row, len(ids) - count : len(ids)] = torch.tensor(ids[-count:])
      mask[row, : len(ids)] = 1
    done = model(tokens.to(device), attention_mask=mask.to(device), labels=labels.to(device))
    done.loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(trained, 1.0)
    adam.step()
    adam.zero_grad()
    return float(done.loss.detach()), float(norm)

  return update


# --- Side by side


SIDES = ('ours', 'padded', 'by length')


def side(name: str, directory: Path, options: argparse.Namespace, batches: dict[str, list[Clips]]) -> Update:
  """One side, ready to update."""
  adapter = directory / 'adapter.npz'
  return ours(directory, options, batches['padded'], adapter) if name == 'ours' else theirs(directory, options, adapter)


def resident() -> int:
  """Bytes that this process holds now."""
  return int(Path('/proc/self/statm').read_text().split()[1]) * resource.getpagesize()


def peak(name: str, directory: Path, options: argparse.Namespace) -> int:
  """Bytes that one pass of a side takes at most, where this process does nothing else."""
  batches = passes(options, (COMMON | SIZES[options.size])['vocab_size'])
  if name != 'ours':
    import peft  # noqa: F401  its code is no part of what the model takes
  device = jax.devices()[0]
  before = resident()
  update = side(name, directory, options, batches)
  for part in batches[batches_of(name)]:
    update(part)
  if device.platform == 'cpu':
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
  if name == 'ours':
    return (device.memory_stats() or {})['peak_bytes_in_use']
  import torch

  return torch.cuda.max_memory_allocated()


def peaks(directory: Path) -> dict[str, int]:
  """Of all sides, one after another, each in a process of its own."""
  command = [sys.executable, __file__, *sys.argv[1:], '--directory', str(directory), '--alone']
  return {
    name: int(subprocess.run([*command, name], check=True, stdout=subprocess.PIPE, text=True).stdout.split()[-1])
    for name in SIDES
  }


def batches_of(name: str) -> str:
  """How the clips that a side passes over are cut."""
  return 'by length' if name == 'by length' else 'padded'


def passes(options: argparse.Namespace, vocab: int) -> dict[str, list[Clips]]:
  """The batches of each way to make them."""
  clips = draw(options.updates * options.batch_size, vocab, options.tokens, options.seed)

  def cut(clips: Clips) -> list[Clips]:
    return [clips[i : i + options.batch_size] for i in range(0, len(clips), options.batch_size)]

  return {'padded': cut(clips), 'by length': cut(sorted(clips, key=lambda clip: -len(clip[0])))}


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--size', choices=list(SIZES), default='50m', help='of the model; tiny is for tests')
  parser.add_argument('--dtype', choices=['float32', 'bfloat16'], default='float32')
  parser.add_argument('--remat', choices=['none', 'full'], default='none')
  parser.add_argument('--rank', type=int, default=32)
  parser.add_argument('--batch_size', type=int, default=16, help='clips of an update')
  parser.add_argument('--tokens', type=int, default=155, help='of a clip, on average')
  parser.add_argument('--row_tokens', type=int, default=512, help='longest row of ours')
  parser.add_argument('--updates', type=int, default=4, help='in a pass')
  parser.add_argument('--alternations', type=int, default=3)
  parser.add_argument('--seed', type=int, default=0)
  parser.add_argument('--memory', action=argparse.BooleanOptionalAction, default=True, help='measure peaks as well')
  # one side in a process of its own
  parser.add_argument('--alone', choices=SIDES, help=argparse.SUPPRESS)
  parser.add_argument('--directory', type=Path, help=argparse.SUPPRESS)
  options = parser.parse_args()
  if options.alone:
    print(peak(options.alone, options.directory, options))
    return
  sizes = COMMON | SIZES[options.size]
  batches = passes(options, sizes['vocab_size'])
  clips = options.updates * options.batch_size
  tokens = sum(len(ids) for update in batches['padded'] for ids, _ in update)
  print(f'{os.cpu_count()} CPU cores ({platform.machine()}), jax {jax.__version__} on {jax.devices()[0].device_kind}.')
  print(f'{clips} clips of {tokens / clips:.0f} tokens; n = {options.alternations} alternations, seed {options.seed}.')
  with tempfile.TemporaryDirectory() as folder:
    directory = Path(folder)
    count = write_model(directory, sizes, options.dtype, options.seed)
    print(f'{count / 1e6:.1f} M parameters, {options.dtype}, adapters of rank {options.rank}, remat {options.remat}.')
    held = peaks(directory) if options.memory else {}
    mine = side('ours', directory, options, batches)
    other = side('padded', directory, options, batches)
  first = mine(batches['padded'][0]), other(batches['padded'][0])
  for name, values in zip(('Loss', 'Norm of the gradient'), zip(*first, strict=True), strict=True):
    print(f'{name} of the first update: ours {values[0]:.5f}, theirs {values[1]:.5f}.')
  seconds: dict[str, list[float]] = {name: [] for name in SIDES}
  for number in range(options.alternations):
    for name in SIDES[:: -1 if number % 2 else 1]:
      update = mine if name == 'ours' else other
      start = time.perf_counter()
      for part in batches[batches_of(name)]:
        update(part)
      seconds[name].append(time.perf_counter() - start)
  print('| | real tokens/s | clips/s | ours / theirs, median [least, most] | peak, MiB |\n|---|---|---|---|---|')
  for name, taken in seconds.items():
    ratios = sorted(theirs / ours for ours, theirs in zip(seconds['ours'], taken, strict=True))
    middle = statistics.median(taken)
    ratio = f'{statistics.median(ratios):.2f} [{ratios[0]:.2f}, {ratios[-1]:.2f}]'
    memory = f'{held[name] / 2**20:,.0f}' if held else 'not measured'
    print(f'| {name} | {tokens / middle:,.0f} | {clips / middle:.1f} | {ratio} | {memory} |')
  allowed = 1e-3 if options.dtype == 'float32' else 3e-2
  if any(abs(a - b) > allowed * max(1.0, abs(b)) for a, b in zip(*first, strict=True)):
    sys.exit('loss or gradient of the first update differ')


if __name__ == '__main__':
  main()
