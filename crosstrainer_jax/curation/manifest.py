"""The manifest: a row of Parquet for every sentence that was read, and for every video of which none was.

It is the account of a curation: what is in the library, from where, under which licence, and for all else which gate
said no and why. Columns are those of `SCHEMA`; times are seconds.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from crosstrainer_jax.curation.videos import Segment, Verdict, Video
from crosstrainer_jax.input.files import replacing

FILE = 'manifest.parquet'
_BATCH = 2048

SCHEMA = pa.schema(
  [
    # a clip's id, or a video's where it has no sentence
    pa.field('id', pa.string(), nullable=False),
    pa.field('clip_id', pa.string()),
    pa.field('video_id', pa.string(), nullable=False),
    ('url', pa.string()),
    ('channel', pa.string()),
    ('title', pa.string()),
    ('sport', pa.string()),
    ('skill', pa.string()),
    ('query', pa.string()),
    # the window, and when the narration is spoken
    ('start', pa.float64()),
    ('end', pa.float64()),
    ('spoken_start', pa.float64()),
    ('spoken_end', pa.float64()),
    ('narration', pa.string()),
    ('confidence', pa.float64()),
    # null: the gate was not reached, or had no answer
    ('actionable', pa.bool_()),
    ('actionable_reason', pa.string()),
    ('actionable_by', pa.string()),
    ('demonstrated', pa.bool_()),
    ('demonstrated_reason', pa.string()),
    ('demonstrated_by', pa.string()),
    # correct, incorrect or none; null where the gate was not reached
    ('execution', pa.string()),
    ('motion', pa.float64()),
    ('hashes', pa.list_(pa.string())),
    ('duplicate_of', pa.string()),
    pa.field('kept', pa.bool_(), nullable=False),
    # the step that dropped it, and why
    ('dropped_by', pa.string()),
    ('reason', pa.string()),
    ('detail', pa.string()),
    # train or test, by channel
    ('split', pa.string()),
    ('licence', pa.string()),
    # video and captions below the root
    ('path', pa.string()),
    ('captions', pa.string()),
    ('availability', pa.string()),
    ('last_seen', pa.string()),
  ]
)


def split_of(channel: str, test_fraction: float, seed: int) -> str:
  """`test` or `train`, by a hash of the channel, so that no creator is on both sides [O]."""
  digest = hashlib.sha256(f'{seed}/{channel}'.encode(errors='surrogateescape')).digest()
  return 'test' if int.from_bytes(digest[:8], 'big') / 2**64 < test_fraction else 'train'


def rows_of(video: Video, test_fraction: float, seed: int) -> Iterator[dict[str, Any]]:
  """The rows of a video, with the columns of `SCHEMA`."""
  common = {
    'video_id': video.id, 'url': video.url, 'channel': video.channel, 'title': video.title, 'sport': video.sport,
    'skill': video.skill, 'query': video.query, 'licence': video.licence, 'path': video.path,
    'captions': video.spoken_by, 'availability': video.availability, 'last_seen': video.last_seen,
    'split': split_of(video.channel, test_fraction, seed) if video.channel else None,
  }  # fmt: skip
  if not video.segments:
    about = {'dropped_by': video.dropped, 'reason': video.reason, 'detail': video.detail, 'kept': False}
    yield _row({**common, **about, 'id': video.id})
  for segment in video.segments:
    yield _row({**common, **_of_segment(video, segment)})


def _of_segment(video: Video, segment: Segment) -> dict[str, Any]:
  clip = video.clip_id(segment)
  start, end = segment.window or (None, None)
  row = {
    'id': clip, 'clip_id': clip, 'start': start, 'end': end, 'spoken_start': segment.spoken[0],
    'spoken_end': segment.spoken[1], 'narration': segment.narration, 'confidence': segment.confidence,
    'execution': segment.execution or None, 'motion': segment.motion, 'hashes': segment.hashes,
    'duplicate_of': segment.duplicate_of or None, 'kept': segment.kept, 'dropped_by': segment.dropped or None,
    'reason': segment.reason or None, 'detail': segment.detail or None,
  }  # fmt: skip
  for gate in ('actionable', 'demonstrated'):
    verdict: Verdict | None = getattr(segment, gate)
    if verdict is not None:
      row |= {gate: verdict.answer, f'{gate}_reason': verdict.reason, f'{gate}_by': verdict.by}
  return row


def _row(values: dict[str, Any]) -> dict[str, Any]:
  return {name: None if values.get(name) == '' else values.get(name) for name in SCHEMA.names}


def write(path: str | os.PathLike[str], rows: Iterable[dict[str, Any]]) -> int:
  """Writes rows as they come, some thousand in memory; the file is there whole or not at all. Returns their number."""
  count = 0
  stream = iter(rows)
  with replacing(path) as fresh, pq.ParquetWriter(fresh, SCHEMA, compression='zstd') as writer:
    while batch := list(itertools.islice(stream, _BATCH)):
      writer.write_table(pa.Table.from_pylist(batch, SCHEMA))
      count += len(batch)
    if not count:
      writer.write_table(SCHEMA.empty_table())
  return count


def read(path: str | os.PathLike[str], columns: list[str] | None = None) -> Iterator[dict[str, Any]]:
  """The rows, some thousand in memory.

  Raises:
    FileNotFoundError: there is no such manifest.
    ValueError: it is something else.
  """
  file = pathlib.Path(path)
  if file.is_dir():
    file = file / FILE
  if not file.is_file():
    raise FileNotFoundError(f'{file}: no manifest here; python -m crosstrainer_jax.curate run writes one')
  try:
    parquet = pq.ParquetFile(file)
  except pa.ArrowInvalid as error:
    raise ValueError(f'{file}: no Parquet ({error})') from error
  with parquet:
    if lacking := sorted(set(SCHEMA.names) - set(parquet.schema_arrow.names)):
      raise ValueError(f'{file}: no manifest of a curation; it lacks {", ".join(lacking)}')
    for batch in parquet.iter_batches(_BATCH, columns=columns):
      yield from batch.to_pylist()


def rewrite(path: str | os.PathLike[str], change: Callable[[dict[str, Any]], dict[str, Any]]) -> int:
  """Puts `change` of each row in its place; returns how many rows are others now."""
  changed = 0

  def rows() -> Iterator[dict[str, Any]]:
    nonlocal changed
    for row in read(path):
      other = change(dict(row))
      changed += other != row
      yield other

  write(path, rows())
  return changed


@dataclasses.dataclass(frozen=True)
class Totals:
  """Of a manifest: videos with a clip, hours of clips, channels, and how many clips each sport has."""

  videos: int
  hours: float
  channels: int
  sports: dict[str, int]

  @property
  def clips(self) -> int:
    return sum(self.sports.values())


def totals(path: str | os.PathLike[str]) -> Totals:
  """What is in the library."""
  videos: set[str] = set()
  channels: set[str] = set()
  sports: dict[str, int] = {}
  seconds = 0.0
  for row in read(path, ['kept', 'video_id', 'channel', 'sport', 'start', 'end']):
    if row['kept']:
      videos.add(row['video_id'])
      channels.add(row['channel'])
      sports[row['sport']] = sports.get(row['sport'], 0) + 1
      seconds += row['end'] - row['start']
  return Totals(len(videos), seconds / 3600, len(channels), dict(sorted(sports.items())))
