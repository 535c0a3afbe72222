"""Answers of language models, kept: what was paid for once is not asked again, by this run or another.

One SQLite file. Every answer is committed as it comes, so that a kill loses none, and several runs may share the file.
It holds the answers and hashes of what was asked, neither questions nor images nor keys of servers.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from crosstrainer_jax.discovery.language_model import Answer, Question
from crosstrainer_jax.input.buckets import on_this_machine

DEFAULT = 'runs/answers.sqlite'
_SECONDS_TO_WAIT = 60.0
_FIELDS = 'text, finish, prompt_tokens, completion_tokens'
_TABLE = """CREATE TABLE IF NOT EXISTS answers (
  key TEXT PRIMARY KEY, model TEXT, purpose TEXT, characters INTEGER, images INTEGER,
  text TEXT NOT NULL, finish TEXT NOT NULL, prompt_tokens INTEGER, completion_tokens INTEGER
)"""


class Usage(NamedTuple):
  """What questions of one kind have cost so far, by the model's own count.

  Attributes:
    answers: that say what they cost.
    prompt_tokens, completion_tokens, characters: means of a question; characters of its texts.
  """

  answers: int
  prompt_tokens: float
  completion_tokens: float
  characters: float


class AnswerStore:
  """The file; safe to use from several threads and processes.

  Raises:
    ValueError: it is no such file, or cannot be written.
  """

  def __init__(self, path: str | Path = DEFAULT):
    self.path = on_this_machine(path, '--answers')
    self._lock = threading.Lock()
    try:
      self.path.parent.mkdir(parents=True, exist_ok=True)
      self._file = sqlite3.connect(self.path, timeout=_SECONDS_TO_WAIT, isolation_level=None, check_same_thread=False)
      self._file.execute(_TABLE)
    except (sqlite3.Error, OSError) as error:
      raise ValueError(
        f'{self.path}: answers cannot be kept here ({error}); name another file with --answers'
      ) from error

  def get(self, keys: Sequence[str]) -> list[Answer | None]:
    """The answers that are kept under `keys`."""
    with self._lock:
      rows = [self._file.execute(f'SELECT {_FIELDS} FROM answers WHERE key = ?', (key,)).fetchone() for key in keys]
    return [None if row is None else Answer(*row) for row in rows]

  def put(self, key: str, model: str, question: Question, answer: Answer) -> None:
    """Keeps an answer; it is on the disk when this returns."""
    row = (
      key, model, question.purpose, question.characters, question.images,
      answer.text, answer.finish, answer.prompt_tokens, answer.completion_tokens,
    )  # fmt: skip
    try:
      with self._lock:
        self._file.execute(f'INSERT OR REPLACE INTO answers VALUES ({", ".join("?" * len(row))})', row)
    except sqlite3.Error as error:
      raise ValueError(f'{self.path}: an answer could not be kept ({error})') from error

  def usage(self, model: str, purpose: str) -> Usage | None:
    """What questions of a kind have cost; None where no answer of the model says."""
    query = """SELECT COUNT(*), AVG(prompt_tokens), AVG(completion_tokens), AVG(characters) FROM answers
      WHERE model = ? AND purpose = ? AND prompt_tokens IS NOT NULL AND completion_tokens IS NOT NULL"""
    with self._lock:
      row = self._file.execute(query, (model, purpose)).fetchone()
    return Usage(*row) if row[0] else None

  def __len__(self) -> int:
    with self._lock:
      return int(self._file.execute('SELECT COUNT(*) FROM answers').fetchone()[0])

  def close(self) -> None:
    with self._lock:
      self._file.close()
