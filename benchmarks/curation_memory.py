"""Videos a second of a curation by rules, and its peak of memory, as the number of videos grows.

    python benchmarks/curation_memory.py --videos 200 2000

Writes a small how-to world, links its videos under new names until there are so many, and runs
`python -m crosstrainer_jax.curate run` on each folder in a process of its own. All are copies of a few, which is the
worst case for finding duplicates.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

from crosstrainer_jax.curation import manifest
from crosstrainer_jax.datasets.howto import folder

LESSONS = 20


def write(root: pathlib.Path, base: pathlib.Path, videos: int) -> None:
  """A folder of so many videos: those of `base` under new ids."""
  root.mkdir()
  infos = sorted(base.glob('*.info.json'))
  for number in range(videos):
    info = infos[number % len(infos)]
    content = json.loads(info.read_text())
    stem, name = info.name.removesuffix('.info.json'), f'x{number:06d}'
    for file in base.iterdir():
      if file.name.startswith(stem) and file != info:
        os.link(file, root / f'{name} [{name}]{file.name.removeprefix(stem)}')
    content |= {'id': name, 'channel_id': f'channel {number % 97}'}
    (root / f'{name} [{name}].info.json').write_text(json.dumps(content))


def measure(root: pathlib.Path, output: pathlib.Path) -> tuple[float, float, int]:
  """Seconds, peak of memory in MB, and rows of the manifest."""
  command = [
    sys.executable, '-c',
    'import resource, sys; from crosstrainer_jax import curate; curate.main(sys.argv[1:]); '
    'print("peak", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)',
    'run', str(root), '--sport', 'soccer', '--output', str(output), '--longest', '4', '--without_records',
  ]  # fmt: skip
  begun = time.monotonic()
  done = subprocess.run(command, check=True, capture_output=True, text=True)
  peak = int(done.stdout.rsplit('peak', 1)[1]) / 1024
  return time.monotonic() - begun, peak, sum(1 for _ in manifest.read(output))


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--videos', type=int, nargs='+', default=[200, 2000], help='(default: 200 2000)')
  options = parser.parse_args()
  print('videos     rows  seconds  videos/s    rows/s   peak MB')
  with tempfile.TemporaryDirectory() as scratch:
    place = pathlib.Path(scratch)
    everything = [video for video in folder.posted(0, 2 * LESSONS) if video.fate == folder.WHOLE][:LESSONS]
    folder.write_posted(place / 'base', 0, everything)
    for count in options.videos:
      write(place / f'videos{count}', place / 'base', count)
      seconds, peak, rows = measure(place / f'videos{count}', place / f'library{count}')
      print(f'{count:6d} {rows:8d} {seconds:8.1f} {count / seconds:9.1f} {rows / seconds:9.1f} {peak:9.0f}', flush=True)


if __name__ == '__main__':
  main()
