"""Where the time of a stage goes, over all its restarts: every second is in one account.

`init` before the first update and while a checkpoint is read, `compile`, `data` for which the devices waited, `step`,
`eval`, `save` as far as it holds the run up, and `lost`: what was done after the last save before a kill, and
had to be done again. A line of JSON with the totals is appended to `ledger.jsonl` from time to time.
"""

import datetime
import json
import time
from collections.abc import Mapping
from typing import Any

from etils import epath

from crosstrainer_jax.training.telemetry import is_first_process, say

ACCOUNTS = ('init', 'compile', 'data', 'step', 'eval', 'save', 'lost')


class TimeLedger:
  """The accounts of one stage.

  Args:
    path: of `ledger.jsonl`, which may be on a bucket; None keeps no record.
  """

  def __init__(self, path: epath.PathLike | None = None):
    self._path = None if path is None else epath.Path(path)
    text = self._path.read_text() if self._path is not None and self._path.exists() else ''
    self._lines = _parse(text)
    # A line that a kill has cut short must not spoil the next one.
    self._torn = bool(text) and not text.endswith('\n')
    self._totals = dict.fromkeys(ACCOUNTS, 0.0)
    self._account, self._since = 'init', time.monotonic()
    self.starts = 1 + max((line['start'] for line in self._lines), default=0)

  def turn_to(self, account: str) -> None:
    """From now on time goes to `account`."""
    now = time.monotonic()
    self._totals[self._account] += now - self._since
    self._account, self._since = account, now

  def rename(self, account: str) -> None:
    """The time since the last turn goes to `account` after all."""
    self._account = account

  def seconds(self) -> dict[str, float]:
    """The totals up to now, by account."""
    self.turn_to(self._account)
    return {name: round(value, 3) for name, value in self._totals.items()}

  @property
  def elapsed(self) -> float:
    """Seconds that the stage has taken over all its starts; not those in which nothing ran."""
    return sum(self.seconds().values())

  def resume(self, update: int, saved: Mapping[str, float]) -> None:
    """Goes on from a checkpoint of `update`, with the totals that were saved in it; `update` 0 and none from nothing.

    What was recorded beyond that was done in vain.
    """
    last: dict[str, Any] = self._lines[-1] if self._lines else {'update': 0, 'seconds': {}}
    reached, recorded = last['update'], last['seconds']
    if reached <= update and sum(recorded.values()) > sum(saved.values()):
      saved = recorded  # nothing is repeated: after the save there was only the end
    for name, value in saved.items():
      self._totals[name] = self._totals.get(name, 0.0) + value
    self._totals['lost'] += max(0.0, sum(recorded.values()) - sum(saved.values()))

  def record(self, name: str, update: int) -> None:
    """Appends the totals after `update` updates of stage `name`."""
    if self._path is None or not is_first_process():
      return
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds')
    line = {'stage': name, 'start': self.starts, 'update': update, 'time': now, 'seconds': self.seconds()}
    self._lines.append(line)
    self._path.parent.mkdir(parents=True, exist_ok=True)
    if '://' in str(self._path):  # a bucket cannot append
      self._path.write_text(''.join(f'{json.dumps(line)}\n' for line in self._lines))
    else:
      with self._path.open('a') as file:
        file.write(('\n' if self._torn else '') + json.dumps(line) + '\n')
    self._torn = False

  def describe(self, name: str, updates: int, clips: int) -> None:
    """Prints how long `updates` of so many `clips` have taken, and where the time went."""
    seconds, total = self.seconds(), max(self.elapsed, 1e-9)
    parts = ', '.join(f'{key} {value:.1f} s ({value / total:.0%})' for key, value in seconds.items() if value >= 0.05)
    starts = '' if self.starts == 1 else f' over {self.starts} starts'
    rate = updates * clips / total
    say(f'  {name}: {updates} updates in {total:.1f} s{starts}, {rate:,.0f} clips/s: {parts}')


def _parse(text: str) -> list[dict[str, Any]]:
  """The lines of a ledger, without one that a kill has cut short."""
  lines = []
  for line in text.splitlines():
    try:
      lines.append(json.loads(line))
    except json.JSONDecodeError:
      continue
  return lines
