"""What compilers are asked for, and what is answered where they are missing or count otherwise."""

import os
import subprocess
import sys

import pytest
from jax.experimental import topologies as jax_topologies

from crosstrainer_jax.planning import machines, topologies


@pytest.fixture
def asked(monkeypatch):
  """What JAX is asked for; it answers with as many devices as `count` says."""
  seen = {'count': 8}

  def describe(**arguments):
    seen.update(arguments)
    return type('Topology', (), {'devices': [object()] * seen['count']})

  monkeypatch.setattr(jax_topologies, 'get_topology_desc', describe)
  monkeypatch.setattr(topologies, 'has_compiler', lambda machine: True)
  return seen


def test_a_tpu_is_asked_for_by_its_topology(asked):
  assert len(topologies.devices(machines.parse('v5e-8'))) == 8
  assert (asked['platform'], asked['topology_name']) == ('tpu', 'v5e:2x4')
  assert 'num_slices' not in asked
  asked['count'] = 16
  topologies.devices(machines.parse('v5e-8', slices=2))
  assert asked['num_slices'] == 2


def test_a_single_chip_has_a_host_of_its_own(asked):
  asked['count'] = 1
  topologies.devices(machines.parse('v5e-1'))
  assert asked['chips_per_host_bounds'] == (1, 1, 1)


def test_devices_that_are_parts_of_chips_are_refused(asked):
  topologies.devices(machines.parse('v4:2x2x2'))
  assert asked['chip_config_name'] == 'megacore'
  asked['count'] = 16
  with pytest.raises(ValueError, match='lists 16 devices for the 8 chips of v4:2x2x2'):
    topologies.devices(machines.parse('v4:2x2x2'))


@pytest.mark.parametrize('name', machines.GPUS)
def test_a_gpu_is_described(asked, name):
  asked['count'] = 2
  topologies.devices(machines.parse(f'{name}:2'))
  assert (asked['platform'], asked['topology']) == ('cuda', '1x1x2')
  assert f'memory_bandwidth: {int(machines.GPUS[name].bandwidth)}' in asked['target_config']


def test_a_missing_compiler_is_named_with_its_extra(monkeypatch):
  monkeypatch.setattr(topologies, 'has_compiler', lambda machine: False)
  with pytest.raises(ValueError, match=r'crosstrainer_jax\[tpu\].*--analytic'):
    topologies.devices(machines.parse('v5e:2x4'))
  with pytest.raises(ValueError, match=r'GPU compiler is not installed.*crosstrainer_jax\[cuda\]'):
    topologies.devices(machines.parse('h100:8'))


def test_what_a_compiler_does_not_know_is_a_message(monkeypatch):
  def refusing(**_):
    raise RuntimeError('no such topology\nstack')

  monkeypatch.setattr(jax_topologies, 'get_topology_desc', refusing)
  monkeypatch.setattr(topologies, 'has_compiler', lambda machine: True)
  with pytest.raises(ValueError, match='does not know v5e:2x4: no such topology$'):
    topologies.devices(machines.parse('v5e:2x4'))


def test_the_environment_keeps_real_chips_free():
  """A plan is made beside a run: JAX must not take the chips of this host."""
  program = 'from crosstrainer_jax.planning import topologies; topologies.prepare_environment(); import os; '
  program += 'print(os.environ["JAX_PLATFORMS"], os.environ["TPU_SKIP_MDS_QUERY"])'
  environment = {**os.environ, 'JAX_PLATFORMS': 'tpu'}
  done = subprocess.run([sys.executable, '-c', program], capture_output=True, text=True, env=environment, check=True)
  assert done.stdout.split() == ['cpu', '1']
