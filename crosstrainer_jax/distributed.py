"""The processes of one run find each other, on a TPU pod, under Slurm, or as they are told; alone, nothing is done.

settings.run(main)                 a verb …
  distributed.initialize()         … joins the others before it touches a device
  with distributed.first():        what one process makes and all read
    …
"""

import contextlib
import dataclasses
import glob
import itertools
import os
import re
import socket
import sys
import threading
import urllib.request
from collections.abc import Iterator, Mapping

import jax

from crosstrainer_jax.input.buckets import forget_listings
from crosstrainer_jax.settings import SettingsError

# A process that has not been heard of for so long is dead, and the others end; a JAX of its own waits 100 s.
HEARTBEAT_SECONDS = 30
# So long processes wait for each other at the start; installing on one host may take longer than on another.
START_SECONDS = 600
# What one process makes while the others wait: a dataset, features.
LONGEST_TURN_SECONDS = 7 * 24 * 3600
# Google's name of the machine that knows what a TPU VM is part of, or its address.
METADATA = 'metadata.google.internal'


@dataclasses.dataclass(frozen=True)
class Cluster:
  """How the processes of a run find each other.

  Attributes:
    name: of the method, for messages.
    coordinator: host:port of process 0; None where JAX finds it by itself, as it does the two that follow.
    processes, process: how many there are, and which this is.
    devices: indices of this process's own GPUs; None for all that JAX gives it.
  """

  name: str
  coordinator: str | None = None
  processes: int | None = None
  process: int | None = None
  devices: list[int] | None = None


def initialize(environment: Mapping[str, str] | None = None) -> Cluster | None:
  """Joins the other processes of the run; does nothing where it is alone. Before any device is touched.

  All but process 0 then print errors only.

  Raises:
    SettingsError: the others do not come, or what is said of them does not go together.
  """
  if jax.distributed.is_initialized():
    return None
  environment = os.environ if environment is None else environment
  cluster = find(environment)
  if cluster is None:
    return None
  limit = _number(environment, 'CROSSTRAINER_START_SECONDS', START_SECONDS)
  # JAX ends the process from within C++ when its own time is over: too late for a message.
  timer = threading.Timer(limit, _give_up, (cluster, limit))
  timer.daemon = True
  timer.start()
  try:
    jax.distributed.initialize(
      cluster.coordinator,
      cluster.processes,
      cluster.process,
      cluster.devices,
      initialization_timeout=limit + 60,
      heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
    )
  except (RuntimeError, ValueError) as error:
    raise SettingsError(_alone(cluster, str(error).strip().splitlines()[0])) from error
  finally:
    timer.cancel()
  number, count = jax.process_index(), jax.process_count()
  devices = f'{jax.local_device_count()} of {jax.device_count()} devices'
  print(
    f'process {number} of {count} ({cluster.name}) on {socket.gethostname()}: {devices}', file=sys.stderr, flush=True
  )
  if number:
    sys.stdout = open(os.devnull, 'w')  # noqa: SIM115, it lives as long as the process
  return cluster


def find(environment: Mapping[str, str]) -> Cluster | None:
  """The cluster that this process is part of; None where it is alone.

  Raises:
    SettingsError: what is said of it does not go together.
  """
  if environment.get('JAX_COORDINATOR_ADDRESS'):
    return _told(environment)
  if 'SLURM_STEP_NODELIST' in environment and _number(environment, 'SLURM_NTASKS', 1) > 1:
    return Cluster('Slurm', devices=own_gpus(environment, visible_gpus(environment)))
  if environment.get('JAX_PLATFORMS', 'tpu').startswith('tpu') and tpu_hosts(environment) > 1:
    return Cluster('TPU pod')
  return None


def _told(environment: Mapping[str, str]) -> Cluster:
  missing = [name for name in ('JAX_NUM_PROCESSES', 'JAX_PROCESS_ID') if not environment.get(name)]
  if missing:
    raise SettingsError(
      f'JAX_COORDINATOR_ADDRESS is set, so {" and ".join(missing)} must be too: how many processes there are, and '
      'which this is, from 0'
    )
  count, number = _number(environment, 'JAX_NUM_PROCESSES'), _number(environment, 'JAX_PROCESS_ID')
  if not 0 <= number < count:
    raise SettingsError(f'JAX_PROCESS_ID is {number}, but JAX_NUM_PROCESSES is {count}: the first one is 0')
  return Cluster('JAX_COORDINATOR_ADDRESS', environment['JAX_COORDINATOR_ADDRESS'], count, number)


# --- Slurm


def visible_gpus(environment: Mapping[str, str]) -> int:
  """How many GPUs this process may see."""
  listed = environment.get('CUDA_VISIBLE_DEVICES')
  if listed is None:
    return len(glob.glob('/dev/nvidia[0-9]*'))
  return 0 if listed in ('', '-1', 'NoDevFiles') else len(listed.split(','))


def own_gpus(environment: Mapping[str, str], visible: int) -> list[int]:
  """Which of the `visible` GPUs are this task's: all of them for the only task of a node, else an equal share.

  JAX by itself takes one for each task, so that a node with one task would use one GPU of eight.

  Raises:
    SettingsError: the tasks of this node do not divide its GPUs.
  """
  tasks, task = tasks_here(environment), _number(environment, 'SLURM_LOCALID', 0)
  if tasks == 1 or not visible:
    return list(range(visible))
  if visible == 1 and 'CUDA_VISIBLE_DEVICES' in environment:
    return [0]  # Slurm has given every task its own
  if visible % tasks:
    raise SettingsError(
      f'{tasks} tasks share the {visible} GPUs of {socket.gethostname()}, which does not come out even: '
      f'--ntasks-per-node={visible} for a task for each, or --ntasks-per-node=1 for one task with all'
    )
  share = visible // tasks
  return list(range(task * share, (task + 1) * share))


def tasks_here(environment: Mapping[str, str]) -> int:
  """How many tasks of the step this node has, from `2(x3),1` for example."""
  counts: list[int] = []
  for count, times in re.findall(r'(\d+)(?:\(x(\d+)\))?', environment.get('SLURM_STEP_TASKS_PER_NODE', '')):
    counts += itertools.repeat(int(count), int(times or 1))
  node = _number(environment, 'SLURM_NODEID', 0)
  return counts[node] if node < len(counts) else _number(environment, 'SLURM_NTASKS_PER_NODE', 1)


# --- TPU pods


def tpu_hosts(environment: Mapping[str, str]) -> int:
  """How many hosts the TPU of this machine has; 1 where there is none."""
  named = environment.get('TPU_PROCESS_ADDRESSES') or environment.get('TPU_WORKER_HOSTNAMES')
  if named:  # on Kubernetes
    return len(named.split(','))
  if environment.get('TPU_SKIP_MDS_QUERY') or not glob.glob('/dev/accel[0-9]*') + glob.glob('/dev/vfio/[0-9]*'):
    return 1
  return hosts_by_metadata(environment.get('GCE_METADATA_IP', METADATA))


def hosts_by_metadata(server: str, seconds: float = 5.0) -> int:
  """How many hosts Google's metadata server lists; 1 where there is no such server."""
  url = f'http://{server}/computeMetadata/v1/instance/attributes/worker-network-endpoints'
  direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
  try:
    with direct.open(urllib.request.Request(url, headers={'Metadata-Flavor': 'Google'}), timeout=seconds) as answer:
      return len(answer.read().decode().split(','))
  except OSError:
    return 1


# --- Together


@contextlib.contextmanager
def first(name: str) -> Iterator[bool]:
  """Process 0 runs the block first, and the others when it is done: they find what it has made.

  A process that fails ends the others: they learn of it through its heartbeat.

  Args:
    name: of what is made, the same in all processes.

  Yields:
    Whether this is process 0, for what one alone may do.
  """
  if jax.process_count() == 1:
    yield True
    return
  from orbax.checkpoint import multihost  # seconds of import, which a run alone does not need here

  wait = multihost.get_barrier_sync_fn()
  if jax.process_index():
    wait(key=f'first {name}', timeout_ms=LONGEST_TURN_SECONDS * 1000)
    forget_listings()
  yield jax.process_index() == 0
  if not jax.process_index():
    wait(key=f'first {name}', timeout_ms=LONGEST_TURN_SECONDS * 1000)


def _give_up(cluster: Cluster, limit: int) -> None:
  print(f'Error: {_alone(cluster, f"not within {limit} s")}', file=sys.stderr, flush=True)
  os._exit(1)


def _alone(cluster: Cluster, reason: str) -> str:
  """The message where the processes do not come together."""
  hints = {
    'Slurm': 'Were all tasks started by one srun, and can its nodes reach each other? JAX_COORDINATOR_PORT=… takes '
    'another port of the first node',
    'TPU pod': 'The command must run on all workers at once: ./launch_tpu.sh CONFIG --tpu NAME --zone … --project … '
    'does that from anywhere. Does another program hold the TPU of a worker (docs/operations.md)?',
  }
  hint = hints.get(
    cluster.name, f'Is process 0 at {cluster.coordinator}, and do all have the same number of processes?'
  )
  return f'{cluster.name}: the processes of this run did not come together: {reason}. {hint}'


def _number(environment: Mapping[str, str], name: str, otherwise: int | None = None) -> int:
  text = environment.get(name)
  if text is None and otherwise is not None:
    return otherwise
  if text is None or not re.fullmatch(r'-?\d+', text):
    raise SettingsError(f'{name} is {text!r}, not a whole number')
  return int(text)
