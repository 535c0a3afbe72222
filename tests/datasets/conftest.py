"""Own videos: fixtures that write videos and manifests, and read the clips that become of them."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Callable

import av
import numpy as np
import pytest
import tensorflow_datasets as tfds

from crosstrainer_jax.input.record import Clip


def _write_video(
  path: pathlib.Path, seconds: float = 3.0, fps: int = 10, options: dict[str, str] | None = None
) -> pathlib.Path:
  path.parent.mkdir(parents=True, exist_ok=True)
  with av.open(str(path), 'w', options=options or {}) as container:
    stream = container.add_stream('libx264', rate=fps)
    stream.width, stream.height, stream.pix_fmt = 32, 32, 'yuv420p'
    for i in range(round(seconds * fps)):
      container.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((32, 32, 3), min(4 * i, 255), np.uint8), 'rgb24')))
    container.mux(stream.encode(None))
  return path


def _row(videos: str | list[str] = 'a.mp4', **fields: object) -> dict[str, object]:
  return {'videos': videos, 'sport': 'soccer', 'skill': 'dribbling', 'participant': 'ann', **fields}


def _write_manifest(folder: pathlib.Path, *members: str | dict, name: str = 'manifest.jsonl') -> pathlib.Path:
  path = folder / name
  path.write_text('\n'.join(m if isinstance(m, str) else json.dumps(m) for m in members) + '\n')
  return path


def _clips_of(made: tfds.core.DatasetBuilder, split: str = 'train') -> list[Clip]:
  return sorted((Clip.from_example(e) for e in made.as_data_source(split)), key=lambda clip: clip.clip_id)


@pytest.fixture
def write_video() -> Callable[..., pathlib.Path]:
  """Writes a video; frame i is of one grey, 4 i."""
  return _write_video


@pytest.fixture
def row() -> Callable[..., dict[str, object]]:
  """Builds a row of a manifest, complete but for what is told otherwise."""
  return _row


@pytest.fixture
def write_manifest() -> Callable[..., pathlib.Path]:
  """Writes rows, or lines as they are, into `folder`."""
  return _write_manifest


@pytest.fixture
def clips_of() -> Callable[..., list[Clip]]:
  """Reads the clips of a prepared dataset in the order of their ids."""
  return _clips_of
