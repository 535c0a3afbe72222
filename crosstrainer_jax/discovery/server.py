"""Any server that speaks OpenAI's chat completions: vLLM, Ollama, llama.cpp, a vendor.

Of the library `openai` we take the address, the key, the connections, the limits of time and the names of errors. Its
own retries are switched off: they see neither an answer that breaks off inside its JSON nor one without any choice, and
they would pass by the limit of requests a minute. Answers come in one piece: they are short, and a stream would only
add ways to break.
"""

from __future__ import annotations

import datetime
import email.utils
import json
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import httpx2
import openai

from crosstrainer_jax.discovery.language_model import (
  CUT,
  REFUSED,
  STOP,
  Answer,
  Question,
  Sampling,
  ServerError,
  Unreadable,
)

DEFAULT_URL = 'https://api.openai.com/v1'
# A server that asks for a longer pause has no room today.
LONGEST_PAUSE = 600.0
# So many questions in a row without an answer, and the fault is not in the questions.
GIVE_UP = 10
_TRANSIENT = (408, 409, 425, 429)


class _Again(Exception):
  """A call that may be made again, after `wait` seconds where the server says so."""

  def __init__(self, reason: str, wait: float | None = None, unreachable: bool = False):
    super().__init__(reason)
    self.wait, self.unreachable = wait, unreachable


class _Stopped(Exception):
  """Nobody waits for an answer any more."""


class Pace:
  """When the next call may begin: so many a minute, evenly, and none while the server has asked for a pause.

  Args:
    per_minute: 0 for no limit.
  """

  def __init__(self, per_minute: float = 0.0):
    if per_minute < 0:
      raise ValueError(f'requests_per_minute must be at least 0 (no limit), not {per_minute:g}')
    self._gap = 60.0 / per_minute if per_minute else 0.0
    self._free, self._lock, self._stop = time.monotonic(), threading.Lock(), threading.Event()

  def turn(self) -> None:
    """Waits for the next place in the row."""
    with self._lock:
      begin = max(self._free, time.monotonic())
      self._free = begin + self._gap
    self.wait(begin - time.monotonic())

  def hold(self, seconds: float) -> None:
    """Nobody's turn comes before so many seconds."""
    with self._lock:
      self._free = max(self._free, time.monotonic() + seconds)

  def wait(self, seconds: float) -> None:
    if self._stop.wait(max(seconds, 0.0)):
      raise _Stopped

  def stop(self) -> None:
    self._stop.set()


class Server:
  """A model behind an address.

  Args:
    model: as the server calls it.
    base_url: up to and with `/v1`; "" for OpenAI's own.
    api_key: "" for a server without one.
    key_from: where the key comes from, for messages.
    timeout: seconds that one call may take.
    tries: how often a call is made before its question is given up.
    first_pause: seconds before the second try, doubled for each further one, where the server names none.
  """

  group = 1

  def __init__(
    self,
    model: str,
    base_url: str = '',
    sampling: Sampling | None = None,
    *,
    api_key: str = '',
    key_from: str = 'OPENAI_API_KEY',
    concurrency: int = 4,
    requests_per_minute: float = 0.0,
    timeout: float = 120.0,
    tries: int = 6,
    first_pause: float = 1.0,
  ):
    self.url = (base_url or DEFAULT_URL).rstrip('/')
    if not self.url.startswith(('http://', 'https://')):
      raise ValueError(f'--base_url {base_url}: an address begins with http:// or https://, and mostly ends in /v1')
    if concurrency < 1 or tries < 1 or timeout <= 0:
      raise ValueError(f'concurrency={concurrency}, tries={tries} and timeout={timeout:g} must be above 0')
    self.sampling, self.concurrency = sampling or Sampling(), concurrency
    self._tries, self._first_pause, self._key_from, self._timeout = tries, first_pause, key_from, timeout
    # the library refuses to start without a key
    self._client = openai.OpenAI(
      api_key=api_key or 'none', base_url=self.url, timeout=httpx2.Timeout(timeout, connect=10.0), max_retries=0
    )
    weakref.finalize(self, self._client.close)
    self._pace = Pace(requests_per_minute)
    self._limit = 'max_tokens'
    self._lost, self._lock = 0, threading.Lock()
    if not model:
      raise ValueError(f'--model is missing{self._offered()}')
    self.name = model

  def complete(self, questions: Sequence[Question]) -> list[Answer | Unreadable]:
    """See `LanguageModel`. After a ServerError no thread calls any more."""
    try:
      return [self._complete(question) for question in questions]
    except ServerError:
      self.stop()
      raise

  def stop(self) -> None:
    """See `LanguageModel`."""
    self._pace.stop()

  def _complete(self, question: Question) -> Answer | Unreadable:
    pause, calls = self._first_pause, 0
    lost: Unreadable | _Again = Unreadable('')
    try:
      for _ in range(self._tries):
        if isinstance(lost, _Again):
          if lost.wait is not None:
            self._pace.hold(lost.wait)
          else:
            self._pace.wait(pause)
            pause = min(2 * pause, 60.0)
        self._pace.turn()
        calls += 1
        try:
          answer = self._call(question)
        except _Again as error:
          lost = error
          continue
        except Unreadable as error:
          lost = error
          break
        with self._lock:
          self._lost = 0
        return answer
    except _Stopped:
      return Unreadable('interrupted')
    if isinstance(lost, _Again) and lost.unreachable:
      raise ServerError(f'{self.url} cannot be reached ({lost}): is the server running, and is --base_url right?')
    with self._lock:
      self._lost += 1
      if self._lost >= GIVE_UP:
        raise ServerError(f'{self._lost} questions in a row have got no answer from {self.url}; the last: {lost}')
    return Unreadable(f'no answer after {calls} calls: {lost}')

  def _call(self, question: Question) -> Answer:
    """One call. Raises _Again, Unreadable (this question gets no answer) and ServerError."""
    sampling = self.sampling
    fields: dict[str, Any] = {'model': self.name, 'messages': list(question.messages), self._limit: sampling.max_tokens}
    if sampling.temperature >= 0:
      fields['temperature'] = sampling.temperature
    if sampling.temperature > 0:
      fields['seed'] = sampling.seed
    try:
      reply = self._client.chat.completions.with_raw_response.create(**fields)
    except openai.APITimeoutError:
      raise _Again(f'no answer within {self._timeout:g} s') from None
    except openai.APIConnectionError as error:
      cause = error.__cause__ or error
      unreachable = isinstance(cause, httpx2.ConnectError)
      raise _Again(f'the connection failed: {cause or type(cause).__name__}', unreachable=unreachable) from None
    except openai.APIStatusError as error:
      raise self._judged(error) from None
    return read_completion(reply.http_response.content, reply.headers.get('content-type', ''))

  def _judged(self, error: openai.APIStatusError) -> Exception:
    """What a status other than 2xx means for the question, or for all."""
    status, said = error.status_code, _shown(error)
    if status in (401, 403):
      return ServerError(f'{self.url} refuses the key of {self._key_from} ({status}: {said})')
    if status == 404:
      return ServerError(f'{self.url} has no such model or address ({said}); --model {self.name}{self._offered()}')
    if status == 429 and error.code == 'insufficient_quota':
      return ServerError(f'{self.url}: the account has no credit left ({said})')
    if status in _TRANSIENT or status >= 500:
      wait = pause_asked(error.response.headers)
      if wait is not None and wait > LONGEST_PAUSE:
        return ServerError(f'{self.url} asks to come back in {wait:.0f} s ({status}: {said}); what is answered is kept')
      return _Again(f'{status}: {said}', wait)
    if status == 400 and self._limit == 'max_tokens' and 'max_completion_tokens' in said:
      self._limit = 'max_completion_tokens'
      return _Again(said, 0.0)
    if status == 400 and 'temperature' in said:
      return ServerError(f'{self.url}: {said}. --temperature -1 leaves it to the server')
    return Unreadable(f'{status}: {said}')

  def _offered(self) -> str:
    """The models that the server names."""
    try:
      names = sorted(model.id for model in self._client.models.list().data)
    except (openai.OpenAIError, AttributeError, TypeError, ValueError):
      return ''
    return f'; {self.url} offers {", ".join(names[:20]) or "none"}'


def read_completion(body: bytes, content_type: str = 'application/json') -> Answer:
  """The answer in the body of a chat completion. Raises _Again for what a server should not have sent."""
  try:
    content = json.loads(body)
  except ValueError:
    hint = '; does --base_url end in /v1?' if 'html' in content_type else ''
    raise _Again(f'the answer is not JSON ({len(body)} bytes of {content_type or "no type"}){hint}') from None
  if not isinstance(content, dict) or content.get('error'):
    raise _Again(f'the answer is an error: {str(content)[:200]}')
  choices = content.get('choices')
  if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
    raise _Again('the answer holds no choice')
  message = choices[0].get('message')
  if not isinstance(message, dict):
    raise _Again('the answer holds no message')
  finish, usage = choices[0].get('finish_reason'), content.get('usage')
  counts = [
    value if isinstance(value := (usage or {}).get(name), int) else None
    for name in ('prompt_tokens', 'completion_tokens')
  ] if isinstance(usage, dict) else [None, None]  # fmt: skip
  if message.get('refusal'):
    return Answer(str(message['refusal']), REFUSED, *counts)
  text = message.get('content')
  if isinstance(text, list):
    text = ''.join(str(part.get('text', '')) for part in text if isinstance(part, dict))
  if text is not None and not isinstance(text, str):
    raise _Again(f'the answer is no text: {str(text)[:80]}')
  kind = {'length': CUT, 'content_filter': REFUSED}.get(finish if isinstance(finish, str) else '', STOP)
  return Answer(text or '', kind, *counts)


def pause_asked(headers: Any, now: Callable[[], float] = time.time) -> float | None:
  """Seconds by `Retry-After` (a number or a date) or `retry-after-ms`; None where neither is there or makes sense."""
  for name, unit in (('retry-after-ms', 1e-3), ('retry-after', 1.0)):
    try:
      seconds = float(headers.get(name, '')) * unit
    except ValueError:
      continue
    if 0 <= seconds < float('inf'):
      return seconds
  try:
    date = email.utils.parsedate_to_datetime(headers.get('retry-after', ''))
  except ValueError:
    return None
  if date.tzinfo is None:
    date = date.replace(tzinfo=datetime.UTC)
  return max(0.0, date.timestamp() - now())


def _shown(error: openai.APIStatusError) -> str:
  """What the server says of an error, on one line."""
  body = error.body
  said = body.get('message') if isinstance(body, dict) else None
  return ' '.join(str(said or error.message).split())[:300]
