"""v' = f_v(V) for a whole dataset: the encoder is frozen, so every clip is encoded once and cached."""

import concurrent.futures
import contextlib
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import jax
import numpy as np
from jax.sharding import Mesh

from crosstrainer_jax.input import features
from crosstrainer_jax.input.buckets import as_path
from crosstrainer_jax.input.record import Clip
from crosstrainer_jax.input.source import ClipInfo, ClipSource
from crosstrainer_jax.input.turns import take_turns
from crosstrainer_jax.models.encoders import Encoder, to_float16
from crosstrainer_jax.training import sharding
from crosstrainer_jax.training.telemetry import Progress


def make_encode(encoder: Encoder, mesh: Mesh) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
  """A function uint8[N, V, T, H, W, 3], float32[N, V, T] times -> float16[N, V, S, D]; N must divide over the mesh."""
  params = jax.device_put(encoder.params, sharding.replicated(mesh))
  apply = jax.jit(encoder.apply)

  def encode(frames: np.ndarray, times: np.ndarray) -> np.ndarray:
    n, views, length = frames.shape[:3]
    inputs = sharding.put_batch(
      (frames.reshape(n * views, *frames.shape[2:]), np.isfinite(times).reshape(n * views, length)), mesh
    )
    encoded = np.asarray(apply(params, *inputs))
    return to_float16(encoded.reshape(n, views, *encoded.shape[1:]))

  return encode


def encode_in_batches(
  encode: Callable[[np.ndarray, np.ndarray], np.ndarray], frames: np.ndarray, times: np.ndarray, batch_size: int
) -> np.ndarray:
  """`encode` of any number of clips, `batch_size` at a time, so that one shape is compiled; the last are filled up."""
  parts = []
  for begin in range(0, len(frames), batch_size):
    some, when = frames[begin : begin + batch_size], times[begin : begin + batch_size]
    missing = batch_size - len(some)
    padded = np.pad(some, ((0, missing), *((0, 0),) * 5))
    parts.append(encode(padded, np.pad(when, ((0, missing), (0, 0), (0, 0)), constant_values=np.nan))[: len(some)])
  return np.concatenate(parts)


def common_shape(times: Iterable[np.ndarray], encoder: Encoder) -> tuple[int, int]:
  """Views and frames (V, T) that hold every clip, from frame times float32[V, T] of each; T in whole tokens."""
  shapes = np.array([row.shape for row in times])
  views, frames = shapes.max(0)
  return int(views), int(frames + -frames % encoder.config.frames_per_token)


def to_common_shape(clips: Sequence[ClipInfo], encoder: Encoder) -> tuple[int, int]:
  """Pads the frame times of all clips, in their place, to the views and frames (V, T) that hold every clip."""
  views, frames = common_shape((clip.frame_times for clip in clips), encoder)
  for clip in clips:
    missing = [(0, views - clip.frame_times.shape[0]), (0, frames - clip.frame_times.shape[1])]
    clip.frame_times = np.pad(clip.frame_times, missing, constant_values=np.nan)
  return views, frames


def check_rate(times: Iterable[np.ndarray], encoder: Encoder) -> None:
  """Raises ValueError where clips, by their frame times float32[V, T], have another frame rate than the encoder's."""
  seconds, steps = 0.0, 0
  for row in times:
    for view in row:
      real = view[np.isfinite(view)]
      if len(real) > 1:
        seconds, steps = seconds + float(real[-1] - real[0]), steps + len(real) - 1
  wanted = encoder.config.fps
  # The frames of a video are not exactly where they are asked for.
  if steps and not 0.75 < seconds / steps * wanted < 1.33:
    raise ValueError(
      f'clips of {steps / max(seconds, 1e-9):.2g} frames a second, but the encoder takes {wanted}: '
      f'prepare the data with --fps {wanted}'
    )


def fitted(
  frames: np.ndarray, times: np.ndarray, size: int | None, shape: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
  """Pads one clip, uint8[V, T, H, W, 3] and float32[V, T], to `shape`: missing views and frames are zeros at time NaN.

  Args:
    size: H = W of the frames that the encoder takes; None where it takes any.

  Raises:
    ValueError: frames of another size.
  """
  if not frames.size:
    raise ValueError(
      'the clips have no frames: their dataset was prepared without; set config.encoder.source=features and an encoder '
      'of single seconds, or prepare it with frames'
    )
  if frames.ndim != 5 or (size is not None and frames.shape[2:4] != (size, size)):
    raise ValueError(
      f'clips of {frames.shape[2:4]} pixels, but the encoder takes {size} x {size}: prepare the data with --size {size}'
    )
  missing = [(0, wanted - given) for wanted, given in zip(shape, times.shape, strict=True)]
  if any(count for _, count in missing):
    frames = np.pad(frames, (*missing, (0, 0), (0, 0), (0, 0)))
    times = np.pad(times, missing, constant_values=np.nan)
  return frames, times


def encode_dataset(
  source: ClipSource, directory: str | Path, encoder: Encoder, mesh: Mesh, batch_size: int, shape: tuple[int, int]
) -> features.FeatureCache:
  """Encodes every clip of `source` into the cache at `directory`, resuming where a killed run stopped.

  Args:
    batch_size: clips at a time, rounded up to what divides over the mesh.
    shape: from `common_shape`.

  Raises:
    ValueError: clips that do not fit the encoder.
  """
  if not (as_path(directory) / 'header.json').is_file():
    with take_turns(directory, 'the features of these clips'):
      if not (as_path(directory) / 'header.json').is_file():
        _encode_all(source, directory, encoder, mesh, batch_size, shape)
  return features.FeatureCache(directory)


def estimate(
  source: ClipSource, encoder: Encoder, mesh: Mesh, batch_size: int, shape: tuple[int, int]
) -> tuple[float, float]:
  """Gigabytes that the features of all clips take, and hours on this machine, from one batch of clips."""
  encode, batch_size = make_encode(encoder, mesh), _whole(batch_size, mesh)
  elapsed, size = 0.0, 0
  for _ in range(2):  # the first time it is compiled
    begin = time.monotonic()
    found = encode(*_read(source, encoder, range(min(batch_size, len(source))), batch_size, shape))
    elapsed, size = time.monotonic() - begin, found[0].nbytes
  return len(source) * size / 1e9, elapsed * math.ceil(len(source) / batch_size) / 3600


def _whole(batch_size: int, mesh: Mesh) -> int:
  """Rounded up to what divides over the mesh."""
  return -(-batch_size // sharding.data_shards(mesh)) * sharding.data_shards(mesh)


def _read(
  source: ClipSource, encoder: Encoder, indices: range, batch_size: int, shape: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
  """Frames and times of some clips, filled up to `batch_size`."""
  clips: list[Clip] = [source[i] for i in indices]
  pairs = [fitted(clip.frames, clip.frame_times, encoder.frame_size, shape) for clip in clips]
  frames, times = (np.stack(parts) for parts in zip(*pairs, strict=True))
  missing = batch_size - len(clips)
  return np.pad(frames, ((0, missing), *((0, 0),) * 5)), np.pad(
    times, ((0, missing), (0, 0), (0, 0)), constant_values=np.nan
  )


def _encode_all(
  source: ClipSource, directory: str | Path, encoder: Encoder, mesh: Mesh, batch_size: int, shape: tuple[int, int]
) -> None:
  encode, batch_size = make_encode(encoder, mesh), _whole(batch_size, mesh)

  def encode_from(first: int) -> Iterator[np.ndarray]:
    chunks = [range(start, min(start + batch_size, len(source))) for start in range(first, len(source), batch_size)]
    progress = Progress('encoding clips', len(source), initial=first, unit='clip')
    # Reading (zlib, ArrayRecord) runs beside the encoder.
    with contextlib.closing(progress), concurrent.futures.ThreadPoolExecutor(1) as pool:
      following = pool.submit(_read, source, encoder, chunks[0], batch_size, shape)
      for number, chunk in enumerate(chunks):
        frames, times = following.result()
        if number + 1 < len(chunks):
          following = pool.submit(_read, source, encoder, chunks[number + 1], batch_size, shape)
        try:
          encoded = encode(frames, times)
        except ValueError as error:
          ends = source[chunk[0]].clip_id, source[chunk[-1]].clip_id
          raise ValueError(f'{source.directory}, a clip from {ends[0]!r} to {ends[1]!r}: {error}') from error
        yield encoded[: len(chunk)]
        progress.update(len(chunk))

  features.write(directory, len(source), encoder.fingerprint, encode_from)
