"""Text from prompts of embeddings: one prefill, then one token a step with a KV cache, jitted as a whole.

Greedy at temperature 0, sampling above; many samples of one prompt share its prefill, since the probability of an
attribute is estimated as the share of sampled lists that name it. What several prompts begin with can be prefilled once
and continued: the two passes of the paper begin with the same video.
"""

import dataclasses
import functools
import os
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from crosstrainer_jax.inference import sampling
from crosstrainer_jax.models.decoder import Decoder, KVCache
from crosstrainer_jax.models.decoder_config import DecoderConfig

# Smaller layers stay in a processor's caches.
SPLIT_BYTES = 2**26


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Prefix:
  """What prompts begin with, read once.

  Attributes:
    cache: of its P slots.
    counts: int32[B], the rotary position that follows in each row: of plain text, how many tokens it has.
  """

  cache: KVCache
  counts: jax.Array


def read_prefix(decoder: Decoder, embeddings: jax.Array, mask: jax.Array, positions: jax.Array | None = None) -> Prefix:
  """Prefills what prompts begin with, to be continued by `generate` as often as wanted, with the same decoder.

  Args:
    embeddings: float[B, P, D], video tokens mixed in.
    mask: bool[B, P], False at padding.
    positions: int32[B, P, 3], where pictures stand among the words; see `mrope`.
  """
  graphdef, state = nnx.split(decoder)
  return _read_prefix(graphdef, state, embeddings, mask, positions)


@functools.partial(jax.jit, static_argnames='graphdef')
def _read_prefix(
  graphdef: nnx.GraphDef[Decoder],
  state: nnx.State,
  embeddings: jax.Array,
  mask: jax.Array,
  positions: jax.Array | None,
) -> Prefix:
  return prefill(nnx.merge(graphdef, state), embeddings, mask, positions, None)[1]


def prefill(
  decoder: Decoder, embeddings: jax.Array, mask: jax.Array, positions: jax.Array | None, prefix: Prefix | None
) -> tuple[jax.Array, Prefix]:
  """Hidden states dtype[B, L, D] of `embeddings` behind `prefix`, and the two together; to be called under `jit`."""
  batch, length, _ = embeddings.shape
  if prefix is None:
    cache, before = decoder.init_cache(batch, length), jnp.zeros(batch, jnp.int32)
  else:
    cache, before = prefix.cache.grow(length), prefix.counts
  if positions is None:
    positions = jnp.maximum(before[:, None] + jnp.cumsum(mask, axis=1, dtype=jnp.int32) - 1, 0)
    behind = before + jnp.sum(mask, axis=1, dtype=jnp.int32)
  else:
    # Behind a picture text goes on from its furthest place, which is less than it has tokens.
    behind = before + jnp.max(jnp.where(mask[..., None], positions + 1, 0), axis=(1, 2))
    positions = before[:, None, None] + positions
  hidden, filled = decoder(embeddings, positions, mask.astype(jnp.int32), cache=cache)
  assert filled is not None
  return hidden, Prefix(filled, behind)


def generate(
  decoder: Decoder,
  prompt_embeddings: jax.Array,
  prompt_mask: jax.Array,
  max_new_tokens: int,
  *,
  eos_id: int | Sequence[int],
  pad_id: int,
  temperature: float = 0.0,
  top_k: int | None = None,
  top_p: float | None = None,
  num_samples: int | None = None,
  key: jax.Array | None = None,
  banned_ids: Sequence[int] = (),
  prefix: Prefix | None = None,
  positions: jax.Array | None = None,
  split_layers: bool | None = None,
) -> tuple[jax.Array, jax.Array]:
  """Continues each prompt until an end token, or for `max_new_tokens`.

  Padding may stand anywhere in a row: the continuation equals that of the row alone and unpadded. A row without any
  prompt token (a row that pads the batch) gives padding. Every new shape, and every new `max_new_tokens` or
  `num_samples`, is compiled once; a new temperature is not.

  Args:
    decoder: L.
    prompt_embeddings: float[B, L, D], video tokens mixed in.
    prompt_mask: bool[B, L], False at padding.
    max_new_tokens: N.
    eos_id: token, or tokens, that end a text; the end token itself is returned.
    pad_id: fills a row behind its end.
    temperature: divides the logits before sampling; 0 takes the most probable token.
    top_k, top_p: cut what is sampled from, see `sampling`; None keeps everything. They need a temperature above 0.
    num_samples: continuations for each prompt; None gives one, without the axis `samples`.
    key: a PRNG key, needed for sampling only.
    banned_ids: tokens that are never written, such as placeholders and the rows that pad the embedding table.
    prefix: what stands before the prompts, from `read_prefix` with the same decoder; every row needs a token behind it.
    positions: int32[B, L, 3], from 0 in every row, where pictures stand among the words; see `mrope`.
    split_layers: decode with copies of the layers, which is faster and takes their memory a second time
      (`Decoder.split_layers`). None does so for a large model on a CPU or GPU that has room for them.

  Returns:
    tokens int32[B, N] or int32[B, samples, N], and their log-probabilities in nats under the model itself (temperature
    1), float32 of the same shape, 0 at padding.

  Raises:
    ValueError: prompt and continuation do not fit the decoder, shapes disagree, or sampling lacks a key.
  """
  if temperature == 0 and (top_k is not None or top_p is not None):
    raise ValueError('generate: top_k and top_p are for sampling; give a temperature above 0')
  if top_p is not None and not 0 <= top_p <= 1:
    raise ValueError(f'generate: top_p must lie between 0 and 1, but is {top_p}')
  if prompt_mask.shape != prompt_embeddings.shape[:2]:
    raise ValueError(f'generate: mask {prompt_mask.shape} does not fit embeddings {prompt_embeddings.shape}')
  if max_new_tokens < 1:
    raise ValueError(f'generate: max_new_tokens must be at least 1, not {max_new_tokens}')
  if temperature < 0:
    raise ValueError(f'generate: temperature must not be negative, but is {temperature}')
  if temperature > 0 and key is None:
    raise ValueError('generate: sampling (temperature above 0) needs a key')
  slots = prompt_mask.shape[1] + (0 if prefix is None else prefix.cache.segment_ids.shape[1])
  if slots + max_new_tokens - 1 > decoder.config.max_position:
    raise ValueError(
      f'generate: a prompt of {slots} slots and {max_new_tokens} new tokens do not fit '
      f'max_position = {decoder.config.max_position}'
    )
  graphdef, state = nnx.split(decoder)
  if split_layers is None:
    # The copy costs about as much as it saves in one step.
    split_layers = max_new_tokens > 2 and _should_split_layers(decoder.config, state['layers'])
  tokens, log_probs = _generate(
    graphdef,
    state,
    prompt_embeddings,
    prompt_mask,
    jnp.atleast_1d(jnp.asarray(eos_id, jnp.int32)),
    jnp.asarray(pad_id, jnp.int32),
    jnp.asarray(temperature, jnp.float32),
    jax.random.key(0) if key is None else key,
    jnp.asarray(banned_ids, jnp.int32),
    prefix,
    positions,
    None if top_p is None else jnp.asarray(top_p, jnp.float32),
    top_k=top_k,
    max_new_tokens=max_new_tokens,
    samples=num_samples or 1,
    greedy=temperature == 0,
    split_layers=split_layers,
  )
  if num_samples is None:
    return tokens[:, 0], log_probs[:, 0]
  return tokens, log_probs


def _should_split_layers(config: DecoderConfig, layers: nnx.State) -> bool:
  """Whether decoding is slowed by the reading of weights, on CPUs or GPUs that have room for a copy of them.

  Layers in 4 bits must stay stacked: outside of the loop over layers XLA would keep all of them unpacked.
  """
  arrays = [leaf for leaf in jax.tree.leaves(layers) if not isinstance(leaf, jax.core.Tracer)]
  if config.quantize or not arrays:
    return False
  shards = arrays[0].addressable_shards
  needed = sum(array.addressable_shards[0].data.nbytes for array in arrays)
  if needed < SPLIT_BYTES:
    return False
  return all(_room(shard.device) > 1.5 * needed for shard in shards)


def _room(device: jax.Device) -> float:
  """Bytes that are free; 0 where that is not known, or the layers are best left stacked."""
  if device.platform == 'cpu':
    known = 'SC_AVPHYS_PAGES' in os.sysconf_names
    return float(os.sysconf('SC_AVPHYS_PAGES') * os.sysconf('SC_PAGE_SIZE')) if known else 0.0
  stats = device.memory_stats() if device.platform == 'gpu' else None
  return float(stats['bytes_limit'] - stats['bytes_in_use']) if stats else 0.0


@functools.partial(
  jax.jit, static_argnames=('graphdef', 'max_new_tokens', 'samples', 'greedy', 'top_k', 'split_layers')
)
def _generate(
  graphdef: nnx.GraphDef[Decoder],
  state: nnx.State,
  embeddings: jax.Array,
  mask: jax.Array,
  eos_ids: jax.Array,
  pad_id: jax.Array,
  temperature: jax.Array,
  key: jax.Array,
  banned_ids: jax.Array,
  prefix: Prefix | None,
  positions: jax.Array | None,
  top_p: jax.Array | None,
  *,
  top_k: int | None,
  max_new_tokens: int,
  samples: int,
  greedy: bool,
  split_layers: bool,
) -> tuple[jax.Array, jax.Array]:
  decoder = nnx.merge(graphdef, state)
  batch, length, _ = embeddings.shape
  rows = batch * samples

  def choose(hidden: jax.Array, key: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Token and log-probability, int32[rows] and float32[rows], for `hidden` float[rows, D]."""
    logits = decoder.logits(hidden)
    possible = logits.at[:, banned_ids].set(-jnp.inf)
    token = sampling.choose(possible, key, temperature=temperature, top_k=top_k, top_p=top_p, greedy=greedy)
    log_prob = jnp.take_along_axis(jax.nn.log_softmax(logits), token[:, None], axis=-1)[:, 0]
    return token, log_prob

  def write(step: jax.Array | int, finished: jax.Array, token: jax.Array, log_prob: jax.Array, texts: tuple) -> tuple:
    """Puts one column into `texts`, and says which rows have ended with it."""
    token = jnp.where(finished, pad_id, token)
    tokens = texts[0].at[:, step].set(token)
    log_probs = texts[1].at[:, step].set(jnp.where(finished, 0.0, log_prob))
    return finished | jnp.isin(token, eos_ids), token, (tokens, log_probs)

  # Prefill, once for all samples of a prompt.
  hidden, read = prefill(decoder, embeddings, mask, positions, prefix)
  last = length - 1 - jnp.argmax(mask[:, ::-1], axis=1)
  hidden = jnp.repeat(hidden[jnp.arange(batch), last], samples, axis=0)
  cache = read.cache.repeat(samples).grow(max_new_tokens - 1)
  counts, empty = jnp.repeat(read.counts, samples), jnp.repeat(~jnp.any(mask, axis=1), samples)

  key, first_key = jax.random.split(key)
  texts = (jnp.full((rows, max_new_tokens), pad_id), jnp.zeros((rows, max_new_tokens), jnp.float32))
  finished, token, texts = write(0, empty, *choose(hidden, first_key), texts)

  layers = [nnx.split(layer) for layer in decoder.split_layers()] if split_layers else None

  def going(carry: tuple) -> jax.Array:
    step, finished = carry[:2]
    return (step < max_new_tokens) & ~jnp.all(finished)

  def decode(carry: tuple) -> tuple:
    step, finished, token, texts, cache, key = carry
    key, step_key = jax.random.split(key)
    # A module belongs to the trace that made it, and the loop is a trace of its own.
    decoder = nnx.merge(graphdef, state, copy=True)
    apart = None if layers is None else [nnx.merge(graph, own, copy=True) for graph, own in layers]
    position = (counts + step - 1)[:, None]
    embedded = decoder.embed(token[:, None])
    hidden, cache = decoder(embedded, position, jnp.ones_like(position), cache=cache, layers=apart)
    finished, token, texts = write(step, finished, *choose(hidden[:, 0], step_key), texts)
    return step + 1, finished, token, texts, cache, key

  carry = (jnp.ones((), jnp.int32), finished, token, texts, cache, key)
  tokens, log_probs = jax.lax.while_loop(going, decode, carry)[3]
  return tokens.reshape(batch, samples, -1), log_probs.reshape(batch, samples, -1)
