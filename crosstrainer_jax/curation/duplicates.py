"""The step `duplicates`: of clips that show nearly the same, the first in order of their ids is kept.

[O] Two clips are duplicates where their frames, one by one, are nearly the same (copies under another address,
compilations), or where the frames are alike and the words are nearly the same (copies that were cropped or recoloured).
Equal words alone make none: good advice is given by many.

Frames are compared by their perceptual hashes, words by MinHash over pairs of words (Broder 1997). Neither is compared
with all others: clips meet in buckets, of which each has several, by parts of the hashes that are equal. So the same
rule serves a table on this machine and a grouping of Apache Beam, and no order of work changes what comes out.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Iterable, Iterator, Sequence

import datasketch
import numpy as np

from crosstrainer_jax.curation.videos import Segment, Video

NAME = 'duplicates'
SAME_FRAMES, SAME_FRAMES_AND_WORDS = 'nearly the same frames', 'like frames and nearly the same words'
# Bits of 64 by which hashes of frames may differ, in the mean: without and with the same words.
NEAR, LIKE = 6.0, 16.0
# Share of pairs of words that nearly equal sentences have in common.
EQUAL_WORDS = 0.8
_PERMUTATIONS, _BAND = 64, 4
# Clips of one bucket that a clip is compared with; more are the mark of something that everybody shows.
MOST_IN_BUCKET = 500


@dataclasses.dataclass(frozen=True)
class Signature:
  """What of a clip is compared.

  Attributes:
    key: sorts clips; the least of several duplicates is kept.
    hashes: of frames, as numbers; None for a blank one.
    words: uint64[64], MinHash.
  """

  key: str
  hashes: tuple[int | None, ...]
  words: tuple[int, ...]

  @classmethod
  def of(cls, video: Video, segment: Segment) -> Signature:
    hashes = tuple(int(text, 16) if text else None for text in segment.hashes)
    return cls(video.clip_id(segment), hashes, _minhash(segment.narration))

  def buckets(self) -> Iterator[str]:
    """Names under which clips meet: quarters of the hash of each frame, and bands of the words."""
    for place, value in enumerate(self.hashes):
      if value is not None:
        for part in range(4):
          yield f'f{place}.{part}:{value >> 16 * part & 0xFFFF:04x}'
    for begin in range(0, _PERMUTATIONS, _BAND):
      band = hash_of(self.words[begin : begin + _BAND])
      yield f'w{begin}:{band:016x}'


def hash_of(values: Sequence[int]) -> int:
  """One number for several; the same on every machine."""
  return functools.reduce(lambda so_far, value: (so_far * 1_000_003 ^ value) & 0xFFFF_FFFF_FFFF_FFFF, values, 17)


def _minhash(text: str) -> tuple[int, ...]:
  words = re.findall(r"[^\W_']+", text.lower())
  pairs = {' '.join(words[place : place + 2]) for place in range(max(1, len(words) - 1))}
  found = datasketch.MinHash(num_perm=_PERMUTATIONS, seed=1)
  found.update_batch([pair.encode() for pair in sorted(pairs)])
  return tuple(int(value) for value in found.hashvalues)


def compare(one: Signature, other: Signature) -> str:
  """Why two clips are duplicates; '' where they are none."""
  both = [(a, b) for a, b in zip(one.hashes, other.hashes, strict=False) if a is not None and b is not None]
  if len(both) < max(1, len(one.hashes) // 2):
    return ''
  apart = float(np.mean([(a ^ b).bit_count() for a, b in both]))
  if apart <= NEAR:
    return SAME_FRAMES
  if apart <= LIKE and np.mean(np.equal(one.words, other.words)) >= EQUAL_WORDS:
    return SAME_FRAMES_AND_WORDS
  return ''


def within(bucket: Iterable[Signature]) -> Iterator[tuple[str, str, str]]:
  """(clip, the first one that it duplicates, why) of the clips of a bucket."""
  members = sorted(bucket, key=lambda signature: signature.key)
  for place, signature in enumerate(members):
    for earlier in members[: min(place, MOST_IN_BUCKET)]:
      if why := compare(earlier, signature):
        yield signature.key, earlier.key, why
        break


def mark(video: Video, found: dict[str, tuple[str, str]]) -> Video:
  """Drops the segments that are duplicates: clip id -> (the one that is kept, why)."""
  for segment in video.alive():
    if (entry := found.get(video.clip_id(segment))) is not None:
      segment.duplicate_of = entry[0]
      segment.drop(NAME, entry[1], entry[0])
  return video
