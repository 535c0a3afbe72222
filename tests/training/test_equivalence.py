"""One update is the same update however its clips lie in rows, its rows on devices, and its gradients are added up."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from crosstrainer_jax.input import examples, pipeline
from crosstrainer_jax.training import sharding, stages
from crosstrainer_jax.training.step import init_state, make_step

# An update is the clipped gradient: Adam's would blow up the rounding of gradients that are nearly nothing.
SGD = optax.chain(optax.clip_by_global_norm(1.0), optax.scale(-1.0))


@pytest.fixture(scope='module')
def adapted(config):
  """Adapters on a frozen L, as in the paper."""
  config = config.copy_and_resolve_references().unlock()
  config.decoder.update(num_layers=2, unroll=False, max_position=512)
  config.lora.update(rank=4, alpha=4.0, dropout=0.0)
  config.training.frozen = ('^decoder/(?!.*lora_)',)
  return config


@pytest.fixture(scope='module')
def clips(world):
  """Sixteen clips for one update, with comments of different lengths; `row_tokens` as in the config."""
  said = [
    dataclasses.replace(clip, commentary=' '.join(['Comment.'] * (1 + number % 5)))
    for number, clip in enumerate(world.clips)
  ]
  stage = world.stage(pipeline.Task(examples.FEEDBACK, 1), train=range(16))
  stage = dataclasses.replace(stage, clips=said, view_dropout=0.0)

  def batch(row_tokens, multiple=8):
    return pipeline.Updates(stage, world.video, 16, 0, 1, multiple, row_tokens)(0)

  return batch


def build(config, world, mesh):
  return stages.build(config, len(world.words), world.feature_dim, world.video_id, 0, mesh)


@pytest.fixture(scope='module')
def model(adapted, world, one_device):
  return build(adapted, world, one_device)


def updated(model, accumulate, batch, mesh, updates):
  """Losses and norms of `updates` on one batch, and what they changed in all; `model` stays as it is."""
  blueprint, params = model
  trained = jax.jit(lambda given: jax.tree.map(jnp.copy, given))(blueprint.split(params)[0])
  # Adapters begin with B = 0, so that A would learn nothing in the first update.
  noise = jax.random.key(1)
  trained = jax.tree_util.tree_map_with_path(
    lambda path, leaf: leaf + 0.1 * jax.random.normal(noise, leaf.shape) if 'lora_b' in str(path) else leaf, trained
  )
  state = init_state(trained, SGD, 0)
  update = make_step(stages.make_loss(blueprint), SGD, mesh, blueprint.split(params)[1], accumulate)
  before, losses = jax.tree.map(np.asarray, state.params), []
  places = jax.tree.map(lambda x: x.sharding, state)
  placed = sharding.put_batch(batch, mesh)
  norms = []
  for _ in range(updates):
    state, scalars = update(state, placed, np.float32(0.5))
    losses.append(float(scalars['loss']))
    norms.append(float(scalars['grad_norm']))
  # Compiled once: a state comes out of an update as it went in.
  assert update.func._cache_size() == 1
  assert jax.tree.leaves(places) == jax.tree.leaves(jax.tree.map(lambda x: x.sharding, state))
  change = jax.tree.map(lambda new, old: np.asarray(new) - old, state.params, before)
  return losses, norms, change


def assert_equal_changes(one, other, tolerance=1e-5):
  moved = 0
  for (path, left), right in zip(nnx.to_flat_state(one), jax.tree.leaves(other), strict=True):
    np.testing.assert_allclose(left[...], right, atol=tolerance, err_msg=str(path))
    moved += bool(np.abs(right).max() > 10 * tolerance)
  assert moved > 5


@pytest.fixture(scope='module')
def alone(model, clips, one_device):
  batch = clips(0)
  assert len(batch['tokens']) == 16
  return updated(model, 1, batch, one_device, 1)


@pytest.mark.parametrize(('row_tokens', 'accumulate'), [(512, 1), (512, 4), (0, 2)])
def test_rows_and_parts_change_nothing(model, clips, one_device, alone, row_tokens, accumulate):
  batch = clips(row_tokens)
  if row_tokens:
    assert len(batch['tokens']) == 8
    assert (batch['segment_ids'].max(1) > 1).any()
  losses, norms, change = updated(model, accumulate, batch, one_device, 1)
  np.testing.assert_allclose(losses, alone[0], atol=1e-5)
  np.testing.assert_allclose(norms, alone[1], rtol=1e-5)
  assert_equal_changes(change, alone[2])


@pytest.fixture(scope='module')
def wet(adapted):
  config = adapted.copy_and_resolve_references()
  config.lora.dropout = config.decoder.dropout = 0.1
  return config


@pytest.fixture(scope='module')
def on_one_device(wet, world, clips, one_device):
  return updated(build(wet, world, one_device), 1, clips(512), one_device, 5)


@pytest.mark.parametrize('shape', [(1, 8, 1), (1, 4, 2), (2, 4, 1)], ids=['fsdp8', 'fsdp4-tensor2', 'replica2-fsdp4'])
def test_a_mesh_changes_nothing(wet, world, clips, on_one_device, shape, record_property):
  mesh = sharding.make_mesh(shape)
  losses, norms, change = updated(build(wet, world, mesh), 1, clips(512), mesh, 5)
  difference = np.abs(np.subtract(losses, on_one_device[0])).max()
  record_property('largest difference of losses', f'{difference:.1e}')
  assert difference <= 1e-5
  assert losses[-1] < losses[0]
  assert_equal_changes(change, on_one_device[2], 1e-4)
