"""A plan from end to end, with the compiler of this machine in the place of a TPU's."""

import pytest

from crosstrainer_jax.planning import compilation, machines, plan, topologies
from crosstrainer_jax.planning.machines import GIB
from tests.planning.conftest import FEATURE_DIM

V5E = machines.parse('v5e:2x4')


@pytest.fixture
def local(monkeypatch):
  """Eight devices of this machine stand for eight chips."""
  import jax

  monkeypatch.setattr(topologies, 'devices', lambda machine: jax.devices()[: machine.chips])


def test_formulas_alone(tiny_config, clip):
  made = plan.make_plan(tiny_config, machines.parse('h100:8'), clip, FEATURE_DIM, compiles=False)
  assert made.train.compiled is None
  assert made.train.fits
  assert made.train.parts[0].estimate.seconds > 0
  assert made.mesh == {'replica': 1, 'fsdp': 4, 'tensor': 2}
  assert made.parameters['adapters'] > 0


def test_compiled_programs(tiny_config, clip, local):
  said = []
  made = plan.make_plan(tiny_config, V5E, clip, FEATURE_DIM, report=said.append)
  assert made.train.fits
  assert made.generation.fits
  assert [part.name for part in made.generation.parts] == ['prefill', 'decode step']
  prefill, decode = made.generation.parts
  # a prompt of 32 slots against one token, both with all layers and the head
  assert prefill.costs.flops > 4 * decode.costs.flops > 0
  assert made.proposal is None
  assert 'compiling the train step for v5e:2x4' in said[0]


def test_what_does_not_fit_is_answered_with_what_does(tiny_config, clip, local, monkeypatch):
  """The compiler refuses whatever keeps anything for the backward pass, and large updates."""
  real = compilation.compile_program
  tried = []

  def refusing(program, machine):
    batch = program.arguments['batch']
    tried.append(batch)
    if batch > limit:
      kinds = {'temporary': 20 * GIB}
      return compilation.Compiled(program.name, compilation.Memory(kinds, 20 * GIB, 15.75 * GIB), None, 0.0, 1.0)
    return real(program, machine)

  monkeypatch.setattr(plan, 'compile_program', refusing)
  monkeypatch.setattr(plan.search, 'REMAT_POLICIES', {'full': None})
  limit = 0
  made = plan.make_plan(tiny_config, V5E, clip, FEATURE_DIM, generate=False, most_compiles=3)
  assert (made.train.fits, made.proposal, made.searched) == (False, None, True)
  assert made.train.short == pytest.approx(4.25 * GIB)
  assert len(tried) <= 4
  limit = max(tried) - 1
  made = plan.make_plan(tiny_config, V5E, clip, FEATURE_DIM, generate=False, most_compiles=8)
  assert made.proposal is not None
  assert made.proposal.train.fits
  assert made.proposal.settings
  never = plan.make_plan(tiny_config, V5E, clip, FEATURE_DIM, generate=False, search_for='')
  assert (never.searched, never.tried) == (False, 0)


def test_a_mesh_that_the_machine_has_not_is_an_error(tiny_config, clip):
  config = tiny_config.copy_and_resolve_references()
  with config.unlocked():
    config.mesh = (1, -1, 3)
  with pytest.raises(ValueError, match=r'does not cover the 8 chips of h100:8'):
    plan.make_plan(config, machines.parse('h100:8'), clip, FEATURE_DIM, compiles=False)
