"""Greedy generation against `transformers` on PyTorch: the same weights, the same prompts, the same tokens.

    python benchmarks/generation_speed.py

A random model of the Llama family, of 10⁸ parameters or (`--size 8b`, for a GPU of 80 GB) in the shape of
Llama-3.1-8B, is written as a directory of the Hugging Face hub, and read by both; how long ours takes to load it is
printed. Ours is `inference.generate`, prefill and decoding in one compiled call; theirs is `generate` with its
dynamic cache, and with its static one, which PyTorch does not compile here unless --compile is given. Prefill is
counted by asking for one token, decoding by what further tokens take beyond that. Runs alternate, after a warm-up that
compiles; what is compared is the median over the alternations, and every ratio is ours / theirs of the tokens per
second of one alternation: above 1 we are faster.

JAX takes a GPU where it has one, PyTorch too where it was built for it; the table says what each ran on. All rows of
all prompts are full, so that nothing is padding. Texts must agree in float32, token by token; in bfloat16, where
rounding differs, the share of tokens that agree is printed. Exits with 1 when float32 texts differ.
"""

import argparse
import functools
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from crosstrainer_jax.inference.generate import generate
from crosstrainer_jax.models import llama_family
from crosstrainer_jax.models.decoder import Decoder
from crosstrainer_jax.weights import convert
from crosstrainer_jax.weights.tensors import Tensors

sys.path.insert(0, str(Path(__file__).parent))
from random_llama import COMMON, SIZES, write_model  # noqa: E402

# Prompts int[B, L] and the number of new tokens -> the new tokens, int[B, N].
Generate = Callable[[np.ndarray, int], np.ndarray]


class Speed(NamedTuple):
  """Tokens per second, of all rows together."""

  prefill: float
  decode: float


def ours(directory: Path, dtype: str, split_layers: bool | None) -> tuple[Generate, float]:
  """Our generation, and the seconds that its model took to load."""
  config = llama_family.read_config(directory, dtype=dtype, param_dtype=dtype)
  graph, abstract = nnx.split(nnx.eval_shape(lambda: Decoder(config, nnx.Rngs(0))), nnx.Param)
  start = time.perf_counter()
  weights = convert.load(Tensors(directory), llama_family.sources(config), abstract, llama_family.ignored(config))
  jax.block_until_ready(weights)
  taken = time.perf_counter() - start
  decoder = nnx.merge(graph, weights)

  def run(prompts: np.ndarray, new: int) -> np.ndarray:
    embeddings = decoder.embed(jnp.asarray(prompts))
    # An id outside the vocabulary never comes: no text ends early.
    tokens, _ = generate(
      decoder, embeddings, jnp.ones(prompts.shape, bool), new, eos_id=config.vocab_size, pad_id=0,
      split_layers=split_layers,
    )  # fmt: skip
    return np.asarray(tokens)

  return run, taken


def theirs(directory: Path, dtype: str, compiled: bool) -> tuple[dict[str, Generate], float, str]:
  """Their generation by the name of its cache, the seconds that its model took to load, and what it runs on."""
  import torch
  import transformers

  transformers.logging.set_verbosity_error()
  transformers.logging.disable_progress_bar()
  device = 'cuda' if torch.cuda.is_available() else 'cpu'
  start = time.perf_counter()
  model: Any = transformers.AutoModelForCausalLM.from_pretrained(directory, dtype=getattr(torch, dtype))
  model = model.to(device).eval()
  taken = time.perf_counter() - start

  def run(cache: str, prompts: np.ndarray, new: int) -> np.ndarray:
    tokens = torch.tensor(prompts, device=device)
    with torch.inference_mode():
      texts = model.generate(
        tokens, attention_mask=torch.ones_like(tokens), max_new_tokens=new, min_new_tokens=new, do_sample=False,
        cache_implementation=cache, disable_compile=not compiled,
      )  # fmt: skip
    return texts[:, tokens.shape[1] :].cpu().numpy()

  name = torch.cuda.get_device_name() if device == 'cuda' else 'cpu'
  runs: dict[str, Generate] = {cache: functools.partial(run, cache) for cache in ('dynamic', 'static')}
  return runs, taken, f'torch {torch.__version__}, {torch.get_num_threads()} threads, {name}'


def timed(run: Generate, prompts: np.ndarray, new: int) -> tuple[float, np.ndarray]:
  start = time.perf_counter()
  tokens = run(prompts, new)
  return time.perf_counter() - start, tokens


def measure(
  runs: dict[str, Generate], prompts: np.ndarray, new: int, alternations: int
) -> tuple[dict[str, list[Speed]], dict[str, np.ndarray]]:
  """Speeds of each run in every alternation, and the texts; one warm-up goes before."""
  speeds: dict[str, list[Speed]] = {name: [] for name in runs}
  texts = {}
  changed: list[str] = []
  for name, run in runs.items():
    run(prompts, 1)
    texts[name] = run(prompts, new)
  for number in range(alternations):
    # Nobody is always the first.
    for name in sorted(runs, reverse=number % 2 == 1):
      first, _ = timed(runs[name], prompts, 1)
      whole, again = timed(runs[name], prompts, new)
      changed += [name] * (not np.array_equal(again, texts[name]))
      # Where a busy machine makes the short run the longer one, nothing is known of decoding.
      decoded = len(prompts) * (new - 1) / (whole - first) if whole > first else float('nan')
      speeds[name].append(Speed(prompts.size / first, decoded))
  if changed:
    # Libraries on GPUs add in any order: in half precision that can choose another token.
    print(f'Texts that were not those of the warm-up: {", ".join(sorted(changed))}.')
  return speeds, texts


def spread(values: Sequence[float], digits: int) -> str:
  """'median [least, most]'."""
  return f'{statistics.median(values):.{digits}f} [{min(values):.{digits}f}, {max(values):.{digits}f}]'


def rows(batch: int, dtype: str, speeds: dict[str, list[Speed]], agreement: dict[str, float]) -> list[str]:
  """Lines of the table: ours against each cache of theirs."""
  lines = []
  for name in (name for name in speeds if name != 'ours'):
    cells = [str(batch), dtype, name]
    for field in Speed._fields:
      one, other = ([getattr(speed, field) for speed in speeds[side]] for side in ('ours', name))
      cells += [f'{statistics.median(one):.0f}', f'{statistics.median(other):.0f}']
      cells.append(spread([a / b for a, b in zip(one, other, strict=True)], 2))
    lines.append(f'| {" | ".join(cells)} | {os.getloadavg()[0]:.1f} | {100 * agreement[name]:.0f} % |')
  return lines


def title(options: argparse.Namespace, count: int, device: str, loaded: tuple[float, float]) -> str:
  """What stands over the rows of the table; `loaded` are seconds, ours and theirs."""
  return f"""
{count / 1e6:.1f} M parameters, prompts of {options.prompt} tokens, {options.new} written, greedy; \
n = {options.alternations} alternations, seed {options.seed}.
{os.cpu_count()} CPU cores ({platform.machine()}), load {os.getloadavg()[0]:.1f} at the start; \
ours: jax {jax.__version__} on {jax.devices()[0].device_kind}; theirs: {device}\
{', static cache compiled' if options.compile else ''}.
{f'Our layers are {options.layers}. ' if options.layers else ''}Loaded from files just written: \
ours in {loaded[0]:.1f} s, theirs in {loaded[1]:.1f} s.
Tokens per second, medians; ratios are ours / theirs, median [least, most].

| batch | dtype | their cache | prefill, ours | theirs | ratio | decode, ours | theirs | ratio | load | same tokens |
|---|---|---|---|---|---|---|---|---|---|---|"""


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--batch', type=int, nargs='+', default=[1, 16], help='prompts at once')
  parser.add_argument('--dtype', nargs='+', default=['float32'], choices=['float32', 'bfloat16'])
  parser.add_argument('--prompt', type=int, default=64, help='tokens of a prompt')
  parser.add_argument('--new', type=int, default=13, help='tokens that are written, at least 2')
  parser.add_argument('--alternations', type=int, default=3)
  parser.add_argument('--seed', type=int, default=0)
  parser.add_argument('--compile', action='store_true', help='lets PyTorch compile the static cache (minutes)')
  parser.add_argument('--size', choices=list(SIZES), default='100m', help='of the model; tiny is for tests')
  parser.add_argument('--layers', choices=['stacked', 'split'], help='while we decode; by default as the library does')
  options = parser.parse_args()
  if options.new < 2:
    parser.error('--new must be at least 2, so that something is decoded after the prefill')
  sizes = COMMON | SIZES[options.size]
  prompts = np.random.default_rng(options.seed).integers(0, sizes['vocab_size'], (max(options.batch), options.prompt))
  differ, titled = False, False
  with tempfile.TemporaryDirectory() as directory:
    count = write_model(Path(directory), sizes, options.dtype[0], options.seed)
    for dtype in options.dtype:
      run, loaded = ours(Path(directory), dtype, options.layers and options.layers == 'split')
      references, their_loaded, device = theirs(Path(directory), dtype, options.compile)
      runs = {'ours': run, **references}
      if not titled:
        print(title(options, count, device, (loaded, their_loaded)), flush=True)
        titled = True
      for batch in options.batch:
        speeds, texts = measure(runs, prompts[:batch], options.new, options.alternations)
        agreement = {name: float((text == texts['ours']).mean()) for name, text in texts.items()}
        differ |= dtype == 'float32' and min(agreement.values()) < 1
        print('\n'.join(rows(batch, dtype, speeds, agreement)), flush=True)
  if differ:
    sys.exit('the texts differ in float32')


if __name__ == '__main__':
  main()
