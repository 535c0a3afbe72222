"""Ego-Exo4D as the release has it on disk, in small: files of exactly the documented shapes, with tiny videos."""

import json
import os
import pathlib
from typing import Any

import av
import numpy as np

from tests.weights import test_torch_files as torch_format

CAMERAS = ('aria01', 'cam01', 'cam02', 'cam03', 'cam04')


def write_video(
  path: pathlib.Path, seconds: float = 20.0, fps: int = 5, pixels: int = 64, front: bool = False
) -> pathlib.Path:
  """Frame i is of one grey, 2 i; with `front` the index comes first, so that what is cut off is pictures."""
  with av.open(str(path), 'w', options={'movflags': 'faststart'} if front else {}) as container:
    stream = container.add_stream('libx264', rate=fps, options={'preset': 'ultrafast'})
    stream.width, stream.height, stream.pix_fmt = pixels, pixels, 'yuv420p'
    for i in range(round(seconds * fps)):
      image = np.full((pixels, pixels, 3), min(2 * i, 255), np.uint8)
      container.mux(stream.encode(av.VideoFrame.from_ndarray(image, 'rgb24')))
    container.mux(stream.encode(None))
  return path


def write_features(path: pathlib.Path, rows: np.ndarray) -> None:
  """A tensor as torch.save writes it."""
  path.parent.mkdir(parents=True, exist_ok=True)
  rows = np.ascontiguousarray(rows, np.float32)
  strides = tuple(stride // 4 for stride in rows.strides)
  stored = torch_format.storage(length=rows.size)
  content = torch_format.tensor(stored, shape=rows.shape, strides=strides)
  torch_format.write(path, content, {'0': rows.tobytes()})


class Release:
  """A root that fills up; `write()` puts the annotation files there, in the order in which they were added.

  Args:
    video: is linked as the video of every camera.
  """

  def __init__(self, root: pathlib.Path, video: pathlib.Path):
    self.root, self.video = root, video
    self.takes: list[dict[str, Any]] = []
    self.commentary: dict[str, dict[str, list[Any]]] = {'train': {}, 'val': {}}
    self.levels: dict[str, list[dict[str, Any]]] = {'train': [], 'val': [], 'test': []}
    self.demonstrations: dict[str, list[dict[str, Any]]] = {'train': [], 'val': []}
    self.splits: dict[str, str] = {}

  def take(
    self,
    name: str,
    task: int = 8003,
    split: str = 'train',
    participant: int | None = 1,
    cameras: tuple[str, ...] = CAMERAS,
    videos: bool = True,
    small: bool = True,
    **fields: Any,
  ) -> dict[str, Any]:
    """Adds a take, with a link to the video for each camera; its uid is `uid-<name>`."""
    uid = f'uid-{name}'
    streams: dict[str, Any] = {}
    for camera in cameras:
      ego = camera.lower().startswith('aria')
      file = f'{camera}_214-1.mp4' if ego else f'{camera}.mp4'
      key, number = ('rgb', '214-1') if ego else ('0', '0')
      streams[camera] = {
        key: {
          'cam_id': camera,
          'stream_id': number,
          'readable_stream_id': key,
          'clip_uid': f'clip-{camera}',
          'relative_path': f'frame_aligned_videos/{file}',
        }
      }
      if ego:
        for side in ('slam-left', 'slam-right'):
          streams[camera][side] = {
            'cam_id': camera,
            'stream_id': '1201-1',
            'readable_stream_id': side,
            'clip_uid': None,
            'relative_path': f'frame_aligned_videos/{camera}_1201-1.mp4',
          }
      if videos:
        folder = self.root / 'takes' / name / 'frame_aligned_videos' / ('downscaled/448' if small else '')
        folder.mkdir(parents=True, exist_ok=True)
        os.link(self.video, folder / file)
    streams['collage'] = {'0': {'relative_path': 'ego_preview.mp4', 'clip_uid': None}}
    streams['best_exo'] = {'0': {'clip_uid': None, 'relative_path': None}}
    take = {
      'root_dir': f'takes/{name}',
      'take_name': name,
      'take_uid': uid,
      'participant_uid': participant,
      'is_dropped': False,
      'objects': [],
      'best_exo': None,
      'task_start_sec': None,
      'task_end_sec': None,
      'task_id': task,
      'task_name': 'Some Drill',
      'parent_task_id': task // 1000 * 1000,
      'parent_task_name': 'Sport',
      'take_idx': 0,
      'duration_sec': 20.0,
      'is_narrated': True,
      'validated': True,
      'capture': {
        'root_dir': 'captures/c',
        'capture_name': f'capture_{name}',
        'university_name': 'u',
        'cameras': [{'cam_id': c, 'is_ego': c.lower().startswith('aria'), 'device_type': 'hero10'} for c in cameras],
      },
      'university_name': 'u',
      'frame_aligned_videos': streams,
      **fields,
    }
    self.takes.append(take)
    self.splits[uid] = split
    return take

  def said(
    self, name: str, expert: str, *remarks: dict[str, Any] | tuple[float, str], split: str = 'train', task: int = 8003
  ) -> None:
    """Adds an expert's remarks, each (seconds, words) or as the file has it; `split` is that of the file."""
    data = [
      {
        'recording': f'{i}.webm',
        'video_time': r[0],
        'text': f' {r[1]}',
        'error': False,
        '_error_desc': None,
        'duration_approx': 12.5,
      }
      if isinstance(r, tuple)
      else r
      for i, r in enumerate(remarks)
    ]
    entry = {
      'take_name': name,
      'take_uid': f'uid-{name}',
      'task_id': task,
      'task_name': 'Some Drill',
      'commentary': f'{name}/{expert}',
      'commentary_data': data,
      '_debug_commentary_name': f'{expert}_{name}_x',
    }
    self.commentary[split].setdefault(f'uid-{name}', []).append(entry)

  def folder(self, name: str, expert: str, data: dict[str, Any] | str, words: dict[str, Any], folder: str = '') -> None:
    """Adds a folder of commentary, with data.json (as text: as it is) and transcriptions.json."""
    path = self.root / 'annotations' / 'expert_commentary' / name / (folder or expert)
    (path / 'recordings').mkdir(parents=True)
    content = data if isinstance(data, str) else json.dumps({'user_id': expert, 'video_name': name, **data})
    (path / 'data.json').write_text(content)
    (path / 'transcriptions.json').write_text(json.dumps(words))

  def level(self, name: str, label: str | None, split: str = 'train', task: int = 8003) -> None:
    entry = {
      'task_id': task,
      'task_name': 'Some Drill',
      'scenario_name': 'Soccer',
      'university_id': 'u',
      'origin_participant_id': '1',
      'take_uid': f'uid-{name}',
      'video_paths': {'ego': f'takes/{name}/frame_aligned_videos/aria01_214-1.mp4'},
    }
    self.levels[split].append(entry | ({} if label is None else {'proficiency_score': label}))

  def demonstration(self, name: str, split: str = 'train', **lists: Any) -> None:
    self.demonstrations[split].append({'take_uid': f'uid-{name}', 'task_id': 8003, **lists})

  def write(self, bare_lists: bool = False) -> pathlib.Path:
    """Writes all; `bare_lists` in the form of the documentation rather than that of the release."""
    annotations = self.root / 'annotations'
    annotations.mkdir(parents=True, exist_ok=True)
    (self.root / 'takes.json').write_text(json.dumps(self.takes, indent=1))
    splits = {'ds': '20240324_10:11:12', 'take_uid_to_split': self.splits, 'split_to_take_uids': {}}
    (annotations / 'splits.json').write_text(json.dumps(splits))
    for split, entries in self.commentary.items():
      content = {'ds': '20240324_10:11:12', 'annotations': entries}
      (annotations / f'expert_commentary_{split}.json').write_text(json.dumps(content))
    for name, lists in (('demonstrator', self.levels), ('demonstration', self.demonstrations)):
      for split, found in lists.items():
        content: Any = found if bare_lists else {'ds': '20231211_15:13:34', 'annotations': found}
        (annotations / f'proficiency_{name}_{split}.json').write_text(json.dumps(content))
    return self.root
