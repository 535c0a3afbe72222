"""How many calls of language models a kill costs a curation.

    python benchmarks/curation_restart.py --videos 40

Serves OpenAI's chat completions on this machine, starts `python -m crosstrainer_jax.curate run` on a how-to world with
both gates behind that server, kills it (SIGKILL) after a share of the calls, starts the same command again, and counts
what the server was asked: before the kill, after it, and twice. Only what was under way at the kill can be asked twice.
"""

import argparse
import collections
import hashlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from crosstrainer_jax.curation import manifest
from crosstrainer_jax.datasets.howto import folder


class Server(ThreadingHTTPServer):
  """Says yes to everything after `seconds`, and counts how often each question was asked."""

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
    body = self.rfile.read(int(self.headers['Content-Length']))
    with self.server.lock:
      self.server.asked[hashlib.sha256(body).hexdigest()] += 1
    time.sleep(self.server.seconds)
    said = 'Actionable: yes\nReason: so it is'
    if b'image_url' in body:
      said = 'Demonstrated: yes\nExecution: correct\nReason: so it is'
    message = {'role': 'assistant', 'content': said}
    usage = {'prompt_tokens': 200, 'completion_tokens': 12, 'total_tokens': 212}
    reply = json.dumps(
      {'choices': [{'index': 0, 'message': message, 'finish_reason': 'stop'}], 'usage': usage}
    ).encode()
    self.send_response(200)
    self.send_header('Content-Type', 'application/json')
    self.send_header('Content-Length', str(len(reply)))
    self.end_headers()
    self.wfile.write(reply)


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--videos', type=int, default=40, help='(default: %(default)s)')
  parser.add_argument('--calls', type=int, default=300, help='before the kill (default: %(default)s)')
  parser.add_argument('--concurrency', type=int, default=8, help='calls at the same time (default: %(default)s)')
  parser.add_argument('--seconds', type=float, default=0.02, help='until an answer (default: %(default)s)')
  options = parser.parse_args()
  server = Server(options.seconds)
  threading.Thread(target=server.serve_forever, daemon=True).start()
  with tempfile.TemporaryDirectory() as scratch:
    root, output = pathlib.Path(scratch) / 'videos', pathlib.Path(scratch) / 'library'
    folder.write(root, 0, options.videos)
    command = [
      sys.executable, '-m', 'crosstrainer_jax.curate', 'run', str(root), '--table', str(root / folder.TABLE_FILE),
      '--output', str(output), '--longest', '4', '--without_records',
      '--actionable', 'openai', '--demonstrated', 'openai',
      '--base_url', f'http://127.0.0.1:{server.server_address[1]}/v1', '--model', 'fake', '--pixels', '64',
      '--answers', f'{scratch}/answers.sqlite', '--concurrency', str(options.concurrency),
    ]  # fmt: skip
    quiet = {'stdout': subprocess.DEVNULL, 'stderr': subprocess.DEVNULL}
    first = subprocess.Popen(command, start_new_session=True, **quiet)
    try:
      while server.asked.total() < options.calls and first.poll() is None:
        time.sleep(0.005)
    finally:
      if first.poll() is None:
        os.killpg(first.pid, signal.SIGKILL)
      first.wait()
    before = server.asked.total()
    if (output / manifest.FILE).exists():
      sys.exit('it had ended before it was killed: more --videos, or fewer --calls')
    subprocess.run(command, check=True, **quiet)
    after = server.asked.total() - before
    subprocess.run(command, check=True, **quiet)
    clips = sum(row['kept'] for row in manifest.read(output))
  print(f'{options.videos} videos, {options.concurrency} calls at the same time, killed by SIGKILL')
  print(f'calls before the kill     {before:6d}')
  print(f'calls after the restart   {after:6d}')
  print(f'different questions       {len(server.asked):6d}')
  print(f'saved by kept answers     {len(server.asked) - after:6d}')
  print(f'asked twice               {server.asked.total() - len(server.asked):6d}  (under way at the kill)')
  print(f'a third start             {server.asked.total() - before - after:6d}  calls')
  print(f'clips in the library      {clips:6d}')


if __name__ == '__main__':
  main()
