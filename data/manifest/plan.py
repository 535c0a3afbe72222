"""What an import will do: its settings, the clips, the videos to decode, what is skipped, the size and the time."""

import dataclasses
import hashlib
import pathlib
import re
import zlib
from collections import Counter
from typing import Any

import numpy as np

from crosstrainer_jax.datasets.manifest import decoding, windows
from crosstrainer_jax.datasets.manifest import rows as manifest_rows
from crosstrainer_jax.datasets.manifest.rows import ManifestError
from crosstrainer_jax.input import video


@dataclasses.dataclass(frozen=True)
class ManifestConfig:
  """`name` names the dataset; `root` '' is the manifest's folder; the rest is `windows.Sampling` and the split rule."""

  name: str
  manifest: str = ''
  root: str = ''
  mu1: float = 5.0
  mu2: float = 5.0
  fps: float = 4.0
  size: int = 64
  fit: video.Fit = 'letterbox'
  stride: float = 0.0
  test_fraction: float = 0.2
  seed: int = 0
  frames: bool = True  # False: records without frames, for features that are made straight from the videos
  workers: int = 0  # 0: one per core

  def __post_init__(self) -> None:
    if not re.fullmatch(r'[A-Za-z][A-Za-z0-9_]*', self.name):
      raise ValueError(f'name {self.name!r} must be letters, digits and _, a letter first')
    self.sampling  # noqa: B018  (raises on bad values)

  @property
  def sampling(self) -> windows.Sampling:
    return windows.Sampling(self.mu1, self.mu2, self.fps, self.size, self.fit, self.stride, not self.frames)

  @property
  def video_root(self) -> pathlib.Path:
    return pathlib.Path(self.root) if self.root else pathlib.Path(self.manifest).parent

  def content(self) -> dict[str, Any]:
    """The settings that decide what the records hold."""
    content = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)[2:-1]}
    # Said only where it is so: datasets made before there was a choice are the same still.
    return content if not self.frames else {name: value for name, value in content.items() if name != 'frames'}


@dataclasses.dataclass
class Plan:
  """What an import will do: rows, segments in order, one decoding job per video path, split of each participant, skips.

  `places[clip_id, path]` is the number of a segment's window within the job of a view.
  """

  rows: list[manifest_rows.Row]
  segments: list[windows.Segment]
  jobs: dict[str, decoding.Job]
  places: dict[tuple[str, str], int]
  splits: dict[str, str]
  skips: list[windows.Skip]
  notes: Counter[str]

  def describe(self) -> str:
    """A few lines for the terminal: how much there is, and in which split."""
    takes = {(s.row.videos[0], s.row.take) for s in self.segments}
    people = {s.row.participant for s in self.segments}
    spoken = sum(bool(s.commentary) for s in self.segments)
    counts = Counter(self.splits[s.row.participant] for s in self.segments)
    lines = [
      f'{len(self.rows)} rows, {len(self.jobs)} videos → {len(self.segments)} clips ({spoken} with commentary) '
      f'of {len(takes)} takes by {len(people)} participants',
      'splits: ' + (', '.join(f'{name} {counts[name]}' for name in manifest_rows.SPLITS if counts[name]) or 'none'),
    ]
    return '\n'.join(lines + [f'{name}: {count}' for name, count in self.notes.items() if count])


def make_plan(config: ManifestConfig) -> Plan:
  """Reads the manifest and opens every video. Raises FileNotFoundError and ManifestError."""
  root = config.video_root
  rows = manifest_rows.read_manifest(config.manifest, root)
  durations, skips = decoding.probe_all(rows, root, config.workers or decoding.default_workers())
  try:
    segments, outside, notes = windows.cut(rows, durations, config.sampling, root)
  except ManifestError as error:
    raise ManifestError('\n'.join(f'{config.manifest} {line}' for line in str(error).splitlines())) from error
  times: dict[str, list[tuple[float, ...]]] = {}
  places = {}
  segments.sort(key=lambda s: s.row.videos)  # so that one recording's segments follow each other
  for segment in segments:
    for path in segment.row.videos:
      wanted = times.setdefault(path, [])
      places[segment.clip_id, path] = len(wanted)
      wanted.append(tuple(segment.times(config.sampling)))
  jobs = {path: decoding.Job(manifest_rows.resolve(root, path), tuple(wanted)) for path, wanted in times.items()}
  splits = windows.assign_splits([s.row for s in segments], config.test_fraction, config.seed)
  return Plan(rows, segments, jobs, places, splits, skips + outside, notes)


@dataclasses.dataclass
class Estimate:
  """Clips, bytes of the dataset, bytes of the cache that exists during the import only, and seconds of decoding."""

  clips: int
  dataset_bytes: float
  cache_bytes: float
  seconds: float
  workers: int

  def describe(self) -> str:
    more = f'{amount(self.cache_bytes)} more during the import'
    time = f'{self.seconds:.0f} s' if self.seconds < 120 else f'{self.seconds / 60:.0f} min'
    size = amount(self.dataset_bytes)
    return f'{self.clips} clips: about {size}, {more}; {time} of decoding on {self.workers} workers (from a sample)'


def estimate(plan: Plan, config: ManifestConfig) -> Estimate:
  """Size and time of an import, from decoding a few windows."""
  workers = config.workers or decoding.default_workers()
  jobs = list(plan.jobs.values())
  per_view = config.sampling.frames * config.sampling.size**2 * 3
  views = sum(len(job.times) for job in jobs)
  if not config.frames:
    return Estimate(len(plan.segments), 0, 0, 0, workers)
  if not jobs:
    return Estimate(0, 0, 0, 0, workers)
  seconds, sample = decoding.measure(jobs, config.sampling)
  packed = [len(zlib.compress(clip.tobytes())) / clip.nbytes for clip in sample] or [1.0]
  return Estimate(
    len(plan.segments), views * per_view * float(np.mean(packed)), views * per_view, views * seconds / workers, workers
  )


def fingerprint(config: ManifestConfig) -> str:
  """Of all that decides the records: the manifest, its videos and captions by size and date, and the settings."""
  rows = manifest_rows.read_manifest(config.manifest, config.video_root)
  paths = {path for row in rows for path in (*row.videos, *([row.captions] if row.captions else ()))}
  files = [manifest_rows.resolve(config.video_root, path) for path in sorted(paths)]
  rows_mark = hashlib.sha256(repr(rows).encode()).hexdigest()
  return decoding.fingerprint(files, {'rows': rows_mark, **config.content()})


def amount(size: float) -> str:
  """Bytes for people."""
  return f'{size / 1e9:.2f} GB' if size >= 1e8 else f'{size / 1e6:.2f} MB'


def describe_skips(skips: list[windows.Skip]) -> str:
  """One line per reason, with its count and first case; '' for none."""
  lines = []
  for reason, count in Counter(s.reason for s in skips).most_common():
    first = next(s for s in skips if s.reason == reason)
    detail = f': {first.detail}' if first.detail else ''
    lines.append(f'  {count} × {reason} (first: line {first.line}, {first.path}{detail})')
  return '\n'.join(['skipped:'] + lines) if lines else ''
