import random

import pytest
from transformers import AutoTokenizer

from crosstrainer_jax.input import tokenizer
from crosstrainer_jax.input.tokenizer import load_tokenizer, train_tokenizer

TEXTS = [' Bend the knees before you kick.', ' balance, knee bend', ' Keep the balance while you kick.'] * 4


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  folder = tmp_path_factory.mktemp('words')
  train_tokenizer(TEXTS, 300, folder)
  return folder


@pytest.fixture(scope='module')
def words(folder):
  return load_tokenizer(folder)


def ids(words, text):
  return words.encode(text, add_special_tokens=False)


def test_any_unicode_comes_back(words):
  source = random.Random(0)
  for _ in range(200):
    # surrogates are no text
    points = (source.choice([source.randrange(0xD800), source.randrange(0xE000, 0x110000)]) for _ in range(20))
    text = ''.join(map(chr, points))
    assert words.decode(ids(words, text)) == text
  for text in ('', ' ', '  two  spaces , and a comma .', "don't\r\n\t", 'Ä 体 🏀'):
    assert words.decode(ids(words, text)) == text


def test_unseen_words_are_pieces_and_never_unknown(words):
  seen, unseen = ids(words, ' kick'), ids(words, ' Zürich')
  assert len(seen) < len(' kick')
  assert len(unseen) > 1
  # four special tokens, then bytes and their merges
  assert min(unseen) >= 4
  assert words.decode(unseen) == ' Zürich'


def test_special_tokens_are_the_first_and_no_text_makes_them_by_merging(words):
  specials = [tokenizer.PAD, tokenizer.BOS, tokenizer.EOS, '<video>']
  assert [words.convert_tokens_to_ids(token) for token in specials] == [0, 1, 2, 3]
  assert (words.pad_token_id, words.bos_token_id, words.eos_token_id) == (0, 1, 2)
  assert ids(words, 'a<video>b') == [*ids(words, 'a'), 3, *ids(words, 'b')]
  assert min(words.encode('a<video>b</s>', add_special_tokens=False, split_special_tokens=True)) >= 4
  assert words.decode([1, *ids(words, ' kick'), 2, 0], skip_special_tokens=True) == ' kick'


def test_the_vocabulary_has_the_size_asked_for_or_what_the_text_gives(tmp_path):
  assert len(train_tokenizer(TEXTS, 280, tmp_path / 'full')) == 280
  assert len(train_tokenizer(['a'], 280, tmp_path / 'short')) == 260


def test_a_phrase_is_one_token_and_reads_back(tmp_path):
  words = train_tokenizer(TEXTS, 280, tmp_path, ['. Give feedback on the kick.', ' Here is'])
  assert len(words) == 282
  text = ' Here is balance. Give feedback on the kick.'
  assert ids(words, text) == [281, *ids(words, ' balance'), 280]
  assert words.decode(ids(words, text)) == text
  # as text of a comment too it stays what it says
  assert words.decode(words.encode(text, add_special_tokens=False, split_special_tokens=True)) == text


def test_reads_back_as_hugging_face(words, folder):
  other = AutoTokenizer.from_pretrained(str(folder))
  text = ' Bend the knees, 体.'
  assert other(text)['input_ids'] == ids(words, text)
  assert other.is_fast


def test_the_same_texts_make_the_same_tokenizer(folder, tmp_path):
  train_tokenizer(TEXTS, 300, tmp_path)
  assert (tmp_path / 'tokenizer.json').read_bytes() == (folder / 'tokenizer.json').read_bytes()


def test_a_vocabulary_without_room_for_the_bytes_is_refused(tmp_path):
  with pytest.raises(ValueError, match=r'vocab_size=259: .* are 260'):
    train_tokenizer(TEXTS, 259, tmp_path)
  assert not list(tmp_path.iterdir())


def test_no_tokenizer_is_a_clear_error(tmp_path):
  with pytest.raises(FileNotFoundError, match='no tokenizer here'):
    load_tokenizer(tmp_path)
