"""A manifest of one take in two views, with comments whose windows overlap, and its import."""

import json
from pathlib import Path

import av
import numpy as np

from crosstrainer_jax import prepare

FPS, SIZE = 2, 32


def write_video(path, seconds=8, fps=8, colour=(250, 30, 90)):
  """A square of some colour that walks; no two seconds are alike."""
  with av.open(str(path), 'w') as container:
    stream = container.add_stream('libx264', rate=fps, options={'crf': '1', 'g': '4'})
    stream.width, stream.height = 64, 48
    stream.pix_fmt = 'yuv420p'
    for number in range(seconds * fps):
      image = np.full((48, 64, 3), 20 + 3 * number % 200, np.uint8)
      image[10:20, (number % 52) : (number % 52) + 10] = colour
      for packet in stream.encode(av.VideoFrame.from_ndarray(image, 'rgb24')):
        container.mux(packet)
    for packet in stream.encode():
      container.mux(packet)


def write_manifest(root: Path) -> Path:
  """Two videos of eight seconds and three comments on them."""
  write_video(root / 'left.mp4')
  write_video(root / 'right.mp4', colour=(30, 90, 250))
  rows = [
    {'videos': ['left.mp4', 'right.mp4'], 'views': ['left', 'right'], 'sport': 'golf', 'skill': 'swing',
     'participant': 'p', 'time': when, 'commentary': f'Comment at {when}.'}
    for when in (2.5, 4.25, 5.0)
  ]  # fmt: skip
  (root / 'manifest.jsonl').write_text('\n'.join(json.dumps(row) for row in rows))
  return root / 'manifest.jsonl'


def imported(manifest: Path, data_dir: Path, name: str, *options: str) -> Path:
  """The directory of the dataset; windows of four seconds unless `options` say otherwise."""
  settings = ['--mu1', '2', '--mu2', '2', '--fps', str(FPS), '--size', str(SIZE), '--test_fraction', '0']
  prepare.main([str(manifest), '--name', name, '--data_dir', str(data_dir), *settings, *options])
  return next((data_dir / name).glob('*/dataset_info.json')).parent
