"""The step `duplicates`: of clips that show nearly the same, the first in order of their ids is kept.

[O] Two clips are duplicates where their frames, one by one, are nearly the same (copies under another address,
compilations), or where the frames are alike and the words are nearly the same (copies that were cropped or recoloured).
Equal words alone make none: good advice is given by many. Nor do equal frames within a video, in which a movement is
shown again and again while other words are said.

Frames are compared by their perceptual hashes, words by MinHash over pairs of words (Broder 1997). Neither is compared
with all others: clips meet in buckets, of which each has several, by parts of the hashes that are equal. So the same
rule serves a table on this machine and a grouping of Apache Beam, and no order of work changes what comes out.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import datasketch
import numpy as np

from crosstrainer_jax.curation.videos import Segment, Video

NAME = 'duplicates'
SAME_FRAMES, SAME_FRAMES_AND_WORDS = 'nearly the same frames', 'like frames and nearly the same words'
# Bits of 64 by which hashes of frames may differ, in the mean: without and with the same words. In another how-to world
# than the reported one (seed 1) copies differ by 1.2 bits at most, other clips by 4.8 at least.
NEAR, LIKE = 4.0, 16.0
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

  @property
  def video(self) -> str:
    return self.key.rpartition('/')[0]

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


class Match(NamedTuple):
  """The clip that another one duplicates: the nearest, of equally near ones the first."""

  apart: float
  key: str
  why: str


def within(bucket: Iterable[Signature]) -> Iterator[tuple[str, Match]]:
  """Clip and match of each clip of a bucket that duplicates an earlier one, in order of their ids."""
  members = sorted(bucket, key=lambda signature: signature.key)
  frames = max((len(member.hashes) for member in members), default=0)
  hashes, seen = np.zeros((len(members), frames), np.uint64), np.zeros((len(members), frames), bool)
  for row, member in enumerate(members):
    for place, value in enumerate(member.hashes):
      if value is not None:
        hashes[row, place], seen[row, place] = value, True
  words = np.array([member.words for member in members], np.uint64)
  videos = np.array([member.video for member in members])
  for row in range(1, len(members)):
    earlier = slice(0, min(row, MOST_IN_BUCKET))
    both = seen[earlier] & seen[row]
    count = both.sum(1)
    apart = (np.bitwise_count(hashes[earlier] ^ hashes[row]) * both).sum(1) / np.maximum(count, 1)
    same_words = (words[earlier] == words[row]).mean(1) >= EQUAL_WORDS
    near = (apart <= NEAR) & (videos[earlier] != videos[row])
    found = (count >= max(1, frames // 2)) & (near | ((apart <= LIKE) & same_words))
    if found.any():
      place = int(np.where(found, apart, np.inf).argmin())
      why = SAME_FRAMES if near[place] else SAME_FRAMES_AND_WORDS
      yield members[row].key, Match(round(float(apart[place]), 3), members[place].key, why)


def mark(video: Video, found: Mapping[str, Match]) -> Video:
  """Drops the segments of a video that `found`, by clip id, tells to be duplicates."""
  for segment in video.alive():
    if (match := found.get(video.clip_id(segment))) is not None:
      segment.duplicate_of = match.key
      segment.drop(NAME, match.why, match.key)
  return video
