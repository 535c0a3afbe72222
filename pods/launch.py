"""./launch_tpu.sh CONFIG --tpu NAME …: a run on a TPU pod, from asking for the machine to deleting it.

the machine → the checkout on every worker → its environment → the job, detached → its logs → the machine is deleted
     ↑                                                                 │
     └───────────────── lost: asked for again, and the run resumes ────┘
"""

import os
import shlex
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from pods.gcloud import CloudError, Gcloud
from pods.job import ARCHIVE, INSTALL, REMOTE, ROOT, STATUS, WORKER, Job, JobError
from pods.machine import Machine
from pods.options import Options, OptionsError, parse

# Seconds between looks at the machine; attempts at what may pass by itself are as far apart.
PAUSE = float(os.environ.get('POD_POLL', '30'))


def main(words: Sequence[str]) -> int:
  try:
    options = parse(words, ROOT)
    if options.dry_run:
      plan(options)
      return 0
    return Launch(options).run()
  except OptionsError as error:
    print(f'Error: {error}', file=sys.stderr)
    return 2


def say(text: str) -> None:
  print(text, flush=True)


def create_flags() -> tuple[str, ...]:
  """Flags of one's own for `queued-resources create`: a network, a service account, a reservation."""
  return tuple(shlex.split(os.environ.get('POD_CREATE_FLAGS', '')))


class Launch:
  """One launch: the machine, the job on it, and what becomes of both in the end."""

  def __init__(self, options: Options):
    self.options = options
    self.logs = Path('runs') / 'pods' / options.tpu / time.strftime('%Y-%m-%d_%H-%M-%S')
    self.logs.mkdir(parents=True, exist_ok=True)
    self.gcloud = Gcloud(options.tpu, options.zone, options.project, pause=PAUSE, log=self.logs / 'gcloud.log')
    self.machine = Machine(options, self.gcloud, say, create_flags())
    self.job = Job(options, self.gcloud, self.machine, self.logs, say)

  def run(self) -> int:
    """All of it; returns the exit status."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    say(f'What all workers print is kept in {self.logs}')
    if not self.options.resumable:
      say(not_resumable(self.options))
    try:
      self.machine.ready()
      while not self.job.run():
        if not self.options.resumable:
          say(f'\nThe TPU is lost, and the run with it. {not_resumable(self.options)}')
          return 1
        say('\nThe TPU is lost; on the next one the run goes on from its last checkpoint.')
        self.job.stage = 'none'
        self.machine.ready()
    except JobError as error:
      say(f'\n{error}')
      self._clean_up(well=False)
      return error.status
    except CloudError as error:
      say(f'\nError: {error}')
      return 1
    except KeyboardInterrupt:
      say(self._what_stays())
      return 130
    say('\nThe job is done.')
    self._clean_up(well=True)
    return 0

  def _clean_up(self, well: bool) -> None:
    """Deletes what was asked for here, unless that would take the only copy of what was trained."""
    name, delete = self.options.tpu, self.machine.delete_command()
    try:
      if not self.options.resumable:
        if not well:
          say(f'{name} stays, since what was trained so far lies there alone. To delete it: {delete}')
          return
        Path(self.options.workdir).parent.mkdir(parents=True, exist_ok=True)
        self.gcloud.fetch(f'{REMOTE}/{self.options.workdir}', str(Path(self.options.workdir).parent))
        say(f'The run was brought here: {self.options.workdir}')
      if self.options.keep:
        say(f'{name} stays, as you asked (--keep), and costs. To delete it: {delete}')
      elif self.machine.release():
        say(f'{name} is deleted.')
      else:
        say(f'{name} was not asked for here, so it stays.')
    except (CloudError, KeyboardInterrupt) as error:
      say(f'{error}\n{name} may still be there, and cost. To delete it: {delete}')

  def _what_stays(self) -> str:
    name = self.options.tpu
    lines = ['', 'Interrupted. What stays:']
    if self.job.stage in ('starting', 'running'):
      lines += [
        f'  the job on {name}, which goes on; the same command follows it again. To end it, once it has saved:',
        f'    {self.job.stop_command()}',
      ]
    elif self.job.stage == 'installing':
      lines.append(f'  the TPU {name}, without a job; the same command goes on.')
    else:
      lines.append(f'  the request for {name}, if it was made; the same command waits for it again.')
    return '\n'.join([*lines, '  To delete it, so that it costs nothing:', f'    {self.machine.delete_command()}'])


def not_resumable(options: Options) -> str:
  return (
    f'This run cannot be resumed on another TPU: its workdir {options.workdir} lies on the TPU’s own disk. When the '
    'TPU is preempted or deleted, checkpoints, curves and report are lost. With --workdir=gs://BUCKET/FOLDER they '
    'outlive it.'
  )


def plan(options: Options) -> None:
  """Prints every command of a launch in its order, and runs none."""
  gcloud = Gcloud(options.tpu, options.zone, options.project, dry_run=True)
  job = Job(options, gcloud, Machine(options, gcloud, say), Path(), say)
  if not options.resumable:
    say(f'# {not_resumable(options)}')
  say('# Is there such a TPU, or a request for one?')
  gcloud.node()
  gcloud.request()
  if options.type:
    say('# If not, it is asked for, and looked at until it is READY')
    gcloud.create(options.type, options.runtime, options.spot, create_flags())
    gcloud.node()
    gcloud.request()
  else:
    say('# If not, that is the end: without --type none is asked for')
  say('# Does the job run there already? Then it is only followed')
  gcloud.on_workers(STATUS)
  say('# The checkout with what is not committed, its environment, and the job, which goes on without this terminal')
  gcloud.copy(ARCHIVE, ARCHIVE)
  gcloud.on_workers(INSTALL)
  gcloud.on_workers(f'{WORKER} start {job.token} {job.command}')
  say(f'# What worker 0 prints is shown, what all print is kept in runs/pods/{options.tpu}')
  gcloud.on_workers(f'{WORKER} follow SESSION')
  if options.type and options.resumable:
    say(f'# When it is preempted: deleted, asked for again (at most {options.retries} times), and so on from there')
    gcloud.delete()
    gcloud.create(options.type, options.runtime, options.spot, create_flags())
  if not options.resumable:
    say('# In the end the run is brought here')
    gcloud.fetch(f'{REMOTE}/{options.workdir}', str(Path(options.workdir).parent))
  if options.keep:
    say('# In the end it stays: --keep')
  else:
    say('# In the end it is deleted, if it was asked for here')
    gcloud.delete()


if __name__ == '__main__':
  sys.exit(main(sys.argv[1:]))
