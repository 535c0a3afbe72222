"""A published step compiled, to calibrate the estimator.

    python -m crosstrainer_jax.planning.published_step                  # both runs, ten minutes of a core each
    python -m crosstrainer_jax.planning.published_step Llama-3.1-8B

Sequences on a chip and what is kept for the backward pass are as they were published: a block's
input and its projections lie on the host meanwhile, the rest is computed again.

The program is not theirs. It has our decoder's parameters and optimiser, but a loop over blocks of its own, with the
published blocks of attention's kernel and the offloading, which our train step does not have. So what differs is of
program plus estimator, and is called so.
"""

import functools
import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import optax
from flax import nnx
from jax.ad_checkpoint import checkpoint_name
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel, splash_attention_mask
from jax.sharding import Mesh, PartitionSpec

from crosstrainer_jax.models import llama_family
from crosstrainer_jax.models.decoder import Decoder, DecoderLayer
from crosstrainer_jax.models.rotary import rotary_angles, rotary_frequencies, rotate
from crosstrainer_jax.planning import calibration, compilation, estimate, machines, topologies
from crosstrainer_jax.planning.calibration import TOKENS, Published
from crosstrainer_jax.planning.programs import Program, abstract_state, bytes_per_chip, lowered
from crosstrainer_jax.training import optimizer, sharding
from crosstrainer_jax.training.step import make_step

# Blocks of the kernel, and the option of the compiler that was published with them: so large, they need more of the
# memory beside the cores.
BLOCK = 2048
OPTIONS = {'xla_tpu_scoped_vmem_limit_kib': '98304'}
# Positions of every row whose logits are in memory at a time: ours.
CHUNK = 512


def train_step(run: Published, mesh: Mesh) -> Program:
  """A step of a plain decoder as it was published."""
  config = llama_family.decoder_config(run.fields, max_position=TOKENS, dtype='bfloat16')
  graph, abstract = nnx.split(nnx.eval_shape(lambda: Decoder(config, nnx.Rngs(0))), nnx.Param)
  params = jax.tree.map(
    lambda leaf, place: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place),
    abstract,
    sharding.state_shardings(abstract, mesh),
  )
  attention = _attention(config.num_heads, mesh)
  policy = jax.checkpoint_policies.save_and_offload_only_these_names(
    names_which_can_be_saved=[], names_which_can_be_offloaded=list(run.offloaded),
    offload_src='device', offload_dst='pinned_host',
  )  # fmt: skip

  def loss(params: nnx.State, frozen: Any, batch: dict[str, jax.Array], key: jax.Array) -> Any:
    decoder = nnx.merge(graph, params, copy=True)
    hidden = _hidden(decoder, batch['tokens'], attention, policy, sharding.batch_sharding(mesh))
    total = _negative_log_likelihood(decoder, hidden, batch['targets'])
    return total, jnp.asarray(batch['targets'].size, jnp.float32), {}

  tx = optimizer.make_optimizer(
    ml_collections.ConfigDict(
      {'name': 'adamw', 'learning_rate_rules': (), 'b1': 0.9, 'b2': 0.95, 'weight_decay': 0.1, 'clip_norm': 1.0}
    )
  )
  state = abstract_state(params, tx, mesh)
  shape = (run.sequences * mesh.size, TOKENS)
  place = sharding.batch_sharding(mesh)
  batch = {name: jax.ShapeDtypeStruct(shape, jnp.int32, sharding=place) for name in ('tokens', 'targets')}
  rate = jax.ShapeDtypeStruct((), jnp.float32, sharding=sharding.replicated(mesh))
  step = make_step(loss, tx, mesh)
  arguments = {
    'weights, trained': bytes_per_chip(params),
    'optimiser': bytes_per_chip(state.opt_state),
    'batch': bytes_per_chip(batch),
  }
  return Program(run.name, lambda: lowered(step, state, batch, rate), arguments, params)


def _attention(heads: int, mesh: Mesh) -> Callable[..., jax.Array]:
  """Causal attention of float[B, heads, L, head_dim] by the splash kernel, with the published blocks."""
  kinds = ('q', 'kv', 'kv_compute', 'q_dkv', 'kv_dkv', 'kv_dkv_compute')
  blocks: dict[str, Any] = {f'block_{kind}': BLOCK for kind in kinds}
  mask = splash_attention_mask.MultiHeadMask([splash_attention_mask.CausalMask((TOKENS, TOKENS))] * heads)
  kernel = splash_attention_kernel.make_splash_mha(
    mask,
    head_shards=1,
    q_seq_shards=1,
    block_sizes=splash_attention_kernel.BlockSizes(**blocks, use_fused_bwd_kernel=True),
  )
  rows = PartitionSpec(('replica', 'fsdp'))
  split = jax.shard_map(
    lambda kernel, *parts: jax.vmap(kernel)(*parts),
    mesh=mesh,
    in_specs=(PartitionSpec(), rows, rows, rows),
    out_specs=rows,
    check_vma=False,
  )
  return functools.partial(split, kernel)


def _hidden(
  decoder: Decoder, tokens: jax.Array, attention: Callable[..., jax.Array], policy: Any, rows: Any
) -> jax.Array:
  """Hidden states float[B, L, D], block by block, with what is offloaded named."""
  config = decoder.config
  positions = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)
  angles = rotary_angles(positions, rotary_frequencies(config.head_dim, config.rope_theta, config.rope_scaling))
  graph, layers = nnx.split(decoder.layers)

  def block(x: jax.Array, state: nnx.State) -> tuple[jax.Array, None]:
    layer: DecoderLayer = nnx.merge(graph, state, copy=True)
    x = checkpoint_name(jax.lax.with_sharding_constraint(x, rows), 'input')
    own, normed = layer.attention, layer.input_norm(x)

    def heads(linear: nnx.Linear, name: str) -> jax.Array:
      return checkpoint_name(linear(normed), name).reshape(*x.shape[:2], -1, config.head_dim)

    queries = rotate(heads(own.q_proj, 'query'), angles) * config.head_dim**-0.5
    keys, values = rotate(heads(own.k_proj, 'key'), angles), heads(own.v_proj, 'value')
    mixed = attention(*(jnp.swapaxes(part, 1, 2) for part in (queries, keys, values)))
    mixed = jnp.swapaxes(mixed, 1, 2).reshape(*x.shape[:2], -1)
    x = x + checkpoint_name(own.o_proj(mixed), 'output')
    return x + layer.mlp(layer.post_attention_norm(x), True), None

  x = jax.lax.with_sharding_constraint(decoder.embed(tokens), rows)
  x, _ = jax.lax.scan(jax.checkpoint(block, policy=policy, prevent_cse=False), x, layers)
  return decoder.final_norm(x)


def _negative_log_likelihood(decoder: Decoder, hidden: jax.Array, targets: jax.Array) -> jax.Array:
  """Of all tokens, with the logits of `CHUNK` positions of every row at a time."""
  batch, length, width = hidden.shape
  parts = jnp.swapaxes(hidden.reshape(batch, length // CHUNK, CHUNK, width), 0, 1)
  wanted = jnp.swapaxes(targets.reshape(batch, length // CHUNK, CHUNK), 0, 1)

  @jax.checkpoint
  def chunk(total: jax.Array, part: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
    losses = optax.softmax_cross_entropy_with_integer_labels(decoder.logits(part[0]), part[1])
    return total + losses.sum(), None

  return jax.lax.scan(chunk, jnp.zeros(()), (parts, wanted))[0]


def kernel_flops(run: Published) -> float:
  """Of attention's kernel on a chip: half of all pairs, forward, computed again for the gradient, and two and a half
  times as much backward.
  """
  fields = run.fields
  width = fields['hidden_size']
  forward = 4 * fields['num_hidden_layers'] * width * TOKENS / 2
  return forward * 4.5 * run.sequences * TOKENS


def main() -> None:
  """Compiles the runs that are named, or all, and prints what `RAW_SECONDS` is to hold."""
  topologies.prepare_environment()
  machine = machines.parse(calibration.TOPOLOGY)
  mesh = sharding.make_mesh((1, -1, 1), topologies.devices(machine))
  raw = {}
  wanted = sys.argv[1:] or [run.name for run in calibration.RUNS]
  for run in (run for run in calibration.RUNS if run.name in wanted):
    compiled = compilation.compile_program(train_step(run, mesh), machine, OPTIONS)
    memory = f'{compiled.memory.needed / machines.GIB:.1f} of {compiled.memory.available / machines.GIB:.1f} GiB'
    print(f'{run.name}: {run.sequences} x {TOKENS} tokens a chip, {memory}, compiled in {compiled.seconds:.0f} s')
    if not compiled.fits:
      continue
    costs = compiled.costs(machine.chips)
    timed = estimate.of_costs(costs, machine, kernel_flops(run))
    raw[run.name] = round(timed.raw, 3)
    print(
      f'  published {run.seconds} s; roofline {timed.roofline:.3f}, cycles {timed.cycles:.3f} (kernels '
      f'{timed.kernels:.3f}), exchange {timed.exchange:.3f}, memory {timed.memory:.3f}; estimate {timed.raw:.3f} s'
    )
  print(f'RAW_SECONDS = {raw}')
  print(f'constant {calibration.constant(raw):.3f}. {calibration.summary(raw)}')


if __name__ == '__main__':
  main()
