"""A TPU by its name: found, asked for, waited for, asked for again when it was lost, and deleted."""

import time
from collections.abc import Callable
from typing import Any

from pods.gcloud import LABEL, NO_CAPACITY, CloudError, Gcloud, shown
from pods.options import Options

# States of a queued resource (https://cloud.google.com/tpu/docs/queued-resources) …
QUEUED = ('CREATING', 'ACCEPTED', 'WAITING_FOR_RESOURCES', 'PROVISIONING', 'ACTIVE')
GOING = ('SUSPENDING', 'DELETING')
GONE = ('SUSPENDED', 'FAILED')
# … and of a TPU VM.
COMING = ('STATE_UNSPECIFIED', 'CREATING', 'STARTING', 'RESTARTING', 'REIMAGING', 'REPAIRING', 'UNHIDING')
STOPPED = ('STOPPED', 'STOPPING', 'HIDDEN', 'HIDING')
LOST = ('PREEMPTED', 'TERMINATED', 'DELETING', 'UNKNOWN')
# So many looks at a TPU that is ready but not healthy (maintenance, for example) before it counts as lost.
PATIENCE = 20
LONGEST_PAUSE = 20  # looks
SAY_AGAIN = 600.0  # seconds


class Machine:
  """The TPU that the options name.

  Args:
    say: prints a line for the user.
    more: flags for `queued-resources create` as they are (network, service account …).
  """

  def __init__(self, options: Options, gcloud: Gcloud, say: Callable[[str], None], more: tuple[str, ...] = ()):
    self.options, self.gcloud, self._say, self._more = options, gcloud, say, more
    self.losses = 0
    self._shown, self._since = '', 0.0
    self._first = self._last = time.monotonic()

  @property
  def workers(self) -> int:
    """How many workers the TPU has, as of the last look."""
    return self._workers

  _workers = 1

  def ready(self) -> dict[str, Any]:
    """Waits until the TPU can be used, asking for it where it is not there; returns the node.

    Raises:
      CloudError: it cannot be had, or only by somebody else's doing.
    """
    unwell = 0
    while True:
      node = self.gcloud.node()
      state = (node or {}).get('state', '')
      health = (node or {}).get('health', '')
      if node is not None and state == 'READY':
        if not health.startswith('UNHEALTHY'):
          self._show(f'TPU {self.options.tpu}: READY')
          self._workers = max(1, len(node.get('networkEndpoints', ())))
          return node
        unwell += 1
        self._show(f'TPU {self.options.tpu}: READY but {health} {node.get("healthDescription", "")}'.rstrip())
        if unwell >= PATIENCE:
          self._again(f'it has been {health} for {unwell} looks')
          unwell = 0
      elif state in COMING:
        self._show(f'TPU {self.options.tpu}: {state}')
      elif state in STOPPED:
        raise CloudError(
          f'The TPU {self.options.tpu} is {state}. Start it: '
          + shown(self.gcloud.line(['compute', 'tpus', 'tpu-vm', 'start', self.options.tpu]))
        )
      elif self._asked(state):
        continue  # what was asked for may be there already
      self._pause()

  def lost(self) -> bool:
    """Whether the TPU is no more, or is going: preempted, taken for maintenance, deleted."""
    node = self.gcloud.node()
    if node is None or node.get('state') in LOST or node.get('health', '').startswith('UNHEALTHY'):
      return True
    request = self.gcloud.request()
    return request is not None and _state(request) in (*GOING, *GONE)

  def release(self) -> bool:
    """Deletes the TPU if it was asked for here; returns whether it did."""
    if not self._ours(self.gcloud.request()):
      return False
    self.gcloud.delete()
    return True

  def delete_command(self) -> str:
    return shown(self.gcloud.line(['compute', 'tpus', 'queued-resources', 'delete', self.options.tpu, '--force']))

  def _asked(self, state: str) -> bool:
    """Does what is to be done where no TPU can be used; whether something was done, so that a new look is worth it."""
    request, dead = self.gcloud.request(), state in LOST
    if request is None:
      if dead:
        raise CloudError(
          f'The TPU {self.options.tpu} is {state}, and was not asked for through a queued resource. Delete it, and '
          'this command asks for a new one (with --type): '
          + shown(self.gcloud.line(['compute', 'tpus', 'tpu-vm', 'delete', self.options.tpu]))
        )
      self._create()
      return False
    now = _state(request)
    if now in GONE or (dead and now not in GOING):
      reason = request.get('state', {}).get('failedData', {}).get('error', {}).get('message', '')
      reason = reason or (f'the TPU is {state}' if dead else f'the request is {now}')
      if now == 'FAILED' and not NO_CAPACITY.search(reason):
        if self._ours(request):
          self.gcloud.delete()
        raise self.gcloud.error(f'The request for {self.options.tpu} FAILED: {reason}')
      if not self._ours(request):
        raise CloudError(
          f'{reason[:1].upper()}{reason[1:]}; the request {self.options.tpu} was made by somebody else, so it stays '
          f'as it is. Delete it, and this command asks for a new one (with --type): {self.delete_command()}'
        )
      self._again(reason)
      return True
    waits = ' (nothing is paid for until it is ACTIVE; Ctrl-C leaves it in the queue)' if now in QUEUED[:3] else ''
    self._show(f'request {self.options.tpu}: {now}{waits}')
    return False

  def _again(self, reason: str) -> None:
    """Deletes the request, and the TPU with it, waits, longer every time, and makes it anew."""
    if not self._ours(self.gcloud.request()):
      raise CloudError(
        f'The TPU {self.options.tpu} is of no use ({reason}), but was not asked for here, so it stays as it is. '
        f'Look at it: {shown(self.gcloud.line(["compute", "tpus", "tpu-vm", "describe", self.options.tpu]))}'
      )
    if self.losses >= self.options.retries:
      raise CloudError(
        f'The TPU {self.options.tpu} was lost {self.losses + 1} times, the last time since {reason}; '
        f'--retries={self.options.retries} allows no more. The same command goes on.'
      )
    self.losses += 1
    self._say(f'The TPU {self.options.tpu} is lost: {reason}. Asking again, {self.losses} of {self.options.retries}')
    self.gcloud.delete()
    time.sleep(self.gcloud.pause * min(2 ** (self.losses - 1), LONGEST_PAUSE))
    self._create()

  def _create(self) -> None:
    if not self.options.type:
      raise CloudError(
        f'There is no TPU {self.options.tpu} in {self.options.zone}. To ask for one, say which: '
        '--type v5litepod-16 (and --spot for one that is cheap and can be preempted)'
      )
    kind = f'{"spot " if self.options.spot else ""}{self.options.type}'
    self._say(f'Asking for a {kind} named {self.options.tpu} ({self.options.runtime}) in {self.options.zone}')
    self.gcloud.create(self.options.type, self.options.runtime, self.options.spot, self._more)

  def _ours(self, request: dict[str, Any] | None) -> bool:
    specs = (request or {}).get('tpu', {}).get('nodeSpec', ())
    return any(spec.get('node', {}).get('labels', {}).get(LABEL[0]) == LABEL[1] for spec in specs)

  def _show(self, what: str) -> None:
    """Prints a state when it is another one, and now and then, so that nobody takes it for stuck."""
    now = time.monotonic()
    if what != self._shown:
      self._shown, self._since = what, now
    elif now - self._last < SAY_AGAIN:
      return
    self._last = now
    waited = f', for {(now - self._since) / 60:.0f} min' if now - self._since >= 60 else ''
    self._say(f'{time.strftime("%H:%M:%S")} {what}{waited}')

  def _pause(self) -> None:
    time.sleep(self.gcloud.pause)


def _state(request: dict[str, Any]) -> str:
  return str(request.get('state', {}).get('state', 'STATE_UNSPECIFIED'))
