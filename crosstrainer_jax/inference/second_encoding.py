"""v' = f_v(V) second by second, for encoders whose feature depends on its own second alone (`Encoder.by_second`).

Frames come from the records of a dataset, or, where it was prepared without frames, straight from its videos.
"""

import concurrent.futures
import dataclasses
import functools
import itertools
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from crosstrainer_jax.inference.encoding import make_encode
from crosstrainer_jax.input import second_features, video
from crosstrainer_jax.input.files import write_atomically
from crosstrainer_jax.input.recordings import IMPORT_FILE, Recordings
from crosstrainer_jax.input.second_features import ClipFeatures, Second, SecondStore
from crosstrainer_jax.input.source import ClipInfo, ClipSource
from crosstrainer_jax.input.turns import take_turns
from crosstrainer_jax.models.encoders import Encoder
from crosstrainer_jax.training import sharding
from crosstrainer_jax.training.telemetry import Progress, say

# Several hosts share the seconds by blocks.
BLOCK = 4096
# Says in a store which encoder it is of.
ENCODER_FILE = 'encoder.json'

# (first place of a second, frames uint8[n, F, H, W, 3] of one second each, bool[n, F] which are real)
Frames = Callable[[Sequence[Second]], tuple[np.ndarray, np.ndarray]]


@dataclasses.dataclass(frozen=True)
class Plan:
  """All seconds that the clips of a dataset consist of.

  Attributes:
    directory: of the store.
    keys: the second of each token, None where it has no frame; [clips][V][S].
    seconds: every one once, those of a recording together.
    frames: reads the frames of some of them.
    recordings: the videos that those are read from; of nothing where they are in the records.
    each: tokens of a second.
  """

  directory: Path
  keys: list[list[list[Second | None]]]
  seconds: list[Second]
  frames: Frames
  recordings: Recordings
  each: int = 1

  def missing(self, host: int = 0, hosts: int = 1) -> list[Second]:
    """Those that the store does not have, of one of several hosts: its share does not depend on what others did."""
    store = SecondStore(self.directory)
    mine = [self.seconds[start : start + BLOCK] for start in range(0, len(self.seconds), BLOCK)][host::hosts]
    return [second for seconds in mine for second in seconds if second not in store]

  def clip_features(self) -> ClipFeatures:
    """The clips' features out of a complete store."""
    store = SecondStore(self.directory)
    places = [[[-1 if k is None else store.place(k) for k in view] for view in clip] for clip in self.keys]
    return ClipFeatures(store, np.array(places, np.int64), self.each)

  def name(self, second: Second) -> str:
    """For people: which file or clip, and where in it."""
    if self.recordings:
      return f'{self.recordings.name(second.recording)} at {second.start / 1000:g} s'
    return f'clip {second.recording!r}, view {second.view}, at {second.start / 1000:g} s'


def make_plan(source: ClipSource, clips: Sequence[ClipInfo], encoder: Encoder) -> Plan:
  """What has to be encoded.

  Args:
    clips: of `source`, in order, with frame times of one shape (`encoding.common_shape`).

  Raises:
    ValueError: a dataset without frames, whose videos are not known.
  """
  per_token = encoder.config.frames_per_token
  recordings = Recordings(source.directory.parent / IMPORT_FILE)
  keys: list[list[list[Second | None]]] = []
  places: dict[Second, tuple[int, int, int]] = {}
  for index, clip in enumerate(clips):
    times = clip.frame_times.reshape(len(clip.frame_times), -1, per_token)
    rows: list[list[Second | None]] = []
    for view, starts in enumerate(times):
      if not recordings:
        # Times of records need not run through the take: clips of one take may all begin at 0.
        recording, name = clip.clip_id, str(view)
      else:
        known = recordings.of(clip.clip_id, clip.take)
        recording, name = (known[view] if view < len(known) else ''), ''
      row: list[Second | None] = []
      for token, when in enumerate(starts):
        second = None
        if np.isfinite(when).any():
          # A second is known by when its first frame should be, even where that one is missing.
          first = int(np.flatnonzero(np.isfinite(when))[0])
          second = Second(recording, name, round(1000 * (float(when[first]) - first / encoder.config.fps)))
          places.setdefault(second, (index, view, token))
        row.append(second)
      rows.append(row)
    keys.append(rows)
  seconds = sorted(places) if recordings else sorted(places, key=lambda second: (places[second][0], second))
  if recordings:
    frames: Frames = functools.partial(_from_videos, recordings, encoder, source.fit)
    # Beside the versions of the dataset: clips that are cut otherwise use it too, but not other pictures.
    directory = source.directory.parent / f'features-{encoder.fingerprint}-{source.fit}'
  else:
    frames = functools.partial(_from_records, source, places, per_token)
    directory = source.directory / f'features-{encoder.fingerprint}'
  return Plan(directory, keys, seconds, frames, recordings, encoder.each)


def encode(plan: Plan, encoder: Encoder, batch_size: int, host: int | None = None, hosts: int | None = None) -> int:
  """Encodes what is missing of this host's share, on its devices; returns how many seconds that were.

  Args:
    batch_size: seconds at a time.
    host, hosts: this one's number of how many; by default those of JAX.

  Raises:
    FileNotFoundError, ValueError: a video is gone, has changed or cannot be read, or a feature is not finite.
    OSError: nothing can be written.
  """
  together = host is None
  host = jax.process_index() if host is None else host
  hosts = jax.process_count() if hosts is None else hosts
  missing = plan.missing(host, hosts)
  if missing:
    for line in others(plan, encoder):
      say(f'  {line}')
    plan.directory.mkdir(parents=True, exist_ok=True)
    with take_turns(plan.directory / f'share-{host}-of-{hosts}', 'these features'):
      missing = plan.missing(host, hosts)
      if missing:
        _encode(plan, missing, encoder, batch_size)
  if together and hosts > 1:
    # Everybody reads what everybody has written.
    multihost_utils.sync_global_devices('second features written')
  return len(missing)


def _encode(plan: Plan, missing: Sequence[Second], encoder: Encoder, batch_size: int) -> None:
  if plan.recordings:  # before hours of work rather than after them
    plan.recordings.check({second.recording for second in missing})
  mesh = sharding.make_mesh((1, -1, 1), jax.local_devices())
  batch_size = -(-batch_size // sharding.data_shards(mesh)) * sharding.data_shards(mesh)
  run = make_encode(encoder, mesh)
  progress = Progress('encoding seconds', len(missing), unit='s')

  def features() -> Iterator[np.ndarray]:
    pieces = [missing[start : start + batch_size] for start in range(0, len(missing), batch_size)]
    for piece, (frames, valid) in zip(pieces, _ahead(plan.frames, pieces), strict=True):
      rest = batch_size - len(piece)
      frames = np.pad(frames, ((0, rest), *((0, 0),) * 4))
      # Times are asked for where frames are: any finite number means that one is real.
      times = np.pad(np.where(valid, 0.0, np.nan).astype(np.float32), ((0, rest), (0, 0)), constant_values=np.nan)
      try:
        encoded = run(frames[:, None], times[:, None])
      except ValueError as error:
        raise ValueError(f'{plan.name(_first_bad(run, piece, frames, times))}: {error}') from error
      yield encoded[: len(piece), 0].reshape(len(piece), -1)
      progress.update(len(piece))

  try:
    _describe(plan.directory, encoder)
    second_features.write(plan.directory, missing, features())
  finally:
    progress.close()


def _first_bad(
  run: Callable[[np.ndarray, np.ndarray], np.ndarray], piece: Sequence[Second], frames: np.ndarray, times: np.ndarray
) -> Second:
  """The first of a batch that cannot be encoded by itself either."""
  for row, second in enumerate(piece):
    alone = np.full_like(times, np.nan)
    alone[row] = times[row]
    shown = np.zeros_like(frames)
    shown[row] = frames[row]
    try:
      run(shown[:, None], alone[:, None])
    except ValueError:
      return second
  return piece[0]


def _describe(directory: Path, encoder: Encoder) -> None:
  """Leaves beside the features which encoder made them: a fingerprint tells nobody what differs."""
  if not (directory / ENCODER_FILE).is_file():
    content = {'name': encoder.name, 'config': dataclasses.asdict(encoder.config)}
    write_atomically(directory / ENCODER_FILE, json.dumps(content, indent=1, default=str) + '\n')


def others(plan: Plan, encoder: Encoder) -> list[str]:
  """A line for each store beside the plan's that has features by such an encoder, with what is different there."""
  here = json.loads(json.dumps(dataclasses.asdict(encoder.config), default=str))
  lines = []
  for path in sorted(plan.directory.parent.glob(f'features-*/{ENCODER_FILE}')):
    known = json.loads(path.read_text())
    if path.parent == plan.directory or known['name'] != encoder.name:
      continue
    there = known['config']
    changed = [f'{name} {there.get(name)}, here {here[name]}' for name in here if there.get(name) != here[name]]
    changed = changed or ['another fit' if encoder.fingerprint in path.parent.name else 'other weights']
    lines.append(f'{path.parent} has features by {encoder.name} that are of no use here: {"; ".join(changed)}')
  return lines


def _ahead(frames: Frames, pieces: Sequence[Sequence[Second]]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
  """Frames of each piece, read while the one before is encoded."""
  with concurrent.futures.ThreadPoolExecutor(1) as pool:
    following = pool.submit(frames, pieces[0])
    for number in range(len(pieces)):
      ready = following.result()
      if number + 1 < len(pieces):
        following = pool.submit(frames, pieces[number + 1])
      yield ready


def estimate(plan: Plan, encoder: Encoder, batch_size: int) -> tuple[float, float]:
  """Gigabytes that the features of missing seconds take, and hours on this machine, from one batch of them."""
  missing = plan.missing()
  if not missing:
    return 0.0, 0.0
  mesh = sharding.make_mesh((1, -1, 1), jax.local_devices())
  batch_size = -(-batch_size // sharding.data_shards(mesh)) * sharding.data_shards(mesh)
  run = make_encode(encoder, mesh)
  sample = list(itertools.islice(itertools.cycle(missing), batch_size))
  elapsed = 0.0
  for _ in range(2):  # the first time it is compiled
    begin = time.monotonic()
    frames, valid = plan.frames(sample)
    run(frames[:, None], np.where(valid, 0.0, np.nan).astype(np.float32)[:, None])
    elapsed = time.monotonic() - begin
  gigabytes = len(missing) * encoder.each * encoder.config.feature_dim * 2 / 1e9
  return gigabytes, elapsed * len(missing) / batch_size / 3600


def _from_records(
  source: ClipSource, places: Mapping[Second, tuple[int, int, int]], per_token: int, seconds: Sequence[Second]
) -> tuple[np.ndarray, np.ndarray]:
  frames, valid = [], []
  last: tuple[int, Any] | None = None
  for index, view, token in (places[second] for second in seconds):
    if last is None or last[0] != index:
      last = index, source[index]
      if not last[1].frames.size:
        raise ValueError(
          f'{source.directory}: clips without frames, and nothing says where their videos are, since '
          f'{source.directory.parent / IMPORT_FILE} is missing; prepare the dataset again'
        )
    part = slice(token * per_token, (token + 1) * per_token)
    shown, times = last[1].frames[view, part], last[1].frame_times[view, part]
    missing = per_token - len(times)
    frames.append(np.pad(shown, ((0, missing), *((0, 0),) * 3)))
    valid.append(np.pad(np.isfinite(times), (0, missing)))
  sizes = {shown.shape for shown in frames}
  if len(sizes) > 1:
    raise ValueError(f'{source.directory}: its frames are of several sizes, {sorted(sizes)}')
  return np.stack(frames), np.stack(valid)


def _from_videos(
  recordings: Recordings, encoder: Encoder, fit: video.Fit, seconds: Sequence[Second]
) -> tuple[np.ndarray, np.ndarray]:
  fps, size = encoder.config.fps, encoder.config.image_size
  frames = np.zeros((len(seconds), fps, size, size, 3), np.uint8)
  valid = np.zeros((len(seconds), fps), bool)
  for recording, group in itertools.groupby(enumerate(seconds), key=lambda pair: pair[1].recording):
    members = list(group)
    path = recordings.file(recording)
    wanted = [[second.start / 1000 + i / fps for i in range(fps)] for _, second in members]
    for (row, second), window in zip(members, video.read_windows(path, wanted, size, fit), strict=True):
      shown = len(window.frames)
      frames[row, :shown] = np.rot90(window.frames, -recordings.turn(recording), axes=(1, 2))
      valid[row, :shown] = np.isfinite(window.times)
      if not valid[row].any():
        # Zeros would train as if they were seen.
        raise video.VideoError(
          path,
          video.TRUNCATED,
          f'no frame at {second.start / 1000:g} s, where there was one when the dataset was prepared; export it again '
          'or take it out of the manifest, and prepare the dataset again',
        )
  return frames, valid
