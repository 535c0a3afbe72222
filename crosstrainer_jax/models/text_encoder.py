"""Texts to states and to sentence embeddings, with a BERT or RoBERTa and its tokenizer from a folder.

Texts go through the encoder in batches of few shapes, since every new shape is compiled: a length is rounded up to a
power of two, and so is the number of texts. Padding changes no result.
"""

import functools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from tokenizers import normalizers

from crosstrainer_jax.models import bert
from crosstrainer_jax.models.bert import Bert, read_json
from crosstrainer_jax.weights.tensors import Tensors

SHORTEST = 16

# Any of these sets of files is a tokenizer. Without them AutoTokenizer makes one that knows no word, and says nothing.
TOKENIZER_FILES = (('tokenizer.json',), ('vocab.txt',), ('vocab.json', 'merges.txt'))


class Tokens(NamedTuple):
  """One text as the encoder reads it.

  Attributes:
    ids: int32[L].
    special: bool[L], True at what the tokenizer put around the text ([CLS] and [SEP], <s> and </s>).
    cut: whether the text was longer than the encoder takes, and its end is missing.
  """

  ids: np.ndarray
  special: np.ndarray
  cut: bool


class TextEncoder:
  """Encodes lists of texts of any length; use `TextEncoder.load`.

  Args:
    model: the encoder.
    tokenizer: a fast tokenizer of `transformers`.
    max_length: the most tokens of a text, special ones included; what is longer is cut.
    batch_size: the most texts at a time.

  Attributes:
    cut: how many texts were cut so far.
    fingerprint: names the weights, where they were loaded from a folder.
  """

  fingerprint = ''

  def __init__(self, model: Bert, tokenizer: Any, max_length: int, batch_size: int = 32) -> None:
    self.config = model.config
    self.tokenizer = tokenizer
    self.max_length = max_length
    self.batch_size = batch_size
    self.cut = 0
    self._graph, self._params = nnx.split(model)

  @classmethod
  def load(cls, directory: str | Path, dtype: str = 'float32', batch_size: int = 32) -> 'TextEncoder':
    """The encoder in a folder as Hugging Face or sentence-transformers writes it.

    Args:
      directory: holds config.json, the weights and the tokenizer, and for sentence-transformers modules.json.
      dtype: of the parameters and of the computation; results are float32.
      batch_size: the most texts at a time.

    Raises:
      FileNotFoundError: something is missing.
      ValueError: a model, a way of pooling or a tokenizer that is not supported, or weights that do not fit.
    """
    directory, settings = _sentence_transformer(Path(directory))
    model = bert.load(directory, dtype=dtype, param_dtype=dtype)
    tokenizer = _tokenizer(directory, model.config.vocab_size)
    if settings.get('do_lower_case'):
      backend = tokenizer.backend_tokenizer
      others = [] if backend.normalizer is None else [backend.normalizer]
      backend.normalizer = normalizers.Sequence([normalizers.Lowercase(), *others])
    lengths = (model.config.max_length, tokenizer.model_max_length, settings.get('max_seq_length'))
    encoder = cls(model, tokenizer, min(length for length in lengths if length is not None), batch_size)
    encoder.fingerprint = Tensors(directory).fingerprint()
    return encoder

  @property
  def model(self) -> Bert:
    """The encoder itself, for what goes on training it."""
    return nnx.merge(self._graph, self._params)

  def tokens(self, texts: Sequence[str]) -> list[Tokens]:
    """The tokens of each text, those that `hidden` gives a state for.

    A text is taken as it stands: RoBERTa reads a word differently where no space comes before it.
    """
    if isinstance(texts, str):
      raise TypeError('texts: one text was given, a list of texts is needed')
    if not len(texts):
      return []
    encodings = self.tokenizer(list(texts), truncation=True, max_length=self.max_length, padding=False).encodings
    return [
      Tokens(np.array(e.ids, np.int32), np.array(e.special_tokens_mask, bool), bool(e.overflowing)) for e in encodings
    ]

  def hidden(self, texts: Sequence[str], layer: int | None = None) -> list[np.ndarray]:
    """The states of every token of each text, special ones included; `tokens` says which those are.

    Args:
      texts: any texts, empty ones too.
      layer: after which block, 0 for the embeddings; None for the last. Blocks behind it are not run.

    Returns:
      float32[L_i, D] for each text.
    """
    tokens = self._tokens(texts)
    found: list[np.ndarray] = [np.zeros((0, self.config.width), np.float32)] * len(tokens)
    for rows, ids, mask in self._batches(tokens):
      states = np.asarray(_hidden(self._graph, self._params, ids, mask, layer=layer))
      for row, number in enumerate(rows):
        found[number] = states[row, : len(tokens[number].ids)].copy()
    return found

  def embed(self, texts: Sequence[str], normalise: bool = True) -> np.ndarray:
    """One embedding for each text: the mean of its tokens' last states, special ones included.

    That is the rule of sentence-transformers' mean pooling.

    Args:
      texts: any texts, empty ones too.
      normalise: to length 1, so that a product of two embeddings is their cosine.

    Returns:
      float32[N, D]. A text without any token, where the tokenizer has no special ones, is zero.
    """
    tokens = self._tokens(texts)
    found = np.zeros((len(tokens), self.config.width), np.float32)
    for rows, ids, mask in self._batches(tokens):
      found[rows] = np.asarray(_embed(self._graph, self._params, ids, mask, normalise=normalise))[: len(rows)]
    return found

  def _tokens(self, texts: Sequence[str]) -> list[Tokens]:
    """The tokens; says how many texts are cut."""
    tokens = self.tokens(texts)
    if cut := sum(text.cut for text in tokens):
      self.cut += cut
      print(f'  {cut} of {len(tokens)} texts are longer than {self.max_length} tokens and were cut', flush=True)
    return tokens

  def _batches(self, tokens: Sequence[Tokens]) -> Iterator[tuple[list[int], np.ndarray, np.ndarray]]:
    """Batches of texts of about one length: their numbers, ids int32[R, L], mask bool[R, L]; R may exceed the texts."""
    by_length: dict[int, list[int]] = {}
    for number, text in enumerate(tokens):
      if len(text.ids):
        by_length.setdefault(self._rounded(len(text.ids), SHORTEST, self.max_length), []).append(number)
    for length, numbers in sorted(by_length.items()):
      for start in range(0, len(numbers), self.batch_size):
        rows = numbers[start : start + self.batch_size]
        shape = self._rounded(len(rows), 1, self.batch_size), length
        # the id does not matter, since no token sees what the mask hides
        ids, mask = np.full(shape, self.config.padding_idx or 0, np.int32), np.zeros(shape, bool)
        for row, number in enumerate(rows):
          real = tokens[number].ids
          ids[row, : len(real)], mask[row, : len(real)] = real, True
        yield rows, ids, mask

  @staticmethod
  def _rounded(count: int, least: int, most: int) -> int:
    """The next power of two, at least `least` and at most `most`."""
    return min(max(1 << (count - 1).bit_length(), least), most)


@functools.partial(jax.jit, static_argnames=('graph', 'layer'))
def _hidden(
  graph: nnx.GraphDef[Bert], params: nnx.State, ids: jax.Array, mask: jax.Array, layer: int | None
) -> jax.Array:
  return nnx.merge(graph, params)(ids, mask, layers=layer).last.astype(jnp.float32)


@functools.partial(jax.jit, static_argnames=('graph', 'normalise'))
def _embed(graph: nnx.GraphDef[Bert], params: nnx.State, ids: jax.Array, mask: jax.Array, normalise: bool) -> jax.Array:
  states = nnx.merge(graph, params)(ids, mask).last.astype(jnp.float32)
  counts = jnp.maximum(jnp.sum(mask, 1, keepdims=True), 1)
  mean = jnp.sum(states * mask[..., None], 1) / counts
  return mean / jnp.maximum(jnp.linalg.norm(mean, axis=-1, keepdims=True), 1e-12) if normalise else mean


def _tokenizer(directory: Path, vocab_size: int) -> Any:
  """The fast tokenizer of a folder; looks nowhere else."""
  if not any(all((directory / file).is_file() for file in files) for files in TOKENIZER_FILES):
    wanted = ', or '.join(' and '.join(files) for files in TOKENIZER_FILES)
    raise FileNotFoundError(f'{directory}: no tokenizer here ({wanted})')
  # takes a second to import
  from transformers import AutoTokenizer

  tokenizer = AutoTokenizer.from_pretrained(str(directory), local_files_only=True)
  if not tokenizer.is_fast:
    raise ValueError(f'{directory}: {type(tokenizer).__name__} is not supported, only fast tokenizers')
  if len(tokenizer) > vocab_size:
    raise ValueError(
      f'{directory}: {len(tokenizer)} tokens in the tokenizer, {vocab_size} in the encoder: they do not belong together'
    )
  return tokenizer


def _sentence_transformer(directory: Path) -> tuple[Path, dict[str, Any]]:
  """The folder of the encoder and the settings of sentence-transformers, where `directory` holds its files.

  Raises:
    ValueError: they ask for what `TextEncoder.embed` does not do.
  """
  path = directory / 'modules.json'
  if not path.is_file():
    return directory, {}
  modules = read_json(path)
  kinds = [module['type'].rsplit('.', 1)[-1] for module in modules]
  if kinds not in (['Transformer', 'Pooling'], ['Transformer', 'Pooling', 'Normalize']):
    raise ValueError(f'{path}: modules {", ".join(kinds)} are not supported, only Transformer, Pooling, Normalize')
  _check_pooling(directory / modules[1]['path'] / 'config.json')
  path = directory / 'config_sentence_transformers.json'
  prompts = read_json(path) if path.is_file() else {}
  name = prompts.get('default_prompt_name')
  if name is not None and prompts.get('prompts', {}).get(name):
    raise ValueError(f'{path}: default_prompt_name={name!r}, a prompt before every text, is not supported, only none')
  encoder = directory / modules[0]['path']
  # sentence_bert_config.json, or with the name of another family
  found = sorted(encoder.glob('sentence_*_config.json'))
  return encoder, read_json(found[0]) if found else {}


def _check_pooling(path: Path) -> None:
  """Raises ValueError for any pooling but the mean; the names are those of sentence-transformers, old and new."""
  config = read_json(path)
  modes = config.get('pooling_mode', [])
  modes = [modes] if isinstance(modes, str) else list(modes)
  if 'pooling_mode' not in config:
    modes = [name for name, value in config.items() if name.startswith('pooling_mode_') and value]
  if wrong := [mode for mode in modes if mode not in ('mean', 'pooling_mode_mean_tokens')]:
    raise ValueError(f'{path}: pooling by {", ".join(wrong)} is not supported, only the mean of tokens')
