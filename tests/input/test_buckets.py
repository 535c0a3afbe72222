"""Paths in buckets: what is made of them, and that one which cannot be used is an error in time."""

import contextlib
import http.server
import pathlib
import socket
import threading
import time

import pytest
from etils.epath import backend
from fsspec.implementations.local import LocalFileSystem

from crosstrainer_jax import export, prepare
from crosstrainer_jax.discovery.dataset import discover_dataset, read_attributes
from crosstrainer_jax.input import buckets, tokenizer
from crosstrainer_jax.input.buckets import BucketError, as_path, check
from crosstrainer_jax.input.files import replacing, write_atomically
from crosstrainer_jax.input.source import ClipSource
from crosstrainer_jax.input.turns import take_turns


@pytest.fixture
def bucket(tmp_path, monkeypatch):
  """A folder that stands for a bucket, and a path in it."""

  class Folder(LocalFileSystem):
    cachable = False

    @classmethod
    def _strip_protocol(cls, path):
      path = str(path)
      return f'{tmp_path}/cloud/{path[5:]}' if path.startswith('gs://') else super()._strip_protocol(path)

    def glob(self, path, **options):
      return [found.removeprefix(f'{tmp_path}/cloud/') for found in super().glob(path, **options)]

  monkeypatch.setattr(backend.fsspec_backend, 'fs', lambda path: Folder(auto_mkdir=True))
  return as_path('gs://bucket/run')


# --- Paths


def test_a_path_of_this_machine_stays_what_it_is(tmp_path):
  assert as_path(str(tmp_path)) == tmp_path
  assert isinstance(as_path('a/b'), pathlib.Path)
  assert buckets.local_copy(tmp_path) is tmp_path


def test_a_path_in_a_bucket_keeps_its_slashes(bucket):
  assert str(bucket / 'stage1' / 'done.json') == 'gs://bucket/run/stage1/done.json'
  assert str(as_path(bucket)) == 'gs://bucket/run'


def test_what_must_lie_on_this_machine_does_not_lie_in_a_bucket(tmp_path):
  assert buckets.on_this_machine(str(tmp_path), '--output') == tmp_path
  with pytest.raises(BucketError, match=r'--output gs://b/x: this must lie on this machine\. gcloud storage'):
    buckets.on_this_machine('gs://b/x', '--output')


@pytest.mark.parametrize(
  ('verb', 'arguments'),
  [(export, ['runs/none', '--output=gs://b/x']), (prepare, ['manifest.jsonl', '--name=mine', '--data_dir=gs://b/x'])],
)
def test_verbs_that_write_to_no_bucket_say_so(verb, arguments):
  with pytest.raises(SystemExit, match='gs://b/x: this must lie on this machine'):
    verb.main(arguments)


def test_files_and_folders_are_replaced(bucket):
  write_atomically(bucket / 'config.json', 'one')
  write_atomically(bucket / 'config.json', 'two')
  assert (bucket / 'config.json').read_text() == 'two'
  with replacing(bucket / 'folder', last='a') as fresh:
    (fresh / 'inner').mkdir(parents=True)
    (fresh / 'inner' / 'b').write_text('B')
    (fresh / 'a').write_text('A')
  assert (bucket / 'folder' / 'inner' / 'b').read_text() == 'B'
  assert sorted(path.name for path in bucket.iterdir()) == ['config.json', 'folder']


def test_what_fails_leaves_a_file_as_it_was(bucket):
  write_atomically(bucket / 'config.json', 'one')
  with contextlib.suppress(RuntimeError), replacing(bucket / 'config.json') as fresh:
    fresh.write_text('half')
    raise RuntimeError
  assert (bucket / 'config.json').read_text() == 'one'


def test_the_file_that_tells_that_all_is_there_comes_last(tmp_path, monkeypatch):
  order = []
  monkeypatch.setattr(
    buckets.epath, 'Path', lambda path: type('Seen', (), {'copy': lambda *_, **__: order.append(path)})()
  )
  for name in ('b.json', 'a', 'c'):
    (tmp_path / name).touch()
  buckets.upload(tmp_path, pathlib.Path('there'), last='b.json')
  assert [path.name for path in order][-1] == 'b.json'


def test_a_tokenizer_lies_in_a_bucket(bucket):
  made = tokenizer.train_tokenizer(['keep your knees bent'] * 20, 300, bucket / 'tokenizer')
  assert (bucket / 'tokenizer' / tokenizer.LAST_FILE).is_file()
  assert tokenizer.load_tokenizer('gs://bucket/run/tokenizer').get_vocab() == made.get_vocab()
  with pytest.raises(FileNotFoundError, match='gs://bucket/none: no tokenizer here'):
    tokenizer.load_tokenizer('gs://bucket/none')


def test_attributes_are_written_to_a_bucket(bucket, small_data):
  discover_dataset(small_data, bucket / 'attributes.jsonl', progress=False)
  first = read_attributes('gs://bucket/run/attributes.jsonl')
  again = discover_dataset(small_data, bucket / 'attributes.jsonl', progress=False)
  assert first
  assert again.kept == len(first)
  assert [path.name for path in bucket.iterdir()] == ['attributes.jsonl']


def test_a_dataset_is_looked_for_in_a_bucket(bucket):
  with pytest.raises(FileNotFoundError, match='gs://bucket/run: no prepared dataset here'):
    ClipSource(bucket)


def test_nobody_takes_turns_in_a_bucket(bucket):
  with take_turns(bucket / 'features', 'features'):
    pass
  assert not bucket.exists()


# --- Trying


def test_a_path_of_this_machine_is_not_tried(monkeypatch, tmp_path):
  monkeypatch.setattr(buckets.subprocess, 'run', None)
  check(tmp_path / 'absent', '--workdir', write=True)


@pytest.mark.parametrize('path', ['gs://', 'gs://bucket', 'gs://bucket/', 'gs:///folder'])
def test_half_a_path_is_an_error(path):
  with pytest.raises(BucketError, match=f'--workdir={path}: write gs://BUCKET/FOLDER'):
    check(path, '--workdir', write=True)


@contextlib.contextmanager
def _server(status):
  """A server that answers every question with a status; None: it never answers."""

  class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
      if status is None:
        time.sleep(5)
        return
      self.send_response(status)
      self.send_header('Content-Length', '0')
      self.end_headers()

    def log_message(self, *words):
      pass

  with http.server.ThreadingHTTPServer(('127.0.0.1', 0), Answer) as server:
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f'http://127.0.0.1:{server.server_port}'
    server.shutdown()


def _checked(monkeypatch, server, seconds=None):
  monkeypatch.setenv(buckets.ENDPOINT, server)
  monkeypatch.setenv('no_proxy', '*')
  with pytest.raises(BucketError) as caught:
    check('gs://bucket/run', '--data_dir', write=False, seconds=seconds)
  return str(caught.value)


def test_a_bucket_that_never_answers_is_given_up(monkeypatch):
  begin = time.monotonic()
  with _server(None) as server:
    said = _checked(monkeypatch, server, seconds=2)
  assert time.monotonic() - begin < 20
  assert f'--data_dir=gs://bucket/run: no answer within 2 s, while reaching {server}.' in said
  assert 'gcloud auth application-default login' in said


def test_a_server_that_cannot_be_reached_is_named(monkeypatch):
  with socket.socket() as free:
    free.bind(('127.0.0.1', 0))
    port = free.getsockname()[1]
  said = _checked(monkeypatch, f'http://127.0.0.1:{port}')
  assert f'http://127.0.0.1:{port} cannot be reached from here' in said


def test_a_bucket_that_is_not_there_is_named(monkeypatch):
  with _server(404) as server:
    said = _checked(monkeypatch, server)
  assert 'there is no bucket bucket. Make it: gcloud storage buckets create gs://bucket' in said
