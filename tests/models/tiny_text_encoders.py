"""Folders with a tiny random BERT or RoBERTa and its tokenizer, as Hugging Face writes them."""

import json
import pathlib
import runpy
from collections.abc import Sequence
from typing import Any

from safetensors.numpy import save_file
from tokenizers import pre_tokenizers

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
made = runpy.run_path(str(ROOT / 'tests' / 'golden' / 'make_bert.py'))
WORDS = [
  '[PAD]',
  '[UNK]',
  '[CLS]',
  '[SEP]',
  '[MASK]',
  'bend',
  'your',
  'knees',
  'elbow',
  'in',
  'keep',
  'the',
  '##s',
  '.',
]


def write_json(path: pathlib.Path, content: Any) -> None:
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(json.dumps(content))


def bert_tokenizer(folder: pathlib.Path, words: Sequence[str] = WORDS) -> None:
  (folder / 'vocab.txt').write_text('\n'.join(words))
  write_json(folder / 'tokenizer_config.json', {'tokenizer_class': 'BertTokenizer', 'model_max_length': 24})


def roberta_tokenizer(folder: pathlib.Path) -> None:
  """Bytes without merges."""
  words = ['<s>', '<pad>', '</s>', '<unk>', *sorted(pre_tokenizers.ByteLevel.alphabet()), '<mask>']
  write_json(folder / 'vocab.json', {word: number for number, word in enumerate(words)})
  (folder / 'merges.txt').write_text('#version: 0.2\n')
  write_json(folder / 'tokenizer_config.json', {'tokenizer_class': 'RobertaTokenizer'})


def write(folder: pathlib.Path, family: str, words: Sequence[str] = WORDS) -> pathlib.Path:
  """Writes the encoder of a family, bert or roberta; `words` are the vocabulary of BERT's tokenizer."""
  config = made['CONFIGS'][family] | {'vocab_size': 270}
  write_json(folder / 'config.json', config)
  save_file(made['weights'](config), folder / 'model.safetensors')
  if family == 'bert':
    bert_tokenizer(folder, words)
  else:
    roberta_tokenizer(folder)
  return folder
