"""A stand-in for Google's storage: as much of its JSON API as gcsfs, tensorstore, tensorboardX and array_record use.

    with serving() as (server, environment):      # variables by which those libraries find it
      subprocess.run(command, env={**os.environ, **environment})

It holds what it is given in memory, has every bucket that is asked for, and asks for no credentials. Writes are atomic,
and those that name a generation fail where another one is there, as on the real one.
"""

import contextlib
import http.server
import itertools
import json
import re
import threading
import time
import urllib.parse
from collections.abc import Iterator
from typing import Any, NamedTuple


class Stored(NamedTuple):
  data: bytes
  generation: int
  written: str


class Storage(http.server.ThreadingHTTPServer):
  """Every object by 'bucket/name'."""

  daemon_threads = True

  def __init__(self) -> None:
    super().__init__(('127.0.0.1', 0), Answer)
    self.objects: dict[str, Stored] = {}
    # What has come of uploads in parts, by their number: of which object, how it was asked for, and the bytes.
    self.uploads: dict[str, tuple[str, dict[str, str], bytearray]] = {}
    self.numbers = itertools.count(1)
    self.lock = threading.Lock()

  def handle_error(self, *words: object) -> None:
    """A client that has read enough hangs up."""

  def change(self, key: str, data: bytes | None, query: dict[str, str]) -> bool:
    """Writes an object, or removes it (None), unless one of another generation is there than `query` asks for."""
    with self.lock:
      there = self.objects[key].generation if key in self.objects else 0
      if there != int(query.get('ifGenerationMatch', there)):
        return False
      self.objects.pop(key, None)
      if data is not None:
        now = time.strftime('%Y-%m-%dT%H:%M:%S.000Z', time.gmtime())
        self.objects[key] = Stored(data, next(self.numbers), now)
      return True


class Answer(http.server.BaseHTTPRequestHandler):
  protocol_version = 'HTTP/1.1'
  server: Storage

  def answer(self) -> None:
    path, _, query = self.path.partition('?')
    self.query = dict(urllib.parse.parse_qsl(query, keep_blank_values=True))
    self.body = self.rfile.read(int(self.headers.get('Content-Length', 0)))
    place = re.fullmatch(r'.*/b/([^/]+)(/o)?(?:/([^/]+))?(?:/moveTo/o/([^/]+))?', path)
    if place is None:
      self.send(404)
      return
    bucket, objects, name, target = [urllib.parse.unquote(part or '') for part in place.groups()]
    key = f'{bucket}/{name}'
    if path.startswith('/upload/'):
      self.upload(bucket)
    elif name and key not in self.server.objects:
      self.send(404)
    elif target:
      self.write(f'{bucket}/{target}', self.server.objects[key].data, self.query)
      self.server.change(key, None, {})
    elif name and self.command == 'DELETE':
      self.send(204 if self.server.change(key, None, self.query) else 412)
    elif name:
      self.read(key, self.server.objects[key])
    elif objects:
      self.list(bucket)
    else:
      self.send_json({'kind': 'storage#bucket', 'name': bucket, 'location': 'here', 'storageClass': 'STANDARD'})

  do_GET = do_POST = do_PUT = do_DELETE = answer  # noqa: N815, the names of http.server

  def read(self, key: str, there: Stored) -> None:
    if self.query.get('alt') != 'media':
      self.send_json(resource(key, there))
    elif self.query.get('ifGenerationNotMatch') == str(there.generation):
      self.send(304)
    else:
      size, headers = len(there.data), {'x-goog-generation': str(there.generation)}
      asked = re.fullmatch(r'bytes=(\d*)-(\d*)', self.headers.get('Range', '')) if size else None
      if asked is None:
        self.send(200, there.data, headers)
        return
      first = int(asked[1]) if asked[1] else max(0, size - int(asked[2]))
      end = min(size, int(asked[2]) + 1) if asked[1] and asked[2] else size
      headers['Content-Range'] = f'bytes {first}-{end - 1}/{size}' if first < size else f'bytes */{size}'
      self.send(206 if first < size else 416, there.data[first:end], headers)

  def list(self, bucket: str) -> None:
    prefix, delimiter = self.query.get('prefix', ''), self.query.get('delimiter', '')
    start, end = self.query.get('startOffset', ''), self.query.get('endOffset', '')
    items, prefixes = [], set()
    for key, there in sorted(self.server.objects.items()):
      name = key.removeprefix(f'{bucket}/')
      if name == key or not name.startswith(prefix) or name < start or (end and name >= end):
        continue
      inner, found, _ = name.removeprefix(prefix).partition(delimiter) if delimiter else ('', '', '')
      prefixes.add(prefix + inner + delimiter) if found else items.append(resource(key, there))
    self.send_json({'kind': 'storage#objects', 'items': items, 'prefixes': sorted(prefixes)})

  def upload(self, bucket: str) -> None:
    kind, number = self.query.get('uploadType'), self.query.get('upload_id')
    if number:
      key, query, data = self.server.uploads[number]
      data += self.body
      if self.headers.get('Content-Range', '').endswith('/*'):  # more will come
        self.send(308, headers={'Range': f'bytes=0-{len(data) - 1}'})
      else:
        self.write(key, bytes(data), query)
    elif kind == 'resumable':
      name, number = self.query.get('name') or json.loads(self.body)['name'], str(next(self.server.numbers))
      self.server.uploads[number] = (f'{bucket}/{name}', self.query, bytearray())
      self.send(200, headers={'Location': f'http://{self.headers["Host"]}/upload/b/{bucket}/o?upload_id={number}'})
    elif kind == 'multipart':  # JSON, then the object
      mark = b'--' + re.search('boundary="?([^";]+)', self.headers['Content-Type'])[1].encode()
      _, described, content, _ = (part.removeprefix(b'\r\n').removesuffix(b'\r\n') for part in self.body.split(mark))
      described, content = (part.partition(b'\r\n\r\n')[2] for part in (described, content))
      self.write(f'{bucket}/{json.loads(described)["name"]}', content, self.query)
    else:
      self.write(f'{bucket}/{self.query["name"]}', self.body, self.query)

  def write(self, key: str, data: bytes, query: dict[str, str]) -> None:
    done = self.server.change(key, data, query)
    self.send_json(resource(key, self.server.objects[key])) if done else self.send(412)

  def send_json(self, value: Any) -> None:
    self.send(200, json.dumps(value).encode(), {'Content-Type': 'application/json'})

  def send(self, status: int, data: bytes = b'', headers: dict[str, str] | None = None) -> None:
    self.send_response(status)
    for name, value in {**(headers or {}), 'Content-Length': str(len(data))}.items():
      self.send_header(name, value)
    self.end_headers()
    self.wfile.write(data)

  def log_message(self, *words: object) -> None:
    pass


def resource(key: str, there: Stored) -> dict[str, str]:
  bucket, _, name = key.partition('/')
  facts = {'id': key, 'size': str(len(there.data)), 'generation': str(there.generation), 'metageneration': '1'}
  times = {'timeCreated': there.written, 'updated': there.written}
  return {'kind': 'storage#object', 'bucket': bucket, 'name': name, 'storageClass': 'STANDARD', **facts, **times}


@contextlib.contextmanager
def serving() -> Iterator[tuple[Storage, dict[str, str]]]:
  with Storage() as server:
    threading.Thread(target=server.serve_forever, daemon=True).start()
    here = f'http://127.0.0.1:{server.server_port}'
    yield (
      server,
      {
        'STORAGE_EMULATOR_HOST': here,  # gcsfs
        'GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT': 'false',  # which asks Google, by other ways, what kind of bucket it is
        'TENSORSTORE_GCS_HTTP_URL': here,
        'CLOUD_STORAGE_EMULATOR_ENDPOINT': here,  # array_record
        'no_proxy': '127.0.0.1',
      },
    )
    server.shutdown()
