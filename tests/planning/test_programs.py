"""The abstract programs are those of a run: the same text, the same places, the same bytes."""

import re

import jax
import numpy as np
import pytest
from flax import nnx

from crosstrainer_jax.inference.generate import generate
from crosstrainer_jax.planning import programs
from crosstrainer_jax.training import optimizer, sharding, stages
from crosstrainer_jax.training.step import init_state
from tests.planning.conftest import FEATURE_DIM


@pytest.fixture(scope='module')
def real(tiny_config, tiny_model):
  return stages.build(tiny_config, 320, FEATURE_DIM, 320, 0, tiny_model.mesh)


def text_of(lowered):
  """Without the numbers by which JAX tells helping functions of one name apart."""
  return re.sub(r'(@\w+?)(_\d+)+\b', r'\1', lowered.as_text())


def zeros(batch, mesh):
  return sharding.put_batch({name: np.zeros(leaf.shape, leaf.dtype) for name, leaf in batch.items()}, mesh)


def test_the_train_step_is_the_one_that_a_run_compiles(tiny_config, tiny_model, tiny_update, tiny_program, real):
  blueprint, params = real
  trained, _ = blueprint.split(params)
  tx = optimizer.make_optimizer(tiny_config.training.optimizer)
  state = init_state(trained, tx, 0)
  abstract = programs.abstract_state(tiny_model.blueprint.split(tiny_model.params)[0], tx, tiny_model.mesh)
  for ours, theirs in zip(jax.tree.leaves(abstract), jax.tree.leaves(state), strict=True):
    assert (ours.shape, ours.dtype, ours.sharding) == (theirs.shape, theirs.dtype, theirs.sharding)
  step = stages.make_update(blueprint, params, tiny_config.training, tiny_model.mesh)
  batch = zeros(programs.abstract_batch(tiny_update, tiny_model), tiny_model.mesh)
  run = programs.lowered(step, state, batch, np.float32(0))
  plan = tiny_program.lower()
  assert text_of(plan) == text_of(run)


def test_bytes_are_those_that_the_compiler_counts(tiny_program, tiny_compiled):
  program = tiny_program
  given = tiny_compiled.memory_analysis().argument_size_in_bytes
  # the step, the key and the rate are beside it
  assert sum(program.arguments.values()) == pytest.approx(given, abs=32)
  assert program.arguments['weights, trained'] < program.arguments['weights, frozen']
  # Adam's two moments, and its counter
  assert program.arguments['optimiser'] == pytest.approx(2 * program.arguments['weights, trained'], abs=8)


def test_generation_is_the_one_that_answers(tiny_model, clip, real):
  blueprint, params = real
  program = programs.generation(tiny_model, clip, rows=6, new_tokens=4)
  plan = program.lower()
  decoder = blueprint.merge(params).decoder
  prompt = sharding.put_batch(np.zeros((8, 32, decoder.config.hidden_size), np.float32), tiny_model.mesh)
  mask = sharding.put_batch(np.ones((8, 32), bool), tiny_model.mesh)
  tokens, _ = generate(decoder, prompt, mask, 4, eos_id=[1], pad_id=0)
  # six rows are rounded up to what divides over four parts
  assert tokens.shape == (8, 4)
  [shape, _] = jax.tree.leaves(plan.out_info)
  assert shape.shape == (8, 1, 4)
  assert program.arguments['weights'] > 0
  assert nnx.state(decoder, nnx.Param)
