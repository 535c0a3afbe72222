import copy

import numpy as np

from crosstrainer_jax.curation import duplicates
from crosstrainer_jax.curation.duplicates import Match, Signature


def signature(key, seed, words='keep your knees bent all the way down', flipped=0):
  rng = np.random.default_rng(seed)
  hashes = [int(value) for value in rng.integers(0, 2**63, 8)]
  noise = np.random.default_rng(99)
  for _ in range(flipped):
    hashes = [value ^ (1 << int(noise.integers(63))) for value in hashes]
  return Signature(key, tuple(hashes), duplicates._minhash(words))


def test_copies_are_found_and_the_first_is_kept():
  found = dict(duplicates.within([signature('b/1', 0, flipped=2), signature('a/1', 0), signature('c/1', 7)]))
  assert list(found) == ['b/1']
  assert found['b/1'].key == 'a/1'
  assert found['b/1'].why == duplicates.SAME_FRAMES


def test_the_nearest_match_counts():
  clips = [signature('a/1', 0, flipped=3), signature('b/1', 0), signature('c/1', 0)]
  assert dict(duplicates.within(clips))['c/1'] == Match(0.0, 'b/1', duplicates.SAME_FRAMES)


def test_equal_words_bring_like_frames_together_and_alone_do_nothing():
  words, others = 'keep your knees bent all the way down', 'look where you are going and breathe out slowly now'
  like = signature('b/1', 0, words, flipped=9)
  assert dict(duplicates.within([signature('a/1', 0, words), like]))['b/1'].why == duplicates.SAME_FRAMES_AND_WORDS
  assert not dict(duplicates.within([signature('a/1', 0, others), like]))
  assert not dict(duplicates.within([signature('a/1', 5, words), like]))


def test_a_movement_that_a_video_shows_again_is_none():
  assert not dict(
    duplicates.within([signature('a/1', 0, 'one two three four'), signature('a/2', 0, 'five six seven eight')])
  )


def test_near_clips_meet_in_a_bucket():
  one, other, stranger = (
    signature('a/1', 0),
    signature('b/1', 0, flipped=3),
    signature('c/1', 4, 'something else entirely'),
  )
  assert set(one.buckets()) & set(other.buckets())
  assert not set(one.buckets()) & set(stranger.buckets())


def test_blank_frames_say_nothing():
  blank = Signature('a/1', (None,) * 8, (1,) * 64)
  assert not dict(duplicates.within([blank, Signature('b/1', (None,) * 8, (1,) * 64)]))
  assert all(name.startswith('w') for name in blank.buckets())


def test_a_marked_segment_names_the_one_that_is_kept(video):
  marked = duplicates.mark(copy.deepcopy(video), {'abc/0000': Match(1.0, 'aaa/0003', duplicates.SAME_FRAMES)})
  assert (marked.segments[0].dropped, marked.segments[0].duplicate_of) == ('duplicates', 'aaa/0003')
