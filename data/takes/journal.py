"""What an import knows, on disk: its takes in order, which of them are finished, and what was lost.

SQLite keeps memory flat however many takes there are, and whole however an import ends: a take is finished with its
losses in one transaction, and an import that is started again goes on with the others.
"""

import json
import pathlib
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from crosstrainer_jax.datasets.takes.take import Loss, Take

_TABLES = """
CREATE TABLE IF NOT EXISTS takes(
  number INTEGER PRIMARY KEY, name TEXT UNIQUE, participant TEXT, split TEXT, key TEXT, take TEXT
);
CREATE INDEX IF NOT EXISTS takes_by_key ON takes(key);
CREATE TABLE IF NOT EXISTS done(key TEXT PRIMARY KEY, clips INTEGER, bytes INTEGER, recording TEXT);
CREATE TABLE IF NOT EXISTS losses(key TEXT, what TEXT, id TEXT, reason TEXT, detail TEXT);
CREATE INDEX IF NOT EXISTS losses_of ON losses(key);
"""
# The losses that the source itself has met are of no take.
_OF_THE_SOURCE = ''
# Losses that are true of this import and of no other.
_LIVE = (
  'SELECT what, id, reason, detail FROM losses LEFT JOIN takes USING (key) WHERE key = ? OR number IS NOT NULL '
  'ORDER BY number, losses.rowid'
)


class Finished(NamedTuple):
  """A take whose records lie in the file `key`: their number and bytes."""

  key: str
  clips: int
  bytes: int


class Journal:
  """Opens or makes the journal at `path`. Only one thread may use it."""

  def __init__(self, path: str | pathlib.Path):
    self._base = sqlite3.connect(path)
    self._base.execute('PRAGMA journal_mode = WAL')
    self._base.execute('PRAGMA synchronous = NORMAL')
    self._base.executescript(_TABLES)

  def close(self) -> None:
    self._base.close()

  def begin(self) -> None:
    """Forgets the takes and what their source lost; what was finished stays."""
    self._base.execute('DELETE FROM takes')
    self._base.execute('DELETE FROM losses WHERE key = ?', [_OF_THE_SOURCE])

  def lose(self, loss: Loss) -> None:
    """Notes what the source lost; on disk with the next `commit`."""
    self._base.execute('INSERT INTO losses VALUES (?, ?, ?, ?, ?)', [_OF_THE_SOURCE, *_row(loss)])

  def add(self, take: Take, key: str) -> bool:
    """Adds a take after the others, `key` naming its content; False where there is one of this name."""
    cursor = self._base.execute(
      'INSERT OR IGNORE INTO takes(name, participant, split, key, take) VALUES (?, ?, ?, ?, ?)',
      [take.name, take.participant, take.split, key, take.to_json()],
    )
    return cursor.rowcount == 1

  def commit(self) -> None:
    self._base.commit()

  def count(self) -> tuple[int, int]:
    """(takes, those of them that are finished)."""
    (takes,) = self._base.execute('SELECT count(*) FROM takes').fetchone()
    (done,) = self._base.execute('SELECT count(*) FROM takes JOIN done USING (key)').fetchone()
    return takes, done

  def left(self) -> Iterator[tuple[str, Take]]:
    """(key, take) of those that are not finished, in order, read a few at a time."""
    last = 0
    while True:
      rows = self._base.execute(
        'SELECT number, key, take FROM takes WHERE number > ? AND key NOT IN (SELECT key FROM done) '
        'ORDER BY number LIMIT 64',
        [last],
      ).fetchall()
      if not rows:
        return
      for _, key, take in rows:
        yield key, Take.from_json(take)
      last = rows[-1][0]

  def of_split(self, split: str) -> Iterator[tuple[str, str]]:
    """(key, take as JSON) of all takes of a split, in order."""
    yield from self._base.execute('SELECT key, take FROM takes WHERE split = ? ORDER BY number', [split])

  def spread(self, count: int) -> list[tuple[str, Take]]:
    """(key, take) of at most `count` takes that have clips, evenly spread."""
    numbers = [number for (number,) in self._base.execute(
      'SELECT number FROM takes JOIN done USING (key) WHERE clips > 0 ORDER BY number'
    )]  # fmt: skip
    chosen = numbers[:: max(1, -(-len(numbers) // count))]
    query = 'SELECT key, take FROM takes WHERE number = ?'
    rows = [self._base.execute(query, [number]).fetchone() for number in chosen]
    return [(key, Take.from_json(take)) for key, take in rows]

  def finish(
    self, key: str, clips: int, size: int, recording: dict[str, Any] | None, losses: Iterable[Loss] = ()
  ) -> None:
    """A take is done: its clips, their bytes, where features find its videos, and what was lost of it."""
    with self._base:
      self._base.execute('DELETE FROM losses WHERE key = ?', [key])
      self._base.executemany('INSERT INTO losses VALUES (?, ?, ?, ?, ?)', [[key, *_row(loss)] for loss in losses])
      row = [key, clips, size, json.dumps(recording, ensure_ascii=False) if recording else None]
      self._base.execute('INSERT OR REPLACE INTO done VALUES (?, ?, ?, ?)', row)

  def splits(self) -> list[str]:
    """Those that have clips."""
    rows = self._base.execute('SELECT DISTINCT split FROM takes JOIN done USING (key) WHERE clips > 0 ORDER BY split')
    return [split for (split,) in rows]

  def all_splits(self) -> list[str]:
    """Those that have takes."""
    return [split for (split,) in self._base.execute('SELECT DISTINCT split FROM takes ORDER BY split')]

  def finished(self, split: str) -> Iterator[Finished]:
    """The takes of a split that have clips, in order."""
    query = 'SELECT key, clips, bytes FROM takes JOIN done USING (key) WHERE split = ? AND clips > 0 ORDER BY number'
    for row in self._base.execute(query, [split]):
      yield Finished(*row)

  def recordings(self) -> Iterator[str]:
    """A line of JSON for each take whose features are made from its videos, in order."""
    query = 'SELECT recording FROM takes JOIN done USING (key) WHERE recording IS NOT NULL ORDER BY number'
    for (line,) in self._base.execute(query):
      yield line

  def keys(self) -> Iterator[str]:
    """Of all takes, in order."""
    for (key,) in self._base.execute('SELECT key FROM takes ORDER BY number'):
      yield key

  def losses(self) -> Iterator[Loss]:
    """All of them: those of the source first, then those of the takes."""
    for row in self._base.execute(_LIVE, [_OF_THE_SOURCE]):
      yield Loss(*row)

  def reasons(self, first: int = 3) -> list[tuple[str, str, int, Sequence[str]]]:
    """(what, reason, count, first ids) of the losses, the most frequent first."""
    counts = self._base.execute(
      f'SELECT what, reason, count(*) AS n FROM ({_LIVE}) GROUP BY what, reason ORDER BY n DESC, what, reason',
      [_OF_THE_SOURCE],
    ).fetchall()
    found: list[tuple[str, str, int, Sequence[str]]] = []
    for what, reason, count in counts:
      rows = self._base.execute(
        f'SELECT id FROM ({_LIVE}) WHERE what = ? AND reason = ? LIMIT ?', [_OF_THE_SOURCE, what, reason, first]
      )
      found.append((what, reason, count, [name for (name,) in rows]))
    return found

  def totals(self) -> dict[str, int]:
    """Takes with clips, clips, participants, and participants who are in several splits."""
    kept = 'takes JOIN done USING (key) WHERE clips > 0'
    takes, clips, people = self._base.execute(
      f'SELECT count(*), coalesce(sum(clips), 0), count(DISTINCT participant) FROM {kept}'
    ).fetchone()
    (crossing,) = self._base.execute(
      f'SELECT count(*) FROM (SELECT participant FROM {kept} GROUP BY participant HAVING count(DISTINCT split) > 1)'
    ).fetchone()
    return {'takes': takes, 'clips': clips, 'participants': people, 'participants in several splits': crossing}


def _row(loss: Loss) -> list[str]:
  return [loss.what, loss.id, loss.reason, loss.detail]
