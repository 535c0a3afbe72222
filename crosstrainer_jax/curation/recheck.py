"""Whether the videos of a manifest can still be seen: the site's oEmbed address is asked, and the manifest updated.

oEmbed answers without a key: 200 for a video that anybody can see, 401 or 403 for a private one or one that may not be
embedded, 404 or 400 for one that is gone. What is not answered for other reasons stays as it was, and is counted. A
killed check goes on where it was, since its answers are kept for a day.
"""

from __future__ import annotations

import collections
import concurrent.futures
import datetime
import json
import pathlib
import threading
import time
import urllib.parse
from collections.abc import Callable, Mapping
from typing import Any

import httpx2

from crosstrainer_jax.curation import manifest
from crosstrainer_jax.input.progress import Progress

ENDPOINT = 'https://www.youtube.com/oembed'
# Whose videos it knows.
_HOSTS = ('youtube.com', 'www.youtube.com', 'm.youtube.com', 'youtu.be')
PUBLIC, CLOSED, GONE, UNKNOWN = 'public', 'private or not to be embedded', 'gone', 'not answered'
FILE = 'recheck.jsonl'
_STATES = {200: PUBLIC, 401: CLOSED, 403: CLOSED, 400: GONE, 404: GONE, 410: GONE}
_TRIES, _LONGEST_PAUSE = 4, 60.0
_AT_A_TIME = 8


def recheck(
  folder: pathlib.Path,
  endpoint: str = ENDPOINT,
  per_minute: float = 240.0,
  now: Callable[[], datetime.datetime] = lambda: datetime.datetime.now(datetime.UTC),
) -> collections.Counter[str]:
  """Asks for every video with a clip in the library, and writes availability and date into the manifest.

  Returns:
    How many videos are in which state.

  Raises:
    FileNotFoundError, ValueError: no manifest, or an endpoint that cannot be reached at all.
  """
  today = now().date().isoformat()
  # What an earlier run, which was cut off, has asked today.
  known = {name: state for name, (state, date) in last_states(folder).items() if date == today}
  urls = {row['video_id']: row['url'] for row in manifest.read(folder) if row['kept'] and row['url']}
  if endpoint == ENDPOINT:
    urls = {name: url for name, url in urls.items() if urllib.parse.urlparse(url).hostname in _HOSTS}
  left = [name for name in urls if name not in known]
  pace = _Pace(per_minute)
  with (
    Progress('recheck', len(left), 'videos') as bar,
    (folder / FILE).open('a', encoding='utf-8') as file,
    httpx2.Client(timeout=30.0, follow_redirects=True) as client,
    concurrent.futures.ThreadPoolExecutor(_AT_A_TIME) as pool,
  ):
    asked = {pool.submit(_ask, client, endpoint, urls[name], pace): name for name in left}
    try:
      for future in concurrent.futures.as_completed(asked):
        name, state = asked[future], future.result()
        known[name] = state
        if state != UNKNOWN:
          file.write(json.dumps({'id': name, 'state': state, 'date': today}) + '\n')
          file.flush()
        bar.advance()
    except BaseException:
      pool.shutdown(wait=False, cancel_futures=True)
      raise
  if left and all(state == UNKNOWN for state in known.values()):
    raise ValueError(f'{endpoint} gives no answer: is this machine online, and the address right? Nothing was changed')

  states = last_states(folder)
  manifest.rewrite(folder / manifest.FILE, lambda row: with_state(row, states))
  return collections.Counter(known[name] for name in urls)


class _Pace:
  """So many a minute, over all threads."""

  def __init__(self, per_minute: float):
    if not per_minute > 0:
      raise ValueError(f'--requests_per_minute {per_minute:g} must be above 0')
    self._gap, self._free, self._lock = 60.0 / per_minute, time.monotonic(), threading.Lock()

  def turn(self) -> None:
    with self._lock:
      begin = max(self._free, time.monotonic())
      self._free = begin + self._gap
    time.sleep(max(0.0, begin - time.monotonic()))


def _ask(client: httpx2.Client, endpoint: str, url: str, pace: _Pace) -> str:
  pause = 1.0
  for _ in range(_TRIES):
    pace.turn()
    try:
      answer = client.get(endpoint, params={'url': url, 'format': 'json'})
    except httpx2.ConnectError:
      return UNKNOWN
    except httpx2.HTTPError:
      continue
    if answer.status_code in _STATES:
      return _STATES[answer.status_code]
    asked = answer.headers.get('retry-after', '')
    time.sleep(min(float(asked) if asked.isdigit() else pause, _LONGEST_PAUSE))
    pause *= 2
  return UNKNOWN


def last_states(folder: pathlib.Path) -> dict[str, tuple[str, str]]:
  """Video -> what was last answered, and on which date."""
  path = folder / FILE
  if not path.is_file():
    return {}
  found = {}
  for line in path.read_text(encoding='utf-8').splitlines():
    try:
      entry = json.loads(line)
    except json.JSONDecodeError:  # the last line of a kill
      continue
    found[entry['id']] = entry['state'], entry['date']
  return found


def with_state(row: dict[str, Any], states: Mapping[str, tuple[str, str]]) -> dict[str, Any]:
  """A row of the manifest with what was last answered about its video."""
  if row['video_id'] not in states:
    return row
  state, date = states[row['video_id']]
  # Only what was seen moves the date.
  return row | {'availability': state} | ({'last_seen': date} if state == PUBLIC else {})
