"""What a finished run leaves for those who ask it: the clips of its library, and their vectors.

library/clips.jsonl     a line for each clip: where it is, what is said in it, of which attributes it speaks
library/vectors.npy     float32[N, E], unit vectors of the narrations, in the same order
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from crosstrainer_jax.input.buckets import local_copy
from crosstrainer_jax.input.files import replacing
from crosstrainer_jax.input.source import ClipInfo
from crosstrainer_jax.retrieval.weak import Spoken

FOLDER, CLIPS, VECTORS = 'library', 'clips.jsonl', 'vectors.npy'


@dataclasses.dataclass(frozen=True)
class LibraryClip:
  """One clip of a library; times are seconds of its video."""

  clip_id: str
  sport: str
  skill: str
  channel: str
  url: str
  start: float
  end: float
  narration: str
  execution: str
  attributes: tuple[str, ...]


def of_info(clip: ClipInfo, spoken: Spoken) -> LibraryClip:
  """From a record of a curated library, or of any dataset with commentary."""
  extra: dict[str, Any] = json.loads(clip.extra or '{}')
  times = np.unique(clip.frame_times[np.isfinite(clip.frame_times)])
  start = float(times[0]) if times.size else 0.0
  # Until the next frame would come.
  end = float(times[-1] + np.diff(times).min()) if times.size > 1 else start
  return LibraryClip(
    clip.clip_id, clip.sport, clip.skill, clip.participant, extra.get('url') or '', start, end, clip.commentary,
    extra.get('execution') or '', tuple(sorted(spoken.attributes)),
  )  # fmt: skip


def write(workdir: Path, clips: Sequence[LibraryClip], vectors: np.ndarray) -> None:
  """Writes both files, or neither."""
  with replacing(workdir / FOLDER, CLIPS) as fresh:
    fresh.mkdir()
    np.save(fresh / VECTORS, vectors.astype(np.float32))
    lines = [json.dumps(dataclasses.asdict(clip), ensure_ascii=False) + '\n' for clip in clips]
    (fresh / CLIPS).write_text(''.join(lines), encoding='utf-8')


def read(workdir: Path) -> tuple[list[LibraryClip], np.ndarray]:
  """What `write` wrote; vectors are read as they are needed.

  Raises:
    FileNotFoundError: it is not there.
    ValueError: the two do not belong together.
  """
  folder = workdir / FOLDER
  if not (folder / CLIPS).is_file():
    raise FileNotFoundError(
      f'{workdir}: no library to search here ({FOLDER}/{CLIPS} is missing). '
      'Name the workdir of a finished run of python -m crosstrainer_jax.retrieve'
    )
  with (folder / CLIPS).open(encoding='utf-8') as file:
    entries = [json.loads(line) for line in file]
  clips = [LibraryClip(**{**entry, 'attributes': tuple(entry['attributes'])}) for entry in entries]
  vectors: np.ndarray = np.load(local_copy(folder) / VECTORS, mmap_mode='r')
  if len(vectors) != len(clips):
    raise ValueError(f'{folder}: {len(clips)} clips, but {len(vectors)} vectors: start the retrieve command again')
  return clips, vectors
