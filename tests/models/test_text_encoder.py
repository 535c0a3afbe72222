"""Texts to states and embeddings: what the encoder makes of each text alone, in few shapes, whatever the text is."""

import functools
import json
import pathlib
import shutil
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from tokenizers import Tokenizer, models, pre_tokenizers

from crosstrainer_jax.models import bert, text_encoder
from crosstrainer_jax.models.text_encoder import TextEncoder
from tests.models import tiny_text_encoders
from tests.models.tiny_text_encoders import WORDS, write_json

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
TOLERANCE = 1e-5
TEXTS = ['Bend your knees.', 'elbow in', '', 'keep your elbows in.', '☃ ☂', 'bend ' * 18 + 'knees', '\t\u200b ', 'in']

Folder = Callable[[str], pathlib.Path]


@pytest.fixture(scope='module')
def folder(tmp_path_factory: pytest.TempPathFactory) -> Folder:
  """A function of the family: a folder with its encoder and tokenizer. Tests must not change it."""
  return functools.cache(lambda family: tiny_text_encoders.write(tmp_path_factory.mktemp(family), family))


@pytest.fixture(scope='module')
def encoder(folder: Folder) -> TextEncoder:
  return TextEncoder.load(folder('bert'))


@pytest.fixture
def copy(folder: Folder, tmp_path: pathlib.Path) -> pathlib.Path:
  """The folder of the BERT, to be changed."""
  return pathlib.Path(shutil.copytree(folder('bert'), tmp_path / 'copy'))


def close(a: Any, b: Any) -> None:
  np.testing.assert_allclose(a, b, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize('family', ['bert', 'roberta'])
def test_states_are_those_of_the_text_alone(folder: Folder, family: str) -> None:
  encoder, model = TextEncoder.load(folder(family)), bert.load(folder(family))
  texts = ['bend in', '', '☃ ☂', 'keep in .']
  run = nnx.jit(lambda model, ids: model(ids).layers)
  states = [np.asarray(run(model, jnp.asarray(text.ids[None])))[:, 0] for text in encoder.tokens(texts)]
  for layer in (None, 0, 2):
    found = encoder.hidden(texts, layer)
    assert len(found) == len(texts)
    for mine, expected in zip(found, states, strict=True):
      assert mine.dtype == np.float32
      close(mine, expected[-1 if layer is None else layer])
  means = np.stack([state[-1].mean(0) for state in states])
  close(encoder.embed(texts, normalise=False), means)
  close(encoder.embed(texts), means / np.linalg.norm(means, axis=-1, keepdims=True))


def test_tokens(encoder: TextEncoder, folder: Folder) -> None:
  found = encoder.tokens(['Bend your elbows.', '', '☃', '\u200b'])
  assert [[WORDS[i] for i in text.ids] for text in found] == [
    ['[CLS]', 'bend', 'your', 'elbow', '##s', '.', '[SEP]'],
    ['[CLS]', '[SEP]'],
    ['[CLS]', '[UNK]', '[SEP]'],
    ['[CLS]', '[SEP]'],
  ]
  for text in found:
    assert text.special.tolist() == [True, *[False] * (len(text.ids) - 2), True]
    assert text.ids.dtype == np.int32
    assert not text.cut
  # A special token that is written in a text is part of the text.
  assert encoder.tokens(['knees [SEP] in'])[0].special.tolist() == [True, False, False, False, True]
  ids = [text.ids.tolist() for text in TextEncoder.load(folder('roberta')).tokens(['a', ' a'])]
  assert ids[0] != ids[1]
  assert all(text[0] == 0 and text[-1] == 2 for text in ids)


def test_a_long_text_is_cut_and_counted(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
  encoder = TextEncoder.load(folder('bert'))
  assert encoder.max_length == 24
  long = 'bend ' * 22
  encoder.embed([long, long[:-1]])
  assert encoder.cut == 0
  assert not capsys.readouterr().out
  states = encoder.hidden(['in', long + 'knees', long, long * 9])
  assert [len(text) for text in states] == [3, 24, 24, 24]
  assert capsys.readouterr().out == '  2 of 4 texts are longer than 24 tokens and were cut\n'
  assert encoder.cut == 2
  # what is left are the first words, between the special tokens
  close(states[1], states[2])
  close(states[3], states[2])
  assert [text.cut for text in encoder.tokens([long, long * 2])] == [False, True]


def test_order_and_batches_change_nothing(encoder: TextEncoder, folder: Folder) -> None:
  small = TextEncoder.load(folder('bert'), batch_size=3)
  order = np.random.default_rng(0).permutation(len(TEXTS))
  shuffled = [TEXTS[i] for i in order]
  close(small.embed(shuffled), encoder.embed(TEXTS)[order])
  expected = encoder.hidden(TEXTS)
  for mine, number in zip(small.hidden(shuffled), order, strict=True):
    close(mine, expected[number])


def test_few_shapes_are_compiled(encoder: TextEncoder) -> None:
  shapes = set()
  for texts in range(1, 50, 3):
    tokens = encoder.tokens(['bend ' * (number % 23) for number in range(texts)])
    batches = list(encoder._batches(tokens))
    assert sorted(number for rows, _, _ in batches for number in rows) == list(range(texts))
    for rows, ids, mask in batches:
      assert ids.shape == mask.shape
      assert mask.sum(1).tolist()[: len(rows)] == [len(tokens[number].ids) for number in rows]
      assert not mask[len(rows) :].any()
      assert len(ids) < 2 * len(rows)
      shapes.add(ids.shape)
  assert shapes <= {(rows, length) for rows in (1, 2, 4, 8, 16, 32) for length in (16, 24)}


def test_no_texts(encoder: TextEncoder) -> None:
  assert encoder.hidden([]) == []
  assert encoder.tokens([]) == []
  assert encoder.embed([]).shape == (0, 32)
  with pytest.raises(TypeError, match='a list of texts is needed'):
    encoder.embed('bend your knees')
  with pytest.raises(ValueError, match='layers=4'):
    encoder.hidden(['in'], layer=4)


def test_texts_without_any_token(copy: pathlib.Path) -> None:
  """A tokenizer that puts nothing around a text leaves nothing of an empty one."""
  bare = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token='[UNK]'))
  bare.pre_tokenizer = pre_tokenizers.Whitespace()
  (copy / 'vocab.txt').unlink()
  bare.save(str(copy / 'tokenizer.json'))
  write_json(copy / 'tokenizer_config.json', {'tokenizer_class': 'PreTrainedTokenizerFast', 'pad_token': '[PAD]'})
  encoder = TextEncoder.load(copy)
  assert encoder.max_length == 24
  assert [state.shape for state in encoder.hidden(['', 'knees in'])] == [(0, 32), (2, 32)]
  embedded = encoder.embed(['', 'knees in'])
  assert not embedded[0].any()
  assert np.linalg.norm(embedded[1]) == pytest.approx(1, abs=1e-5)


def test_half_precision(encoder: TextEncoder, folder: Folder) -> None:
  """The cosine of an embedding in bf16 and the one in float32 is above 0.9999."""
  half = TextEncoder.load(folder('bert'), dtype='bfloat16')
  embedded = half.embed(TEXTS)
  assert embedded.dtype == half.hidden(['in'])[0].dtype == np.float32
  cosines = np.sum(embedded * encoder.embed(TEXTS), -1)
  assert 0.9999 < cosines.min() < 1 - 1e-7


def sentence_transformer(folder: pathlib.Path, *kinds: str, **pooling: Any) -> None:
  """The files that sentence-transformers adds."""
  paths = {'Transformer': '', 'Pooling': '1_Pooling', 'Normalize': '2_Normalize', 'Dense': '2_Dense'}
  write_json(
    folder / 'modules.json',
    [
      {'idx': number, 'name': str(number), 'path': paths[kind], 'type': f'sentence_transformers.models.{kind}'}
      for number, kind in enumerate(kinds)
    ],
  )
  write_json(folder / '1_Pooling' / 'config.json', {'word_embedding_dimension': 32} | pooling)


@pytest.mark.parametrize('pooling', [{'pooling_mode_mean_tokens': True}, {'pooling_mode': 'mean'}, {}])
@pytest.mark.parametrize('kinds', [('Transformer', 'Pooling'), ('Transformer', 'Pooling', 'Normalize')])
def test_a_sentence_transformer(copy: pathlib.Path, kinds: tuple[str, ...], pooling: dict[str, Any]) -> None:
  sentence_transformer(copy, *kinds, **pooling, pooling_mode_cls_token=False)
  write_json(copy / 'sentence_bert_config.json', {'max_seq_length': 8, 'do_lower_case': False})
  assert TextEncoder.load(copy).max_length == 8


@pytest.mark.parametrize(
  ('kinds', 'pooling', 'message'),
  [
    (('Transformer', 'Pooling', 'Dense'), {}, 'modules Transformer, Pooling, Dense are not supported'),
    (('Transformer',), {}, 'modules Transformer are not supported'),
    (
      ('Transformer', 'Pooling'),
      {'pooling_mode_cls_token': True},
      'pooling by pooling_mode_cls_token is not supported',
    ),
    (
      ('Transformer', 'Pooling'),
      {'pooling_mode_mean_tokens': True, 'pooling_mode_max_tokens': True},
      'pooling by pooling_mode_max_tokens',
    ),
    (('Transformer', 'Pooling'), {'pooling_mode': 'lasttoken'}, 'pooling by lasttoken'),
    (('Transformer', 'Pooling'), {'pooling_mode': ['mean', 'cls']}, 'pooling by cls'),
  ],
)
def test_another_pooling_is_refused(
  copy: pathlib.Path, kinds: tuple[str, ...], pooling: dict[str, Any], message: str
) -> None:
  sentence_transformer(copy, *kinds, **pooling)
  with pytest.raises(ValueError, match=message):
    TextEncoder.load(copy)


def test_a_prompt_is_refused(copy: pathlib.Path) -> None:
  sentence_transformer(copy, 'Transformer', 'Pooling')
  path = copy / 'config_sentence_transformers.json'
  write_json(path, {'prompts': {'query': 'query: ', 'document': ''}, 'default_prompt_name': 'document'})
  TextEncoder.load(copy)
  write_json(path, {'prompts': {'query': 'query: '}, 'default_prompt_name': 'query'})
  with pytest.raises(ValueError, match="default_prompt_name='query'"):
    TextEncoder.load(copy)


def test_the_first_layout_of_sentence_transformers(folder: Folder, tmp_path: pathlib.Path) -> None:
  """The encoder in a folder of its own, cased words lowered."""
  shutil.copytree(folder('roberta'), tmp_path / '0_Transformer')
  sentence_transformer(tmp_path, 'Transformer', 'Pooling')
  modules = json.loads((tmp_path / 'modules.json').read_text())
  modules[0]['path'] = '0_Transformer'
  write_json(tmp_path / 'modules.json', modules)
  write_json(
    tmp_path / '0_Transformer' / 'sentence_roberta_config.json', {'max_seq_length': None, 'do_lower_case': True}
  )
  lowered, plain = TextEncoder.load(tmp_path), TextEncoder.load(folder('roberta'))
  assert lowered.max_length == 22
  upper, lower = (plain.embed([text])[0] for text in ('Elbow IN', 'elbow in'))
  assert np.abs(upper - lower).max() > 100 * TOLERANCE
  close(lowered.embed(['Elbow IN', 'elbow in']), [lower, lower])


def test_tokenizers_that_do_not_fit(copy: pathlib.Path) -> None:
  (copy / 'vocab.txt').write_text('\n'.join([*WORDS, *map(str, range(300))]))
  with pytest.raises(ValueError, match='314 tokens in the tokenizer, 270 in the encoder'):
    TextEncoder.load(copy)
  write_json(copy / 'tokenizer_config.json', {'tokenizer_class': 'ByT5Tokenizer'})
  with pytest.raises(ValueError, match='ByT5Tokenizer is not supported, only fast tokenizers'):
    TextEncoder.load(copy)
  (copy / 'vocab.txt').unlink()
  with pytest.raises(FileNotFoundError, match=r'no tokenizer here \(tokenizer.json, or vocab.txt, or vocab.json and'):
    TextEncoder.load(copy)


WITHOUT_TORCH = """
import sys
from importlib.machinery import PathFinder

class WithoutTorch(PathFinder):
  @classmethod
  def find_spec(cls, name, path=None, target=None):
    return None if name.partition('.')[0] in ('torch', 'torchvision') else super().find_spec(name, path, target)

sys.meta_path[:] = [WithoutTorch if finder is PathFinder else finder for finder in sys.meta_path]
try:
  import torch
except ImportError:
  pass
else:
  raise SystemExit('torch was found')
from crosstrainer_jax.models.text_encoder import TextEncoder

for folder in sys.argv[1:]:
  assert TextEncoder.load(folder).embed(['bend your knees', '']).shape == (2, 32)
print('torch' in sys.modules)
"""


def test_works_without_torch(folder: Folder) -> None:
  command = [sys.executable, '-W', 'error', '-c', WITHOUT_TORCH, *(str(folder(name)) for name in ('bert', 'roberta'))]
  done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
  assert done.returncode == 0, done.stderr
  assert done.stdout == 'False\n'


def test_one_compilation_for_a_shape(folder: Folder) -> None:
  encoder = TextEncoder.load(folder('bert'))
  text_encoder._embed.clear_cache()
  for _ in range(3):
    encoder.embed(['in', 'knees'])
    encoder.embed(['elbow in', 'bend your knees'])
  assert text_encoder._embed._cache_size() == 1
