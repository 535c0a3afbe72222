"""Two towers of a row: texts that are too long, a pretrained text tower that stays as it is."""

import json
import pathlib
import runpy

import jax
import numpy as np
from safetensors.numpy import save_file

from crosstrainer_jax.baselines.retrieval import Retriever, ValidTokens
from crosstrainer_jax.models.text_encoder import TextEncoder
from crosstrainer_jax.training.contrastive import own_text

MAKE_BERT = pathlib.Path(__file__).resolve().parent.parent / 'golden' / 'make_bert.py'
TEXTS = ['bend your knees', 'elbow in']


def bert(folder):
  """A folder with a tiny BERT and its tokenizer."""
  made = runpy.run_path(str(MAKE_BERT))
  words = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]', 'bend', 'your', 'knees', 'elbow', 'in']
  config = made['CONFIGS']['bert'] | {'vocab_size': len(words)}
  folder.mkdir()
  (folder / 'config.json').write_text(json.dumps(config))
  save_file(made['weights'](config), folder / 'model.safetensors')
  (folder / 'vocab.txt').write_text('\n'.join(words))
  (folder / 'tokenizer_config.json').write_text(json.dumps({'tokenizer_class': 'BertTokenizer'}))
  return folder


def test_a_pretrained_text_tower_can_be_frozen(retrieval_setting, tmp_path, capsys):
  folder = bert(tmp_path / 'bert')
  setting = retrieval_setting(tmp_path, text_encoder=str(folder), frozen=('^texts/bert/',), max_text_tokens=4)
  retriever = Retriever(setting, 'row', TEXTS)
  before = jax.tree.map(np.asarray, retriever._initial['texts'])
  retriever.fit([0, 1], [[0], [1]], own_text, None)
  # [CLS] bend your knees [SEP]
  assert '1 of 2 texts were cut to config.contrastive.max_text_tokens=4' in capsys.readouterr().out
  after = retriever._params['texts']
  jax.tree.map(np.testing.assert_array_equal, jax.tree.leaves(before['bert']), jax.tree.leaves(after['bert']))
  pretrained = TextEncoder.load(folder).model.embeddings.word.embedding[...]
  np.testing.assert_array_equal(after['bert']['embeddings']['word']['embedding'][...], pretrained)
  assert np.abs(after['pooling']['head']['kernel'][...] - before['pooling']['head']['kernel'][...]).max() > 0
  again = Retriever(setting, 'row', TEXTS)
  again.load()
  np.testing.assert_array_equal(again.similarities([3, 4]), retriever.similarities([3, 4]))


def test_tokens_of_a_clip_are_valid_where_it_has_frames():
  class Words:
    def valid(self, times, seconds):
      return np.isfinite(times).reshape(1, seconds, -1).any(-1)

  class Info:
    frame_times = np.array([[0, 1, np.nan, np.nan]])

  assert ValidTokens([Info()], Words(), 2)([0]).tolist() == [[[True, False]]]
