"""Memory and speed of an import by the number of takes: a generated tree in Ego-Exo4D's form, prepared by the verb.

    python benchmarks/import_memory.py [--takes 1000 10000] [--cameras 2] [--comments 10] [--with_frames]

For each number of takes a tree is written, with the same tiny video behind every view, and a process of its own runs
`python -m crosstrainer_jax.prepare egoexo4d`; printed are the most memory that it had (resident, from the kernel), its
seconds, takes a second and clips a second. Memory should not depend on the number of takes.
"""

import argparse
import json
import os
import pathlib
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import av
import numpy as np

WORDS = 'Keep the ankle locked as you meet the ball, and let your eyes stay on it until it has left the foot. '


def main() -> None:
  """Prints a line for each number of takes."""
  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  parser.add_argument('--takes', type=int, nargs='+', default=[1000, 10_000])
  parser.add_argument('--cameras', type=int, default=2, help='views of a take (default: %(default)s)')
  parser.add_argument('--comments', type=int, default=10, help='of a take (default: %(default)s)')
  parser.add_argument('--with_frames', action='store_true', help='decode, at 1 frame a second and 16 pixels')
  options = parser.parse_args()
  print(f'{_cpu()}, {os.cpu_count()} cores, Python {platform.python_version()}, av {av.__version__}')
  peaks = []
  for takes in options.takes:
    with tempfile.TemporaryDirectory() as folder:
      root = pathlib.Path(folder)
      write_tree(root / 'egoexo4d', takes, options.cameras, options.comments)
      ways = ['--fps', '1', '--size', '16'] if options.with_frames else ['--without_frames']
      peak, seconds = measure(root, ways)
      peaks.append(peak)
      rates = f'{takes / seconds:.1f} takes/s, {takes * options.comments / seconds:.0f} clips/s'
      print(f'{takes} takes, {options.cameras} views, {options.comments} comments each: ', end='')
      print(f'peak {peak / 1e6:.0f} MB, {seconds:.0f} s, {rates}', flush=True)
  print(f'largest - smallest peak: {(max(peaks) - min(peaks)) / 1e6:.0f} MB')


def measure(root: pathlib.Path, options: list[str]) -> tuple[int, float]:
  """(peak of resident memory in bytes, seconds) of an import of the tree in `root`."""
  command = [sys.executable, '-m', 'crosstrainer_jax.prepare', 'egoexo4d', '--root', str(root / 'egoexo4d')]
  command += ['--data_dir', str(root / 'datasets'), *options]
  # A parent of its own: the kernel keeps the largest of all children of a process.
  program = f"""
import json, resource, subprocess, sys, time
begun = time.monotonic()
done = subprocess.run({command!r}, stdout=subprocess.DEVNULL)
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
print(json.dumps([done.returncode, peak, time.monotonic() - begun]))
"""
  found = subprocess.run([sys.executable, '-c', program], capture_output=True, text=True, check=True)
  code, peak, seconds = json.loads(found.stdout.splitlines()[-1])
  if code:
    raise SystemExit(f'the import ended with status {code}: {found.stderr[-2000:]}')
  return peak * (1 if sys.platform == 'darwin' else 1024), seconds


def write_tree(root: pathlib.Path, takes: int, cameras: int, comments: int) -> None:
  """takes.json, splits.json, the commentary of the training part, levels, and links to one video."""
  names = ['aria01', *(f'cam{number:02d}' for number in range(1, cameras))]
  files = ['aria01_214-1.mp4', *(f'{name}.mp4' for name in names[1:])]
  (root / 'annotations').mkdir(parents=True)
  video = _write_video(root / 'one.mp4')
  for number in range(takes):
    folder = root / 'takes' / f'take_{number}' / 'frame_aligned_videos' / 'downscaled' / '448'
    folder.mkdir(parents=True)
    for file in files:
      os.link(video, folder / file)

  def take(number: int) -> dict[str, Any]:
    streams = {
      name: {('rgb' if name == 'aria01' else '0'): {'relative_path': f'frame_aligned_videos/{file}'}}
      for name, file in zip(names, files, strict=True)
    }
    return {
      'take_name': f'take_{number}',
      'take_uid': f'uid-{number}',
      'root_dir': f'takes/take_{number}',
      'participant_uid': number // 4,
      'task_id': (8003, 8005, 6001, 6002, 6003, 7018)[number % 6],
      'task_name': 'A drill',
      'is_dropped': False,
      # what makes the real file large, and is not needed
      'objects': [f'object {i} of take {number}' for i in range(20)],
      'capture': {'capture_name': 'c', 'cameras': [{'cam_id': n, 'is_ego': n == 'aria01'} for n in names]},
      'frame_aligned_videos': streams,
    }

  def experts(number: int) -> list[dict[str, Any]]:
    data = [
      {
        'recording': f'{i}.webm',
        'video_time': 1.0 + 18.0 * i / comments,
        'text': f' {WORDS}{i}',
        'error': False,
        '_error_desc': None,
        'duration_approx': 9.5,
      }
      for i in range(comments)
    ]
    return [{'take_name': f'take_{number}', 'commentary': f'take_{number}/abcdef', 'commentary_data': data}]

  def level(number: int) -> dict[str, Any]:
    return {'take_uid': f'uid-{number}', 'proficiency_score': 'Early Expert'}

  _write_json(root / 'takes.json', ('[', ']'), takes, lambda n: json.dumps(take(n)))
  annotations = root / 'annotations'
  _write_json(
    annotations / 'splits.json',
    ('{"take_uid_to_split": {', '}}'),
    takes,
    lambda n: f'"uid-{n}": "{"val" if n % 10 == 0 else "train"}"',
  )
  _write_json(
    annotations / 'expert_commentary_train.json',
    ('{"ds": "x", "annotations": {', '}}'),
    takes,
    lambda n: f'"uid-{n}": {json.dumps(experts(n))}',
  )
  _write_json(
    annotations / 'proficiency_demonstrator_train.json',
    ('{"annotations": [', ']}'),
    takes,
    lambda n: json.dumps(level(n)),
  )


def _write_json(path: pathlib.Path, around: tuple[str, str], count: int, member: Callable[[int], str]) -> None:
  def parts() -> Iterator[str]:
    yield around[0]
    for number in range(count):
      yield (',\n' if number else '') + member(number)
    yield around[1]

  with path.open('w') as file:
    file.writelines(parts())


def _write_video(path: pathlib.Path, seconds: int = 20, fps: int = 5) -> pathlib.Path:
  with av.open(str(path), 'w') as container:
    stream = container.add_stream('libx264', rate=fps)
    stream.width, stream.height, stream.pix_fmt = 64, 64, 'yuv420p'
    for i in range(seconds * fps):
      container.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((64, 64, 3), 2 * i, np.uint8), 'rgb24')))
    container.mux(stream.encode(None))
  return path


def _cpu() -> str:
  info = pathlib.Path('/proc/cpuinfo')
  lines = info.read_text().splitlines() if info.exists() else []
  names = [line.split(':')[1].strip() for line in lines if line.startswith('model name')]
  return names[0] if names else platform.machine()


if __name__ == '__main__':
  main()
