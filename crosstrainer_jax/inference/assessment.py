"""The two passes of inference (paper, section 3.3): Ŝ = F_a(V), then T = F_t(V, Ŝ); and the level from f_p(v)."""

import dataclasses
import functools
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh

from crosstrainer_jax.inference.generate import Prefix, generate, read_prefix
from crosstrainer_jax.input import examples, prompts
from crosstrainer_jax.models.decoder_config import DecoderConfig
from crosstrainer_jax.training import sharding
from crosstrainer_jax.training.stages import Blueprint

Arrays = dict[str, np.ndarray]
# 'features' float16[N, V, S, D] or 'frames' uint8[N, V, T, H, W, 3] of N clips, or a function that reads those of a
# slice: frames of many clips do not fit into memory at once.
Video = Arrays | Callable[[slice], Arrays]

# Sampled texts of one prompt are decoded together as far as their KV cache takes no more of each device.
SAMPLES_BYTES = 2 * 2**30


@dataclasses.dataclass(frozen=True)
class Look:
  """At most a batch of clips, looked at once: the cache of what their prompts of both passes begin with.

  Attributes:
    params: of the model that looked.
    lengths: tokens of each clip's prompt that are in the cache.
  """

  params: nnx.State
  lengths: list[int]
  prefix: Prefix


class Assessor:
  """A trained model ready to answer, in batches of one fixed size.

  Args:
    blueprint, params: of the model.
    encoder: its tokenizer, for the number of video tokens that it was trained with.
    batch_size: rows a call, a multiple of the mesh's data axes.

  Attributes:
    cut: how many texts have reached the limit of tokens before their end.
  """

  def __init__(
    self,
    blueprint: Blueprint,
    params: nnx.State,
    encoder: examples.PromptTokenizer,
    mesh: Mesh,
    batch_size: int,
  ):
    self.params = params
    self._blueprint, self._encoder, self._mesh = blueprint, encoder, mesh
    self._batch_size = batch_size
    self.cut = 0
    self._embed = jax.jit(lambda params, batch: blueprint.merge(params).embed(batch))
    self._embed_words = jax.jit(
      lambda params, tokens: blueprint.merge(params).decoder.embed(tokens), out_shardings=sharding.batch_sharding(mesh)
    )
    self._pool = jax.jit(functools.partial(_pool, blueprint))

  def two_passes(
    self,
    sports: Sequence[str],
    video: Video,
    valid: np.ndarray,
    attribute_tokens: int,
    feedback_tokens: int,
    report: Callable[[int], None] = lambda _: None,
  ) -> tuple[list[list[str]], list[str]]:
    """F_a, then F_t given what it wrote, both greedy, batch by batch: the video is looked at once for both passes.

    Args:
      report: told how many clips were done.
    """
    lists: list[list[str]] = []
    texts: list[str] = []
    for start in range(0, len(sports), self._batch_size):
      part = slice(start, start + self._batch_size)
      seen = sports[part], _part(video, part), valid[part]
      looks = self.look(*seen)
      named = self.attributes(*seen, attribute_tokens, looks)
      lists += named
      texts += self.feedback(seen[0], named, *seen[1:], feedback_tokens, looks)
      report(len(named))
    return lists, texts

  def look(self, sports: Sequence[str], video: Video, valid: np.ndarray) -> list[Look]:
    """Reads what the prompts of both passes begin with, a `Look` for each batch; kept on the device."""
    rows, lengths = [], []
    for sport in sports:
      first, second = (self._encoder.prompt(task, sport) for task in (examples.ATTRIBUTES, examples.FEEDBACK))
      # Where the two part, which is before the list of attributes.
      length = next(i for i, (one, other) in enumerate(zip(first, second, strict=False)) if one != other)
      rows.append(first[:length])
      lengths.append(length)
    looks: list[Look] = []
    if not rows:
      return looks
    for batch, count in self._chunks(len(rows), self._prompts(rows, valid), video):
      done = sum(len(look.lengths) for look in looks)
      placed = sharding.put_batch(batch, self._mesh)
      embeddings = self._embed(self.params, placed)
      decoder = self._blueprint.merge(self.params).decoder
      prefix = read_prefix(decoder, embeddings, placed['segment_ids'] > 0, placed.get('positions'))
      looks.append(Look(self.params, lengths[done : done + count], prefix))
    return looks

  def attributes(
    self,
    sports: Sequence[str],
    video: Video,
    valid: np.ndarray,
    max_tokens: int,
    looks: Sequence[Look] | None = None,
  ) -> list[list[str]]:
    """F_a by greedy decoding: one list of attributes a clip.

    Args:
      sports: sport of each of the N clips, as the prompt names it.
      video: of the clips, or a function that reads those of a slice.
      valid: bool[N, V, S], False for video tokens that must not be seen.
      looks: from `look` at the same clips, which are then not read again.
    """
    rows = [self._encoder.prompt(examples.ATTRIBUTES, sport) for sport in sports]
    return [prompts.parse_attributes(self.text(ids)) for ids in self.write(rows, video, valid, max_tokens, looks)]

  def feedback(
    self,
    sports: Sequence[str],
    attributes: Sequence[Sequence[str]] | None,
    video: Video,
    valid: np.ndarray,
    max_tokens: int,
    looks: Sequence[Look] | None = None,
  ) -> list[str]:
    """F_t by greedy decoding, given `attributes`; with None the one-stage prompt is used, which takes no `looks`."""
    if attributes is None:
      rows = [self._encoder.prompt(examples.DIRECT, sport) for sport in sports]
    else:
      rows = [
        self._encoder.prompt(examples.FEEDBACK, sport, listed) for sport, listed in zip(sports, attributes, strict=True)
      ]
    return [self.text(ids).strip() for ids in self.write(rows, video, valid, max_tokens, looks)]

  def probabilities(
    self,
    sports: Sequence[str],
    video: Video,
    valid: np.ndarray,
    max_tokens: int,
    samples: int,
    temperature: float,
    seed: int,
    looks: Sequence[Look] | None = None,
  ) -> list[dict[str, float]]:
    """How likely each attribute is: the share of `samples` sampled lists that name it, so the vocabulary stays open.

    The key 'none' holds the share of empty lists.
    """
    rows = [self._encoder.prompt(examples.ATTRIBUTES, sport) for sport in sports]
    results = []
    for tokens, _ in self._generate(rows, video, valid, max_tokens, samples, temperature, seed, looks):
      lists = [prompts.parse_attributes(self.text(sample.tolist())) for sample in tokens]
      named = Counter(name for listed in lists for name in set(listed) or {prompts.EMPTY})
      results.append({name: count / samples for name, count in named.most_common()})
    return results

  def pooled(self, video: Video, valid: np.ndarray) -> np.ndarray:
    """float32[N, hidden]: v = f_m(v') averaged over the video tokens that are seen, which f_p reads."""
    return np.concatenate(
      [
        np.asarray(self._pool(self.params, sharding.put_batch(batch, self._mesh)))[:count]
        for batch, count in self._chunks(len(valid), {'valid': valid}, video)
      ]
    )

  def write(
    self,
    rows: Sequence[list[int]],
    video: Video,
    valid: np.ndarray,
    max_tokens: int,
    looks: Sequence[Look] | None = None,
  ) -> list[list[int]]:
    """What greedy decoding writes behind each of the prompts `rows`, as ids; the last is an end token, unless cut."""
    texts = []
    for tokens, _ in self._generate(rows, video, valid, max_tokens, None, 0.0, 0, looks):
      ends = np.flatnonzero(np.isin(tokens, self._encoder.ends))
      self.cut += not len(ends)
      texts.append(tokens[: ends[0] + 1 if len(ends) else None].tolist())
    return texts

  def text(self, ids: list[int]) -> str:
    """The words of token ids, without what marks ends."""
    return self._encoder.words.decode(ids, skip_special_tokens=True)

  def _generate(
    self,
    rows: Sequence[list[int]],
    video: Video,
    valid: np.ndarray,
    max_tokens: int,
    samples: int | None,
    temperature: float,
    seed: int,
    looks: Sequence[Look] | None,
  ) -> list[tuple[np.ndarray, np.ndarray]]:
    """Tokens and log-probabilities of each row."""
    if not rows:
      return []
    decoder = self._blueprint.merge(self.params).decoder
    if looks is None:
      parts = self._chunks(len(rows), self._prompts(rows, valid), video)
    else:
      lengths = [length for look in looks for length in look.lengths]
      rest = [row[length:] for row, length in zip(rows, lengths, strict=True)]
      if any(look.params is not self.params for look in looks):
        raise ValueError('these clips were looked at by a model with other weights: its cache is of no use to this one')
      parts = self._chunks(len(rest), self._prompts(rest, np.zeros((len(rest), 0), bool)))
    results = []
    for number, (batch, count) in enumerate(parts):
      batch = sharding.put_batch(batch, self._mesh)
      prefix = None if looks is None else looks[number].prefix
      before = 0 if prefix is None else prefix.cache.segment_ids.shape[1]
      groups, each = self._sample_groups(decoder.config, samples, before + batch['tokens'].shape[1] + max_tokens)
      written = [
        generate(
          decoder,
          self._embed(self.params, batch) if looks is None else self._embed_words(self.params, batch['tokens']),
          batch['segment_ids'] > 0,
          max_tokens,
          eos_id=self._encoder.ends,
          pad_id=self._encoder.pad_id,
          temperature=temperature,
          num_samples=each,
          key=jax.random.fold_in(jax.random.key(seed), number * groups + group),
          banned_ids=self._encoder.banned,
          prefix=prefix,
          # Behind what was looked at there are words alone, which are counted.
          positions=batch.get('positions') if looks is None else None,
        )
        for group in range(groups)
      ]
      tokens, log_probs = (np.concatenate([np.asarray(part) for part in parts], axis=1)
                           for parts in zip(*written, strict=True))  # fmt: skip
      if samples is not None:
        tokens, log_probs = tokens[:, :samples], log_probs[:, :samples]
      results += list(zip(tokens[:count], log_probs[:count], strict=True))
    return results

  def _sample_groups(self, config: DecoderConfig, samples: int | None, slots: int) -> tuple[int, int | None]:
    """How many times how many samples are decoded, so that the caches of their `slots` slots fit; all groups alike."""
    if samples is None:
      return 1, None
    slot = 2 * config.num_layers * config.num_kv_heads * config.head_dim * jnp.dtype(config.dtype).itemsize
    rows = -(-self._batch_size // sharding.data_shards(self._mesh))
    groups = -(-samples // max(1, SAMPLES_BYTES // (rows * slots * slot)))
    return groups, -(-samples // groups)

  def _prompts(self, rows: Sequence[list[int]], valid: np.ndarray) -> dict[str, np.ndarray]:
    """tokens, segment_ids and video_slots of rows, int32[N, L]; L is one of few, so that few lengths are compiled.

    Of a decoder with M-RoPE also their positions, int32[N, L, 3].
    """
    video_id, pictures = self._encoder.video_id, self._encoder.pictures
    parts = [
      examples.prompt_ids(row, seen.reshape(-1), video_id, pictures) for row, seen in zip(rows, valid, strict=True)
    ]
    length = examples.bucket(max((len(ids) for ids, _ in parts), default=1))
    arrays = [
      examples.prompt_arrays(
        ids,
        slots,
        length,
        self._encoder.pad_id,
        None if pictures is None else examples.positions(ids, slots, video_id, pictures),
      )
      for ids, slots in parts
    ]
    return {name: np.stack([row[name] for row in arrays]) for name in arrays[0]} if arrays else {}

  def _chunks(self, count: int, arrays: Arrays, video: Video | None = None) -> Iterator[tuple[Arrays, int]]:
    """Batches of the one fixed size; the last (or only) one is filled with zeros, whose segment ids are padding."""
    size = self._batch_size
    for start in range(0, max(count, 1), size):
      rows = slice(start, start + size)
      part = _part(arrays, rows) | ({} if video is None else _part(video, rows))
      real = min(size, count - start)
      if real < size:
        part = {name: np.pad(value, ((0, size - real), *((0, 0),) * (value.ndim - 1))) for name, value in part.items()}
      yield part, real


def _part(video: Video, rows: slice) -> Arrays:
  return video(rows) if callable(video) else {name: value[rows] for name, value in video.items()}


def _pool(blueprint: Blueprint, params: nnx.State, batch: dict[str, Any]) -> jax.Array:
  v = blueprint.merge(params).video_tokens(batch)
  weight = batch['valid'].reshape(*v.shape[:2], 1).astype(v.dtype)
  return (v * weight).sum(1) / jnp.maximum(weight.sum(1), 1.0)
