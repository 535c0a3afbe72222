"""The tokenizer of the default decoder: byte-level BPE of one setting's training text, in the Hugging Face format."""

import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol, cast

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from crosstrainer_jax.input.buckets import as_path, local_copy
from crosstrainer_jax.input.files import replacing
from crosstrainer_jax.input.prompts import VIDEO

PAD, BOS, EOS = '<pad>', '<s>', '</s>'
GENERATION = 'generation_config.json'
# Where it is, the tokenizer is whole.
LAST_FILE = 'tokenizer_config.json'


class Words(Protocol):
  """What the project asks of a tokenizer; Hugging Face's fast tokenizers give it."""

  pad_token_id: int | None
  bos_token_id: int | None
  eos_token_id: int | None
  all_special_ids: list[int]
  chat_template: str | None

  def __len__(self) -> int: ...
  def get_vocab(self) -> dict[str, int]: ...
  def apply_chat_template(self, conversation: list[dict[str, str]], **settings: Any) -> str: ...
  def save_pretrained(self, save_directory: str) -> Any: ...
  def encode(self, text: str, *, add_special_tokens: bool = ..., split_special_tokens: bool = ...) -> list[int]: ...
  def decode(self, ids: list[int], *, skip_special_tokens: bool = ...) -> str: ...


def train_tokenizer(texts: Iterable[str], vocab_size: int, directory: str | Path, phrases: Sequence[str] = ()) -> Words:
  """Trains on `texts` and writes the tokenizer to `directory`; returns it as read back.

  Bytes are the alphabet, so that no word of an unseen sport is unknown.

  Args:
    phrases: become one token each, beside the vocabulary. The unchanging words of the prompts are such phrases: a
      decoder that starts from nothing learns nothing from their parts, and every token costs time in every update.

  Raises:
    ValueError: a vocabulary smaller than the bytes and special tokens.
  """
  smallest = 256 + len((PAD, BOS, EOS, VIDEO))
  if vocab_size < smallest:
    raise ValueError(f'config.tokenizer.vocab_size={vocab_size}: bytes and special tokens alone are {smallest}')
  tokenizer = Tokenizer(models.BPE())
  tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
  tokenizer.decoder = decoders.ByteLevel()
  trainer = trainers.BpeTrainer(
    vocab_size=vocab_size,
    special_tokens=[PAD, BOS, EOS, VIDEO],
    initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    show_progress=False,
  )
  tokenizer.train_from_iterator(texts, trainer)
  tokenizer.add_tokens([AddedToken(phrase, normalized=False) for phrase in phrases])
  # transformers takes most of a second to import, which reading a config should not
  from transformers import PreTrainedTokenizerFast

  fast = PreTrainedTokenizerFast(
    tokenizer_object=tokenizer,
    pad_token=PAD,
    bos_token=BOS,
    eos_token=EOS,
    additional_special_tokens=[VIDEO],
    clean_up_tokenization_spaces=False,
  )
  with replacing(directory, LAST_FILE) as fresh:
    fast.save_pretrained(str(fresh))
  return load_tokenizer(directory)


def padded_vocab_size(words: Words) -> int:
  """Rows of L's embedding table: the vocabulary rounded up to a multiple of 64, so that meshes can divide it."""
  return -(-len(words) // 64) * 64


def adopt_tokenizer(source: str | Path, directory: str | Path) -> Words:
  """Copies the tokenizer of a directory of the hub to `directory`, with what else ends a text; returns it as read back.

  Raises:
    FileNotFoundError: no tokenizer there.
  """
  words = load_tokenizer(source)
  with replacing(directory, LAST_FILE) as fresh:
    words.save_pretrained(str(fresh))
    if (Path(source) / GENERATION).is_file():
      shutil.copy(Path(source) / GENERATION, fresh / GENERATION)
  return load_tokenizer(directory)


def load_tokenizer(directory: str | Path) -> Words:
  """Reads a tokenizer directory in the Hugging Face format.

  Raises:
    FileNotFoundError: no tokenizer there.
  """
  if not (as_path(directory) / LAST_FILE).is_file():
    raise FileNotFoundError(f'{directory}: no tokenizer here ({LAST_FILE} is missing)')
  from transformers import AutoTokenizer

  return cast(Words, AutoTokenizer.from_pretrained(str(local_copy(as_path(directory)))))
