"""The two passes of inference (paper, section 3.3): Ŝ = F_a(V), then T = F_t(V, Ŝ); and the level from f_p(v)."""

import functools
from collections import Counter
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh

from crosstrainer_jax.inference.generate import generate
from crosstrainer_jax.input import examples, prompts, tokenizer
from crosstrainer_jax.input.tokenizer import Words
from crosstrainer_jax.training import sharding
from crosstrainer_jax.training.stages import Blueprint

Video = dict[str, np.ndarray]


class Assessor:
  """A trained model ready to answer, in batches of one fixed size.

  Args:
    blueprint, params: of the model.
    words: its tokenizer.
    encoder: text to ids, for the number of video tokens that the model was trained with.
    batch_size: rows a call, a multiple of the mesh's data axes.

  Attributes:
    cut: how many texts have reached the limit of tokens before their end.
  """

  def __init__(
    self,
    blueprint: Blueprint,
    params: nnx.State,
    words: Words,
    encoder: examples.PromptTokenizer,
    mesh: Mesh,
    batch_size: int,
  ):
    self.params = params
    self._blueprint, self._words, self._encoder, self._mesh = blueprint, words, encoder, mesh
    self._batch_size = batch_size
    self._video_id = words.convert_tokens_to_ids(prompts.VIDEO)
    # Placeholders and the rows that pad the table are no words; in some vocabularies the end also pads.
    placeholders = {words.pad_token_id, words.bos_token_id, self._video_id} - {words.eos_token_id}
    self._banned = (*sorted(placeholders), *range(len(words), tokenizer.padded_vocab_size(words)))
    self.cut = 0
    self._embed = jax.jit(lambda params, batch: blueprint.merge(params).embed(batch))
    self._pool = jax.jit(functools.partial(_pool, blueprint))

  def attributes(self, sports: Sequence[str], video: Video, valid: np.ndarray, max_tokens: int) -> list[list[str]]:
    """F_a by greedy decoding: one list of attributes a clip.

    Args:
      sports: sport of each of the N clips, as the prompt names it.
      video: 'features' float16[N, V, S, D] or 'frames' uint8[N, V, T, H, W, 3].
      valid: bool[N, V, S], False for video tokens that must not be seen.
    """
    rows = [self._encoder.prompt(examples.ATTRIBUTES, sport) for sport in sports]
    return [prompts.parse_attributes(text) for text in self._write(rows, video, valid, max_tokens)]

  def feedback(
    self,
    sports: Sequence[str],
    attributes: Sequence[Sequence[str]] | None,
    video: Video,
    valid: np.ndarray,
    max_tokens: int,
  ) -> list[str]:
    """F_t by greedy decoding, given `attributes`; with None the one-stage prompt is used."""
    if attributes is None:
      rows = [self._encoder.prompt(examples.DIRECT, sport) for sport in sports]
    else:
      rows = [
        self._encoder.prompt(examples.FEEDBACK, sport, listed) for sport, listed in zip(sports, attributes, strict=True)
      ]
    return [text.strip() for text in self._write(rows, video, valid, max_tokens)]

  def probabilities(
    self,
    sports: Sequence[str],
    video: Video,
    valid: np.ndarray,
    max_tokens: int,
    samples: int,
    temperature: float,
    seed: int,
  ) -> list[dict[str, float]]:
    """How likely each attribute is: the share of `samples` sampled lists that name it, so the vocabulary stays open.

    The key 'none' holds the share of empty lists.
    """
    rows = [self._encoder.prompt(examples.ATTRIBUTES, sport) for sport in sports]
    results = []
    for tokens, _ in self._generate(rows, video, valid, max_tokens, samples, temperature, seed):
      lists = [prompts.parse_attributes(self._text(sample)) for sample in tokens]
      named = Counter(name for listed in lists for name in set(listed) or {prompts.EMPTY})
      results.append({name: count / samples for name, count in named.most_common()})
    return results

  def pooled(self, video: Video, valid: np.ndarray) -> np.ndarray:
    """float32[N, hidden]: v = f_m(v') averaged over the video tokens that are seen, which f_p reads."""
    return np.concatenate(
      [
        np.asarray(self._pool(self.params, sharding.put_batch(batch, self._mesh)))[:count]
        for batch, count in self._chunks(len(valid), {**video, 'valid': valid})
      ]
    )

  def _write(self, rows: Sequence[list[int]], video: Video, valid: np.ndarray, max_tokens: int) -> list[str]:
    texts = [tokens for tokens, _ in self._generate(rows, video, valid, max_tokens, None, 0.0, 0)]
    self.cut += sum(self._words.eos_token_id not in tokens for tokens in texts)
    return [self._text(tokens) for tokens in texts]

  def _text(self, tokens: np.ndarray) -> str:
    return self._words.decode(tokens.tolist(), skip_special_tokens=True)

  def _generate(
    self,
    rows: Sequence[list[int]],
    video: Video,
    valid: np.ndarray,
    max_tokens: int,
    samples: int | None,
    temperature: float,
    seed: int,
  ) -> list[tuple[np.ndarray, np.ndarray]]:
    """Tokens and log-probabilities of each row."""
    if not rows:
      return []
    length = -(-max(len(row) for row in rows) // 16) * 16
    prompt = [
      examples.prompt_arrays(row, length, seen.reshape(-1), self._video_id, self._words.pad_token_id)
      for row, seen in zip(rows, valid, strict=True)
    ]
    arrays = {name: np.stack([row[name] for row in prompt]) for name in ('tokens', 'segment_ids', 'positions')}
    decoder = self._blueprint.merge(self.params).decoder
    results = []
    for number, (batch, count) in enumerate(self._chunks(len(rows), {**arrays, **video})):
      batch = sharding.put_batch(batch, self._mesh)
      tokens, log_probs = generate(
        decoder,
        self._embed(self.params, batch),
        batch['segment_ids'] > 0,
        max_tokens,
        eos_id=self._words.eos_token_id,
        pad_id=self._words.pad_token_id,
        temperature=temperature,
        num_samples=samples,
        key=jax.random.fold_in(jax.random.key(seed), number),
        banned_ids=self._banned,
      )
      results += list(zip(np.asarray(tokens)[:count], np.asarray(log_probs)[:count], strict=True))
    return results

  def _chunks(self, count: int, arrays: dict[str, np.ndarray]) -> list[tuple[dict[str, np.ndarray], int]]:
    """Batches of the one fixed size; the last (or only) one is filled with zeros, whose segment ids are padding."""
    size, chunks = self._batch_size, []
    for start in range(0, max(count, 1), size):
      part = {name: value[start : start + size] for name, value in arrays.items()}
      real = min(size, count - start)
      if real < size:
        part = {name: np.pad(value, ((0, size - real), *((0, 0),) * (value.ndim - 1))) for name, value in part.items()}
      chunks.append((part, real))
    return chunks


def _pool(blueprint: Blueprint, params: nnx.State, batch: dict[str, Any]) -> jax.Array:
  v = blueprint.merge(params).video_tokens(batch)
  weight = batch['valid'].reshape(*v.shape[:2], 1).astype(v.dtype)
  return (v * weight).sum(1) / jnp.maximum(weight.sum(1), 1.0)
