"""Where parameters and batches lie, and that it changes no result."""

import dataclasses
import pickle

import jax
import numpy as np
import pytest
from flax import nnx
from jax import P
from jax.sharding import NamedSharding

from crosstrainer_jax.models.decoder import Decoder
from crosstrainer_jax.models.decoder_config import DecoderConfig
from crosstrainer_jax.training import sharding
from crosstrainer_jax.training.sharding import make_mesh, partition_spec

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


@dataclasses.dataclass(frozen=True)
class Chip:
  """As much of a TPU's device as a mesh is arranged by."""

  id: int
  slice_index: int
  coords: tuple[int, int, int]
  core_on_chip: int = 0
  platform: str = 'tpu'
  device_kind: str = 'TPU v5 lite'
  process_index: int = 0


def pod(slices):
  return [Chip(4 * part + place, part, (place % 2, place // 2, 0)) for part in range(slices) for place in range(4)]


def test_the_outer_part_of_an_axis_goes_over_slices():
  places = sharding.arranged((1, -1, 1), pod(2))
  assert places.shape == (2, 4, 1)
  assert [{chip.slice_index for chip in part.flat} for part in places] == [{0}, {1}]
  tall = sharding.arranged((1, 2, 2), pod(2), (1, -1, 1))
  assert tall.shape == (1, 4, 2)
  # neighbours in a matrix never talk across slices
  assert all(left.slice_index == right.slice_index for left, right in tall[0])
  with pytest.raises(ValueError, match=r'mesh=\(1, 8, 1\) does not cover the 4 devices of a slice'):
    sharding.arranged((1, 8, 1), pod(2))
  with pytest.raises(ValueError, match=r'mesh_across=\(3, 1, 1\) does not cover the 2 slices'):
    sharding.arranged((1, -1, 1), pod(2), (3, 1, 1))
  with pytest.raises(ValueError, match='2 slices of different sizes, 7 devices in all'):
    sharding.arranged((1, -1, 1), pod(2)[:-1])


def test_every_row_is_made_once_on_one_process():
  assert sharding.own_rows(make_mesh((2, 2, 2)), 16) == list(range(16))


def test_rows_of_a_process_can_be_given_to_its_readers():
  for shape in ((1, 8, 1), (2, 2, 2), (1, 1, 8)):
    mesh = make_mesh(shape)
    own = pickle.loads(pickle.dumps(sharding.OwnRows.of(mesh)))
    assert own(16) == sharding.own_rows(mesh, 16)
  # the second of two processes with four devices each
  assert sharding.OwnRows(8, (4, 5, 6, 7))(16) == list(range(8, 16))
  with pytest.raises(ValueError, match='12 rows do not divide over the 8 data shards'):
    sharding.OwnRows(8, (0,))(12)


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
  assert partition_spec('w', (16, 3), ('long', None), mesh) == P(('tensor', 'fsdp'))
  assert partition_spec('w', (3, 16), (None, 'long'), make_mesh((1, 8, 1))) == P(None, 'fsdp')
  # an axis of one device splits nothing
  assert partition_spec('w', (16, 8), ('embed', 'heads'), make_mesh((1, 8, 1))) == P('fsdp')
  assert partition_spec('w', (7, 5), ('embed', 'heads'), make_mesh((8, 1, 1))) == P()


def test_a_dimension_that_does_not_divide_is_an_error_with_the_name():
  mesh = make_mesh((1, 4, 2))
  with pytest.raises(
    ValueError, match=r'decoder\.q: dimension of 10 .* the 4 parts of mesh axis fsdp; choose config\.mesh'
  ):
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
