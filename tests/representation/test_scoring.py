import json

import numpy as np
import pytest

from crosstrainer_jax.input.source import ClipInfo
from crosstrainer_jax.representation import scoring


def clips(count=24, sports=('soccer', 'judo')):
  """Clips of two sports, three of each video, every second one shown as it should not be."""
  return [
    ClipInfo(
      f'c{n}', sports[n % len(sports)], 'kick', f'p{n // 6}', f'v{n // 6}-{n % 2}', 'test', ['a'], f'Say {n}.',
      np.zeros((1, 4), np.float32), [], [], [], False, -1,
      extra=json.dumps({'execution': ('correct', 'incorrect')[n // 2 % 2]}),
    )
    for n in range(count)
  ]  # fmt: skip


def test_pools_are_of_one_sport_and_hold_nothing_of_the_own_video():
  found = scoring.draw_pools(clips(), 5)
  assert found.size == 5
  assert len(found.queries) == 24
  known = clips()
  for query, pool in zip(found.queries, found.candidates, strict=True):
    assert pool[0] == query
    assert len(set(pool)) == 5
    assert {known[other].sport for other in pool} == {known[query].sport}
    assert known[query].take not in {known[other].take for other in pool[1:]}
  np.testing.assert_array_equal(found.candidates, scoring.draw_pools(clips(), 5).candidates)
  assert (found.candidates != scoring.draw_pools(clips(), 5, seed=1).candidates).any()


def test_the_same_words_are_no_wrong_answer():
  known = clips()
  for clip in known[1::2]:
    clip.commentary = 'Always the same.'
  assert set(scoring.draw_pools(known, 5).queries) == set(range(0, 24, 2))


def test_a_pool_that_cannot_be_is_told():
  with pytest.raises(ValueError, match='from 2 on'):
    scoring.draw_pools(clips(), 1)
  with pytest.raises(ValueError, match='make it smaller'):
    scoring.draw_pools(clips(), 50)


def test_scores_are_means_over_sports_of_both_directions():
  known = clips()
  pools = scoring.draw_pools(known, 8)
  vectors = np.eye(24)
  assert (scoring.ranks_of(vectors, vectors, pools) == 1).all()
  others = vectors.copy()
  others[1::2] = 0  # ties rank last
  found = scoring.ranks_of(others, others, pools, block=5)
  made = scoring.score(found, known, pools, 50)
  assert made.by_sport['soccer']['R@1'].value == 100.0
  assert made.by_sport['judo']['R@1'].value == 0.0
  assert made.by_sport['']['R@1'].value == 50.0
  assert made.by_sport['judo']['median rank'].value == 8.0
  assert made.by_sport['soccer']['R@5'].n_clips == 12
  assert set(made.by_execution) == {'correct', 'incorrect'}
  assert 'R@10' not in made.by_sport['']


def test_chance_is_what_random_similarities_come_to():
  known = clips(240)
  pools = scoring.draw_pools(known, 10)
  clip_vectors, text_vectors = np.random.default_rng(0).normal(size=(2, 240, 8))
  made = scoring.score(scoring.ranks_of(clip_vectors, text_vectors, pools), known, pools, 200)
  lots = scoring.chance(10)
  assert made.by_sport['']['R@5'].low < lots['R@5'] < made.by_sport['']['R@5'].high
  assert lots == {'R@1': 10.0, 'R@5': 50.0, 'median rank': 5.5}


def test_an_execution_is_read_where_there_is_one():
  assert scoring.execution(clips()[0]) == 'correct'
  clip = clips()[0]
  for extra in ('', '[]', '{}'):
    clip.extra = extra
    assert scoring.execution(clip) == ''


def test_a_sport_without_such_clips_has_no_say():
  known = clips()
  for clip in known[1::2]:
    clip.extra = json.dumps({'execution': 'correct'})
  pools = scoring.draw_pools(known, 8)
  made = scoring.score(scoring.ranks_of(np.eye(24), np.eye(24), pools), known, pools, 20)
  assert made.by_execution['incorrect']['R@1'].value == 100.0
