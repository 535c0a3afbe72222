"""The kept clips as a dataset of records: a `Source` of the importer that makes clips of takes.

A video is a take, its channel the participant; the commentary of a clip is the instructor's narration, and `extra` says
how the skill is shown: `{"execution": "correct" | "incorrect", "url", "spoken", …}`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import pathlib
from collections.abc import Iterator
from typing import Any

from crosstrainer_jax.curation import manifest
from crosstrainer_jax.datasets.takes.take import Comment, Lose, Take


@dataclasses.dataclass(frozen=True)
class Library:
  """The kept rows of a manifest, with their videos below `root`."""

  root: str
  manifest: str
  name: str = dataclasses.field(default='library', init=False)

  def content(self) -> dict[str, Any]:
    # Not by its date: every run writes it anew.
    with pathlib.Path(self.manifest).open('rb') as file:
      return {'manifest': self.manifest, 'digest': hashlib.file_digest(file, 'sha256').hexdigest()[:16]}

  def takes(self, lose: Lose) -> Iterator[Take]:
    """Videos in the order of the manifest. Raises FileNotFoundError, ValueError."""
    del lose  # what is not in the library is accounted for in the manifest
    for _, rows in itertools.groupby(manifest.read(self.manifest), key=lambda row: row['video_id']):
      kept = [row for row in rows if row['kept']]
      if kept:
        yield _take(kept)


def _take(rows: list[dict[str, Any]]) -> Take:
  first = rows[0]
  comments = []
  for row in rows:
    extra = {'execution': row['execution'], 'spoken': [row['spoken_start'], row['spoken_end']], 'url': row['url']}
    comments.append(
      Comment(
        row['clip_id'].rpartition('/')[2], row['narration'], row['spoken_start'], row['start'], row['end'],
        row['channel'], extra=extra,
      )
    )  # fmt: skip
  return Take(
    name=first['video_id'],
    sport=first['sport'],
    skill=first['skill'],
    participant=first['channel'],
    split=first['split'],
    views=('main',),
    videos=(first['path'],),
    comments=tuple(comments),
    licence=first['licence'] or '',
  )
