"""The program on a worker: what it tells, in which pieces, and how it knows its job again."""

import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from pods import worker


@pytest.fixture
def home(tmp_path, monkeypatch):
  """A worker of its own, whose number is 3."""
  root = tmp_path / 'crosstrainer_jax'
  root.mkdir()
  monkeypatch.setattr(worker, 'ROOT', root)
  monkeypatch.setattr(worker, 'JOB', tmp_path / 'job')
  monkeypatch.setattr(worker, 'CARRIED', root / '.carried')
  monkeypatch.setattr(worker, 'WORKER', '3')
  monkeypatch.setenv('POD_TICK', '0.01')
  return tmp_path


@pytest.fixture
def told(monkeypatch):
  """The pieces that were written."""
  pieces = []
  monkeypatch.setattr(worker, '_write', pieces.append)
  return pieces


def _ended(home, log, status='0'):
  worker.JOB.mkdir(exist_ok=True)
  (worker.JOB / 'log').write_bytes(log)
  (worker.JOB / 'status').write_text(status)


def test_every_line_has_the_number(home, told):
  worker.tell('one\ntwo')
  assert told == [b'[3] one\n[3] two\n']


def test_pieces_are_whole_lines_that_a_pipe_takes_at_once(home, told):
  lines = [f'{n} ' + 'x' * (97 * n % 4000) for n in range(60)]
  worker.tell('\n'.join(lines))
  assert max(map(len, told)) <= 4096
  assert all(piece.endswith(b'\n') for piece in told)
  rows = b''.join(told).decode().splitlines()
  assert all(row.startswith('[3] ') for row in rows)
  assert ''.join(row[4:] for row in rows) == ''.join(lines)


def test_following_ends_as_the_job_did(home, told):
  _ended(home, b'one\ntwo\nno newline', '7')
  assert worker.follow('a') == 7
  assert b''.join(told) == b'[3] one\n[3] two\n[3] no newline\n[3] the job ended with status 7\n'


def test_a_new_connection_goes_on_where_the_last_one_was(home, told):
  _ended(home, b'one\ntwo\n')
  worker.follow('a')
  del told[:]
  worker.follow('a')
  assert b''.join(told) == b'[3] the job ended with status 0\n'
  worker.follow('another')
  assert b'one' in b''.join(told)


def test_a_job_that_vanished_is_told_apart(home, told):
  _ended(home, b'one\n')
  (worker.JOB / 'status').unlink()
  (worker.JOB / 'pid').write_text(str(os.getpid()))  # another program by now
  assert worker.follow('a') == 137
  assert b'was the machine restarted?' in told[-1]


def test_files_that_are_no_more_are_removed(home, told):
  def install(*names):
    folder = home / 'packed'
    for name in ('pods/install.sh', *names):
      (folder / name).parent.mkdir(parents=True, exist_ok=True)
      (folder / name).write_text('echo installed\n')
    subprocess.run(['tar', '-czf', home / 'a.tar.gz', '-C', folder, 'pods/install.sh', *names], check=True)
    return worker.install(str(home / 'a.tar.gz'))

  assert install('old.py', 'kept.py') == 0
  assert told == [b'[3] installed\n']
  (worker.ROOT / 'runs').mkdir()
  assert install('kept.py') == 0
  assert sorted(path.name for path in worker.ROOT.iterdir()) == ['.carried', 'kept.py', 'pods', 'runs']


def _until(condition):
  for _ in range(500):
    if condition():
      return
    time.sleep(0.02)
  raise AssertionError('it did not come to that')


def test_a_job_runs_apart_saves_when_told_to_and_is_not_started_twice(tmp_path, request):
  """With the real program, in a home of its own."""
  root = tmp_path / 'crosstrainer_jax'
  (root / 'pods').mkdir(parents=True)
  (root / 'pods' / 'worker.py').write_text(pathlib.Path(worker.__file__).read_text())
  (root / 'launch_tpu.sh').write_text(
    'trap "echo saving; exit 75" TERM\necho begun "$@"\nwhile :; do sleep 0.05; done\n'
  )
  environment = {**os.environ, 'TPU_WORKER_ID': '1', 'POD_TICK': '0.02'}

  def ask(*words):
    command = [sys.executable, 'crosstrainer_jax/pods/worker.py', *words]
    return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=30)

  request.addfinalizer(lambda: ask('stop'))  # where it fails half-way, its job must not go on
  assert ask('status').stdout == '[1] none\n'
  assert ask('start', 'token', 'a b', '--c').stdout == '[1] started: ./launch_tpu.sh a b --c\n'
  again = ask('start', 'token', 'x')
  assert (again.returncode, again.stdout) == (3, '[1] a job runs here already: running token a b --c\n')
  _until(lambda: 'begun' in (tmp_path / 'crosstrainer_jax-job' / 'log').read_text())
  assert ask('stop').stdout == '[1] told the job to save and end\n'
  followed = ask('follow', 'here')
  assert followed.returncode == 75
  lines = followed.stdout.splitlines()
  assert lines[0] == '[1] begun a b --c'
  assert lines[-2:] == ['[1] saving', '[1] the job ended with status 75']
  assert ask('status').stdout == '[1] ended 75 token a b --c\n'
  assert ask('stop').stdout == '[1] no job runs here\n'
  # killed from outside, as for want of memory
  assert ask('start', 'token', 'x').returncode == 0
  _until(lambda: 'begun' in (tmp_path / 'crosstrainer_jax-job' / 'log').read_text())
  pid = int((tmp_path / 'crosstrainer_jax-job' / 'pid').read_text())
  children = pathlib.Path(f'/proc/{pid}/task/{pid}/children').read_text().split()
  for child in children:
    os.kill(int(child), signal.SIGKILL)
  assert ask('follow', 'again').returncode == 137
