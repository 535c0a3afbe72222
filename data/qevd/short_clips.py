"""Short clips of one exercise, about five seconds each, with fine-grained labels and feedback written afterwards.

Three files are joined by the video's name: labels (one record a clip), feedback and workers. The last two wait in a
SQLite file, so that memory stays flat over the 300,000 records; the labels are read as a stream.
"""

import pathlib
import sqlite3
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any

from crosstrainer_jax.datasets.qevd import archives, labels
from crosstrainer_jax.datasets.qevd.exercises import place
from crosstrainer_jax.datasets.qevd.sessions import LICENCE, UNSORTED
from crosstrainer_jax.datasets.takes.take import Comment, Lose, Loss, Take

# Reasons of losses.
NO_FIELD = 'a record without its video'
NO_LABELS = 'a clip without labels'
SEVERAL = 'labels of several exercises'
NO_SPLIT = 'a split that is neither train, val nor test'
NO_VIDEO = 'no such video in any folder of short clips'
CROSSING = 'its worker is in another split'
NOTHING_KNOWN = 'neither feedback nor a label that says right or wrong'
NO_CLIP = 'feedback for a clip without labels'

_SPLITS = {'train': 'train', 'val': 'validation', 'validation': 'validation', 'test': 'test'}


def takes_of_clips(root: pathlib.Path, sports: Sequence[str], lose: Lose) -> Iterator[Take]:
  """Each clip of `sports` as a take; every feedback is a comment on the whole clip, or its labels alone are one.

  A participant is a worker where the file of workers is there, else a clip: two clips of one person may then be told
  apart as two people, within a split as the files have it.

  Raises:
    FileNotFoundError: there are no labels below the root.
    ValueError: a file is not whole.
  """
  path = archives.find(root, archives.LABELS)
  if path is None:
    raise FileNotFoundError(
      f'{root}: no {archives.LABELS} below it; python -m crosstrainer_jax.doctor qevd {root} says how to get it'
    )
  folders = archives.clip_folders(root)
  split_of_worker: dict[str, str] = {}
  with tempfile.TemporaryDirectory() as scratch, _Joined(pathlib.Path(scratch) / 'joined.sqlite') as joined:
    joined.fill(root, lose)
    for record in archives.records(root / path):
      video = record.get('video_path') if isinstance(record, dict) else None
      if not isinstance(video, str) or not video:
        lose(Loss('clip', '?', NO_FIELD))
        continue
      name = pathlib.PurePosixPath(video).stem
      parsed = [labels.parse(label) for label in _texts(record.get('labels'))]
      feedbacks, worker = joined.pop(name)
      split = _SPLITS.get(str(record.get('split')).lower())
      reason, detail = '', ''
      if not parsed:
        reason = NO_LABELS
      elif len({place(label.exercise) for label in parsed}) > 1:
        reason, detail = SEVERAL, ', '.join(sorted({label.exercise for label in parsed}))
      elif split is None:
        reason, detail = NO_SPLIT, str(record.get('split'))
      if reason:
        lose(Loss('clip', name, reason, detail))
        continue
      assert split is not None
      sport, skill = place(parsed[0].exercise)
      faults = labels.faults_of(parsed)
      file = f'{name}.mp4'
      folder = next((folder for folder in folders if (root / folder / file).is_file()), None)
      if sport not in sports:
        reason, detail = UNSORTED, skill
      elif not feedbacks and faults is None:
        reason, detail = NOTHING_KNOWN, '; '.join(label.variation for label in parsed)
      elif folder is None:
        reason, detail = NO_VIDEO, f'{file}: not in {", ".join(folders) or "any, for there are none"}'
      elif worker and split_of_worker.setdefault(worker, split) != split:
        reason, detail = CROSSING, f'worker {worker}'
      if reason:
        lose(Loss('clip', name, reason, detail))
        continue
      assert folder is not None
      folders.remove(folder)
      folders.insert(0, folder)  # the next clip most likely lies there too
      extra = {'labels': _texts(record.get('labels'))}
      yield Take(
        name=name,
        sport=sport,
        skill=skill,
        participant=f'worker-{worker}' if worker else f'clip-{name}',
        split=split,
        views=('main',),
        videos=(f'{folder}/{file}',),
        comments=tuple(
          Comment(str(number), text, start=0.0, faults=faults, extra=extra)
          for number, text in enumerate(feedbacks or [''])
        ),
        licence=LICENCE,
      )
    for name in joined.left():
      lose(Loss('feedback', name, NO_CLIP))


class _Joined:
  """Feedback and workers by the name of the video, on disk."""

  def __init__(self, path: pathlib.Path):
    self._base = sqlite3.connect(path)
    self._base.execute('PRAGMA synchronous = OFF')  # nobody reads it after a crash
    self._base.execute('CREATE TABLE feedback(name TEXT, text TEXT)')
    self._base.execute('CREATE TABLE worker(name TEXT PRIMARY KEY, id TEXT)')
    self._base.execute('CREATE TABLE met(name TEXT PRIMARY KEY)')

  def __enter__(self) -> '_Joined':
    return self

  def __exit__(self, *_: object) -> None:
    self._base.close()

  def fill(self, root: pathlib.Path, lose: Lose) -> None:
    """Reads both files where they are there."""
    feedbacks, workers = archives.find(root, archives.FEEDBACKS), archives.find(root, archives.WORKERS)
    if feedbacks is not None:
      for number, record in enumerate(archives.records(root / feedbacks)):
        name = _name(record)
        # One key or the other, a list or a text: the files of different releases disagree.
        said = _texts(record.get('feedbacks')) or _texts(record.get('feedback')) if name else []
        if not name:
          lose(Loss('feedback', f'record {number}', NO_FIELD))
        self._base.executemany('INSERT INTO feedback VALUES (?, ?)', [(name, text) for text in said])
    if workers is not None:
      rows = ((_name(record), str(record['worker_id'])) for record in archives.records(root / workers) if _has(record))
      self._base.executemany('INSERT OR IGNORE INTO worker VALUES (?, ?)', rows)
    self._base.execute('CREATE INDEX feedback_of ON feedback(name)')
    self._base.commit()

  def pop(self, name: str) -> tuple[list[str], str]:
    """(feedbacks, each once, worker or '') of a clip."""
    self._base.execute('INSERT OR IGNORE INTO met VALUES (?)', [name])
    said = self._base.execute('SELECT text FROM feedback WHERE name = ? ORDER BY rowid', [name]).fetchall()
    worker = self._base.execute('SELECT id FROM worker WHERE name = ?', [name]).fetchone()
    return list(dict.fromkeys(text for (text,) in said)), worker[0] if worker else ''

  def left(self) -> Iterator[str]:
    """Names with feedback that nobody asked for."""
    query = 'SELECT DISTINCT name FROM feedback WHERE name NOT IN (SELECT name FROM met) ORDER BY name'
    for (name,) in self._base.execute(query):
      yield name


def _name(record: Any) -> str:
  video = record.get('video_path') if isinstance(record, dict) else None
  return pathlib.PurePosixPath(video).stem if isinstance(video, str) else ''


def _has(record: Any) -> bool:
  return bool(_name(record)) and record.get('worker_id') is not None


def _texts(value: Any) -> list[str]:
  """The texts of a list, or the one text, without surplus blanks and without empty ones."""
  values = value if isinstance(value, list) else [value]
  texts = (' '.join(v.split()) for v in values if isinstance(v, str))
  return [text for text in texts if text]
