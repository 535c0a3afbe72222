"""Which words of the expert a run learns."""

import json
import types

import numpy as np
import pytest

from crosstrainer_jax.discovery.backend import Attributes
from crosstrainer_jax.discovery.journal import text_sha
from crosstrainer_jax.input.source import ClipInfo
from crosstrainer_jax.wording import canonical_names, fingerprint_of, put_attributes, put_words


def clip(name, commentary):
  times = np.zeros((1, 2), np.float32)
  return ClipInfo(name, 'golf', 'putt', 'p', 't', 'train', ['a'], commentary, times, [], [], [], False, -1)


def data(path, text='condensed'):
  return types.SimpleNamespace(text=text, condensed=str(path), dataset='my_videos')


@pytest.fixture
def sentences(tmp_path):
  """A file of sentences of the comments of clips a and b."""
  path = tmp_path / 'condensed.jsonl'
  lines = [
    {'clip_id': name, 'text_sha': text_sha(comment), 'backend': 'openai x', 'condensed': f'{comment} In short.'}
    for name, comment in (('a', 'Long talk.'), ('b', 'More talk.'))
  ]
  path.write_text(''.join(json.dumps(line) + '\n' for line in lines))
  return path


def test_raw_words_stay(tmp_path):
  clips = [clip('a', 'Long talk.')]
  assert put_words(clips, data(tmp_path / 'none', 'raw')) == 0
  assert clips[0].commentary == 'Long talk.'


def test_sentences_take_the_place_of_comments(sentences):
  clips = [clip('a', 'Long talk.'), clip('silent', ''), clip('new', 'Said later.'), clip('b', 'More talk.')]
  assert put_words(clips, data(sentences)) == 1
  assert [one.commentary for one in clips] == ['Long talk. In short.', '', '', 'More talk. In short.']


def test_sentences_of_other_comments_are_refused(sentences):
  with pytest.raises(ValueError, match="of clip 'a' was made from another comment; make them again: .* --condense"):
    put_words([clip('a', 'Other talk.')], data(sentences))
  with pytest.raises(FileNotFoundError):
    put_words([clip('a', 'x')], data(sentences.with_name('none.jsonl')))


def names_in(path, **phrases):
  path.write_text(json.dumps({'method': 'by hand', 'phrases': phrases}))
  return types.SimpleNamespace(canonical=str(path))


def test_attributes_stay_as_they_were_found_or_get_one_name(tmp_path):
  found = {'a': Attributes(['steady', 'deep knees'], ['bent knees', 'knee bend', 'gaze']), 'b': Attributes([], [])}
  clips = [clip('a', 'Talk.'), clip('unread', 'Talk.'), clip('b', 'Talk.')]
  clips[1].incorrect = ['as before']
  put_attributes(clips, found, types.SimpleNamespace(canonical=''))
  assert clips[0].incorrect == ['bent knees', 'knee bend', 'gaze']
  put_attributes(
    clips,
    found,
    names_in(tmp_path / 'names.json', **{'bent knees': 'knee bend', 'deep knees': 'knee bend', 'steady': 'balance'}),
  )
  assert [one.incorrect for one in clips] == [['knee bend', 'gaze'], ['as before'], []]
  assert clips[0].correct == ['balance']


def test_other_names_make_another_run(tmp_path):
  one, two = names_in(tmp_path / 'a.json', x='y'), names_in(tmp_path / 'b.json', x='z')
  assert fingerprint_of(one) == fingerprint_of(one) != fingerprint_of(two)
  assert canonical_names(types.SimpleNamespace(canonical='')) == {}
  with pytest.raises(FileNotFoundError, match='discover --canonical'):
    canonical_names(types.SimpleNamespace(canonical=str(tmp_path / 'none.json')))
