"""A plan from end to end, with the compiler of this machine in the place of a TPU's."""

import pytest

from crosstrainer_jax.planning import compilation, machines, plan, search, topologies
from crosstrainer_jax.planning.machines import GIB
from tests.planning.conftest import FEATURE_DIM

V5E = machines.parse('v5e:2x4')


@pytest.fixture
def local(monkeypatch):
  """Eight devices of this machine stand for eight chips."""
  import jax

  monkeypatch.setattr(topologies, 'devices', lambda machine: jax.devices()[: machine.chips])


def test_formulas_alone(tiny_config, clip):
  made = plan.make_plan(tiny_config, machines.parse('h100:8'), clip, FEATURE_DIM, how=plan.FORMULAS)
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
  """The compiler refuses what trains on more than four clips at a time."""
  real, tried = compilation.compile_program, []

  def refusing(program, machine, **_):
    tried.append(program.arguments['batch'])
    if program.arguments['batch'] >= tried[0]:
      kinds = {'temporary': 20 * GIB}
      return compilation.Compiled(program.name, compilation.Memory(kinds, 20 * GIB, 15.75 * GIB), None, 0.0, 1.0)
    return real(program, machine)

  def candidates(*clips):
    listed = [search.Candidate(n, 1, 'full', (1, 4, 2), memory=n * GIB) for n in clips]
    monkeypatch.setattr(plan.search, 'candidates', lambda *_: listed)
    tried.clear()
    return plan.make_plan(tiny_config, V5E, clip, FEATURE_DIM, generate=False, most_compiles=3)

  monkeypatch.setattr(plan, 'compile_program', refusing)
  made = candidates(16, 15, 12, 8, 1)
  assert (made.train.fits, made.train.short) == (False, pytest.approx(4.25 * GIB))
  # 15 is passed over, since it needs about as much as what did not fit; the last comes too late
  assert (made.proposal, made.searched, made.tried) == (None, True, 3)
  made = candidates(16, 4)
  assert made.proposal.settings == ['--config.training.batch_size=4']
  assert made.proposal.train.fits
  assert made.tried == 2
  never = plan.make_plan(tiny_config, V5E, clip, FEATURE_DIM, generate=False, search_for='')
  assert (never.searched, never.tried) == (False, 0)


def test_a_mesh_that_the_machine_has_not_is_an_error(tiny_config, clip):
  config = tiny_config.copy_and_resolve_references()
  with config.unlocked():
    config.mesh = (1, -1, 3)
  with pytest.raises(ValueError, match=r'does not cover the 8 chips of h100:8'):
    plan.make_plan(config, machines.parse('h100:8'), clip, FEATURE_DIM, how=plan.FORMULAS)
