"""Names for alike phrases: by hand-made embeddings, the lexicon and a tiny random encoder."""

import json

import numpy as np
import pytest

from crosstrainer_jax.discovery import rules
from crosstrainer_jax.inference import canonical
from tests.models.test_text_encoder import folder  # noqa: F401

LINES = [
  (['balance'], ['knee bend', 'bending of the knees']),
  ([], ['knee bend', 'chalk use']),
  (['bent knees'], []),
]


@pytest.fixture
def attributes(tmp_path):
  path = tmp_path / 'a.jsonl'
  rows = [
    {'clip_id': str(i), 'text_sha': '', 'backend': '', 'correct': correct, 'incorrect': incorrect}
    for i, (correct, incorrect) in enumerate(LINES)
  ]
  path.write_text('\n'.join(json.dumps(row) for row in rows))
  return path


def turned(*degrees):
  radians = np.radians(degrees)
  return np.stack([np.cos(radians), np.sin(radians)], 1)


def test_groups_are_named_after_their_most_frequent_phrase():
  names = canonical.cluster(['a', 'b', 'c', 'd'], turned(0, 90, 10, 95), 0.9)
  assert names == {'a': 'a', 'b': 'b', 'c': 'a', 'd': 'b'}
  assert canonical.cluster(['a', 'b'], turned(0, 10), 0.99) == {'a': 'a', 'b': 'b'}
  assert canonical.cluster(['a'], turned(0), 0.9) == {'a': 'a'}
  assert canonical.cluster([], np.zeros((0, 2)), 0.9) == {}


def test_a_chain_of_alike_phrases_is_no_group():
  """Neighbours are 25° apart, the ends 100°: the mean over pairs decides, not the nearest pair."""
  names = canonical.cluster(list('abcde'), turned(0, 25, 50, 75, 100), 0.9)
  assert names['e'] != names['a']


def test_rarer_phrases_join_a_group_that_is_near(monkeypatch):
  monkeypatch.setattr(canonical, 'MOST_CLUSTERED', 2)
  names = canonical.cluster(['a', 'b', 'c', 'd'], turned(0, 90, 5, 45), 0.9)
  assert names == {'a': 'a', 'b': 'b', 'c': 'a', 'd': 'd'}


def test_the_rank_of_phrases():
  assert canonical.ranked({'rare': 1, 'long phrase': 5, 'short': 5, 'b': 1, 'a': 1}) == [
    'short', 'long phrase', 'a', 'b', 'rare',
  ]  # fmt: skip


def test_by_the_lexicon(attributes):
  before = attributes.read_bytes()
  found = canonical.canonicalise(attributes, 'lexicon')
  assert attributes.read_bytes() == before
  assert found.method == f'lexicon-{rules.fingerprint()}'
  names = canonical.read_canonical(found.path)
  assert names == found.phrases
  assert names['bending of the knees'] == names['bent knees'] == 'knee bend'
  assert names['chalk use'] == 'chalk use'
  assert found.path.name == 'a.canonical.json'
  assert '5 phrases, 3 names' in found.describe()
  assert 'knee bend: bending of the knees, bent knees' in found.describe()


def test_by_a_bert(attributes, folder):  # noqa: F811
  everything = canonical.canonicalise(attributes, str(folder('bert')), threshold=-1.0)
  # the most frequent phrase names them all
  assert set(everything.phrases.values()) == {'knee bend'}
  assert everything.method.endswith('cosine -1')
  nothing = canonical.canonicalise(attributes, str(folder('bert')), threshold=1.0)
  assert len(nothing.phrases) == 5
  assert set(canonical.read_canonical(nothing.path)) == set(nothing.phrases)


def test_what_cannot_be(attributes, tmp_path):
  with pytest.raises(ValueError, match='--threshold 2'):
    canonical.canonicalise(attributes, 'x', 2)
  with pytest.raises(FileNotFoundError, match='none.jsonl'):
    canonical.canonicalise(tmp_path / 'none.jsonl', 'lexicon')
  with pytest.raises(FileNotFoundError, match='--canonical'):
    canonical.read_canonical(tmp_path / 'none.json')
  (tmp_path / 'bad.json').write_text('[]')
  with pytest.raises(ValueError, match='not a map'):
    canonical.read_canonical(tmp_path / 'bad.json')
