"""A tiny model with everything in it: a frozen base under adapters, remat, a scan, a mesh that splits both ways."""

from typing import Any

import ml_collections
import pytest

from crosstrainer_jax import settings
from crosstrainer_jax.planning import programs, workload
from crosstrainer_jax.training import sharding

FEATURE_DIM = 16


@pytest.fixture(scope='session')
def tiny_config() -> ml_collections.ConfigDict:
  changes = {
    'decoder.unroll': 'false', 'decoder.remat': 'full', 'decoder.max_position': 128, 'mesh': '(1,-1,2)',
    'training.row_tokens': 128,
    'lora.rank': 4, 'training.frozen': "('^decoder/(?!.*lora_)',)", 'training.optimizer.name': 'adamw',
    'training.batch_size': 8, 'eval.batch_size': 6, 'eval.max_attribute_tokens': 4, 'eval.max_feedback_tokens': 4,
    'tokenizer.vocab_size': 320, 'mapper.whiten': 'false',
  }  # fmt: skip
  return settings.load_config('configs/cross_sport.py:smoke', [f'{name}={value}' for name, value in changes.items()])


@pytest.fixture(scope='session')
def clip() -> workload.Clip:
  return workload.Clip(views=2, seconds=3, prompt_tokens=20, target_tokens=10)


@pytest.fixture(scope='session')
def tiny_model(tiny_config) -> programs.Model:
  return programs.make_model(tiny_config, sharding.make_mesh(tiny_config.mesh), FEATURE_DIM)


@pytest.fixture(scope='session')
def tiny_update(tiny_config, tiny_model, clip) -> workload.Workload:
  return workload.make_workload(tiny_config, clip, sharding.data_shards(tiny_model.mesh))


@pytest.fixture(scope='session')
def tiny_program(tiny_model, tiny_update) -> programs.Program:
  return programs.train_step(tiny_model, tiny_update)


@pytest.fixture(scope='session')
def tiny_compiled(tiny_program) -> Any:
  """The executable, of which several tests read text and statistics."""
  return tiny_program.lower().compile()
