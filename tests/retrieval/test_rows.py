import types

import numpy as np
import pytest

from crosstrainer_jax.baselines.retrieval import Setting
from crosstrainer_jax.input.source import ClipInfo
from crosstrainer_jax.retrieval import rows
from crosstrainer_jax.retrieval.material import Material
from crosstrainer_jax.retrieval.weak import Spoken
from crosstrainer_jax.training.contrastive import any_right_text, own_text


def material_of(setting, library, train=(), test=()):
  return Material(setting, library, [], list(test), list(train), {}, None)


def clip(name, skill, said=''):
  times = np.zeros((1, 2), np.float32)
  return ClipInfo(name, 'judo', skill, 'p', f't{name}', 'train', ['a'], said, times, [], [], [], False, -1)


def test_names_put_the_same_skill_first_and_then_its_words():
  queries = [clip('q', 'hip throw')]
  candidates = [
    clip('a', 'ankle pick', 'the hip throw is another thing'), clip('b', 'hip throw', 'turn in'),
    clip('c', 'hip throw', 'a hip throw needs a turn'), clip('d', 'ankle pick', 'pick it'),
  ]  # fmt: skip
  scores = rows.by_names(queries, candidates)[0]
  assert set(np.argsort(-scores)[:2]) == {1, 2}
  assert scores[0] > scores[3]


def test_lots_follow_from_the_seed():
  np.testing.assert_array_equal(rows.by_lot([1, 2], [3], 0), rows.by_lot([1, 2], [3], 0))
  assert (rows.by_lot([1, 2], [3], 0) != rows.by_lot([1, 2], [3], 1)).all()


def test_looks_are_compared_over_real_tokens_alone():
  rng = np.random.default_rng(0)
  features = rng.normal(size=(6, 1, 2, 8))
  features[3] = features[0] + 0.01
  features[:, :, 1] = 1e3  # not valid
  setting = types.SimpleNamespace(
    valid=lambda indices: np.tile(np.array([[[True, False]]]), (len(indices), 1, 1)),
    video=lambda index: {'features': features[index]},
  )
  scores = rows.by_looks(material_of(setting, 2), [0, 1], [2, 3, 4, 5])
  assert scores.shape == (2, 4)
  assert scores[0].argmax() == 1


def test_nothing_can_be_learnt_where_nobody_matches():
  material = types.SimpleNamespace(clips=[clip('a', 'x'), clip('b', 'x', 'turn')], library=1, library_train=[1])
  learners, library = [Spoken('a', 'judo', frozenset({'balance'}))], [Spoken('b', 'judo', frozenset({'timing'}))]
  with pytest.raises(ValueError, match='nothing can be learnt'):
    rows.weak_pairs(material, learners, library)


def test_towers_learn_from_every_narration_that_is_right(monkeypatch, tmp_path):
  seen = {}

  class Towers:
    def __init__(self, setting, name, texts):
      seen.update(texts=texts, name=name, directory=setting.directory, train=setting.train)

    def fit(self, clips, right, relation, writer):
      seen.update(clips=clips, right=right, relation=relation)

  monkeypatch.setattr(rows, 'Retriever', Towers)
  known = [
    clip('a', 'x'),
    clip('b', 'x'),
    clip('c', 'x', 'Turn in.'),
    clip('d', 'x', 'Sink.'),
    clip('e', 'x', 'Turn in.'),
  ]
  setting = Setting(tmp_path, known, [0, 1], [], None, None, None, None, None)
  learners = [Spoken('a', 'judo', frozenset({'balance', 'timing'})), Spoken('b', 'judo', frozenset({'pace'}))]
  library = [
    Spoken('c', 'judo', frozenset({'balance'})), Spoken('d', 'judo', frozenset({'timing'})),
    Spoken('e', 'judo', frozenset({'balance'})),
  ]  # fmt: skip
  rows.weak_pairs(material_of(setting, 2), learners, library)
  assert seen['texts'] == ['Sink.', 'Turn in.']
  assert (seen['clips'], seen['right']) == ([0], [[0, 1]])  # nobody speaks of what the second does wrong
  assert seen['relation'] is any_right_text
  rows.zero_shot(material_of(setting, 2, [2, 4], [3]))
  assert (seen['clips'], seen['right'], seen['relation']) == ([2, 4], [[0], [0]], own_text)
  assert seen['directory'] == tmp_path / 'rows' / 'two_towers_zero-shot'
