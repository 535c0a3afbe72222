"""Runs on every worker of a pod: installs, starts the job so that it outlives the connection, tells what it prints.

    python3 worker.py install ARCHIVE | start TOKEN ARGUMENT… | status | follow SESSION | stop

Every line that is printed begins with the worker's number, [3] for example, since all workers speak through one
connection. Nothing but the standard library, and no more than Python 3.8, which is what a TPU image brings.
"""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import tarfile
import time
import urllib.request
from pathlib import Path

# The checkout on the worker; the job runs in it.
HERE = Path(__file__).resolve()
ROOT = HERE.parent.parent
JOB = ROOT.with_name(ROOT.name + '-job')
CARRIED = ROOT / '.carried'
# What a worker says when its job has ended; pods/launch.py waits for it.
ENDED = 'the job ended with status'
# A write of at most so many bytes stays in one piece on a pipe that several workers write to.
PIECE = 3500
METADATA = 'http://metadata.google.internal/computeMetadata/v1/instance/attributes/agent-worker-number'


def number():
  """This worker's number in its pod."""
  known = os.environ.get('TPU_WORKER_ID') or ''.join(re.findall(r'-w-(\d+)$', socket.gethostname().split('.')[0]))
  if known:
    return known
  try:
    request = urllib.request.Request(METADATA, headers={'Metadata-Flavor': 'Google'})
    with urllib.request.urlopen(request, timeout=5) as answer:
      return answer.read().decode().strip()
  except OSError:
    return '0'


def tell(text):
  """Prints lines with the worker's number, in pieces that others do not tear apart."""
  piece = b''
  for line in text.splitlines():
    rest = line.encode()
    while True:
      part = b'[' + WORKER.encode() + b'] ' + rest[:PIECE] + b'\n'
      if len(piece) + len(part) > PIECE + 50:
        _write(piece)
        piece = b''
      piece += part
      rest = rest[PIECE:]
      if not rest:
        break
  _write(piece)


def _write(piece):
  while piece:
    piece = piece[os.write(1, piece) :]


# --- What can be asked for


def install(archive):
  """Unpacks the checkout over the last one, whose files that are no more are removed, and makes its environment."""
  with tarfile.open(archive) as tar:
    names = [member.name for member in tar.getmembers()]
    for old in set(CARRIED.read_text().splitlines() if CARRIED.exists() else []) - set(names):
      (ROOT / old).unlink() if (ROOT / old).is_file() else None
    tar.extractall(str(ROOT))
  CARRIED.write_text('\n'.join(names))
  command = ['bash', str(ROOT / 'pods' / 'install.sh')]
  with subprocess.Popen(
    command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=str(ROOT)
  ) as script:
    for line in script.stdout or ():
      tell(line.decode(errors='replace').rstrip('\n'))
  return script.returncode


def start(token, *arguments):
  """Starts the job in a session of its own, unless it runs."""
  if running() is not None:
    tell(f'a job runs here already: {describe()}')
    return 3
  JOB.mkdir(exist_ok=True)
  for old in JOB.glob('shown-*'):
    old.unlink()
  for name in ('status', 'pid'):
    if (JOB / name).exists():
      (JOB / name).unlink()
  if (JOB / 'log').exists():
    os.replace(str(JOB / 'log'), str(JOB / 'log.before'))
  (JOB / 'log').touch()
  (JOB / 'job.json').write_text(json.dumps({'token': token, 'arguments': arguments}))
  command = [sys.executable, str(HERE), 'run', *arguments]
  process = subprocess.Popen(
    command, start_new_session=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
  )
  (JOB / 'pid').write_text(str(process.pid))
  # On a busy machine it has no command line yet, by which others know it.
  while running() is None and process.poll() is None:
    time.sleep(0.01)
  tell('started: ./launch_tpu.sh ' + ' '.join(arguments))
  return 0


def run(*arguments):
  """Runs the job to its end and writes how it ended; hands on SIGTERM, at which the job saves."""
  told, children = [], []  # type: list[bool], list[subprocess.Popen]

  def end(*_):
    told.append(True)
    for child in children:
      os.killpg(child.pid, signal.SIGTERM)

  signal.signal(signal.SIGTERM, end)
  with (JOB / 'log').open('ab') as log:
    child = subprocess.Popen(
      ['bash', str(ROOT / 'launch_tpu.sh'), *arguments], cwd=str(ROOT), stdin=subprocess.DEVNULL, stdout=log,
      stderr=subprocess.STDOUT, start_new_session=True,
    )  # fmt: skip
    children.append(child)
    if told:  # before there was anybody to tell
      end()
    status = child.wait()
  # 128 + n is how a shell tells of signal n; 255 would look like a connection that failed.
  status = 128 - status if status < 0 else status
  (JOB / 'status.new').write_text(str(1 if status == 255 else status))
  os.replace(str(JOB / 'status.new'), str(JOB / 'status'))
  return status


def running():
  """The process of the job; None where none runs."""
  if (JOB / 'status').exists() or not (JOB / 'pid').exists():
    return None
  pid = int((JOB / 'pid').read_text())
  # another program may have got its number since, after a restart of the machine for example
  try:
    words = Path(f'/proc/{pid}/cmdline').read_bytes().split(b'\0')
  except OSError:
    return None
  return pid if str(HERE).encode() in words and b'run' in words else None


def describe():
  """`running TOKEN`, `ended STATUS TOKEN` or `none`, with the arguments."""
  if not (JOB / 'job.json').exists():
    return 'none'
  job = json.loads((JOB / 'job.json').read_text())
  if running() is not None:
    state = 'running'
  else:
    ended = JOB / 'status'
    state = 'ended ' + (ended.read_text() if ended.exists() else 'unknown')
  return ' '.join([state, job['token'], *job['arguments']])


def status():
  tell(describe())
  return 0


def follow(session):
  """Prints the log, what of it `session` has not seen, until the job has ended; returns how it ended.

  A connection that breaks is made again with the same session.
  """
  mark = JOB / f'shown-{session}'
  place = int(mark.read_text()) if mark.exists() else 0
  while True:
    over = running() is None
    with (JOB / 'log').open('rb') as log:
      log.seek(place)
      fresh = log.read(65536)
    if not over or len(fresh) == 65536:  # a line that is still being written waits
      fresh = fresh[: fresh.rfind(b'\n') + 1] or (fresh if len(fresh) == 65536 else b'')
    if fresh:
      tell(fresh.decode(errors='replace'))
      place += len(fresh)
      mark.write_text(str(place))
      continue
    if over:
      known = (JOB / 'status').exists()
      ended = int((JOB / 'status').read_text()) if known else 137
      tell(f'{ENDED} {ended}' + ('' if known else ', of which nothing is known: was the machine restarted?'))
      return ended
    time.sleep(float(os.environ.get('POD_TICK', '1')))


def stop():
  """SIGTERM to the job, which then saves and ends."""
  pid = running()
  if pid is None:
    tell('no job runs here')
  else:
    os.kill(pid, signal.SIGTERM)
    tell('told the job to save and end')
  return 0


WORKER = number()
VERBS = {verb.__name__: verb for verb in (install, start, run, status, follow, stop)}

if __name__ == '__main__':
  if len(sys.argv) < 2 or sys.argv[1] not in VERBS:
    sys.exit(__doc__)
  try:
    sys.exit(VERBS[sys.argv[1]](*sys.argv[2:]))
  except BrokenPipeError:  # nobody listens any more
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    sys.exit(141)
