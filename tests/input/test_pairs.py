"""Pairs: every clip once an epoch, the same for any number of hosts, with a text of its own."""

import pickle

import numpy as np
import pytest

from crosstrainer_jax.input.pairs import Material, PairUpdates, ShownClips, Texts

CLIPS = [4, 7, 8, 10, 11, 15, 20]


def video(index):
  return {'features': np.full((2, 3, 4), index, np.float16)}


def material(view_dropout=0.0, **changes):
  texts = Texts.of([[number + 1] * (number + 1) for number in range(4)], 32)
  right = [[0], [1, 2], [2], [3], [0, 3], [1], [2]]
  given = {'clips': CLIPS, 'texts': texts, 'right': right, 'sources': np.array([0, 0, 1, 2, 3, 4, 5])} | changes
  shown = ShownClips(given['clips'], np.ones((len(given['clips']), 2, 3), bool), video, view_dropout)
  return Material(**given, show=shown)


def test_texts_are_padded_and_cut():
  texts = Texts.of([[5, 6], list(range(40)), []], 20)
  assert texts.ids.shape == (3, 20)
  assert texts.mask.sum(1).tolist() == [2, 20, 0]
  assert texts.ids[0, :3].tolist() == [5, 6, 0]
  assert texts.cut == 1
  assert Texts.of([[1]] * 3, 64).ids.shape == (3, 16)  # of few lengths


def test_every_clip_comes_once_an_epoch_with_a_text_of_its_own():
  pairs = material()
  updates = PairUpdates(pairs, 2, 0, 7)
  batches = [updates(number) for number in range(7)]
  seen = np.concatenate([batch['clips']['features'][:, 0, 0, 0] for batch in batches]).astype(int).tolist()
  assert sorted(seen[:7]) == CLIPS
  assert sorted(seen[7:]) == CLIPS
  assert seen[:7] != seen[7:]
  for place, index in enumerate(seen):
    batch, row = batches[place // 2], place % 2
    clip = CLIPS.index(index)
    text = batch['labels']['text'][row]
    assert text in pairs.right[clip]
    assert [n for n in batch['labels']['right'][row] if n >= 0] == list(pairs.right[clip])
    assert batch['labels']['source'][row] == pairs.sources[clip]
    assert batch['texts']['ids'][row][batch['texts']['mask'][row]].tolist() == [text + 1] * (text + 1)


def test_a_clip_with_several_texts_shows_each():
  updates = PairUpdates(material(clips=CLIPS[1:2], right=[[1, 2]], sources=np.zeros(1)), 1, 0, 20)
  assert {int(updates(number)['labels']['text'][0]) for number in range(20)} == {1, 2}


def test_hosts_make_their_own_rows_of_the_same_update():
  shown = material(view_dropout=0.5)
  whole = PairUpdates(shown, 6, 3, 4, 4)
  parts = [PairUpdates(shown, 6, 3, 4, 4, lambda rows, k=k: range(k, rows, 2)) for k in (0, 1)]
  for number in (2, 0):  # in any order
    all_rows, (even, odd) = whole(number), (part(number) for part in parts)
    for group in all_rows:
      for name, value in all_rows[group].items():
        np.testing.assert_array_equal(even[group][name], value[0::2])
        np.testing.assert_array_equal(odd[group][name], value[1::2])
    assert all_rows['labels']['weight'].tolist() == [1] * 6 + [0] * 2
    assert all_rows['labels']['number'].tolist() == list(range(8))
  assert not whole(0)['clips']['valid'].all()
  assert whole(0)['clips']['valid'].any((1, 2)).all()


def test_reader_processes_can_be_given_the_pairs():
  whole = PairUpdates(material(view_dropout=0.5), 6, 3, 4)
  copy = pickle.loads(pickle.dumps(whole))
  for group, arrays in whole(1).items():
    for name, value in arrays.items():
      np.testing.assert_array_equal(copy(1)[group][name], value)


def test_nothing_to_pair_is_a_clear_error():
  with pytest.raises(ValueError, match='no training clip has a text'):
    PairUpdates(material(clips=[], right=[], sources=np.zeros(0)), 2, 0, 1)
