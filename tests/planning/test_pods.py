"""The paper's config compiled for pods by the TPU compiler: `./run_tests.sh --pods`, minutes each.

With `-k quickly` as `fit --quick` does, half a minute each: chips share and compute the same then, and memory has
bounds of its own.
"""

import json
import os
import pathlib
import subprocess
import sys

import pytest

from crosstrainer_jax.planning.machines import GIB

pytestmark = pytest.mark.pods
ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
PAPER = 'configs/cross_sport.py:paper', 'v5e:2x4'
POD = 'configs/cross_sport.py:pod', 'v5e:16x16'

# GiB on a chip that the train step may need, by how long the compiler looks: what was measured, and a tenth. A change
# that needs more says so here.
BOUNDS = {
  (*PAPER, 'quickly'): 5.5, (*POD, 'quickly'): 2.65, (*PAPER, 'as for a run'): 5.7, (*POD, 'as for a run'): 2.65,
}  # fmt: skip


@pytest.fixture(scope='module', params=BOUNDS, ids=' '.join)
def planned(request, tmp_path_factory):
  """In a process of its own: the flags of the tests are not those of a pod. Clips are as assumed, not as prepared."""
  config, topology, effort = request.param
  environment = {name: value for name, value in os.environ.items() if name not in ('XLA_FLAGS', 'JAX_PLATFORMS')}
  command = [sys.executable, '-m', 'crosstrainer_jax.fit', config, '--topology', topology, '--train_only', '--json']
  command += [
    '--search=never',
    '--data_dir',
    str(tmp_path_factory.mktemp('nothing')),
    *(['--quick'] if effort == 'quickly' else []),
  ]
  done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, timeout=1800)
  assert done.returncode == 0, done.stderr[-2000:]
  return request.param, json.loads(done.stdout)


def test_it_fits_as_before(planned, record_property):
  case, data = planned
  assert data['train_step']['compiled']
  needed = data['train_step']['needed'] / GIB
  record_property('GiB', round(needed, 2))
  assert needed <= BOUNDS[case]


def test_it_computes_hardly_more_than_it_must(planned):
  """With full rematerialisation: the blocks twice."""
  _, data = planned
  computed = data['train_step']['parts'][0]['flops'] * data['machine']['chips']
  assert 1.0 <= computed / data['flops']['useful'] <= 1.55


def test_chips_share_the_rows_and_do_not_compute_them_all(planned):
  _, data = planned
  assert data['gathered_rows'] == []
  gathers = [c for c in data['train_step']['parts'][0]['collectives'] if c['kind'] == 'all-gather']
  # weights are gathered, once forward and once backward at least, for each of 32 layers
  assert sum(c['times'] for c in gathers) >= 64


def test_the_pod_is_filled(planned):
  (config, _, _), data = planned
  assert data['update']['warning'] == ''
  if config.endswith(':pod'):
    assert data['update']['full_rows'] >= data['machine']['chips'] == 256
