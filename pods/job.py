"""The job on the workers of a TPU: installed, started so that it outlives this terminal, followed, ended."""

import functools
import hashlib
import os
import shlex
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from pods import checkout
from pods.gcloud import LOST, CloudError, Gcloud, shown
from pods.machine import Machine
from pods.options import Options
from pods.worker import ENDED

ROOT = Path(__file__).resolve().parent.parent
# On the workers, in the user's home.
REMOTE = 'crosstrainer_jax'
ARCHIVE = f'{REMOTE}.tar.gz'
WORKER = f'python3 {REMOTE}/pods/worker.py'
# The worker's own program comes out of the archive first, and unpacks the rest.
INSTALL = f'mkdir -p {REMOTE} && tar -xzf {ARCHIVE} -C {REMOTE} pods/worker.py && {WORKER} install {ARCHIVE}'
STATUS = f'test -f {REMOTE}/pods/worker.py || exit 0; {WORKER} status'
STOP = f'{WORKER} stop'
# How a run ends that another start goes on with (docs/checkpoints.md): it was told to end and has saved, or was told to
# before there was anything to save …
TOLD_TO_END = (75, 143)
# … or it hung, or was killed, for want of memory for example.
AGAIN = {76: 'it hung', 137: 'it was killed'}
# What the other processes of such a run end with; the cause is elsewhere.
PEERS = {77: 'it lost another process', 134: 'it heard no more of another process'}
RESTARTS = 3
# Seconds that the others get to end by themselves when one worker's job has failed.
GRACE = float(os.environ.get('POD_GRACE', '180'))
ATTEMPTS = 3


class JobError(Exception):
  """The job on the workers did not end well."""

  def __init__(self, message: str, status: int = 1):
    super().__init__(message)
    self.status = status


class Job:
  """What the options describe, on the TPU that they name.

  Args:
    logs: a folder for what the workers print: worker-3.log, install-3.log.
    say: prints a line for the user.
  """

  def __init__(self, options: Options, gcloud: Gcloud, machine: Machine, logs: Path, say: Callable[[str], None]):
    self.gcloud, self.machine, self.logs, self._say = gcloud, machine, logs, say
    self.stage = 'none'
    words = (options.config, *options.arguments)
    self.command = shlex.join(words)
    self.token = hashlib.sha256('\0'.join(words).encode()).hexdigest()[:12]
    self._failed: dict[str, int] = {}
    self._restarts = 0

  def run(self) -> bool:
    """Gets the job to run, unless it does, and follows it to its end; False where the machine was lost meanwhile.

    Raises:
      JobError: it failed.
      CloudError: the machine is there and cannot be reached.
    """
    try:
      if not self._runs_already():
        self._install()
        self._start()
      self.stage = 'running'
      while status := self._follow():
        if status == LOST or self._lost_soon(status):
          return False
        self._start_again(status)
      return True
    except CloudError:
      if self.machine.lost():
        return False
      raise

  def stop_command(self) -> str:
    """What ends the job on all workers, once it has saved."""
    command = ['compute', 'tpus', 'tpu-vm', 'ssh', self.gcloud.name, '--worker=all', f'--command={STOP}']
    return shown(self.gcloud.line(command))

  # --- Starting

  def _runs_already(self) -> bool:
    """Whether every worker runs this very job, of a launch whose terminal was closed, for example."""
    running = self._running()
    others = {token: command for token, command in running.values() if token != self.token}
    if others:
      raise CloudError(
        f'Another job runs on {self.gcloud.name}: ./launch_tpu.sh {next(iter(others.values()))}\n'
        f'To end it, once it has saved: {self.stop_command()}'
      )
    if len(running) == self.machine.workers:
      self._say(f'The job runs there already: ./launch_tpu.sh {self.command}')
      return True
    if running:
      self._say(f'The job runs on {len(running)} of {self.machine.workers} workers: ending it, to start it on all')
      self._ask(STOP)
      deadline = time.monotonic() + GRACE
      while self._running():
        if time.monotonic() > deadline:
          raise CloudError(f'The job on {self.gcloud.name} does not end: {self.stop_command()}')
        time.sleep(self.gcloud.pause / 5)
    return False

  def _running(self) -> dict[str, tuple[str, str]]:
    """Token and command of the job by worker, of those that have one running."""
    said = {worker: lines[-1].split(' ', 2) for worker, lines in self._ask(STATUS)[1].items()}
    return {worker: (words[1], words[2]) for worker, words in said.items() if words[0] == 'running'}

  def _install(self) -> None:
    self.stage = 'installing'
    with tempfile.TemporaryDirectory() as folder:
      archive = Path(folder) / ARCHIVE
      packed = checkout.pack(ROOT, archive)
      self._say(f'Copying the checkout to {self.machine.workers} workers: {packed}')
      for attempt in range(1, ATTEMPTS + 1):
        try:
          self.gcloud.copy(str(archive), ARCHIVE)
          break
        except CloudError as error:
          if attempt == ATTEMPTS or self.machine.lost():
            raise
          self._say(f'  copying failed, trying again: {str(error).splitlines()[0]}')
          time.sleep(self.gcloud.pause)
    self._say('Installing on all workers')
    status, _ = self._ask(INSTALL, keep='install')
    if status:
      raise JobError(
        f'Installing failed on a worker; what all said: {self.logs}/install-*.log\n{self._last_words("install-*")}'
      )

  def _start(self) -> None:
    self.stage = 'starting'
    status, said = self._ask(f'{WORKER} start {self.token} {self.command}')
    # A worker that started before its connection broke says that it runs already.
    if status and not all(self.token in lines[-1] or lines[-1].startswith('started') for lines in said.values()):
      raise JobError(f'The job did not start on every worker: {said}')
    self._say(f'Started on {self.machine.workers} workers; it goes on without this terminal')

  # --- Following

  def _follow(self) -> int:
    """How the job ended; `LOST` where the machine was lost."""
    self._failed = {}
    session, unreachable = f'{os.getpid()}-{time.time_ns()}', 0
    while True:
      others = threading.Timer(GRACE, self._end_the_others)
      others.daemon = True
      status = self.gcloud.on_workers(f'{WORKER} follow {session}', functools.partial(self._hear, others))
      others.cancel()
      if status == 0:
        return 0
      if self.machine.lost():
        return LOST
      if self._failed:  # the cause before those that it drew with it
        return min(self._failed.values(), key=lambda status: status in PEERS)
      if status != LOST:
        return status
      unreachable += 1
      if unreachable > ATTEMPTS:
        raise CloudError(
          f'The TPU is READY, yet a worker cannot be reached. The job may go on; the same command follows it again. '
          f'What gcloud said: {self.logs}/gcloud.log'
        )
      self._say('  a connection is lost; the job goes on. Connecting again')
      time.sleep(self.gcloud.pause)

  def _hear(self, others: threading.Timer, line: str) -> None:
    worker, text = split(line)
    if text.startswith(ENDED):
      status = int(text[len(ENDED) :].split(',')[0])
      if status:
        self._say(f'  worker {worker}: {text}')
        if not self._failed:
          others.start()
        self._failed[worker] = status
      return
    self._keep('worker', worker, text)
    if worker == '0':
      self._say(text)

  def _end_the_others(self) -> None:
    self._say(f'  {GRACE:.0f} s after one worker failed others still run: ending them')
    try:
      self.gcloud.on_workers(STOP)
    except CloudError as error:  # who follows the job will hear of it too
      self._say(f'  {error}')

  def _lost_soon(self, status: int) -> bool:
    """Whether the machine is being lost, which a run that is told to end, or is killed, learns before we do."""
    if status not in (*TOLD_TO_END, *AGAIN, *PEERS):
      return False
    self._say(f'The job ended with status {status}; looking whether the TPU is being taken away')
    for _ in range(ATTEMPTS):
      time.sleep(self.gcloud.pause)
      if self.machine.lost():
        return True
    return False

  def _start_again(self, status: int) -> None:
    """Starts the job again on the same machine.

    Raises:
      JobError: another start would end the same way, or this was the last one.
    """
    if status in TOLD_TO_END:
      raise JobError('The TPU is still there, so somebody ended the job. The same command goes on.', status)
    why = {**AGAIN, **PEERS}.get(status)
    if why is None or self._restarts == RESTARTS:
      worker = next((worker for worker, ended in self._failed.items() if ended == status), '0')
      raise JobError(
        f'The job failed with status {status}, first on worker {worker}; what all said: {self.logs}\n'
        f'{self._last_words(f"worker-{worker}")}',
        status,
      )
    self._restarts += 1
    self._say(f'The TPU is there, so the job is started again ({why}): {self._restarts} of {RESTARTS}')
    self._start()

  # --- What workers say

  def _ask(self, command: str, keep: str = '') -> tuple[int, dict[str, list[str]]]:
    """Runs `command` on all, again where one cannot be reached; its status, and the lines of each worker.

    Args:
      keep: the kind of log to keep the lines in, of which worker 0's are shown.

    Raises:
      CloudError: a worker cannot be reached.
    """
    for attempt in range(1, ATTEMPTS + 1):
      said: dict[str, list[str]] = {}

      def hear(line: str, said: dict[str, list[str]] = said) -> None:
        worker, text = split(line)
        said.setdefault(worker, []).append(text)
        if keep:
          self._keep(keep, worker, text)
          if worker == '0':
            self._say(f'  {text}')

      status = self.gcloud.on_workers(command, hear)
      if status != LOST:
        return status, said
      if attempt == ATTEMPTS or self.machine.lost():
        break
      self._say('  a worker cannot be reached, trying again')
      time.sleep(self.gcloud.pause)
    raise CloudError(f'A worker of {self.gcloud.name} cannot be reached; what gcloud said: {self.logs}/gcloud.log')

  def _keep(self, kind: str, worker: str, text: str) -> None:
    with (self.logs / f'{kind}-{worker}.log').open('a', encoding='utf-8') as file:
      file.write(text + '\n')

  def _last_words(self, pattern: str, most: int = 4) -> str:
    words = []
    for file in sorted(self.logs.glob(f'{pattern}.log'))[:most]:
      words += [f'--- {file}', *file.read_text(encoding='utf-8', errors='replace').splitlines()[-15:]]
    return '\n'.join(words)


def split(line: str) -> tuple[str, str]:
  """'3' and 'text' of '[3] text'; what has no number counts as worker 0's."""
  begin, bracket, text = line.partition('] ')
  if bracket and begin.startswith('[') and begin[1:].isdigit():
    return begin[1:], text
  return '0', line
