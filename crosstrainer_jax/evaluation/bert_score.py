"""BERTScore (Zhang et al. 2020) in JAX, with any BERT or RoBERTa of a local folder.

Every token of a text takes the most similar token of the other text, by the cosine of their states after one block of
the encoder (equations 1–3 of that paper): the weighted mean over the candidate's tokens is the precision P, that over
the reference's the recall R, and F = 2PR / (P + R). What the tokenizer puts around a text has weight 0, and can be
taken by others. With weights by inverse document frequency a token that is in fewer of the given texts weighs more.

Raw scores of any two texts lie close together and high, so a baseline b, the mean score of random pairs, may be taken
off: (s - b) / (1 - b). Its file is one of those that the package bert_score brings (rescale_baseline/en/….tsv).
"""

from __future__ import annotations

import csv
import functools
import hashlib
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from crosstrainer_jax.evaluation.attributes import Similarity
from crosstrainer_jax.models.text_encoder import SHORTEST, TextEncoder

# Family and number of blocks → the block whose states bert_score takes, as it was tuned there on WMT16.
LAYERS = {
  **{('bert', layers): layer for layers, layer in ((2, 2), (4, 3), (6, 5), (8, 7), (10, 8), (12, 9), (24, 18))},
  **{('roberta', layers): layer for layers, layer in ((6, 5), (12, 10), (24, 17))},
  **{('xlm-roberta', layers): layer for layers, layer in ((12, 9), (24, 17))},
}
# Stands for a token that no text has.
UNSEEN = -1
# Pairs whose states are held at a time.
BLOCK = 1024
# Numbers in the states of a batch of texts, which bounds how many pairs are compared at a time.
BATCH_NUMBERS = 1 << 23
# Tokens whose states are kept for the next call.
KEPT_TOKENS = 1 << 17


class BertScore:
  """Scores pairs of texts; use `BertScore.load`.

  Args:
    encoder: of the texts.
    name: of the encoder, for people.
    layer: after which block the states are taken, 0 for the embeddings.
    idf: token → weight; None weighs all tokens alike.
    baseline: float[3], what is taken off P, R and F; None for raw scores.
  """

  def __init__(
    self,
    encoder: TextEncoder,
    name: str,
    layer: int,
    idf: dict[int, float] | None = None,
    baseline: np.ndarray | None = None,
  ) -> None:
    self.encoder = encoder
    self.name = name
    self.layer = layer
    self.baseline = baseline
    self._idf = idf
    tokenizer = encoder.tokenizer
    self._special = {tokenizer.cls_token_id, tokenizer.sep_token_id}
    # RoBERTa's words begin with a space, the first one too (as bert_score has it)
    self._before = ' ' if type(tokenizer).__name__.startswith('Roberta') else ''
    self._scores: dict[tuple[str, str], tuple[float, float, float]] = {}
    self._texts: dict[str, tuple[np.ndarray, np.ndarray]] = {}

  @classmethod
  def load(
    cls,
    directory: str | Path,
    layer: int | None = None,
    idf_texts: Sequence[str] | None = None,
    baseline: str | Path | None = None,
  ) -> BertScore:
    """The score by the encoder in a folder.

    Args:
      directory: as Hugging Face or sentence-transformers writes it.
      layer: None for bert_score's own choice for an encoder of this family and depth; another depth takes the last
        but one in six.
      idf_texts: texts that tell how common a token is, usually all references; None weighs tokens alike.
      baseline: a file of baselines, a line for each layer; None leaves scores raw.

    Raises:
      FileNotFoundError: something is missing.
      ValueError: an encoder, a layer or a file of baselines that does not fit.
    """
    directory = Path(directory)
    encoder = TextEncoder.load(directory)
    layers = encoder.config.layers
    if layer is None:
      layer = LAYERS.get((_family(encoder), layers), max(layers - layers // 6, 1))
    if not 0 <= layer <= layers:
      raise ValueError(f'{directory}: layer {layer} is asked for, the encoder has 0 (its embeddings) to {layers}')
    label = f'{directory.resolve().name} {fingerprint(directory)}, layer {layer} of {layers}'
    if idf_texts is not None:
      label += ', idf'
    if baseline is not None:
      label += f', rescaled by {Path(baseline).name}'
    score = cls(encoder, label, layer, None, None if baseline is None else read_baseline(baseline, layer))
    if idf_texts is not None:
      score._idf = inverse_document_frequency(score._ids(idf_texts))
    return score

  def __call__(self, candidates: Sequence[str], references: Sequence[str]) -> np.ndarray:
    """P, R and F of each pair, float64[N, 3]: 1 at most, 0 where a text is empty, before a baseline is taken off."""
    pairs = [(a.strip(), b.strip()) for a, b in zip(candidates, references, strict=True)]
    new = [pair for pair in dict.fromkeys(pairs) if pair not in self._scores]
    for start in range(0, len(new), BLOCK):
      block = new[start : start + BLOCK]
      self._scores |= dict(zip(block, map(tuple, self._compare(block).tolist()), strict=True))
    scores = np.array([self._scores[pair] for pair in pairs], float).reshape(len(pairs), 3)
    return scores if self.baseline is None else (scores - self.baseline) / (1 - self.baseline)

  def f1(self, pairs: Sequence[tuple[str, str]]) -> np.ndarray:
    """F of each pair, float64[N]."""
    return self([a for a, _ in pairs], [b for _, b in pairs])[:, 2]

  def similarity(self) -> Similarity:
    """F as the similarity of phrases, under the paper's own column name."""
    return Similarity('IoU', self.f1, f'BERT-score F of phrases in lower case ({self.name})')

  def _compare(self, pairs: Sequence[tuple[str, str]]) -> np.ndarray:
    """Raw scores float64[N, 3], pairs of about one length at a time."""
    texts = self._states(list(dict.fromkeys(text for pair in pairs for text in pair)))
    by_length: dict[int, list[int]] = {}
    for number, pair in enumerate(pairs):
      length = max(len(texts[text][0]) for text in pair)
      by_length.setdefault(max(SHORTEST, 1 << (length - 1).bit_length()), []).append(number)
    scores = np.zeros((len(pairs), 3))
    width = self.encoder.config.width
    for length, numbers in sorted(by_length.items()):
      batch = max(1, BATCH_NUMBERS // (length * width))
      batch = min(1 << (batch.bit_length() - 1), max(64, 1 << (len(numbers) - 1).bit_length()))
      for start in range(0, len(numbers), batch):
        rows = numbers[start : start + batch]
        sides = [_padded([texts[pairs[row][side]] for row in rows], batch, length) for side in (0, 1)]
        scores[rows] = np.asarray(_greedy(*sides[0], *sides[1]), float)[: len(rows)]
    empty = [number for number, pair in enumerate(pairs) if not all(texts[text][1].any() for text in pair)]
    scores[empty] = 0
    return scores

  def _states(self, texts: list[str]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Text → states of length 1 float32[L, D] and weights float32[L]."""
    new = [text for text in texts if text not in self._texts]
    if new:
      states = self.encoder.hidden([self._before + text if text else '' for text in new], self.layer)
      for text, ids, state in zip(new, self._ids(new), states, strict=True):
        state /= np.maximum(np.linalg.norm(state, axis=-1, keepdims=True), 1e-12)
        self._texts[text] = state, self._weights(ids)
    found = {text: self._texts[text] for text in texts}
    kept = sum(len(weights) for _, weights in self._texts.values())
    while self._texts and kept > KEPT_TOKENS:
      kept -= len(self._texts.pop(next(iter(self._texts)))[1])
    return found

  def _ids(self, texts: Sequence[str]) -> list[list[int]]:
    stripped = [text.strip() for text in texts]
    given = [self._before + text if text else '' for text in stripped]
    return [tokens.ids.tolist() for tokens in self.encoder.tokens(given)]

  def _weights(self, ids: Sequence[int]) -> np.ndarray:
    if self._idf is None:
      return np.array([token not in self._special for token in ids], np.float32)
    return np.array([self._idf.get(token, self._idf[UNSEEN]) for token in ids], np.float32)


@functools.lru_cache(maxsize=2)
def opened(directory: str, baseline: str = '') -> BertScore:
  """The score by `config.eval.bert` and `config.eval.bert_baseline`, opened once; raises what `BertScore.load` does."""
  return BertScore.load(directory, baseline=baseline or None)


def inverse_document_frequency(texts: Sequence[Sequence[int]]) -> dict[int, float]:
  """Token → log((n + 1) / (texts with it + 1)); `UNSEEN` stands for a token that none has (equation 5)."""
  counts = Counter(token for ids in texts for token in set(ids))
  number = math.log(len(texts) + 1)
  return {UNSEEN: number} | {token: number - math.log(count + 1) for token, count in counts.items()}


def read_baseline(path: str | Path, layer: int) -> np.ndarray:
  """P, R and F of random pairs for a layer, float64[3], from a file with the columns LAYER, P, R, F.

  Raises:
    FileNotFoundError: there is no such file.
    ValueError: it is no such file, or has no line for this layer.
  """
  path = Path(path)
  if not path.is_file():
    raise FileNotFoundError(f'{path}: no such file of baselines; bert_score has them in rescale_baseline/<language>/')
  with path.open(newline='', encoding='utf-8') as file:
    rows = {row.get('LAYER'): row for row in csv.DictReader(file)}
  try:
    baseline = np.array([float(rows[str(layer)][name]) for name in 'PRF'])
  except (KeyError, TypeError, ValueError):
    raise ValueError(f'{path}: no line LAYER,P,R,F for layer {layer}; its baselines are of another encoder') from None
  if not (np.isfinite(baseline) & (baseline < 1)).all():
    raise ValueError(f'{path}: the baseline of layer {layer} is {baseline.tolist()}, not below 1')
  return baseline


def fingerprint(directory: str | Path) -> str:
  """The first 12 hex digits of SHA-256 over everything that decides a score: config, tokenizer and weights."""
  files = sorted(
    path for path in Path(directory).rglob('*')
    if path.is_file() and path.suffix in ('.json', '.txt', '.safetensors', '.bin', '.model')
  )  # fmt: skip
  total = hashlib.sha256()
  for path in files:
    with path.open('rb') as file:
      total.update(
        f'{path.relative_to(directory).as_posix()} {hashlib.file_digest(file, "sha256").hexdigest()}\n'.encode()
      )
  return total.hexdigest()[:12]


def _family(encoder: TextEncoder) -> str:
  if encoder.config.padding_idx is None:
    return 'bert'
  return 'xlm-roberta' if type(encoder.tokenizer).__name__.startswith('XLM') else 'roberta'


def _padded(texts: Sequence[tuple[np.ndarray, np.ndarray]], rows: int, length: int) -> tuple[np.ndarray, ...]:
  """States float32[R, L, D], weights float32[R, L], and which tokens are real, bool[R, L]."""
  states = np.zeros((rows, length, texts[0][0].shape[-1]), np.float32)
  weights, real = np.zeros((rows, length), np.float32), np.zeros((rows, length), bool)
  for row, (state, weight) in enumerate(texts):
    states[row, : len(state)], weights[row, : len(state)], real[row, : len(state)] = state, weight, True
  return states, weights, real


@jax.jit
def _greedy(
  candidate: jax.Array, candidate_weights: jax.Array, candidate_real: jax.Array,
  reference: jax.Array, reference_weights: jax.Array, reference_real: jax.Array,
) -> jax.Array:  # fmt: skip
  """float32[R, 3], precision, recall and F of each row."""
  cosine = jnp.einsum('rcd,rtd->rct', candidate, reference, precision='highest')
  cosine = jnp.where(candidate_real[:, :, None] & reference_real[:, None, :], cosine, -1)

  def mean(best: jax.Array, weights: jax.Array) -> jax.Array:
    total = weights.sum(1)
    return (best * weights).sum(1) / jnp.where(total == 0, 1, total)

  precision = mean(cosine.max(2), candidate_weights)
  recall = mean(cosine.max(1), reference_weights)
  both = precision + recall
  return jnp.stack([precision, recall, 2 * precision * recall / jnp.where(both == 0, 1, both)], -1)
