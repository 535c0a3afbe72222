"""An index of the annotations on disk, in which takes find their comments: the files are sorted by other things.

The files and their traps are described in `README.md`.
"""

import json
import pathlib
import re
import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any

from crosstrainer_jax.datasets.egoexo4d import streams, taxonomy
from crosstrainer_jax.datasets.takes.take import Lose, Loss

ANNOTATED = ('train', 'val')
SPLITS = ('train', 'val', 'test')
NO_TAKE = 'its take is not in takes.json'
DROPPED = 'its take was dropped from the release'
OTHER_DRILL = 'a drill that the paper does not use'

_TABLES = """
CREATE TABLE takes(place INTEGER PRIMARY KEY, uid TEXT UNIQUE, name TEXT, wanted TEXT, take TEXT);
CREATE TABLE splits(uid TEXT PRIMARY KEY, split TEXT);
CREATE TABLE notes(kind TEXT, uid TEXT, part TEXT, content TEXT);
CREATE TABLE levels(uid TEXT PRIMARY KEY, label TEXT);
CREATE INDEX takes_by_name ON takes(name);
CREATE INDEX notes_by_uid ON notes(uid, kind);
"""
# What of a take of takes.json is kept; the rest, such as the list of objects, is most of the file.
_KEPT = (
  'take_name', 'take_uid', 'participant_uid', 'root_dir', 'task_id', 'parent_task_id', 'task_name', 'duration_sec',
  'task_start_sec', 'task_end_sec', 'frame_aligned_videos',
)  # fmt: skip


class Index:
  """Reads all annotation files of `root` into a database at `path`.

  Args:
    sports: names of scenarios; takes of others are passed over, and what was said of them.
    all_drills: also those drills of the sports that the paper does not use.

  Raises:
    FileNotFoundError: takes.json or the commentary is missing.
    streams.BrokenFile: one is not whole.
  """

  def __init__(self, root: pathlib.Path, path: pathlib.Path, sports: Sequence[str], all_drills: bool):
    self.root = root
    self._sports, self._all_drills = sports, all_drills
    self._base = sqlite3.connect(path)
    self._base.execute('PRAGMA synchronous = OFF')  # it is thrown away
    self._base.executescript(_TABLES)
    self._read_takes()
    self._read_splits()
    for split in SPLITS:
      if split in ANNOTATED:
        self._read_commentary(split)
      self._read_levels(split)
      self._read_demonstrations(split)
    self._base.commit()

  def close(self) -> None:
    self._base.close()

  def _read_takes(self) -> None:
    path = self.root / 'takes.json'
    if not path.is_file():
      raise FileNotFoundError(f'{path} is missing; download it: egoexo -o {self.root} --parts metadata -y')
    for take in streams.entries(path):
      uid, name = str(take.get('take_uid') or ''), str(take.get('take_name') or '')
      kept = {key: take[key] for key in _KEPT if key in take}
      capture = take.get('capture') or {}
      kept['cameras'] = {str(c.get('cam_id')): bool(c.get('is_ego')) for c in capture.get('cameras') or []}
      kept['capture_name'] = capture.get('capture_name') or ''
      row = [uid, name, self._wanted(take), json.dumps(kept)]
      self._base.execute('INSERT OR IGNORE INTO takes(uid, name, wanted, take) VALUES (?, ?, ?, ?)', row)

  def _wanted(self, take: dict[str, Any]) -> str:
    """'yes', 'no' where another sport is shown, or the reason why it is lost."""
    task = task_of(take)
    sport = taxonomy.sport_of(task)
    if sport not in self._sports:
      return 'no'
    if take.get('is_dropped'):
      return DROPPED
    skill = taxonomy.skill_of(task, str(take.get('task_name') or ''))
    if sport in taxonomy.PAPER and skill not in taxonomy.PAPER_SKILLS and not self._all_drills:
      return OTHER_DRILL
    return 'yes'

  def _read_splits(self) -> None:
    path = self.root / 'annotations' / 'splits.json'
    if path.is_file():
      rows = ((uid, str(split)) for uid, split in streams.named(path, 'take_uid_to_split'))
      self._base.executemany('INSERT OR REPLACE INTO splits VALUES (?, ?)', rows)

  def _read_commentary(self, split: str) -> None:
    path = self.root / 'annotations' / f'expert_commentary_{split}.json'
    if not path.is_file():
      return
    for uid, experts in streams.named(path, 'annotations'):
      self._base.execute('INSERT OR IGNORE INTO splits VALUES (?, ?)', [uid, split])
      for expert in experts if isinstance(experts, list) else []:
        self._note('commentary', uid, split, expert)

  def _read_levels(self, split: str) -> None:
    path = self.root / 'annotations' / f'proficiency_demonstrator_{split}.json'
    if path.is_file():
      for entry in streams.entries(path):
        # the test part has none
        row = [str(entry.get('take_uid') or ''), str(entry.get('proficiency_score') or '')]
        self._base.execute('INSERT OR REPLACE INTO levels VALUES (?, ?)', row)
        self._base.execute('INSERT OR IGNORE INTO splits VALUES (?, ?)', [row[0], split])

  def _read_demonstrations(self, split: str) -> None:
    path = self.root / 'annotations' / f'proficiency_demonstration_{split}.json'
    if path.is_file():
      for entry in streams.entries(path):
        if entry.get('good_executions') or entry.get('tips_for_improvement'):
          self._note('demonstration', str(entry.get('take_uid') or ''), split, entry)

  def _note(self, kind: str, uid: str, part: str, content: Any) -> None:
    self._base.execute('INSERT INTO notes VALUES (?, ?, ?, ?)', [kind, uid, part, json.dumps(content)])

  def takes(self) -> Iterator[dict[str, Any]]:
    """What takes.json says of each take that is wanted, in its order."""
    for (take,) in self._base.execute("SELECT take FROM takes WHERE wanted = 'yes' ORDER BY place"):
      content: dict[str, Any] = json.loads(take)
      yield content

  def find(self, take: str) -> tuple[str, dict[str, Any]] | None:
    """What is said of a take by its name or uid, and whether it is wanted; None where it is not in takes.json."""
    for column in ('name', 'uid'):
      row = self._base.execute(f'SELECT wanted, take FROM takes WHERE {column} = ?', [take]).fetchone()
      if row:
        return row[0], json.loads(row[1])
    return None

  def split(self, uid: str) -> str:
    """'train', 'val' or 'test'; '' where no file says it."""
    row = self._base.execute('SELECT split FROM splits WHERE uid = ?', [uid]).fetchone()
    return row[0] if row and row[0] in SPLITS else ''

  def level(self, uid: str) -> str | None:
    """The label of demonstrator proficiency; '' for a take of its test part, None for one that it has not."""
    row = self._base.execute('SELECT label FROM levels WHERE uid = ?', [uid]).fetchone()
    return row[0] if row else None

  def commentary(self, uid: str) -> list[dict[str, Any]]:
    """Entries of the commentary files, one for each expert."""
    return self._notes('commentary', uid)

  def demonstrations(self, uid: str) -> list[dict[str, Any]]:
    """Entries of the files of good executions and tips."""
    return self._notes('demonstration', uid)

  def _notes(self, kind: str, uid: str) -> list[dict[str, Any]]:
    rows = self._base.execute('SELECT content FROM notes WHERE uid = ? AND kind = ? ORDER BY rowid', [uid, kind])
    return [entry for (text,) in rows if isinstance(entry := json.loads(text), dict)]

  def lose_the_unjoined(self, lose: Lose) -> None:
    """Annotations of takes that are not there, or that are left out for a reason."""
    reason = 'CASE WHEN takes.wanted IS NULL THEN ? ELSE takes.wanted END'
    gone = "(takes.wanted IS NULL OR takes.wanted NOT IN ('yes', 'no'))"
    joined = f'notes LEFT JOIN takes USING (uid) WHERE {gone} ORDER BY notes.rowid'
    query = f'SELECT kind, notes.uid, {reason}, content FROM {joined}'
    for kind, uid, why, text in self._base.execute(query, [NO_TAKE]):
      entry = json.loads(text)
      if not isinstance(entry, dict) or (why == NO_TAKE and not self._of_ours(entry)):
        continue
      if kind == 'demonstration':
        lose(Loss('demonstration', uid, why))
        continue
      said = entry.get('commentary_data')
      for remark in said if isinstance(said, list) else []:
        name = pathlib.PurePosixPath(str((remark or {}).get('recording') or '?')).stem
        lose(Loss('comment', f'{entry.get("commentary") or uid}/{name}', why, uid))
    query = f'SELECT levels.uid, {reason} FROM levels LEFT JOIN takes USING (uid) WHERE {gone} ORDER BY levels.uid'
    for uid, why in self._base.execute(query, [NO_TAKE]):
      lose(Loss('proficiency', uid, why))
    folder = self.root / 'annotations' / 'expert_commentary'
    if folder.is_dir():
      for path in sorted(folder.iterdir()):
        row = self._base.execute('SELECT wanted FROM takes WHERE name = ?', [path.name]).fetchone()
        if path.is_dir() and (row is None or row[0] not in ('yes', 'no')):
          lose(Loss('commentary folder', path.name, row[0] if row else NO_TAKE))

  def _of_ours(self, entry: dict[str, Any]) -> bool:
    """Whether an annotation of an unknown take is of a sport that is asked for, or of one that nobody can tell."""
    task = task_of(entry)
    return not task or taxonomy.sport_of(task) in self._sports


def task_of(entry: dict[str, Any]) -> int:
  """The number of the task of a take or an annotation; 0 without."""
  for key in ('task_id', 'parent_task_id'):
    if re.fullmatch(r'\d+', str(entry.get(key))):
      return int(entry[key])
  return 0
