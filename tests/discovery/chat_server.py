"""A server on this machine that speaks OpenAI's chat completions, and misbehaves as it is told to."""

import contextlib
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

# Makes a reply of a request: a text, a dict (the JSON body) or a `Reply`.
Behaviour = Callable[[dict[str, Any]], Any]


class Reply:
  """Bytes as they go over the wire.

  Args:
    promised: the length that the header promises, where that is not the body's.
    seconds: waited before anything is sent.
  """

  def __init__(
    self,
    status: int = 200,
    body: Any = b'',
    headers: dict[str, str] | None = None,
    promised: int | None = None,
    seconds: float = 0.0,
    chunked: bool = False,
  ):
    self.status, self.headers, self.promised, self.seconds, self.chunked = (
      status,
      headers or {},
      promised,
      seconds,
      chunked,
    )
    self.body = body if isinstance(body, bytes) else json.dumps(body).encode()


def completion(text: str | None, finish: str = 'stop', **message: Any) -> dict[str, Any]:
  """The JSON of an answer."""
  return {
    'id': 'x', 'object': 'chat.completion', 'created': 0, 'model': 'fake',
    'choices': [{'index': 0, 'message': {'role': 'assistant', 'content': text, **message}, 'finish_reason': finish}],
    'usage': {'prompt_tokens': 100, 'completion_tokens': 20, 'total_tokens': 120},
  }  # fmt: skip


class ChatServer:
  """What the server has seen, and what it says.

  Attributes:
    url: for `--base_url`.
    requests: the JSON of every call for a completion, in order.
    headers: of each of them.
    replies: used up one by one; after them `behaviour` answers.
  """

  def __init__(self, behaviour: Behaviour):
    self.behaviour = behaviour
    self.replies: list[Any] = []
    self.requests: list[dict[str, Any]] = []
    self.headers: list[Message] = []
    self.times: list[float] = []
    self.most_at_once = self._at_once = 0
    self._lock = threading.Lock()
    outer = self

    class Handler(BaseHTTPRequestHandler):
      protocol_version = 'HTTP/1.1'

      def log_message(self, *_: object) -> None:
        pass

      def do_GET(self) -> None:
        self._send(Reply(body={'object': 'list', 'data': [{'id': 'fake', 'object': 'model'}]}))

      def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers['Content-Length'])))
        with outer._lock:
          outer.requests.append(request)
          outer.headers.append(self.headers)
          outer.times.append(time.monotonic())
          outer._at_once += 1
          outer.most_at_once = max(outer.most_at_once, outer._at_once)
          reply = outer.replies.pop(0) if outer.replies else None
        try:
          self._send(outer.behaviour(request) if reply is None else reply)
        finally:
          with outer._lock:
            outer._at_once -= 1

      def _send(self, reply: Any) -> None:
        if isinstance(reply, str):
          reply = completion(reply)
        if not isinstance(reply, Reply):
          reply = Reply(body=reply)
        time.sleep(reply.seconds)
        with contextlib.suppress(ConnectionError):  # the client has gone
          self.send_response(reply.status)
          for name, value in {'Content-Type': 'application/json', **reply.headers}.items():
            self.send_header(name, value)
          if reply.chunked:  # and never ended
            self.send_header('Transfer-Encoding', 'chunked')
            self.end_headers()
            self.wfile.write(f'{len(reply.body):x}\r\n'.encode() + reply.body + b'\r\n')
          else:
            self.send_header('Content-Length', str(len(reply.body) if reply.promised is None else reply.promised))
            self.end_headers()
            self.wfile.write(reply.body)
          if reply.chunked or reply.promised is not None:
            self.wfile.flush()
            self.close_connection = True

    class Server(ThreadingHTTPServer):
      def handle_error(self, *_: object) -> None:
        if not isinstance(sys.exc_info()[1], ConnectionError):  # the client has gone
          raise

    self._server = Server(('127.0.0.1', 0), Handler)
    self._server.daemon_threads = True
    self._thread = threading.Thread(target=self._server.serve_forever, kwargs={'poll_interval': 0.01})
    self.url = f'http://127.0.0.1:{self._server.server_address[1]}/v1'

  def __enter__(self) -> 'ChatServer':
    self._thread.start()
    return self

  def __exit__(self, *_: object) -> None:
    self._server.shutdown()
    self._server.server_close()
    self._thread.join()


@contextlib.contextmanager
def serving(behaviour: Behaviour = lambda _: 'Correct - none\nIncorrect - none') -> Iterator[ChatServer]:
  with ChatServer(behaviour) as server:
    yield server


def text_of(request: dict[str, Any]) -> str:
  """All that the user said in a request, and the texts of its parts."""
  contents = [message['content'] for message in request['messages'] if message['role'] == 'user']
  return '\n'.join(
    content if isinstance(content, str) else ' '.join(part.get('text', '') for part in content) for content in contents
  )
