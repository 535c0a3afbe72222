"""Our own decoder as a language model of discovery, with a tiny random model."""

import jax.numpy as jnp
import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from tokenizers import decoders as token_decoders
from transformers import PreTrainedTokenizerFast

from crosstrainer_jax.discovery import instructions
from crosstrainer_jax.discovery.language_model import CUT, STOP, Question, Sampling, Unreadable
from crosstrainer_jax.inference import local_model
from crosstrainer_jax.inference.local_model import LocalModel
from tests.models import hub_directories

TEMPLATE = (
  "{% for m in messages %}{% if m['role'] == 'system' and no_system is defined %}{{ raise_exception('no system') }}"
  "{% endif %}<|{{ m['role'] }}|>{{ m['content'] }}<end>{% endfor %}"
  '{% if add_generation_prompt %}<|assistant|>{% endif %}'
)
WITHOUT_SYSTEM = '{% set no_system = true %}' + TEMPLATE


def write_tokenizer(folder, template=TEMPLATE):
  """Bytes, and the marks of the template."""
  special = ['<end>', '<|system|>', '<|user|>', '<|assistant|>']
  alphabet = [*special, *sorted(pre_tokenizers.ByteLevel.alphabet())]
  tokenizer = Tokenizer(models.BPE({word: number for number, word in enumerate(alphabet)}, []))
  tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
  tokenizer.decoder = token_decoders.ByteLevel()
  fast = PreTrainedTokenizerFast(
    tokenizer_object=tokenizer,
    eos_token='<end>',
    additional_special_tokens=special[1:],
    clean_up_tokenization_spaces=False,
  )
  fast.chat_template = template
  fast.save_pretrained(folder)
  return folder


@pytest.fixture(scope='module')
def directory(tmp_path_factory):
  folder = tmp_path_factory.mktemp('model') / 'tiny'
  folder.mkdir()
  return write_tokenizer(hub_directories.write_llama(folder, vocab_size=320))


@pytest.fixture(scope='module')
def model(directory):
  return LocalModel(directory, Sampling(max_tokens=6), batch=2)


def question(text):
  return Question(({'role': 'system', 'content': 'S'}, {'role': 'user', 'content': text}), 'test')


def test_an_answer_is_the_greedy_continuation_of_the_conversation(model):
  """As the whole conversation says it, read at once: without a cache, without padding and without other rows."""
  texts = ['How?', 'A longer question than the first, so that rows are padded.']
  for text, asked in zip(texts, [model._ids(question(text).messages) for text in texts], strict=True):
    assert model._words.decode(asked) == f'<|system|>S<end><|user|>{text}<end><|assistant|>'
  rows = [model._ids(question(text).messages) for text in texts]
  for ids, written in zip(rows, model._write([local_model.Row(ids) for ids in rows]), strict=True):
    tokens = jnp.array([[*ids, *written]])
    hidden, _ = model._decoder(model._decoder.embed(tokens), jnp.arange(tokens.shape[1])[None], jnp.ones_like(tokens))
    logits = np.asarray(model._decoder.logits(hidden[0, len(ids) - 1 : -1]))[:, : len(model._words)]
    assert logits.argmax(-1).tolist() == written.tolist()


def test_answers_in_batches(model):
  texts = ['How?', 'A longer question than the first, so that rows are padded.', 'Why?'] * 4
  answers = model.complete([question(text) for text in texts])
  assert answers[:3] * 3 == answers[3:]
  assert len(set(answers)) == 3
  assert [answer.completion_tokens for answer in answers[:3]] == [6, 6, 6]
  assert answers[0].finish == CUT
  ended = model._answer([1, 2], np.array([5 + 4, 6 + 4, 0, 7, 7]))
  assert (ended.finish, ended.prompt_tokens, ended.completion_tokens) == (STOP, 2, 2)


def test_questions_that_cannot_be_answered(model):
  image = {'type': 'image_url', 'image_url': {'url': 'data:,'}}
  with_image = Question(({'role': 'user', 'content': [image]},), 'look')
  fine, seeing, long = model.complete([question('How?'), with_image, question('x' * 3000)])
  assert fine.text is not None
  assert isinstance(seeing, Unreadable)
  assert 'no images' in str(seeing)
  assert '3' in str(long)
  assert '2042 are left' in str(long)


def test_the_name_is_that_of_the_weights(model, directory):
  assert model.name.startswith('tiny@')
  assert model.name == LocalModel(directory, Sampling(max_tokens=6)).name


def test_a_template_without_a_system_takes_it_before_the_question(directory, tmp_path, model):
  words = write_tokenizer(tmp_path, WITHOUT_SYSTEM)
  other = LocalModel(directory, Sampling(max_tokens=6))
  other._words = local_model.tokenizer.load_tokenizer(words)
  ids = other._ids(instructions.load('paper').question('Fine.', 'soccer').messages)
  text = other._words.decode(ids)
  assert text.startswith('<|user|>You answer a question')
  assert '<|system|>' not in text
  assert text.endswith('<|assistant|>')


def test_a_template_that_refuses_every_conversation_is_named(directory):
  model = LocalModel(directory, Sampling(max_tokens=6))
  model._words.chat_template = "{{ raise_exception('never') }}"
  with pytest.raises(ValueError, match='tiny: the chat template refuses the conversation .*never'):
    model._ids(question('How?').messages)


def test_a_model_that_follows_no_instructions_is_refused(tmp_path):
  folder = hub_directories.write_llama(tmp_path, vocab_size=320)
  write_tokenizer(folder, None)
  with pytest.raises(ValueError, match='no chat template'):
    LocalModel(folder)
  with pytest.raises(ValueError, match='--model is missing'):
    LocalModel('')
  with pytest.raises(FileNotFoundError):
    LocalModel(tmp_path / 'none')
