"""What it saves that the two passes of the paper look at the video once.

    python benchmarks/shared_prefix.py

Both prompts begin with the same video and the same words (paper, section 3.3). `Assessor.two_passes` reads that once
and continues its cache twice; without it, F_a and F_t each read their whole prompt. Both ways are timed in turn on a
random model, from features to texts, after a warm-up that compiles. Once with the lengths of real answers, of which a
random model writes every token (it never ends a text, so that decoding takes the longest it can), and once with a
single token for each pass, which leaves the prefill. In float32 both must write the same, or it exits with 1; in
bfloat16 (`--size 8b`), where rounding differs, the share of answers that agree is printed.

Beside the seconds stand the FLOPs of the prefill, counted by hand from the lengths of the prompts, padding included.
"""

import argparse
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from crosstrainer_jax.configs import compact
from crosstrainer_jax.inference.assessment import Assessor
from crosstrainer_jax.input import examples, prompts
from crosstrainer_jax.input.tokenizer import train_tokenizer
from crosstrainer_jax.models.decoder_config import DecoderConfig
from crosstrainer_jax.training import sharding, stages

SPORTS = ('soccer', 'basketball', 'rock climbing', 'fitness')
SIZES: dict[str, dict[str, Any]] = {
  # a test, not a measurement
  'tiny': {
    'hidden_size': 32, 'intermediate_size': 48, 'num_layers': 2, 'num_heads': 2, 'num_kv_heads': 1, 'head_dim': 16,
  },
  '30m': {
    'hidden_size': 512, 'intermediate_size': 1536, 'num_layers': 10, 'num_heads': 8, 'num_kv_heads': 4, 'head_dim': 64,
  },
  # Llama-3.1-8B but for its vocabulary, for a GPU of 80 GB
  '8b': {
    'hidden_size': 4096, 'intermediate_size': 14_336, 'num_layers': 32, 'num_heads': 32, 'num_kv_heads': 8,
    'head_dim': 128, 'dtype': 'bfloat16', 'param_dtype': 'bfloat16',
  },
}  # fmt: skip
COMMON: dict[str, Any] = {'max_position': 1024, 'tie_embeddings': False, 'unroll': False}
FEATURES = 256

Answers = tuple[list[list[str]], list[str]]


class Clips:
  """Random features of `count` clips, and a random model that reads them; `sizes` of its decoder."""

  def __init__(self, count: int, views: int, seconds: int, sizes: dict[str, Any], seed: int, directory: Path):
    random = np.random.default_rng(seed)
    self.sports = [SPORTS[i % len(SPORTS)] for i in range(count)]
    self.video = {'features': random.normal(size=(count, views, seconds, FEATURES)).astype(np.float16)}
    self.valid = np.ones((count, views, seconds), bool)
    texts = [prompts.attribute_prompt(sport) for sport in SPORTS] + [prompts.feedback_prompt('golf', ['knee bend'])]
    words = train_tokenizer([text.replace(prompts.VIDEO, '') for text in texts], 512, directory)
    encoder = examples.PromptTokenizer(words, views * seconds, 3)
    config = compact.preset()
    config.mapper.whiten = False
    config.decoder.update(sizes)
    mesh = sharding.make_mesh((1, 1, 1), jax.devices()[:1])
    blueprint, params = stages.build(config, encoder.rows, FEATURES, encoder.video_id, seed, mesh)
    # Fresh weights give all tokens about the same probability, so that rounding would choose among them.
    params['decoder']['lm_head']['kernel'] = jax.tree.map(
      lambda leaf: 4.0 * leaf, params['decoder']['lm_head']['kernel']
    )
    self.parameters = sum(leaf.size for leaf in jax.tree.leaves(params))
    self.decoder: DecoderConfig = blueprint.merge(params).decoder.config
    self.encoder = encoder
    self.assessor = Assessor(blueprint, params, encoder, mesh, batch_size=count)

  def together(self, lengths: tuple[int, int]) -> Answers:
    return self.assessor.two_passes(self.sports, self.video, self.valid, *lengths)

  def apart(self, lengths: tuple[int, int]) -> Answers:
    listed = self.assessor.attributes(self.sports, self.video, self.valid, lengths[0])
    return listed, self.assessor.feedback(self.sports, listed, self.video, self.valid, lengths[1])

  def prefill_flops(self, listed: list[list[str]]) -> tuple[float, float]:
    """Of the prefill of all clips apart and together; F_t reads `listed`."""
    first = [self.encoder.prompt(examples.ATTRIBUTES, sport) for sport in self.sports]
    second = [
      self.encoder.prompt(examples.FEEDBACK, sport, names) for sport, names in zip(self.sports, listed, strict=True)
    ]
    (look,) = self.assessor.look(self.sports, self.video, self.valid)
    shared = look.prefix.cache.segment_ids.shape[1]

    def rest(rows: list[list[int]]) -> list[int]:
      return [len(row) - length for row, length in zip(rows, look.lengths, strict=True)]

    apart = sum(self._flops(examples.bucket(max(map(len, rows))), 0) for rows in (first, second))
    together = self._flops(shared, 0) + sum(
      self._flops(examples.bucket(max(rest(rows))), shared) for rows in (first, second)
    )
    return apart * len(self.sports), together * len(self.sports)

  def _flops(self, slots: int, before: int) -> float:
    """Of the decoder's layers, for a row of `slots` behind `before` others."""
    config = self.decoder
    heads, kv_heads = config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim
    weights = config.hidden_size * (2 * heads + 2 * kv_heads + 3 * config.intermediate_size)
    return config.num_layers * 2 * slots * (weights + 2 * heads * (before + slots))


def timed(run: Callable[[tuple[int, int]], Answers], lengths: tuple[int, int]) -> tuple[float, Answers]:
  start = time.perf_counter()
  answers = run(lengths)
  return time.perf_counter() - start, answers


def same(one: Answers, other: Answers) -> float:
  """Share of the answers, lists and texts, that are equal."""
  pairs = [*zip(one[0], other[0], strict=True), *zip(one[1], other[1], strict=True)]
  return sum(a == b for a, b in pairs) / len(pairs)


def measure(
  clips: Clips, lengths: tuple[int, int], alternations: int
) -> tuple[list[float], list[float], Answers, float]:
  """Seconds apart and together of each alternation, the answers apart, and the share of them that is the same together.

  Raises:
    SystemExit: a way does not write the same twice.
  """
  runs = {'apart': clips.apart, 'together': clips.together}
  expected = {name: run(lengths) for name, run in runs.items()}
  seconds: dict[str, list[float]] = {name: [] for name in runs}
  for number in range(alternations):
    # Neither is always the first.
    for name in sorted(runs, reverse=number % 2 == 1):
      taken, answers = timed(runs[name], lengths)
      seconds[name].append(taken)
      if answers != expected[name]:
        sys.exit(f'{name} does not write the same texts twice')
  return seconds['apart'], seconds['together'], expected['apart'], same(*expected.values())


def title(options: argparse.Namespace, parameters: int) -> str:
  """What stands over the rows of the table."""
  return f"""
{parameters / 1e6:.1f} M parameters, {options.batch} clips of {options.views} x {options.seconds} video tokens; \
n = {options.alternations} alternations, seed {options.seed}.
{os.cpu_count()} CPU cores ({platform.machine()}), load {os.getloadavg()[0]:.1f} at the start; \
jax {jax.__version__} on {jax.devices()[0].device_kind}.
Seconds are medians of a batch; ratio is apart / together, median [least, most].

| tokens written | seconds, apart | together | ratio | load | prefill GFLOPs, apart | together | saved | same answers |
|---|---|---|---|---|---|---|---|---|"""


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--batch', type=int, default=8, help='clips, all in one batch')
  parser.add_argument('--views', type=int, default=5)
  parser.add_argument('--seconds', type=int, default=10, help='of a clip: video tokens of each view')
  parser.add_argument('--attribute_tokens', type=int, default=24, help='written by F_a')
  parser.add_argument('--feedback_tokens', type=int, default=64, help='written by F_t')
  parser.add_argument('--alternations', type=int, default=3)
  parser.add_argument('--seed', type=int, default=0)
  parser.add_argument('--size', choices=list(SIZES), default='30m', help='of the model; tiny is for tests')
  parser.add_argument('--prefill_only', action='store_true', help='leaves the row with whole answers out')
  options = parser.parse_args()
  sizes = COMMON | SIZES[options.size]
  with tempfile.TemporaryDirectory() as directory:
    clips = Clips(options.batch, options.views, options.seconds, sizes, options.seed, Path(directory))
    print(title(options, clips.parameters), flush=True)
    for lengths in ((1, 1), *(() if options.prefill_only else ((options.attribute_tokens, options.feedback_tokens),))):
      apart, together, (listed, _), agreement = measure(clips, lengths, options.alternations)
      flops = clips.prefill_flops(listed)
      ratios = [one / other for one, other in zip(apart, together, strict=True)]
      print(
        f'| {lengths[0]} + {lengths[1]} | {statistics.median(apart):.3f} | {statistics.median(together):.3f} '
        f'| {statistics.median(ratios):.2f} [{min(ratios):.2f}, {max(ratios):.2f}] | {os.getloadavg()[0]:.1f} '
        f'| {flops[0] / 1e9:.1f} | {flops[1] / 1e9:.1f} | {100 * (1 - flops[1] / flops[0]):.0f} % '
        f'| {100 * agreement:.0f} % |',
        flush=True,
      )
      if clips.decoder.dtype == 'float32' and agreement < 1:
        sys.exit('the two ways write different texts in float32')


if __name__ == '__main__':
  main()
