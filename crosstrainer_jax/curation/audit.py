"""A hand audit of a gate: clips that it kept and that it dropped, mixed and blinded, as a sheet for people to judge.

What people answer becomes the gate's precision (share of what it kept that is right) and what it misses (share of what
it dropped that was right), with intervals by video, by the code that reads every sheet (`eval --judged`). [O]: at least
200 clips a gate.
"""

from __future__ import annotations

import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from crosstrainer_jax import human_sheet
from crosstrainer_jax.curation import gates, manifest
from crosstrainer_jax.datasets.manifest.rows import resolve
from crosstrainer_jax.evaluation.human import Key
from crosstrainer_jax.input import video
from crosstrainer_jax.pictures import VideoPictures, Window

KEPT, DROPPED = 'kept by the gate', 'dropped by the gate'
CORRECT, INCORRECT = 'said to be correct', 'said to be incorrect'
_DEFAULT = 200


def write(folder: pathlib.Path, root: str, gate: str, count: int = _DEFAULT, seed: int = 0) -> tuple[Key, int]:
  """Writes the sheet of a gate into `audit/<gate>` of a curation; returns its key, and how many clips are unseen.

  Half of the clips are of either verdict, as far as there are so many.

  Args:
    folder: of the curation.
    root: of its videos.

  Raises:
    FileNotFoundError, ValueError: no manifest, or no clip that the gate has judged.
  """
  if gate not in gates.JUDGED:
    raise ValueError(f'--gate {gate}: known are {", ".join(gates.JUDGED)}')
  cases: list[human_sheet.Case] = []
  unseen = 0
  for system, row in _drawn(folder, gate, count, seed):
    start, end = row['start'], row['end']
    if start is None:  # dropped before a window was made
      start, end = max(0.0, row['spoken_start'] - 0.5), row['spoken_end'] + 1.0
    window = Window(resolve(root, row['path']), start, end)
    try:
      picture = VideoPictures({row['id']: window})[row['id']].encoded()
    except video.VideoError:
      unseen += 1
      continue
    answer = human_sheet.Answer(system, row['narration'])
    cases.append(human_sheet.Case(row['id'], row['video_id'], f'{row["skill"]} ({row["sport"]})', picture, [answer]))
  if not cases:
    raise ValueError(f'{folder}: the gate {gate} has judged nothing that can be shown')
  return human_sheet.write_sheet(folder / 'audit' / gate, cases, gate, seed), unseen


def _drawn(folder: pathlib.Path, gate: str, count: int, seed: int) -> list[tuple[str, dict[str, Any]]]:
  """(verdict, row), drawn evenly from both verdicts without holding more than these, in an order of its own."""
  rng = np.random.default_rng(seed)
  kept: dict[str, list[dict[str, Any]]] = {}
  seen: dict[str, int] = {}
  for verdict, row in _judged(folder, gate):
    seen[verdict] = seen.get(verdict, 0) + 1
    sample = kept.setdefault(verdict, [])
    # a reservoir (Vitter 1985), of as many as would be wanted were there no other verdict
    if len(sample) < count:
      sample.append(row)
    elif (place := int(rng.integers(seen[verdict]))) < count:
      sample[place] = row
  if not kept:
    return []
  wanted = dict.fromkeys(kept, count // len(kept))
  short = {verdict: len(rows) for verdict, rows in kept.items() if len(rows) < wanted[verdict]}
  for verdict in kept:
    others = sum(wanted[other] - short[other] for other in short if other != verdict)
    wanted[verdict] = min(len(kept[verdict]), wanted[verdict] + (others if verdict not in short else 0))
  chosen = [
    (verdict, rows[place])
    for verdict, rows in sorted(kept.items())
    for place in rng.permutation(len(rows))[: wanted[verdict]]
  ]
  return [chosen[place] for place in rng.permutation(len(chosen))]


def _judged(folder: pathlib.Path, gate: str) -> Iterator[tuple[str, dict[str, Any]]]:
  for row in manifest.read(folder):
    if gate == gates.EXECUTION:
      if row['execution'] in ('correct', 'incorrect'):
        yield CORRECT if row['execution'] == 'correct' else INCORRECT, row
    elif row[gate] is not None:
      yield KEPT if row[gate] else DROPPED, row
