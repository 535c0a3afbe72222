import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from crosstrainer_jax.input import examples, pipeline
from crosstrainer_jax.models import encoders
from crosstrainer_jax.training import sharding, stages
from crosstrainer_jax.training.checkpoints import CheckpointError, Checkpoints

FEEDBACK = pipeline.Task(examples.FEEDBACK, 1)


@pytest.fixture(scope='module')
def model(config, world, one_device):
  """Blueprint, fresh parameters and the update that all stages share."""
  blueprint, params = stages.build(config, len(world.words), world.feature_dim, world.video_id, 0, one_device)
  return blueprint, params, stages.make_update(blueprint, params, config.training, one_device)


@pytest.fixture
def train(config, world, one_device, model):
  def train(directory, params=None, stage=None, updates=5, seed=0, update=None, video=world.video, config=config):
    return stages.train_stage(
      directory,
      directory.name,
      update or model[2],
      model[0],
      model[1] if params is None else params,
      stage or world.stage(),
      video,
      config.training,
      updates,
      mesh=one_device,
      seed=seed,
    )

  return train


def assert_same(one, other):
  for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
    np.testing.assert_array_equal(a, b)


def broken(*_):
  raise AssertionError('this must not be called')


def test_fresh_parameters_follow_the_seed(config, world, one_device, eight_devices, model):
  blueprint, params, _ = model
  sizes = (len(world.words), world.feature_dim, world.video_id)
  _, again = stages.build(config, *sizes, 0, eight_devices)
  # the same numbers, wherever they are made
  assert_same(again, params)
  assert {leaf.sharding.mesh for leaf in jax.tree.leaves(again)} == {eight_devices}
  assert again['mapper']['fc2']['bias'].get_value().sharding.spec == jax.P('fsdp')
  _, other = stages.build(config, *sizes, 1, one_device)
  kernels = [np.asarray(made['mapper']['fc1']['kernel'].get_value()) for made in (params, other)]
  assert (kernels[0] != kernels[1]).any()
  assert blueprint.merge(params).decoder.config.hidden_size == 16


def test_a_stage_trains_and_leaves_its_marks(train, model, tmp_path, capsys):
  _, params, _ = model
  before = jax.tree.map(np.asarray, params)
  trained = train(tmp_path / 'stage1')
  assert json.loads((tmp_path / 'stage1' / 'done.json').read_text())['updates'] == 5
  assert 'stage1: 5 updates' in capsys.readouterr().out
  # the caller's parameters live on
  assert_same(params, before)
  pairs = zip(nnx.to_flat_state(trained), jax.tree.leaves(before), strict=True)
  moved = {'/'.join(path): bool((np.asarray(after) != old).any()) for (path, after), old in pairs}
  # statistics are no part of training
  still = {name for name, changed in moved.items() if not changed}
  assert still == {'mapper/whitening/mean', 'mapper/whitening/matrix'}


def test_a_finished_stage_is_read_back(train, tmp_path, capsys):
  trained = train(tmp_path / 'stage1')
  done = (tmp_path / 'stage1' / 'done.json').read_text()
  again = train(tmp_path / 'stage1', update=broken, video=broken)
  assert_same(again, trained)
  assert (tmp_path / 'stage1' / 'done.json').read_text() == done
  assert 'done before (5 updates)' in capsys.readouterr().out


# where reading fails, what else was being read has nobody left to tell
@pytest.mark.filterwarnings('ignore::pytest.PytestUnraisableExceptionWarning')
def test_a_bit_that_flips_in_the_parameters_of_a_finished_stage_is_seen(train, tmp_path):
  stage = tmp_path / 'stage1'
  trained = train(stage)
  file = max((stage / 'params').rglob('d/*'), key=lambda path: path.stat().st_size)
  data = bytearray(file.read_bytes())
  data[len(data) // 2] ^= 4
  file.write_bytes(data)
  with pytest.raises(CheckpointError, match=r'params is not what was written: .*flipped.* Delete done\.json'):
    train(stage)
  (stage / 'done.json').unlink()
  assert_same(train(stage, update=broken), trained)
  assert_same(train(stage, update=broken), trained)


def test_a_killed_stage_goes_on_to_the_same_parameters(train, model, tmp_path):
  update, calls = model[2], 0

  def killed(*args):
    nonlocal calls
    calls += 1
    if calls == 4:
      raise KeyboardInterrupt
    return update(*args)

  whole = train(tmp_path / 'whole' / 'stage1')
  with pytest.raises(KeyboardInterrupt):
    train(tmp_path / 'killed' / 'stage1', update=killed)
  assert not (tmp_path / 'killed' / 'stage1' / 'done.json').exists()
  assert Checkpoints(tmp_path / 'killed' / 'stage1' / 'checkpoints').latest() == 2
  assert_same(train(tmp_path / 'killed' / 'stage1'), whole)


def test_another_seed_is_another_order(train, tmp_path):
  one, other = (train(tmp_path / f'stage{seed}', updates=1, seed=seed) for seed in (0, 1))
  assert any((a != b).any() for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True))


def test_stages_share_compilations(train, world, model, tmp_path):
  update = model[2]
  first = train(tmp_path / 'stage1')
  compiled = update.func._cache_size()
  # other clips, other parameters and another length, but the same shapes
  train(tmp_path / 'fold', stage=world.stage(train=range(5, 24)), updates=3)
  second = train(tmp_path / 'more', first, world.stage(train=range(12)), updates=2)
  train(tmp_path / 'read', stages.checkpoints.load_params(tmp_path / 'more' / 'params', first), updates=2)
  assert update.func._cache_size() == compiled
  # a task with longer examples is compiled once more, also between batches of the other
  mixed = world.stage(FEEDBACK, pipeline.Task(examples.ATTRIBUTES, 1))
  train(tmp_path / 'stage2', second, mixed, updates=6)
  assert update.func._cache_size() == compiled + 1


def test_the_loss_falls_on_what_is_learnt_by_heart(config, train, world, model, tmp_path):
  blueprint, params, _ = model
  fast = config.copy_and_resolve_references()
  fast.training.optimizer.learning_rate = 0.02
  fast.training.save_every = 100
  learnt = train(tmp_path / 'heart', stage=world.stage(), updates=60, config=fast)
  batch = pipeline.Updates(world.stage(), world.video, 8, 5, 60)(0)
  loss = jax.jit(stages.make_loss(blueprint))
  totals = [loss(p, nnx.State({}), batch, jax.random.key(0)) for p in (params, learnt)]
  means = [float(total / weight) for total, weight, _ in totals]
  assert means[0] > 4
  assert means[1] < 0.25 * means[0]
  assert totals[1][2]['tokens'][0] == (batch['segment_ids'] > 0).sum()
  assert totals[1][2]['token_accuracy'][0] > totals[0][2]['token_accuracy'][0]


def test_validation_loss_is_the_mean_over_target_tokens_without_dropout(config, world, one_device, model):
  blueprint, params, _ = model
  stage = world.stage(FEEDBACK, pipeline.Task(examples.ATTRIBUTES, 1), train=range(8))
  evaluate = stages.make_evaluate(blueprint, params, stage, world.video, config.training, one_device)
  found = evaluate(params)
  assert set(found) == {'validation/feedback/loss', 'validation/attributes/loss'}
  assert evaluate(params) == found
  # untrained, every token is about as likely
  for value in found.values():
    assert value == pytest.approx(np.log(len(world.words)), rel=0.1)
  whole = dataclasses.replace(stage, tasks=[FEEDBACK], view_dropout=0.0)
  batch = pipeline.Updates(whole, world.video, 8, 0, 1)(0)
  total, weight, _ = stages.make_loss(blueprint)(params, nnx.State({}), batch, jax.random.key(0))
  assert found['validation/feedback/loss'] == pytest.approx(float(total / weight), rel=1e-5)


def test_updates_of_a_stage():
  def updates(epochs, clips):
    return stages.updates_of(epochs, clips, 8)

  assert updates(2.0, 16) == 4
  assert updates(1.0, 17) == 3
  assert updates(0.5, 32) == 2
  assert updates(0.1, 3) == 1


def test_dropout_follows_the_key(config, world, one_device, first_batch):
  wet = config.copy_and_resolve_references().unlock()
  wet.decoder.dropout = 0.3
  blueprint, params = stages.build(wet, len(world.words), world.feature_dim, world.video_id, 0, one_device)
  loss = jax.jit(stages.make_loss(blueprint))
  losses = [float(loss(params, nnx.State({}), first_batch, jax.random.key(seed))[0]) for seed in (0, 1, 0)]
  assert losses[0] == losses[2] != losses[1]
  # the parameters hold no stream of random numbers
  assert all(jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in jax.tree.leaves(params))


def test_a_joint_encoder_starts_as_given_and_learns(config, world, one_device, first_batch):
  settings, module = encoders.build(
    'video_transformer',
    {'image_size': 16, 'fps': 2, 'channels': 4, 'keypoints': 2, 'width': 8, 'layers': 1, 'heads': 2, 'feature_dim': 6},
    seed=7,
  )
  encoder = encoders.Encoder('video_transformer', settings, *nnx.split(module, nnx.Param), 'fresh')
  blueprint, params = stages.build(
    config, len(world.words), settings.feature_dim, world.video_id, 0, one_device, encoder
  )
  assert_same(params['encoder'], encoder.params)
  frames = np.random.default_rng(0).integers(0, 256, (8, 1, 2, 4, 16, 16, 3), np.uint8)
  batch = {name: value for name, value in first_batch.items() if name != 'features'} | {'frames': frames}
  loss = stages.make_loss(blueprint)
  gradients = jax.jit(jax.grad(lambda params: loss(params, nnx.State({}), batch, jax.random.key(0))[0]))(params)
  sizes = [float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(gradients['encoder'])]
  assert np.mean(np.array(sizes) > 0) > 0.8
  assert sharding.put_batch(batch, one_device)['frames'].dtype == np.uint8
