"""A toy problem that compiles at once, and a tiny model with its data."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax
import pytest
from jax.sharding import Mesh

from crosstrainer_jax.configs import compact
from crosstrainer_jax.input import examples, pipeline, prompts
from crosstrainer_jax.input.source import ClipInfo
from crosstrainer_jax.input.tokenizer import Words, train_tokenizer
from crosstrainer_jax.training import sharding
from crosstrainer_jax.training.step import TrainState, init_state, make_step

VIEWS, SECONDS, FEATURE_DIM = 2, 2, 6


@pytest.fixture(scope='session')
def one_device() -> Mesh:
  return sharding.make_mesh((1, 1, 1), jax.devices()[:1])


@pytest.fixture(scope='session')
def eight_devices() -> Mesh:
  return sharding.make_mesh((1, 8, 1))


# --- A regression with noise from the key


class ToyBatches:
  """Batches made from their number alone."""

  def __init__(self, size: int = 8):
    self.size, self.number = size, 0

  def __iter__(self) -> ToyBatches:
    return self

  def __next__(self) -> dict[str, np.ndarray]:
    random = np.random.default_rng(self.number)
    self.number += 1
    x = random.normal(size=(self.size, 3)).astype(np.float32)
    return {'x': x, 'y': x @ np.array([1.0, -2.0, 0.5], np.float32), 'weight': np.ones(self.size, np.float32)}

  def get_state(self) -> dict[str, int]:
    return {'number': self.number}

  def set_state(self, state: dict[str, int]) -> None:
    self.number = state['number']


def toy_loss(params: Any, _: Any, batch: Any, key: jax.Array) -> Any:
  noise = 0.01 * jax.random.normal(key)
  error = batch['x'] @ params['kernel'][:, 0] + params['bias'][0] - batch['y'] + noise
  weight = batch['weight']
  size = (jnp.abs(error) * weight).sum()
  return (jnp.square(error) * weight).sum(), weight.sum(), {'size': (size, weight.sum()), 'noise': (noise, 1.0)}


@dataclasses.dataclass
class Toy:
  mesh: Mesh
  tx: optax.GradientTransformation
  step: Callable[..., tuple[TrainState, dict[str, jax.Array]]]

  def state(self, seed: int = 0) -> TrainState:
    params = {'kernel': jnp.array([[0.1], [0.2], [0.3]]), 'bias': jnp.zeros(1)}
    return init_state(jax.device_put(params, sharding.replicated(self.mesh)), self.tx, seed)

  batches = ToyBatches


@pytest.fixture(scope='session')
def toy(eight_devices: Mesh) -> Toy:
  tx = optax.chain(optax.scale_by_adam(), optax.scale(-1.0))
  return Toy(eight_devices, tx, make_step(toy_loss, tx, eight_devices))


# --- A CrossTrainer of one layer


@pytest.fixture(scope='session')
def config() -> ml_collections.ConfigDict:
  config = compact.preset()
  config.decoder.update(
    hidden_size=16, intermediate_size=16, num_layers=1, num_heads=4, num_kv_heads=2, head_dim=4, max_position=160
  )
  config.training.update(batch_size=8, save_every=2, log_every=2)
  return config.lock()


@pytest.fixture(scope='session')
def words(tmp_path_factory: pytest.TempPathFactory) -> Words:
  texts = [prompts.attribute_prompt('soccer'), prompts.feedback_prompt('golf', ['balance']), ' Comment']
  # a multiple of every mesh axis that splits it
  return train_tokenizer([text.replace(prompts.VIDEO, '') for text in texts], 320, tmp_path_factory.mktemp('words'))


def video(index: int) -> dict[str, np.ndarray]:
  random = np.random.default_rng(index)
  return {'features': random.normal(size=(VIEWS, SECONDS, FEATURE_DIM)).astype(np.float16)}


@dataclasses.dataclass
class World:
  words: Words
  clips: list[ClipInfo]

  feature_dim = FEATURE_DIM
  video = staticmethod(video)

  @property
  def video_id(self) -> int:
    return self.words.convert_tokens_to_ids(prompts.VIDEO)

  def stage(self, *tasks: pipeline.Task, train: range = range(12)) -> pipeline.Stage:
    tasks = tasks or (pipeline.Task(examples.ATTRIBUTES, 1),)
    encoder = examples.PromptTokenizer(self.words, VIEWS * SECONDS, 3)
    return pipeline.Stage(self.clips, list(train), tasks, encoder, 0.2, SECONDS)


@pytest.fixture(scope='session')
def world(words: Words) -> World:
  times = np.zeros((VIEWS, 2 * SECONDS), np.float32)
  faults = (['balance'], [], ['timing', 'balance'])
  clips = [
    ClipInfo(f'c{i}', 'soccer', 'pass', f'p{i}', f't{i}', 'train', ['a'] * VIEWS, 'Comment.', times, [], faults[i % 3],
             [], False, -1)
    for i in range(24)
  ]  # fmt: skip
  return World(words, clips)


@pytest.fixture(scope='session')
def first_batch(world: World) -> dict[str, np.ndarray]:
  """A batch of eight, by the pipeline."""
  return pipeline.Updates(world.stage(), video, 8, 0, 1)(0)
