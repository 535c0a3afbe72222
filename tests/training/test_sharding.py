"""Where parameters and batches lie, and that it changes no result."""

import jax
import numpy as np
import pytest
from flax import nnx
from jax import P
from jax.sharding import NamedSharding

from crosstrainer_jax.models.decoder import Decoder, DecoderConfig
from crosstrainer_jax.training import sharding, stages
from crosstrainer_jax.training.sharding import make_mesh, partition_spec
from crosstrainer_jax.training.step import init_state

TINY = {'hidden_size': 16, 'intermediate_size': 24, 'num_layers': 2, 'num_heads': 4, 'num_kv_heads': 2, 'head_dim': 4}


@pytest.mark.parametrize(
  ('shape', 'sizes'),
  [((1, -1, 1), (1, 8, 1)), ((2, -1, 2), (2, 2, 2)), ((-1, 4, 1), (2, 4, 1)), ((1, 2, 4), (1, 2, 4))],
)
def test_a_mesh_covers_all_devices(shape, sizes):
  mesh = make_mesh(shape)
  assert tuple(mesh.shape[axis] for axis in sharding.MESH_AXES) == sizes
  assert set(mesh.devices.flat) == set(jax.devices())


@pytest.mark.parametrize(
  ('shape', 'message'),
  [
    ((3, -1, 1), 'does not cover the 8 devices; write -1'),
    ((1, 4, 1), 'does not cover the 8 devices'),
    ((1, 16, 1), 'does not cover the 8 devices'),
    ((-1, -1, 1), 'at most one of them -1'),
    ((0, -1, 1), 'one size for each of'),
    ((1, -2, 4), 'one size for each of'),
    ((1, 8), r"one size for each of \('replica', 'fsdp', 'tensor'\)"),
  ],
)
def test_a_wrong_mesh_is_a_clear_error(shape, message):
  with pytest.raises(ValueError, match=message):
    make_mesh(shape)


def test_a_batch_is_split_over_the_data_axes():
  mesh = make_mesh((2, 2, 2))
  put = sharding.put_batch({'a': np.arange(8), 'b': np.zeros((8, 3), np.uint8)}, mesh)
  assert put['a'].sharding == sharding.batch_sharding(mesh)
  assert {len(shard.data) for shard in put['b'].addressable_shards} == {2}
  assert put['b'].dtype == np.uint8
  np.testing.assert_array_equal(put['a'], np.arange(8))
  assert sharding.data_shards(mesh) == 4


def test_a_batch_that_does_not_divide_is_a_clear_error():
  with pytest.raises(ValueError, match=r'6 rows does not divide over the 8 data shards .* multiple of 8'):
    sharding.put_batch({'a': np.zeros(6)}, make_mesh())


def test_partition_specs():
  mesh = make_mesh((1, 4, 2))
  assert partition_spec('w', (2, 16, 8), ('layers', 'embed', 'heads'), mesh) == P(None, 'fsdp', 'tensor')
  assert partition_spec('w', (16, 6), ('embed', 'unknown'), mesh) == P('fsdp')
  assert partition_spec('w', (5, 3), None, mesh) == P()
  # an axis of one device splits nothing
  assert partition_spec('w', (16, 8), ('embed', 'heads'), make_mesh((1, 8, 1))) == P('fsdp')
  assert partition_spec('w', (7, 5), ('embed', 'heads'), make_mesh((8, 1, 1))) == P()


def test_a_dimension_that_does_not_divide_is_an_error_with_the_name():
  mesh = make_mesh((1, 4, 2))
  with pytest.raises(ValueError, match=r"decoder\.q: dimension of 10 .* mesh axis 'fsdp' of 4; choose config\.mesh"):
    partition_spec('decoder.q', (10, 8), ('embed', 'heads'), mesh)


def test_two_dimensions_on_one_mesh_axis_are_an_error_with_the_name():
  for shape in ((1, 4, 2), (8, 1, 1)):
    with pytest.raises(ValueError, match=r"decoder\.q: .*\('heads', 'mlp'\) put two dimensions on one mesh axis"):
      partition_spec('decoder.q', (8, 8), ('heads', 'mlp'), make_mesh(shape))


def test_the_state_of_a_decoder_is_split_by_the_rules():
  mesh = make_mesh((1, 4, 2))
  config = DecoderConfig(vocab_size=32, tie_embeddings=False, **TINY)
  state = nnx.state(nnx.eval_shape(lambda: Decoder(config, nnx.Rngs(0))), nnx.Param)
  places = sharding.state_shardings(state, mesh)
  assert jax.tree.structure(places) == jax.tree.structure(state)
  specs = {
    '/'.join(str(getattr(key, 'key', key)) for key in path[:-1]): place.spec
    for path, place in jax.tree_util.tree_leaves_with_path(places)
  }
  assert specs == {
    'embedding/embedding': P('tensor', 'fsdp'),
    'final_norm/scale': P('fsdp'),
    'layers/attention/k_proj/kernel': P(None, 'fsdp', 'tensor'),
    'layers/attention/o_proj/kernel': P(None, 'tensor', 'fsdp'),
    'layers/attention/q_proj/kernel': P(None, 'fsdp', 'tensor'),
    'layers/attention/v_proj/kernel': P(None, 'fsdp', 'tensor'),
    'layers/input_norm/scale': P(None, 'fsdp'),
    'layers/mlp/down_proj/kernel': P(None, 'tensor', 'fsdp'),
    'layers/mlp/gate_proj/kernel': P(None, 'fsdp', 'tensor'),
    'layers/mlp/up_proj/kernel': P(None, 'fsdp', 'tensor'),
    'layers/post_attention_norm/scale': P(None, 'fsdp'),
    'lm_head/kernel': P('fsdp', 'tensor'),
  }


def test_a_parameter_without_axes_is_everywhere():
  mesh = make_mesh()
  state = nnx.state(nnx.eval_shape(lambda: nnx.Linear(3, 5, rngs=nnx.Rngs(0))), nnx.Param)
  places = jax.tree.leaves(sharding.state_shardings(state, mesh))
  assert places == [NamedSharding(mesh, P())] * 2


def two_losses(config, world, batch, mesh):
  """Losses of two updates, and the shardings before and after them."""
  blueprint, params = stages.build(config, len(world.words), world.feature_dim, world.video_id, 0, mesh)
  state = init_state(params, stages.optimizer.make_optimizer(config.training.optimizer), 0)
  update = stages.make_update(blueprint, params, config.training.optimizer, mesh)
  before, losses = jax.tree.map(lambda x: x.sharding, state), []
  for _ in range(2):
    state, scalars = update(state, sharding.put_batch(batch, mesh), np.float32(0.01))
    losses.append(float(scalars['loss']))
  assert update.func._cache_size() == 1
  return losses, before, jax.tree.map(lambda x: x.sharding, state)


@pytest.fixture(scope='module')
def expected(config, world, one_device, first_batch):
  return two_losses(config, world, first_batch, one_device)[0]


@pytest.mark.parametrize('shape', [(1, 8, 1), (1, 4, 2)])
def test_the_loss_is_that_of_one_device(config, world, first_batch, expected, shape):
  losses, before, after = two_losses(config, world, first_batch, make_mesh(shape))
  np.testing.assert_allclose(losses, expected, atol=1e-5)
  assert expected[1] < expected[0]
  assert jax.tree.leaves(before) == jax.tree.leaves(after)
  assert any(not place.is_fully_replicated for place in jax.tree.leaves(before))
