"""Noise on attributes: how much, where, and the same every time."""

import pytest

from crosstrainer_jax.evaluation import noise, published

WORDS = ['balance', 'speed', 'timing', 'grip', 'stance']
LISTS = [['balance', 'speed'], [], ['timing'], ['grip', 'balance', 'speed']] * 10


def changed(after):
  return {(c, i) for c, named in enumerate(LISTS) for i, word in enumerate(named) if after[c][i] != word}


def test_the_share_is_of_all_attributes():
  for share, count in ((0.0, 0), (0.1, 6), (0.5, 30), (1.0, 60)):
    after = noise.noised(LISTS, share, WORDS, seed=0)
    assert [len(named) for named in after] == [len(named) for named in LISTS]
    assert len(changed(after)) == count


def test_more_noise_keeps_what_less_has_changed():
  some, more = (noise.noised(LISTS, share, WORDS, seed=3) for share in (0.2, 0.7))
  assert changed(some) < changed(more)
  assert all(some[c][i] == more[c][i] for c, i in changed(some))
  assert noise.noised(LISTS, 0.7, WORDS[::-1], seed=3) == more
  assert noise.noised(LISTS, 0.7, WORDS, seed=4) != more


def test_a_replacement_is_of_the_vocabulary_and_not_of_the_clip():
  after = noise.noised(LISTS, 1.0, WORDS, seed=0)
  for before, named in zip(LISTS, after, strict=True):
    assert set(named) <= set(WORDS) - set(before)
  with pytest.raises(ValueError, match='no other attribute'):
    noise.noised([['balance']], 1.0, ['balance'], seed=0)
  with pytest.raises(ValueError, match='between 0 and 1'):
    noise.noised(LISTS, 10, WORDS, seed=0)


def test_rows_are_called_as_published():
  rows = {cell.row for cell in published.of_item('table 4')}
  assert {noise.row_name(share) for share in noise.SHARES} <= rows
