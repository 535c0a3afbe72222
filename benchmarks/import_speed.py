"""Import speed against plain PyAV decoding of the same files, side by side in one run.

    python benchmarks/import_speed.py [VIDEO ...] [--repeats 5]

All are counted in frames of the source per second. Videos are imported as own videos are, by a manifest, and as those
of a published dataset are, as takes with a remark for each clip: the clips are the same. An import does all that
`python -m crosstrainer_jax.prepare` does (opening, decoding, shrinking, keeping, writing records); plain decoding only
takes the frames, on one thread per file, as the import does. Without VIDEO four copies of a made one of 20 s are used.
Repeats alternate; medians are printed, with the range.
"""

import argparse
import concurrent.futures
import contextlib
import dataclasses
import functools
import io
import json
import pathlib
import platform
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import av
import numpy as np

from crosstrainer_jax.datasets.manifest import builder, decoding
from crosstrainer_jax.datasets.takes import builder as takes
from crosstrainer_jax.datasets.takes.take import Comment, Lose, Take
from crosstrainer_jax.input import video


def main() -> None:
  """Prints the table."""
  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  parser.add_argument('videos', nargs='*', type=pathlib.Path, help='default: made, 640×480, 30 per second, H.264')
  parser.add_argument('--repeats', type=int, default=5)
  parser.add_argument('--size', type=int, default=64)
  options = parser.parse_args()
  with tempfile.TemporaryDirectory() as folder:
    root = pathlib.Path(folder)
    sources = options.videos or [_make_video(root / 'made.mp4')] * 4
    names = [f'{i}{source.suffix}' for i, source in enumerate(sources)]
    for name, source in zip(names, sources, strict=True):
      shutil.copy(source, root / name)
    rows = [{'videos': n, 'sport': 's', 'skill': 's', 'participant': 'p', 'take': n} for n in names]
    (root / 'manifest.jsonl').write_text('\n'.join(map(json.dumps, rows)))
    files = [root / name for name in names]
    frames = sum(_decode(file) for file in files)
    print(f'{_cpu()}, {decoding.default_workers()} cores, av {av.__version__}; {len(files)} files, {frames} frames')
    for workers in sorted({1, decoding.default_workers()}):
      plain, own, by_take = _alternate(
        options.repeats,
        functools.partial(_decode_all, files, workers),
        functools.partial(_import, root, workers, options.size),
        functools.partial(_import_takes, root, names, workers, options.size),
      )
      print(f'{workers} at a time: plain decode {_rate(frames, plain)} frames/s', end='')
      for what, seconds in (('manifest', own), ('takes', by_take)):
        ratio = statistics.median(p / i for p, i in zip(plain, seconds, strict=True))
        print(f'; {what} {_rate(frames, seconds)}, {ratio:.2f} of plain', end='')
      print(f' (n = {options.repeats})')


def _alternate(repeats: int, *actions: Callable[[], object]) -> list[list[float]]:
  """Seconds of each action, taken in turns so that a busy machine is busy for all of them."""
  seconds: list[list[float]] = [[] for _ in actions]
  for _ in range(repeats):
    for action, taken in zip(actions, seconds, strict=True):
      begun = time.perf_counter()
      action()
      taken.append(time.perf_counter() - begun)
  return seconds


def _rate(frames: int, seconds: Sequence[float]) -> str:
  low, middle, high = frames / max(seconds), frames / statistics.median(seconds), frames / min(seconds)
  return f'{middle:.0f} ({low:.0f}–{high:.0f})'


def _decode(file: pathlib.Path) -> int:
  with av.open(str(file)) as container:
    container.streams.video[0].codec_context.thread_count = 1
    return sum(1 for _ in container.decode(video=0))


def _decode_all(files: Sequence[pathlib.Path], workers: int) -> None:
  with concurrent.futures.ThreadPoolExecutor(workers) as pool:
    list(pool.map(_decode, files))


def _import(root: pathlib.Path, workers: int, size: int) -> None:
  with contextlib.redirect_stdout(io.StringIO()):
    builder.prepare(root / 'manifest.jsonl', root / 'data', 'speed', workers=workers, size=size)
  shutil.rmtree(root / 'data')


@dataclasses.dataclass(frozen=True)
class _Videos:
  """A take for each file, with a remark for every ten seconds."""

  root: str
  files: tuple[str, ...]
  name: str = 'speed'

  def content(self) -> dict[str, Any]:
    return {}

  def takes(self, lose: Lose) -> Iterator[Take]:
    del lose
    for file in self.files:
      cuts = video.sliding_windows(video.probe(f'{self.root}/{file}').duration, 10.0, 10.0)
      comments = tuple(Comment(str(i), 's', start=start, end=end) for i, (start, end) in enumerate(cuts))
      yield Take(file, 's', 's', 'p', 'train', ('main',), (file,), comments)


def _import_takes(root: pathlib.Path, files: Sequence[str], workers: int, size: int) -> None:
  with contextlib.redirect_stdout(io.StringIO()):
    takes.prepare(_Videos(str(root), tuple(files)), root / 'data', workers=workers, size=size)
  shutil.rmtree(root / 'data')


def _make_video(path: pathlib.Path, seconds: int = 20, fps: int = 30) -> pathlib.Path:
  """A textured picture that drifts behind a moving square."""
  rng = np.random.default_rng(0)
  texture = rng.integers(0, 256, (60, 80, 3), np.uint8).repeat(16, 0).repeat(16, 1)
  with av.open(str(path), 'w') as container:
    stream = container.add_stream('libx264', rate=fps)
    stream.width, stream.height, stream.pix_fmt = 640, 480, 'yuv420p'
    for i in range(seconds * fps):
      image = texture[i % 480 : i % 480 + 480, :640].copy()
      x, y = int(300 + 250 * np.sin(i / 20)), int(200 + 150 * np.cos(i / 15))
      image[y : y + 80, x : x + 80] = 255
      container.mux(stream.encode(av.VideoFrame.from_ndarray(image, 'rgb24')))
    container.mux(stream.encode(None))
  return path


def _cpu() -> str:
  info = pathlib.Path('/proc/cpuinfo')
  lines = info.read_text().splitlines() if info.exists() else []
  names = [line.split(':')[1].strip() for line in lines if line.startswith('model name')]
  return names[0] if names else platform.machine()


if __name__ == '__main__':
  main()
