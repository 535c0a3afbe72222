"""What a search would try, and in which order."""

import pytest

from crosstrainer_jax import settings
from crosstrainer_jax.planning import machines, plan, programs, search, sizes, workload


@pytest.fixture(scope='module')
def config(tmp_path_factory):
  config = settings.load_config('configs/cross_sport.py:paper')
  return sizes.with_decoder_sizes(config, tmp_path_factory.mktemp('sizes'))[0]


def found(config, machine, **options):
  machine = machines.parse(machine)

  def make(changed):
    return programs.make_model(changed, plan.mesh_of(changed, machine, None), 4096)

  return search.candidates(config, workload.Clip(), machine, make, **options), machine


def test_what_is_the_same_training_comes_first_and_the_fastest_of_it(config):
  candidates, machine = found(config, 'v5e:2x4')
  assert all(c.memory <= machine.chip.memory * search.MARGIN for c in candidates)
  same = [c for c in candidates if c.clips == 128 and not c.quantize]
  assert candidates[: len(same)] == same
  assert [c.seconds for c in same] == sorted(c.seconds for c in same)
  assert {c.remat for c in same} > {'full'}
  assert {c.mesh for c in same} > {(1, 8, 1), (1, 4, 2)}
  # four bits come last
  first = next(n for n, c in enumerate(candidates) if c.quantize)
  assert all(c.quantize for c in candidates[first:])


def test_a_small_gpu_takes_the_base_in_four_bits(config):
  candidates, _ = found(config, '24gb:1', margin=1.0)
  assert {c.quantize for c in candidates} == {'nf4'}
  # that is a change of the base alone where it is wanted already
  changed = candidates[0].apply(config)
  assert {c.quantize for c in found(changed, '24gb:1', margin=1.0)[0]} == {''}


def test_settings_name_what_differs(config):
  candidate = search.Candidate(64, 1, 'dots', (1, 4, 2))
  assert candidate.settings(config) == [
    '--config.training.batch_size=64', '--config.decoder.remat=dots', '--config.mesh="(1,4,2)"',
  ]  # fmt: skip
  changed = candidate.apply(config)
  assert (changed.training.batch_size, changed.decoder.remat, changed.mesh) == (64, 'dots', (1, 4, 2))
  # what the config says already is not said again, and -1 stands for what is left
  assert search.Candidate(128, 1, 'full', (1, 8, 1)).settings(config) == []
  assert config.training.batch_size == 128


def test_meshes_that_do_not_divide_are_passed_over(config):
  """1024 numbers of keys and values over 8, but not 5 rows of anything."""
  candidates, _ = found(config, 'v5e:16x16')
  assert {c.mesh for c in candidates} <= {(1, 256, 1), (1, 128, 2), (1, 64, 4), (1, 32, 8)}
