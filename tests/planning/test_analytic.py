"""Formulas against the compiler's own program, and the paper's model by hand."""

import pytest

from crosstrainer_jax.planning import analytic, costs, hlo, machines, plan, programs, workload
from crosstrainer_jax.training import sharding
from tests.planning.conftest import FEATURE_DIM


@pytest.mark.parametrize('remat', ['dots', 'full'])
def test_flops_are_those_of_the_compiled_step(tiny_config, clip, remat):
  config = tiny_config.copy_and_resolve_references()
  with config.unlocked():
    config.decoder.remat, config.mesh = remat, (1, -1, 1)
  model = programs.make_model(config, sharding.make_mesh(config.mesh), FEATURE_DIM)
  update = workload.make_workload(config, clip, 8)
  compiled = programs.train_step(model, update).lower().compile()
  counted = costs.of_program(hlo.parse(compiled.as_text()), 8).flops * 8
  assert analytic.flops(model, update, remat).computed == pytest.approx(counted, rel=0.01)


@pytest.fixture(scope='module')
def paper(tmp_path_factory):
  from crosstrainer_jax import settings
  from crosstrainer_jax.planning import sizes

  config = settings.load_config('configs/cross_sport.py:paper')
  config, _ = sizes.with_decoder_sizes(config, tmp_path_factory.mktemp('sizes'))
  machine = machines.parse('v5e:2x4')
  return programs.make_model(config, plan.mesh_of(config, machine, None), 4096)


def test_what_the_papers_step_needs_by_hand(paper):
  """4N + 6N_lora + attention for a token, 4 x vocabulary x width for a target, f_m for a video token."""
  update = workload.Workload(workload.Clip(), 128, 2048, 8)
  matrices, adapters, head = 32 * (2 * 4096**2 + 2 * 4096 * 1024 + 3 * 4096 * 14336), 335_544_320, 128_256 * 4096
  assert matrices == 6_979_321_856
  attention = 3 * 4 * 32 * 4096 * 155 / 2
  clip = 155 * (4 * matrices + 6 * adapters + attention) + 40 * 4 * head + 50 * 6 * 2 * 4096**2
  assert analytic.flops(paper, update, 'full').useful == pytest.approx(128 * clip)


def test_memory_of_the_paper(paper):
  update = workload.Workload(workload.Clip(), 128, 2048, 8)
  optimiser = programs.train_step(paper, update).arguments['optimiser']
  full, none = (analytic.memory(paper, update, remat, optimiser, True) for remat in ('full', 'none'))
  # 8.03e9 numbers of two bytes, over eight chips
  assert full.kinds['weights, frozen'] == pytest.approx(8_030_261_248 * 2 / 8, rel=0.001)
  # the input of each of 32 blocks: two rows of 1280 positions of 4096 in bf16
  assert full.kinds['kept for the backward pass'] == 32 * 2 * 1280 * 4096 * 2
  assert none.total > 2 * full.total
  # scores of all positions with all, which a TPU's kernel does not keep
  assert analytic.memory(paper, update, 'full', optimiser, False).total > full.total


def test_seconds_fall_with_chips_until_exchange_is_longer(paper):
  update = workload.Workload(workload.Clip(), 128, 2048, 8)
  counted = analytic.flops(paper, update, 'full')
  parts = analytic.step_seconds(machines.parse('v5e:2x4'), paper, update, 'full')
  peak = counted.computed / 8 / machines.TPUS['v5e'].flops
  assert parts['matrix products'] == pytest.approx(peak / analytic.SHARE_OF_PEAK)
  # three times the weights of all layers, but for the eighth that is there, at two links
  received = 3 * 7 / 8 * (2 * 6_979_321_856 + 4 * 335_544_320)
  assert parts['between chips'] == pytest.approx(received / (2 * 45e9), rel=0.01)
