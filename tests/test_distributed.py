"""Processes of one run find each other, and one that is alone stays alone."""

import http.server
import os
import socket
import subprocess
import sys
import threading
import time

import jax
import pytest

from crosstrainer_jax import distributed
from crosstrainer_jax.settings import SettingsError

SLURM = {
  'SLURM_JOB_ID': '12', 'SLURM_STEP_NODELIST': 'localhost', 'SLURM_NTASKS': '2', 'SLURM_PROCID': '0',
  'SLURM_LOCALID': '0', 'SLURM_NODEID': '0', 'SLURM_STEP_TASKS_PER_NODE': '2', 'SLURM_STEP_NUM_NODES': '1',
}  # fmt: skip


# --- Alone


@pytest.mark.parametrize(
  'environment',
  [
    {},
    {'SLURM_JOB_ID': '12', 'SLURM_NTASKS': '8'},  # in the batch script itself, before srun
    {**SLURM, 'SLURM_NTASKS': '1'},
    {'TPU_WORKER_HOSTNAMES': 'localhost'},
    {'TPU_WORKER_HOSTNAMES': 'a,b', 'JAX_PLATFORMS': 'cpu'},
  ],
)
def test_one_process_stays_alone(environment):
  assert distributed.find(environment) is None
  assert distributed.initialize(environment) is None
  assert not jax.distributed.is_initialized()


def test_alone_nobody_is_waited_for():
  seen = []
  with distributed.first('a thing'):
    seen.append(1)
  assert seen == [1]


# --- Found


def test_slurm_is_found():
  assert distributed.find(SLURM | {'CUDA_VISIBLE_DEVICES': '0,1'}) == distributed.Cluster('Slurm', devices=[0])


def test_a_pod_on_kubernetes_is_found():
  assert distributed.find({'TPU_WORKER_HOSTNAMES': 'a,b'}) == distributed.Cluster('TPU pod')


def test_what_is_told_counts_more():
  told = {'JAX_COORDINATOR_ADDRESS': 'a:1', 'JAX_NUM_PROCESSES': '4', 'JAX_PROCESS_ID': '3'}
  assert distributed.find(SLURM | told) == distributed.Cluster('JAX_COORDINATOR_ADDRESS', 'a:1', 4, 3)


@pytest.mark.parametrize(
  ('told', 'message'),
  [
    ({}, 'so JAX_NUM_PROCESSES and JAX_PROCESS_ID must be too'),
    ({'JAX_NUM_PROCESSES': '2'}, 'so JAX_PROCESS_ID must be too'),
    ({'JAX_NUM_PROCESSES': '2', 'JAX_PROCESS_ID': '2'}, 'JAX_PROCESS_ID is 2, but JAX_NUM_PROCESSES is 2'),
    ({'JAX_NUM_PROCESSES': 'two', 'JAX_PROCESS_ID': '0'}, "JAX_NUM_PROCESSES is 'two', not a whole number"),
  ],
)
def test_half_of_what_must_be_told_is_an_error(told, message):
  with pytest.raises(SettingsError, match=message):
    distributed.find({'JAX_COORDINATOR_ADDRESS': 'a:1'} | told)


class Metadata(http.server.BaseHTTPRequestHandler):
  """Answers as Google's metadata server on a pod of three hosts."""

  def do_GET(self):
    known = self.path.endswith('/instance/attributes/worker-network-endpoints')
    self.send_response(200 if known and self.headers['Metadata-Flavor'] == 'Google' else 404)
    self.end_headers()
    self.wfile.write(b'a:1:10.0.0.1,b:1:10.0.0.2,c:1:10.0.0.3')

  def log_message(self, *words):
    pass


def test_the_hosts_of_a_tpu_are_counted(monkeypatch):
  with http.server.HTTPServer(('127.0.0.1', 0), Metadata) as server:
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f'127.0.0.1:{server.server_port}'
    assert distributed.hosts_by_metadata(address) == 3
    monkeypatch.setattr(distributed.glob, 'glob', lambda pattern: ['/dev/accel0'] if 'accel' in pattern else [])
    assert distributed.find({'GCE_METADATA_IP': address}) == distributed.Cluster('TPU pod')
    assert distributed.find({'GCE_METADATA_IP': address, 'TPU_SKIP_MDS_QUERY': '1'}) is None
    server.shutdown()
  assert distributed.hosts_by_metadata(address, 0.5) == 1


# --- GPUs under Slurm


@pytest.mark.parametrize(
  ('tasks', 'task', 'listed', 'expected'),
  [
    ('1', 0, '0,1,2,3,4,5,6,7', [0, 1, 2, 3, 4, 5, 6, 7]),  # one task a node has all
    ('8', 5, '0,1,2,3,4,5,6,7', [5]),
    ('2(x4)', 1, '0,1,2,3', [2, 3]),
    ('4', 3, '6', [0]),  # --gpus-per-task=1: each sees its own alone
    ('4', 3, '', []),  # no GPUs at all
  ],
)
def test_every_task_has_its_gpus(tasks, task, listed, expected):
  environment = SLURM | {'SLURM_STEP_TASKS_PER_NODE': tasks, 'SLURM_LOCALID': str(task), 'CUDA_VISIBLE_DEVICES': listed}
  assert distributed.own_gpus(environment, distributed.visible_gpus(environment)) == expected


def test_gpus_that_do_not_come_out_even_are_an_error():
  with pytest.raises(SettingsError, match='3 tasks share the 4 GPUs .* --ntasks-per-node=4'):
    distributed.own_gpus(SLURM | {'SLURM_STEP_TASKS_PER_NODE': '3'}, 4)


@pytest.mark.parametrize(('text', 'node', 'expected'), [('4(x2),3', 1, 4), ('4(x2),3', 2, 3), ('2', 0, 2)])
def test_tasks_of_a_node(text, node, expected):
  assert distributed.tasks_here({'SLURM_STEP_TASKS_PER_NODE': text, 'SLURM_NODEID': str(node)}) == expected


# --- Real processes


PROGRAM = """
import sys, time
from crosstrainer_jax import distributed, settings
def main(argv):
  distributed.initialize()
  import jax
  from jax.experimental import multihost_utils
  import numpy as np
  with distributed.first('a file'):
    print('first', jax.process_index(), time.time(), file=sys.stderr)
    if not jax.process_index():
      time.sleep(0.5)
      print('made', time.time(), file=sys.stderr)
  everyone = multihost_utils.process_allgather(np.array([10 + jax.process_index()]))
  print('seen', everyone.ravel().tolist(), jax.device_count())
settings.run(main)
"""


def _free_port() -> int:
  with socket.socket() as probe:
    probe.bind(('127.0.0.1', 0))
    return probe.getsockname()[1]


def _start(tmp_path, **environment) -> subprocess.Popen:
  program = tmp_path / 'program.py'
  program.write_text(PROGRAM)
  clean = {key: value for key, value in os.environ.items() if not key.startswith(('SLURM', 'XLA_FLAGS'))}
  root = str(distributed.__file__).rsplit('/crosstrainer_jax/', 1)[0]
  return subprocess.Popen(
    [sys.executable, str(program)], env={**clean, 'JAX_PLATFORMS': 'cpu', 'PYTHONPATH': root, **environment},
    stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
  )  # fmt: skip


def test_two_tasks_of_slurm_find_each_other(tmp_path):
  """With the variables that srun sets, over gloo on this machine; process 0 makes first what both need."""
  port = str(_free_port())
  tasks = [
    _start(tmp_path, **SLURM, JAX_COORDINATOR_PORT=port),
    _start(tmp_path, **SLURM | {'SLURM_PROCID': '1', 'SLURM_LOCALID': '1'}, JAX_COORDINATOR_PORT=port),
  ]
  said = [task.communicate(timeout=120) for task in tasks]
  assert [task.returncode for task in tasks] == [0, 0], said
  assert said[0][0].splitlines()[-1] == 'seen [10, 11] 2'
  assert 'seen' not in said[1][0]  # what is said once is said by process 0
  assert 'process 1 of 2 (Slurm) on ' in said[1][1]
  times = {words[0]: float(words[-1]) for _, text in said for words in map(str.split, text.splitlines())
           if words[:1] == ['made'] or words[:2] == ['first', '1']}  # fmt: skip
  assert times['first'] >= times['made']


def test_a_process_whose_others_do_not_come_says_so(tmp_path):
  begin = time.monotonic()
  alone = _start(
    tmp_path, JAX_COORDINATOR_ADDRESS=f'127.0.0.1:{_free_port()}', JAX_NUM_PROCESSES='2', JAX_PROCESS_ID='1',
    CROSSTRAINER_START_SECONDS='1',
  )  # fmt: skip
  errors = alone.communicate(timeout=60)[1]
  assert alone.returncode != 0
  assert 'did not come together: not within 1 s. Is process 0 at 127.0.0.1:' in errors
  assert 'Traceback' not in errors
  assert time.monotonic() - begin < 40
