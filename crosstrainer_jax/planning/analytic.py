"""The train step from formulas: FLOPs, memory and time, with nothing compiled.

They order the candidates of a search, stand beside the compiler's numbers, and are all there is for a GPU. Letters: N
parameters of the matrices of all layers, T positions that a chip computes, D the decoder's width.
"""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from crosstrainer_jax.models.cross_entropy import PIECE_BYTES
from crosstrainer_jax.planning.machines import Machine
from crosstrainer_jax.planning.programs import Model, bytes_per_chip, decoder_of
from crosstrainer_jax.planning.workload import Workload
from crosstrainer_jax.training import sharding

# Share of the peak that published runs of 8B to 70B reach in bf16: 40 to 55 %.
SHARE_OF_PEAK = 0.5


@dataclasses.dataclass(frozen=True)
class Flops:
  """Of one update, on all chips together; two for a multiplication with addition.

  Attributes:
    useful: of real tokens alone, nothing computed twice, no gradients of frozen weights: 4N + 6N_lora (6N where N
      trains), attention within each clip, the head for targets.
    computed: with positions that pad, attention over whole rows, and what rematerialisation computes again.
  """

  useful: float
  computed: float
  real_tokens: int

  @property
  def per_token(self) -> float:
    return self.useful / self.real_tokens


def flops(model: Model, workload: Workload, remat: str) -> Flops:
  """Formulas of the FLOPs of an update."""
  decoder = decoder_of(model)
  trained, frozen = (_matrices(part) for part in model.blueprint.split(model.params))
  again = 2 * (frozen['again'] + trained['again']) if remat in ('full', 'attention') else 0
  layers = 4 * frozen['layers'] + 6 * trained['layers']
  head = decoder.vocab_size * decoder.hidden_size
  head_flops = (6 if trained['table'] else 4) * head
  # Queries with keys, and shares with values; twice as much backward.
  attention = 3 * 4 * decoder.num_layers * decoder.num_heads * decoder.head_dim
  clip, video, shape = workload.clip, workload.clip.video_tokens, workload.shape
  mapper = 4 * frozen['mapper'] + 6 * trained['mapper']
  useful = workload.clips * (
    clip.tokens * (layers + attention * clip.tokens / 2) + clip.target_tokens * head_flops + video * mapper
  )
  attention_again = attention / 3 if remat in ('full', 'dots') else 0
  computed = (
    workload.positions * (layers + again)
    + workload.positions * shape.tokens * (attention + attention_again)
    + shape.rows * shape.targets * head_flops
    + shape.rows * shape.clips * video * mapper
  )
  return Flops(float(useful), float(computed), workload.real_tokens)


@dataclasses.dataclass(frozen=True)
class Memory:
  """Bytes on one chip, by kind."""

  kinds: dict[str, float]

  @property
  def total(self) -> float:
    return sum(self.kinds.values())


def memory(model: Model, workload: Workload, remat: str, optimiser: float, tpu: bool) -> Memory:
  """Formulas of the memory of an update.

  Args:
    optimiser: bytes of its state on a chip.
    tpu: attention there keeps no L x L matrix of scores.
  """
  decoder = decoder_of(model)
  trained, frozen = model.blueprint.split(model.params)
  shards, split = sharding.data_shards(model.mesh), model.mesh.shape['tensor']
  rows, shape = workload.rows_at_once, workload.shape
  positions = rows * shape.tokens
  width = jnp.dtype(decoder.dtype).itemsize
  heads, kv = decoder.num_heads * decoder.head_dim, decoder.num_kv_heads * decoder.head_dim
  # What the linear layers of a block give; down and o end in the residual, which the next block keeps.
  outputs = (heads + 2 * kv + 2 * decoder.intermediate_size + 2 * decoder.hidden_size) / split
  between = 4 * decoder.hidden_size + 3 * decoder.intermediate_size / split
  kept = {'full': 0.0, 'attention': heads / split, 'dots': outputs}.get(remat, outputs + between)
  per_layer = decoder.hidden_size + kept
  scores = 0.0 if tpu else rows * decoder.num_heads / split * shape.tokens**2 * (4 + width)
  kept_scores = decoder.num_layers * scores / 2 if remat == 'none' else 0.0
  one_block = positions * (outputs + between) * width + 2 * scores
  layer_weights = _bytes(model.params['decoder']['layers']) / decoder.num_layers / split
  targets = rows * shape.targets
  kinds = {
    'weights, frozen': bytes_per_chip(frozen),
    'weights, trained': bytes_per_chip(trained),
    'optimiser': optimiser,
    'gradients': bytes_per_chip(trained),
    'kept for the backward pass': decoder.num_layers * positions * per_layer * width + kept_scores,
    'one block at work': one_block,
    # Two layers: one at work, one on its way; and the table, which no layer hides.
    'gathered weights': (2 * layer_weights if shards > 1 else 0.0)
    + (decoder.vocab_size * decoder.hidden_size * width / split if shards > 1 else 0.0),
    'logits': 3 * min(4 * targets * decoder.vocab_size, PIECE_BYTES) / split,
  }
  return Memory(kinds)


def step_seconds(machine: Machine, model: Model, workload: Workload, remat: str) -> dict[str, float]:
  """Seconds of an update by part, from peaks: matrix products, and the gathering of split weights.

  The larger of the two is the time where exchange is hidden behind computation.
  """
  shards, split = model.mesh.shape['fsdp'], model.mesh.shape['tensor']
  layers = _bytes(model.params['decoder']['layers']) / split
  bandwidth = machine.group_bandwidth(shards)
  # In every turn of an update: forward, computed again, and backward.
  exchange = workload.accumulate * 3 * layers * (shards - 1) / shards / bandwidth if shards > 1 else 0.0
  if split > 1:
    # What attention and the MLP give is summed: two sums a block forward, two backward, two computed again.
    decoder = decoder_of(model)
    states = workload.positions / workload.shards * decoder.hidden_size * jnp.dtype(decoder.dtype).itemsize
    passes = 6 if remat in ('full', 'attention') else 4
    exchange += passes * decoder.num_layers * 2 * states * (split - 1) / split / machine.group_bandwidth(split)
  if model.mesh.shape['replica'] > 1:
    gradients = bytes_per_chip(model.blueprint.split(model.params)[0])
    exchange += 2 * gradients / machine.chip.network
  computed = flops(model, workload, remat).computed
  return {
    'matrix products': computed / machine.chips / (machine.chip.flops * SHARE_OF_PEAK),
    'between chips': exchange,
  }


def _matrices(part: nnx.State) -> dict[str, int]:
  """Parameters of matrices: of all layers, of those that full rematerialisation uses again, of the mapper, and of the
  table that gives logits.
  """
  found = {'layers': 0, 'again': 0, 'mapper': 0, 'table': 0}
  for path, leaf in nnx.to_flat_state(part):
    name, size = '/'.join(map(str, path)), math.prod(leaf.shape)
    if name.startswith('decoder/layers/') and len(leaf.shape) == 3:
      # Two numbers of 4 bits lie in a byte.
      size = 2 * size if name.endswith('qvalue') else 0 if name.endswith('scale') else size
      found['layers'] += size
      # What `down` gives is added to the residual, which nothing backward asks for.
      found['again'] += 0 if '/down_proj/' in name and 'lora_a' not in name else size
    elif name.startswith('mapper/') and len(leaf.shape) == 2:
      found['mapper'] += size
    elif name in ('decoder/lm_head/kernel', 'decoder/embedding/embedding'):
      found['table'] += size
  return found


def _bytes(tree: Any) -> float:
  """Bytes of whole arrays."""
  return float(sum(math.prod(leaf.shape) * jnp.dtype(leaf.dtype).itemsize for leaf in jax.tree.leaves(tree)))
