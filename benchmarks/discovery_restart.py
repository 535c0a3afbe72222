"""How many calls of a language model a kill costs.

    python benchmarks/discovery_restart.py --comments 1000

Serves OpenAI's chat completions on this machine, starts `python -m crosstrainer_jax.discover --backend openai` on a
dataset of so many different comments, kills it (SIGKILL) after a share of the calls, starts the same command again, and
counts what the server was asked for: the calls before the kill, after it, and those of questions that had been asked
before. Only what was under way at the kill can be asked twice, at most `--concurrency` questions.
"""

import argparse
import collections
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds

from crosstrainer_jax.discovery.dataset import read_attributes
from crosstrainer_jax.input.record import Clip, features_dict

PARTS = ('balance', 'timing', 'follow-through', 'knee bend', 'head position')


class Comments(tfds.core.GeneratorBasedBuilder, skip_registration=True):
  """Clips without frames, each with a comment of its own."""

  VERSION = tfds.core.Version('1.0.0')
  name, count = 'comments', 0

  def _info(self) -> tfds.core.DatasetInfo:
    return tfds.core.DatasetInfo(builder=self, features=features_dict(), disable_shuffling=True)

  def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
    return {'train': self._generate_examples()}

  def _generate_examples(self) -> Iterator[tuple[int, dict[str, Any]]]:
    for number in range(self.count):
      comment = f'Attempt {number}: look after your {PARTS[number % len(PARTS)]}.'
      yield (
        number,
        Clip(f'c{number}', 'comments', 'soccer', 'pass', 'p', f't{number // 10}', commentary=comment).to_example(),
      )


class Server(ThreadingHTTPServer):
  """Answers after `seconds`, and counts how often each comment was asked about."""

  daemon_threads = True

  def __init__(self, seconds: float):
    self.seconds, self.lock = seconds, threading.Lock()
    self.asked: collections.Counter[str] = collections.Counter()
    super().__init__(('127.0.0.1', 0), Handler)

  def handle_error(self, *_: object) -> None:
    if not isinstance(sys.exc_info()[1], ConnectionError):  # the client was killed
      raise


class Handler(BaseHTTPRequestHandler):
  protocol_version = 'HTTP/1.1'
  server: Server

  def log_message(self, *_: object) -> None:
    pass

  def do_POST(self) -> None:
    request = json.loads(self.rfile.read(int(self.headers['Content-Length'])))
    comment = re.search(r'Attempt \d+: look after your (.*)\.', request['messages'][1]['content'])
    assert comment is not None
    with self.server.lock:
      self.server.asked[comment[0]] += 1
    time.sleep(self.server.seconds)
    message = {'role': 'assistant', 'content': f'Correct - none\nIncorrect - {comment[1]}'}
    usage = {'prompt_tokens': 200, 'completion_tokens': 12, 'total_tokens': 212}
    body = json.dumps({'choices': [{'index': 0, 'message': message, 'finish_reason': 'stop'}], 'usage': usage}).encode()
    self.send_response(200)
    self.send_header('Content-Type', 'application/json')
    self.send_header('Content-Length', str(len(body)))
    self.end_headers()
    self.wfile.write(body)


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--comments', type=int, default=1000, help='different ones (default: %(default)s)')
  parser.add_argument('--share', type=float, default=0.5, help='of the calls before the kill (default: %(default)s)')
  parser.add_argument('--concurrency', type=int, default=8, help='calls at the same time (default: %(default)s)')
  parser.add_argument('--seconds', type=float, default=0.05, help='until an answer (default: %(default)s)')
  options = parser.parse_args()
  server = Server(options.seconds)
  threading.Thread(target=server.serve_forever, daemon=True).start()
  with tempfile.TemporaryDirectory() as folder:
    tfds.disable_progress_bar()
    builder = Comments(data_dir=folder, file_format='array_record')
    builder.count = options.comments
    builder.download_and_prepare()
    output = Path(folder) / 'attributes.jsonl'
    command = [
      sys.executable, '-m', 'crosstrainer_jax.discover', '--dataset', str(builder.data_dir), '--output', str(output),
      '--backend', 'openai', '--base_url', f'http://127.0.0.1:{server.server_address[1]}/v1', '--model', 'fake',
      '--answers', f'{folder}/answers.sqlite', '--concurrency', str(options.concurrency),
    ]  # fmt: skip
    quiet = {'stdout': subprocess.DEVNULL, 'stderr': subprocess.DEVNULL}
    first = subprocess.Popen(command, start_new_session=True, **quiet)
    try:
      while server.asked.total() < options.share * options.comments and first.poll() is None:
        time.sleep(0.01)
    finally:
      if first.poll() is None:
        os.killpg(first.pid, signal.SIGKILL)
      first.wait()
    before = server.asked.total()
    if output.exists():
      sys.exit('it had ended before it was killed: more --comments, or a smaller --share')
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    after, lines = server.asked.total() - before, len(read_attributes(output))
    subprocess.run(command, check=True, **quiet)
  repeated = server.asked.total() - len(server.asked)
  print(f'{options.comments} comments, {options.concurrency} calls at the same time, killed by SIGKILL')
  print(f'calls before the kill     {before:6d}')
  print(f'calls after the restart   {after:6d}  (without kept answers {options.comments})')
  print(f'saved by kept answers     {options.comments - after:6d}')
  print(f'asked twice               {repeated:6d}  (under way at the kill)')
  print(f'a third start             {server.asked.total() - before - after:6d}  calls')
  print(f'clips with attributes     {lines:6d}')


if __name__ == '__main__':
  main()
