"""Causal attention within segments, by the kernel that suits the platform; all give what the plain form gives.

| kernel | where | masks |
|---|---|---|
| `xla` | anywhere | the mask bool[B, 1, L, S] and the scores float32[B, N, L, S] are arrays in memory |
| `splash` | TPU | Pallas; segments and blocks are skipped in the kernel, nothing of size L² is in memory |
| `cudnn` | NVIDIA GPU | flash attention; the scores are never in memory, the mask is, since cuDNN knows no segments |
"""

import functools

import jax
import jax.numpy as jnp
from jax.experimental.pallas.ops.tpu import splash_attention as splash
from jax.sharding import Mesh, PartitionSpec

KERNELS = ('auto', 'xla', 'splash', 'cudnn')
# Splash works on blocks of this many tokens, and of a whole register's width of each head.
BLOCK, LANES = 512, 128
# Splash as ordinary operations, to be compared where there is no TPU.
INTERPRET = False


def mask_of(query_segments: jax.Array, key_segments: jax.Array, first_slot: jax.Array | int = 0) -> jax.Array:
  """bool[B, 1, L, S]: whether the query in slot `first_slot` + l sees the key in slot s.

  Args:
    query_segments: int32[B, L].
    key_segments: int32[B, S].
    first_slot: slot of the first query.
  """
  query_slots = first_slot + jnp.arange(query_segments.shape[1])
  causal = jnp.arange(key_segments.shape[1]) <= query_slots[:, None]
  same = query_segments[:, :, None] == key_segments[:, None, :]
  return (causal & same & (key_segments > 0)[:, None, :])[:, None]


def choose_kernel(wanted: str, length: int, head_dim: int, mesh: Mesh | None) -> str:
  """The kernel for sequences of `length` tokens on the devices of `mesh`, or on JAX's own.

  Raises:
    ValueError: `splash` is wanted for shapes that it does not take.
  """
  fits = length % LANES == 0 and head_dim % LANES == 0
  if wanted == 'splash' and not fits:
    raise ValueError(
      f'decoder.attention=splash takes sequences and heads of multiples of {LANES}, not {length} tokens and heads of '
      f'{head_dim}: choose auto or xla'
    )
  if wanted != 'auto':
    return wanted
  platform = jax.default_backend() if mesh is None else mesh.devices.flat[0].platform
  return 'splash' if platform == 'tpu' and fits else 'xla'


def attend(
  queries: jax.Array,
  keys: jax.Array,
  values: jax.Array,
  segments: jax.Array,
  mask: jax.Array | None,
  kernel: str,
  mesh: Mesh | None = None,
) -> jax.Array:
  """Values mixed by causal attention within segments: dtype[B, L, N, H].

  Args:
    queries: dtype[B, L, N, H].
    keys, values: dtype[B, S, K, H], where K divides N.
    segments: int32[B, L], of a sequence that attends to itself, 0 for padding, whose result means nothing.
    mask: bool[B, 1, L, S] for the kernels that take one, from `mask_of`.
    kernel: from `choose_kernel`.
    mesh: over which rows and heads are split; a kernel cannot be split by the compiler.

  Raises:
    ValueError: the heads cannot be split over the mesh.
  """
  if kernel == 'cudnn':
    return jax.nn.dot_product_attention(queries, keys, values, mask=mask, implementation='cudnn')
  if kernel == 'xla':
    return jax.nn.dot_product_attention(queries, keys, values, mask=mask, implementation='xla')
  if mesh is None:
    return _splash(queries, keys, values, segments)
  parts = mesh.shape['tensor']
  if keys.shape[2] % parts:
    raise ValueError(
      f'{keys.shape[2]} heads of keys cannot be split over mesh axis tensor of {parts}: choose a size that divides them'
    )
  rows = ('replica', 'fsdp')
  heads = PartitionSpec(rows, None, 'tensor', None)
  split = jax.shard_map(
    _splash, mesh=mesh, in_specs=(heads, heads, heads, PartitionSpec(rows, None)), out_specs=heads, check_vma=False
  )
  return split(queries, keys, values, segments)


def _splash(queries: jax.Array, keys: jax.Array, values: jax.Array, segments: jax.Array) -> jax.Array:
  length, count, width = queries.shape[1:]
  block = max(size for size in range(LANES, min(BLOCK, length) + 1, LANES) if length % size == 0)
  sizes = splash.BlockSizes(
    block_q=block, block_kv=block, block_q_dkv=block, block_kv_dkv=block, block_q_dq=block, block_kv_dq=block
  )
  kernel = splash.make_splash_mha_single_device(
    splash.MultiHeadMask([splash.CausalMask((length, length))] * count), block_sizes=sizes, interpret=INTERPRET
  )

  def row(queries: jax.Array, keys: jax.Array, values: jax.Array, segments: jax.Array) -> jax.Array:
    heads_first = functools.partial(jnp.swapaxes, axis1=0, axis2=1)
    ids = splash.SegmentIds(segments, segments)
    mixed = kernel(heads_first(queries) * width**-0.5, heads_first(keys), heads_first(values), segment_ids=ids)
    return heads_first(mixed)

  return jax.vmap(row)(queries, keys, values, segments)
