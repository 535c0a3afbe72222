"""What the compiler says, and what becomes of its refusals."""

import dataclasses

import jax
import pytest

from crosstrainer_jax.planning import compilation, hlo, machines, programs
from crosstrainer_jax.planning.machines import GIB
from tests.planning.test_hlo import TPU

V5E = machines.parse('v5e:2x4')


def refused(message):
  class Lowered:
    def compile(self, compiler_options=None):
      raise jax.errors.JaxRuntimeError(message)

  return programs.Program('train step', Lowered, {'weights': 2.0 * GIB}, None)


def test_a_program_is_compiled_and_counted(tiny_program, tiny_compiled):
  class Lowered:
    def compile(self, compiler_options=None):
      return tiny_compiled

  compiled = compilation.compile_program(dataclasses.replace(tiny_program, lower=Lowered), V5E)
  assert compiled.fits
  assert compiled.costs(8).flops > 0
  assert compiled.memory.short == 0
  assert compiled.memory.needed == sum(compiled.memory.kinds.values())
  assert compiled.memory.kinds['temporary (activations, gradients, gathered weights)'] > 0


def test_what_the_compiler_of_a_tpu_accepts_fits(tiny_program, tiny_compiled):
  """It may list more than there is as temporary: some of it lies in the same place."""

  class Lowered:
    def compile(self, compiler_options=None):
      return tiny_compiled

  chip = dataclasses.replace(V5E.chip, memory=2.0**20)
  compiled = compilation.compile_program(
    dataclasses.replace(tiny_program, lower=Lowered), dataclasses.replace(V5E, chip=chip)
  )
  assert compiled.fits
  assert (compiled.memory.needed, compiled.memory.short) == (2.0**20, 0)
  assert compiled.memory.needed == pytest.approx(sum(compiled.memory.kinds.values()))
  assert min(compiled.memory.kinds.values()) < 0


def test_a_program_compiled_quickly_has_counts_and_no_cycles(tiny_program, tiny_compiled):
  """They would be those of a slow program."""
  given = []

  class Lowered:
    def compile(self, compiler_options=None):
      given.append(compiler_options)
      return tiny_compiled

  program = dataclasses.replace(tiny_program, lower=Lowered)
  fully, quickly = (compilation.compile_program(program, V5E, {'an': 'option'}, quick) for quick in (False, True))
  assert given == [{'an': 'option'}, {'an': 'option'} | compilation.QUICK]
  fully, quickly = (dataclasses.replace(one, module=hlo.parse(TPU)) for one in (fully, quickly))
  assert fully.costs(8).cycles > 0
  assert quickly.costs(8).cycles == 0
  assert quickly.costs(8).collectives == fully.costs(8).collectives


@pytest.mark.parametrize(
  ('message', 'needed'),
  [
    (
      'RESOURCE_EXHAUSTED: XLA:TPU compile permanent error. Ran out of memory in memory space hbm. Used 37.32G of '
      '15.75G hbm. Exceeds hbm capacity by 21.57G.\n\nTotal hbm usage >= 37.57G',
      37.32,
    ),
    (
      'RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for HLO temporaries (160.00G) exceeds '
      'available HBM (15.75G).',
      162.0,
    ),
  ],
)
def test_out_of_memory_is_an_answer(message, needed):
  compiled = compilation.compile_program(refused(message), V5E)
  assert not compiled.fits
  assert compiled.memory.needed == pytest.approx(needed * GIB)
  assert compiled.memory.short == pytest.approx((needed - 15.75) * GIB)
  assert compiled.memory.kinds['temporary'] == pytest.approx((needed - 2) * GIB)
  with pytest.raises(ValueError, match='does not fit'):
    compiled.costs(8)


def test_the_compiler_of_gpus_does_not_look_at_memory():
  large = compilation.Memory({'temporary': 100.0}, 100.0, 80.0)
  module = hlo.Module({'e': {}}, 'e')
  assert compilation.Compiled('train step', large, module, 0.0, 1.0, looked=True).fits
  assert not compilation.Compiled('train step', large, module, 0.0, 1.0, looked=False).fits


def test_other_refusals_are_messages():
  with pytest.raises(ValueError, match='the compiler refuses the train step for v5e:2x4: INTERNAL: bad layout'):
    compilation.compile_program(refused('INTERNAL: bad layout\nstack'), V5E)


def test_a_compiler_without_a_quick_way_takes_the_full_one(tiny_program, tiny_compiled, capsys):
  given = []

  class Lowered:
    def compile(self, compiler_options=None):
      given.append(compiler_options)
      if compiler_options and set(compilation.QUICK) & set(compiler_options):
        raise jax.errors.JaxRuntimeError("INVALID_ARGUMENT: No such compile option: 'exec_time_optimization_effort'")
      return tiny_compiled

  program = dataclasses.replace(tiny_program, lower=Lowered)
  compiled = compilation.compile_program(program, V5E, {'an': 'option'}, quick=True)
  assert not compiled.quick
  assert given[-1] == {'an': 'option'}
  assert 'no quick way' in capsys.readouterr().err
