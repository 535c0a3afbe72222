"""Decodes the windows of many videos in parallel, once: a finished video lies in a cache, and a killed import goes on.

PyAV releases the GIL, so the workers are threads; each decodes a file of its own with one decoder thread.
"""

import concurrent.futures
import contextlib
import dataclasses
import hashlib
import json
import os
import pathlib
import threading
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from crosstrainer_jax.datasets.manifest import rows as manifest_rows
from crosstrainer_jax.datasets.manifest import windows
from crosstrainer_jax.input import video
from crosstrainer_jax.input.files import write_atomically
from crosstrainer_jax.input.progress import Progress

# Part of every fingerprint: raise it when frames come out differently.
_FORMAT = 1
# Part of every cache key: raise it when what lies in the cache does.
_CACHE = 2
# Pixels of frames that are looked for and not looked at.
_SMALL = 8


@dataclasses.dataclass(frozen=True)
class Job:
  """One video file and the times of its windows, `times[n]` for segment n of its recording."""

  file: pathlib.Path
  times: tuple[tuple[float, ...], ...]


@dataclasses.dataclass(frozen=True)
class Decoded:
  """`frames` uint8[N, T, H, W, 3] (on disk, mapped), `times` float32[N, T] and `missing` int64[N] of one job."""

  frames: np.ndarray
  times: np.ndarray
  missing: np.ndarray


def default_workers() -> int:
  """The cores that this process may use."""
  return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1


def probe_all(
  rows: Sequence[manifest_rows.Row], root: str | os.PathLike[str], workers: int
) -> tuple[dict[tuple[str, ...], float], list[windows.Skip]]:
  """Duration (seconds, longest view) of every recording whose views all open; a skip for every row of the others."""
  paths = sorted({path for row in rows for path in row.videos})

  with Progress('opening', len(paths), 'videos') as progress:

    def probe(path: str) -> float | video.VideoError:
      try:
        return video.probe(manifest_rows.resolve(root, path)).duration
      except video.VideoError as error:
        return error
      finally:
        progress.advance()

    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
      found = dict(zip(paths, pool.map(probe, paths), strict=True))
  durations, skips = {}, []
  for row in rows:
    errors = [(path, found[path]) for path in row.videos]
    failed = next(((path, e) for path, e in errors if isinstance(e, video.VideoError)), None)
    if failed:
      skips.append(windows.Skip(row.line, failed[0], failed[1].reason, failed[1].detail))
    else:
      durations[row.videos] = max(e for _, e in errors if isinstance(e, float))
  return durations, skips


def decode_all(jobs: Sequence[Job], sampling: windows.Sampling, cache: pathlib.Path, workers: int) -> None:
  """Fills the cache for every job that is not in it; prints how many were. Errors of a video are kept for `load`."""
  cache.mkdir(parents=True, exist_ok=True)
  left = [job for job in jobs if not _entry(cache, job, sampling).with_suffix('.json').exists()]
  if len(left) < len(jobs):
    print(f'{len(jobs) - len(left)} of {len(jobs)} videos are decoded already (resumed)')
  total = sum(len(times) for job in left for times in job.times)
  stopped = threading.Event()
  with Progress('decoding', total, 'frames') as progress:

    def advance() -> None:
      progress.advance()
      if stopped.is_set():
        raise KeyboardInterrupt

    # The longest first: a long video that begins last would run alone.
    left.sort(key=lambda job: -sum(map(len, job.times)))
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
      futures = [pool.submit(decode, job, sampling, cache, advance) for job in left]
      try:
        for future in concurrent.futures.as_completed(futures):
          future.result()
      except BaseException:
        stopped.set()
        pool.shutdown(wait=False, cancel_futures=True)
        raise


def load(job: Job, sampling: windows.Sampling, cache: pathlib.Path) -> Decoded:
  """What `decode_all` has left for a job. Raises the VideoError that it met."""
  entry = _entry(cache, job, sampling)
  done = json.loads(entry.with_suffix('.json').read_text())
  if 'reason' in done:
    raise video.VideoError(job.file, done['reason'], done['detail'])
  # No .npy: numpy reads its header as a literal of Python, which threads cannot do at once (CPython 3.11).
  shape = (len(job.times), sampling.frames, sampling.size, sampling.size, 3)
  return Decoded(
    frames=np.memmap(entry.with_suffix('.frames'), np.uint8, 'r', shape=shape),
    times=np.array(done['times'], np.float32).reshape(len(job.times), sampling.frames),
    missing=np.array(done['missing'], np.int64),
  )


def check_all(
  jobs: Mapping[str, Job], sampling: windows.Sampling, workers: int
) -> dict[str, Decoded | video.VideoError]:
  """What `load` would give for each job, without its frames: `times` are those asked for, which are in the video."""
  with Progress('looking for the ends', len(jobs), 'videos') as progress:

    def look(job: Job) -> Decoded | video.VideoError:
      try:
        return check(job, sampling)
      except video.VideoError as error:
        return error
      finally:
        progress.advance()

    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
      return dict(zip(jobs, pool.map(look, jobs.values()), strict=True))


def check(job: Job, sampling: windows.Sampling, duration: float | None = None) -> Decoded:
  """What `decode` and `load` would give, without frames; `duration` spares a look. Raises VideoError."""
  duration = video.probe(job.file).duration if duration is None else duration
  times = np.full((len(job.times), sampling.frames), np.nan, np.float32)
  for row, window in zip(times, job.times, strict=True):
    inside = [t for t in window if t < duration]
    row[: len(inside)] = inside
  missing = np.zeros(len(times), np.int64)
  # A file breaks off at its end: where the last frame is there, so are those before it.
  last = [[max((t for window in job.times for t in window if t < duration), default=0.0)]]
  if video.read_windows(job.file, last, _SMALL, sampling.fit, threads=1)[0].missing:
    found = video.read_windows(job.file, job.times, _SMALL, sampling.fit, threads=1)
    missing[:] = [window.missing for window in found]
  return Decoded(np.zeros((len(times), 0), np.uint8), times, missing)


def measure(
  jobs: Sequence[Job], sampling: windows.Sampling, seconds: float = 5.0, videos: int = 5
) -> tuple[float, list[np.ndarray]]:
  """(seconds per clip and view on one thread, some clips), from the first windows of up to `videos` files."""
  clips: list[np.ndarray] = []
  begun = time.monotonic()
  for index in np.unique(np.linspace(0, len(jobs) - 1, min(videos, len(jobs))).astype(int)):
    job = jobs[index]
    with contextlib.suppress(video.VideoError):
      for part in video.read_windows(job.file, job.times[:4], sampling.size, sampling.fit, threads=1):
        clips.append(part.frames)
    if time.monotonic() - begun > seconds:
      break
  return (time.monotonic() - begun) / max(len(clips), 1), clips


def decode(job: Job, sampling: windows.Sampling, cache: pathlib.Path, advance: Callable[[], None]) -> None:
  """One video into the cache, for `load`: frames first, then, as the mark that they are complete, the JSON beside them.

  `advance` is called after every frame, and may raise to stop.
  """
  entry = _entry(cache, job, sampling)
  shape = (len(job.times), sampling.frames, sampling.size, sampling.size, 3)
  partial = entry.with_suffix('.partial')
  frames = np.memmap(partial, np.uint8, 'w+', shape=shape)
  times = np.full(shape[:2], np.nan)
  missing = np.zeros(len(job.times), np.int64)
  places = [(n, t) for n, window in enumerate(job.times) for t in range(len(window))]
  try:
    wanted = [t for window in job.times for t in window]
    for index, stamp, image in video.frames_at(job.file, wanted, sampling.size, sampling.fit, threads=1):
      n, t = places[index]
      if image is None:
        missing[n] += 1
      else:
        frames[n, t], times[n, t] = image, stamp
      advance()
    done: dict[str, object] = {'times': times.tolist(), 'missing': missing.tolist()}
  except video.VideoError as error:
    done = {'reason': error.reason, 'detail': error.detail}
  frames.flush()
  del frames
  os.replace(partial, entry.with_suffix('.frames'))
  write_atomically(entry.with_suffix('.json'), json.dumps(done))


def _entry(cache: pathlib.Path, job: Job, sampling: windows.Sampling) -> pathlib.Path:
  """The cache's name for a job: a changed file, window, rate, size or fit is another entry."""
  stat = job.file.stat() if job.file.exists() else None
  identity = [_FORMAT, _CACHE, str(job.file), stat and stat.st_size, stat and stat.st_mtime_ns]
  identity += [job.times, sampling.frames, sampling.size, sampling.fit]
  return cache / hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:24]


def fingerprint(files: Sequence[pathlib.Path], settings: Mapping[str, object]) -> str:
  """Changes when a file's size or time of change does, or a setting."""
  stats = [(f.stat().st_size, f.stat().st_mtime_ns) if f.exists() else None for f in files]
  return hashlib.sha256(
    json.dumps([_FORMAT, [str(f) for f in files], stats, settings], sort_keys=True).encode()
  ).hexdigest()[:16]
