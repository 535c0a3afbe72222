"""The commands of gcloud that a pod needs, each in one place, and what their errors mean.

Nothing but the standard library: this runs before anything is installed.
"""

import json
import re
import shlex
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

# What we ask for carries this label; only what carries it is ever deleted.
LABEL = 'launcher', 'crosstrainer_jax'
# A dead connection is noticed after two minutes, and not only when TCP gives up.
KEEP_ALIVE = '-o ServerAliveInterval=30 -o ServerAliveCountMax=4 -o ConnectTimeout=30'
# ssh ends with this when it is ssh that failed, and not the command on the worker.
LOST = 255

# What gcloud or the TPU API says -> what to do about it; the first that is found counts.
FIXES = (
  (
    r'active account|gcloud auth login|[Rr]eauthentication|invalid_grant|refreshing your current auth',
    'Nobody is logged in here: gcloud auth login',
  ),
  (
    r'SERVICE_DISABLED|has not been used in project|API \[?tpu.* not enabled',
    'The TPU API is off in this project: gcloud services enable tpu.googleapis.com --project={project}',
  ),
  (
    r'not present in the SSH agent',
    'Several workers at once need the key in an agent: eval "$(ssh-agent)"; ssh-add ~/.ssh/google_compute_engine',
  ),
  (
    r'PERMISSION_DENIED|does not have permission|Location \S+ is not found|Project \S+ not found',
    'Is the project {project} the right one, and {zone} a zone with TPUs (gcloud compute tpus locations list '
    '--project={project})? The account (gcloud auth list) needs the role roles/tpu.admin there.',
  ),
  (
    r'[Qq]uota',
    'The quota of this project does not allow it. Ask for more at https://console.cloud.google.com/iam-admin/quotas, '
    'take another zone, or delete old requests, which count as well: '
    'gcloud compute tpus queued-resources list --zone={zone} --project={project}',
  ),
  (
    r'INVALID_ARGUMENT|[Aa]ccelerator type|[Rr]untime version',
    'What this zone has: gcloud compute tpus accelerator-types list --zone={zone} --project={project} '
    '(and: tpus tpu-vm versions list)',
  ),
)  # fmt: skip
# Passes by itself.
PASSING = re.compile(
  r'UNAVAILABLE|DEADLINE_EXCEEDED|INTERNAL|ABORTED|HTTPError 5\d\d|\[50[234]\]|[Cc]onnection (reset|aborted|refused)|'
  r'timed out|Max retries exceeded|unable to find the server|Temporary failure in name resolution'
)
NOT_FOUND = re.compile(r'NOT_FOUND(?!: Location)|was not found')
# Nobody is to blame, and the next hour may be another: the request is made again.
NO_CAPACITY = re.compile(r'no more capacity|[Ii]nsufficient .*capacity|[Ss]tockout|valid.?until', re.IGNORECASE)


class CloudError(Exception):
  """What gcloud refused, and what to do about it."""


class Gcloud:
  """gcloud for one TPU by its name, which is the name of its queued resource as well.

  Args:
    dry_run: commands are printed and none is run; each then answers as if nothing were there.
    pause: seconds between attempts at what may pass by itself.
    log: a file for gcloud's own messages while workers are spoken to.
  """

  def __init__(
    self, name: str, zone: str, project: str, dry_run: bool = False, pause: float = 30.0, log: Path | None = None
  ):
    self.name, self.zone, self.project, self.dry_run, self.pause, self.log = name, zone, project, dry_run, pause, log

  # --- The machine

  def node(self) -> dict[str, Any] | None:
    """The TPU VM: state, health, networkEndpoints (one a worker); None where there is none."""
    return self._describe(['compute', 'tpus', 'tpu-vm', 'describe', self.name])

  def request(self) -> dict[str, Any] | None:
    """The queued resource: state.state and more; None where there is none."""
    return self._describe(['compute', 'tpus', 'queued-resources', 'describe', self.name])

  def create(self, accelerator: str, runtime: str, spot: bool, more: Sequence[str] = ()) -> None:
    """Asks for the TPU; returns when the request is in the queue."""
    command = ['compute', 'tpus', 'queued-resources', 'create', self.name, f'--node-id={self.name}']
    command += [f'--accelerator-type={accelerator}', f'--runtime-version={runtime}', f'--labels={"=".join(LABEL)}']
    command += ['--spot'] * spot
    done = self._run([*command, '--async', *more])
    # The answer to an earlier attempt may have been lost on its way.
    if done.returncode and 'ALREADY_EXISTS' not in done.stderr:
      raise self.error(done.stderr)

  def delete(self) -> None:
    """Deletes the request and its nodes; returns when they are gone."""
    done = self._run(['compute', 'tpus', 'queued-resources', 'delete', self.name, '--force'])
    if done.returncode and not NOT_FOUND.search(done.stderr):
      raise self.error(done.stderr)

  # --- Its workers

  def copy(self, source: str, target: str) -> None:
    """Copies a file to every worker at once."""
    done = self._run(['compute', 'tpus', 'tpu-vm', 'scp', source, f'{self.name}:{target}', '--worker=all'])
    if done.returncode:
      raise self.error(done.stderr)

  def fetch(self, source: str, target: str) -> None:
    """Copies a folder of worker 0 here."""
    done = self._run(['compute', 'tpus', 'tpu-vm', 'scp', f'{self.name}:{source}', target, '--recurse', '--worker=0'])
    if done.returncode:
      raise self.error(done.stderr)

  def on_workers(self, command: str, hear: Callable[[str], None] = lambda line: None, worker: str = 'all') -> int:
    """Runs a line of shell on the workers; `hear` gets what they print, line by line.

    Returns:
      The exit status: that of the first worker that failed, `LOST` where one could not be reached.

    Raises:
      CloudError: gcloud would not even try.
    """
    full = self.line(['compute', 'tpus', 'tpu-vm', 'ssh', self.name, f'--worker={worker}', f'--command={command}'])
    full.insert(-1, f'--ssh-flag={KEEP_ALIVE}')
    if self.dry_run:
      print(shown(full))
      return 0
    with _started(full) as process:
      said: list[str] = []
      errors = threading.Thread(target=self._listen, args=(process.stderr, said), daemon=True)
      errors.start()
      try:
        for line in process.stdout or ():
          hear(line.rstrip('\n'))
      except KeyboardInterrupt:
        process.terminate()
        raise
      errors.join()
    refused = [line for line in said if line.startswith('ERROR: (gcloud.') and 'return code [255]' not in line]
    if process.returncode not in (0, LOST) and refused:
      raise self.error('\n'.join(refused))
    return process.returncode

  def _listen(self, stream: IO[str], said: list[str]) -> None:
    for line in stream:
      said.append(line)
      if self.log is not None:
        with self.log.open('a', encoding='utf-8') as file:
          file.write(line)

  # --- Running

  def line(self, command: Sequence[str]) -> list[str]:
    """The whole command for this zone and project."""
    return ['gcloud', *command, f'--zone={self.zone}', f'--project={self.project}', '--quiet']

  def error(self, said: str) -> CloudError:
    """What gcloud said, shortened, with its remedy."""
    lines = [line for line in said.strip().splitlines() if line.strip()]
    first = next((i for i, line in enumerate(lines) if line.startswith('ERROR')), 0)
    text = '\n'.join(lines[first : first + 6]) or 'gcloud failed and said nothing'
    fix = next((fix for pattern, fix in FIXES if re.search(pattern, said)), '')
    return CloudError('\n'.join(filter(None, [text, fix.format(zone=self.zone, project=self.project)])))

  def _describe(self, command: Sequence[str]) -> dict[str, Any] | None:
    done = self._run([*command, '--format=json'])
    if done.returncode:
      if NOT_FOUND.search(done.stderr):
        return None
      raise self.error(done.stderr)
    found: dict[str, Any] | None = json.loads(done.stdout or 'null')
    return found

  def _run(self, command: Sequence[str], attempts: int = 5) -> subprocess.CompletedProcess[str]:
    """Runs to the end; what may pass by itself is tried again."""
    full = self.line(command)
    if self.dry_run:
      print(shown(full))
      return subprocess.CompletedProcess(full, 0, 'null', '')
    for attempt in range(attempts):
      with _started(full) as process:
        output, errors = process.communicate()
      if not process.returncode or not PASSING.search(errors) or attempt == attempts - 1:
        break
      time.sleep(self.pause)
    return subprocess.CompletedProcess(full, process.returncode, output, errors)


def _started(command: Sequence[str]) -> subprocess.Popen[str]:
  try:
    return subprocess.Popen(
      command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors='replace'
    )
  except FileNotFoundError:
    raise CloudError(
      'There is no gcloud on this machine: https://cloud.google.com/sdk/docs/install, then: gcloud auth login'
    ) from None


def shown(command: Sequence[str]) -> str:
  """A command as one would type it."""
  return shlex.join(command)
