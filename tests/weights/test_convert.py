import re

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from flax import nnx
from jax.sharding import NamedSharding, PartitionSpec
from safetensors.numpy import save_file

from crosstrainer_jax.weights import convert
from crosstrainer_jax.weights.convert import LINEAR, Source
from crosstrainer_jax.weights.tensors import Tensors

LAYERS, D, F, P = 4, 8, 16, 2
RNG = np.random.default_rng(0)


def random(*shape):
  return RNG.standard_normal(shape).astype(np.float32)


# What another program wrote, one tensor of each kind.
FILE = {
  'embed.weight': random(24, D),
  'head.weight': random(F, D),
  'patch.weight': random(D, 3, P, P),
  'position': random(1, 16, D),
  'permuted': random(D, 8, F),
  'scale': random(),
  'one': random(1),
  **{f'layers.{i}.fc.weight': random(F, D) for i in range(LAYERS)},
  **{f'layers.{i}.fc.bias': random(F) for i in range(LAYERS)},
  **{f'layers.{i}.conv.weight': random(D, 2, 4) for i in range(LAYERS)},
  **{f'layers.{i}.alpha': random(1) for i in range(LAYERS)},
}


def layers(name, arrange=lambda x: x):
  return np.stack([arrange(FILE[f'layers.{i}.{name}']) for i in range(LAYERS)])


# Our parameters, where they come from, what they must be, and their axes on the meshes below.
SOURCES = {
  'embedding': Source('embed.weight'),
  'head/kernel': Source('head.weight', LINEAR),
  'patch/kernel': Source('patch.weight', (2, 3, 1, 0)),
  'position': Source('position'),
  'permuted': Source('permuted', (1, 2, 0)),
  'scale': Source('scale'),
  'one': Source('one'),
  'blocks/fc/kernel': Source('layers.{}.fc.weight', LINEAR),
  'blocks/fc/bias': Source('layers.{}.fc.bias'),
  'blocks/conv': Source('layers.{}.conv.weight', (2, 1, 0)),
  'blocks/alpha': Source('layers.{}.alpha'),
}
EXPECTED = {
  'embedding': FILE['embed.weight'],
  'head/kernel': FILE['head.weight'].T,
  'patch/kernel': FILE['patch.weight'].transpose(2, 3, 1, 0).reshape(P * P * 3, D),
  'position': FILE['position'].reshape(16, D),
  'permuted': FILE['permuted'].transpose(1, 2, 0),
  'scale': FILE['scale'],
  'one': FILE['one'].reshape(()),
  'blocks/fc/kernel': layers('fc.weight', np.transpose),
  'blocks/fc/bias': layers('fc.bias'),
  'blocks/conv': layers('conv.weight', lambda x: x.transpose(2, 1, 0).reshape(8, D)),
  'blocks/alpha': layers('alpha', np.squeeze),
}
SPECS = {
  'replicated': {},
  'fsdp': {
    'embedding': ('fsdp',), 'head/kernel': ('fsdp', None), 'patch/kernel': (None, 'fsdp'), 'position': (None, 'fsdp'),
    'permuted': ('fsdp',), 'blocks/fc/kernel': (None, 'fsdp', None), 'blocks/conv': (None, 'fsdp'),
  },
  'tensor': {
    'embedding': (None, 'tensor'), 'head/kernel': (None, 'tensor'), 'patch/kernel': (None, 'tensor'),
    'position': ('tensor',), 'permuted': (None, 'tensor'), 'blocks/fc/kernel': (None, None, 'tensor'),
    'blocks/fc/bias': (None, 'tensor'), 'blocks/conv': (None, None, 'tensor'),
  },
  'fsdp and tensor': {
    'embedding': ('fsdp', 'tensor'), 'head/kernel': ('fsdp', 'tensor'), 'position': (('fsdp', 'tensor'),),
    'permuted': ('tensor', None, 'fsdp'), 'blocks/fc/kernel': ('fsdp', None, 'tensor'), 'blocks/alpha': ('fsdp',),
    'blocks/fc/bias': ('fsdp', 'tensor'),
  },
}  # fmt: skip
MESHES = {'replicated': (8, 1), 'fsdp': (8, 1), 'tensor': (1, 8), 'fsdp and tensor': (4, 2)}


def abstract(shapes, dtype=jnp.float32, shardings=None):
  """A state without numbers, as of `nnx.eval_shape`."""
  variables = {
    tuple(path.split('/')): nnx.Param(jax.ShapeDtypeStruct(shape, dtype, sharding=(shardings or {}).get(path)))
    for path, shape in shapes.items()
  }
  return nnx.from_flat_state(list(variables.items()))


def like(dtype=jnp.float32, shardings=None):
  return abstract({path: value.shape for path, value in EXPECTED.items()}, dtype, shardings)


def values(state):
  return {path: variable.get_value() for path, variable in convert.flat(state).items()}


@pytest.fixture
def tensors(tmp_path):
  save_file(FILE, tmp_path / 'model.safetensors')
  return Tensors(tmp_path)


def test_every_kind_of_parameter(tensors):
  """Transposed, stacked, reshaped and scalar, on one device."""
  found = values(convert.load(tensors, SOURCES, like()))
  assert set(found) == set(EXPECTED)
  for path, value in EXPECTED.items():
    assert found[path].dtype == jnp.float32
    assert found[path].devices() == {jax.devices()[0]}
    np.testing.assert_array_equal(found[path], value, err_msg=path)


@pytest.mark.parametrize(('kind', 'piece'), [*((kind, 2**25) for kind in SPECS), ('fsdp and tensor', 48)])
def test_sharded_over_eight_devices(kind, piece, tensors, monkeypatch):
  """Each device gets its own part and nothing more, also where it is written in many pieces."""
  monkeypatch.setattr(convert, 'PIECE', piece)
  mesh = jax.make_mesh(MESHES[kind], ('fsdp', 'tensor'), axis_types=(jax.sharding.AxisType.Auto,) * 2)
  shardings = {path: NamedSharding(mesh, PartitionSpec(*SPECS[kind].get(path, ()))) for path in EXPECTED}
  found = values(convert.load(tensors, SOURCES, like(shardings=shardings)))
  for path, value in EXPECTED.items():
    assert found[path].sharding == shardings[path]
    assert len(found[path].addressable_shards) == 8
    for shard in found[path].addressable_shards:
      assert shard.data.shape == shardings[path].shard_shape(value.shape)
      np.testing.assert_array_equal(shard.data, value[shard.index], err_msg=path)


def test_pieces_are_small(tensors, monkeypatch):
  """Nothing but a piece goes to a device beside the parameter itself."""
  monkeypatch.setattr(convert, 'PIECE', 96)
  sent = []
  put = jax.device_put

  def record(value, place):
    sent.append(np.asarray(value).nbytes)
    return put(value, place)

  monkeypatch.setattr(jax, 'device_put', record)
  paths = ('embedding', 'head/kernel', 'permuted', 'blocks/fc/kernel')
  state = abstract({path: EXPECTED[path].shape for path in paths})
  found = values(convert.load(tensors, {path: SOURCES[path] for path in paths}, state, ignored=['.']))
  for path in paths:
    np.testing.assert_array_equal(found[path], EXPECTED[path], err_msg=path)
  # one row is the least that is sent
  assert max(sent) <= max(96, FILE['permuted'][:1].nbytes)
  assert sum(sent) == sum(EXPECTED[path].nbytes for path in paths)


@pytest.mark.parametrize('dtype', [jnp.float32, jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize('stored', [np.float32, np.float16, ml_dtypes.bfloat16, np.float64])
def test_types(dtype, stored, tmp_path):
  """The parameter's type is the model's, rounded once."""
  content = {name: value.astype(stored) for name, value in FILE.items()}
  save_file(content, tmp_path / 'model.safetensors')
  paths = {'scale': 'scale', 'embedding': 'embed.weight', 'one': 'one'}
  state = abstract({path: EXPECTED[path].shape for path in paths}, dtype)
  found = values(convert.load(Tensors(tmp_path), {path: SOURCES[path] for path in paths}, state, ignored=['.']))
  for path, name in paths.items():
    assert found[path].dtype == dtype
    wanted = content[name].astype(np.float32).astype(dtype).reshape(EXPECTED[path].shape)
    np.testing.assert_array_equal(found[path], wanted)


def test_whole_numbers(tmp_path):
  save_file({'ids': np.arange(5)}, tmp_path / 'model.safetensors')
  found = convert.load(Tensors(tmp_path), {'ids': Source('ids')}, abstract({'ids': (5,)}, jnp.int32))
  assert values(found)['ids'].dtype == jnp.int32
  np.testing.assert_array_equal(values(found)['ids'], range(5))


def test_a_module(tmp_path):
  """As a model is loaded: no parameter is made before, and other variables and metadata stay."""

  class Model(nnx.Module):
    def __init__(self, rngs):
      self.linear = nnx.Linear(D, F, kernel_metadata={'logical_axes': ('embed', 'mlp')}, rngs=rngs)
      self.norms = nnx.List([nnx.LayerNorm(D, rngs=rngs) for _ in range(2)])

  names = {'linear/kernel': Source('fc.weight', LINEAR), 'linear/bias': Source('fc.bias')}
  names |= {f'norms/{i}/{ours}': Source(f'norm{i}.{theirs}') for i in range(2)
            for ours, theirs in (('scale', 'weight'), ('bias', 'bias'))}  # fmt: skip
  content = {'fc.weight': random(F, D), 'fc.bias': random(F)}
  content |= {f'norm{i}.{name}': random(D) for i in range(2) for name in ('weight', 'bias')}
  save_file(content, tmp_path / 'model.safetensors')

  graph, state = nnx.split(nnx.eval_shape(lambda: Model(nnx.Rngs(0))), nnx.Param)
  loaded = convert.load(Tensors(tmp_path), names, state)
  model = nnx.merge(graph, loaded)
  assert model.linear.kernel.logical_axes == ('embed', 'mlp')
  np.testing.assert_array_equal(model.norms[1].bias.get_value(), content['norm1.bias'])
  x = random(3, D)
  np.testing.assert_allclose(model.linear(x), x @ content['fc.weight'].T + content['fc.bias'], atol=1e-5)


def test_flat_names_by_path():
  state = abstract({'layers/q/kernel': (2, 3), 'norm/scale': (3,)})
  assert {path: variable.shape for path, variable in convert.flat(state).items()} == {
    'layers/q/kernel': (2, 3),
    'norm/scale': (3,),
  }


def test_prefix(tmp_path):
  """Names of the file begin with it; what does not is left alone."""
  content = {f'module.model.{name}': value for name, value in FILE.items()}
  save_file({**content, 'optimizer.step': random(), 'model.head.weight': random(1)}, tmp_path / 'model.safetensors')
  found = values(convert.load(Tensors(tmp_path), SOURCES, like(), prefix='module.model.'))
  np.testing.assert_array_equal(found['head/kernel'], EXPECTED['head/kernel'])
  with pytest.raises(
    ValueError, match=r'missing: .*embed\.weight.*not known here: model\.head\.weight, module\.model\.'
  ):
    convert.load(Tensors(tmp_path), SOURCES, like())


def test_prefix_and_what_is_ignored(tmp_path):
  """`ignored` says names without the prefix, and is matched from their beginning."""
  content = {f'm.{name}': value for name, value in FILE.items()}
  save_file({**content, 'm.text.x': random(1), 'm.layers.0.text.x': random(1)}, tmp_path / 'model.safetensors')
  with pytest.raises(ValueError, match=r'fit the model\. 1 not known here: m\.layers\.0\.text\.x$'):
    convert.load(Tensors(tmp_path), SOURCES, like(), [r'text\.'], 'm.')
  convert.load(Tensors(tmp_path), SOURCES, like(), [r'text\.', r'layers\.\d+\.text'], 'm.')


def test_everything_that_does_not_fit_is_listed_at_once(tmp_path):
  content = dict(FILE)
  for name in ('embed.weight', 'layers.2.fc.bias'):
    del content[name]
  content |= {'buffer': random(1), 'layers.4.fc.bias': random(F)}
  content |= {'head.weight': random(D, F), 'layers.1.fc.weight': random(F, D + 1), 'scale': random(2)}
  content |= {'patch.weight': random(D, 3 * P * P), 'position': random(1, 15, D), 'layers.3.alpha': random(2)}
  save_file(content, tmp_path / 'model.safetensors')
  with pytest.raises(ValueError) as caught:
    convert.load(Tensors(tmp_path), SOURCES, like())
  message = str(caught.value)
  assert message.startswith(f'{tmp_path}: these weights do not fit the model. ')
  assert '2 missing: embed.weight, layers.2.fc.bias; ' in message
  assert '2 not known here: buffer, layers.4.fc.bias; ' in message
  assert message.endswith(
    f'6 of another shape: head.weight is [{D}, {F}], head/kernel needs [{D}, {F}], '
    f'layers.1.fc.weight is [{F}, {D + 1}], blocks/fc/kernel needs [{D}, {F}], '
    'layers.3.alpha is [2], blocks/alpha needs [], '
    f'patch.weight is [{D}, 12], patch/kernel needs [12, {D}], '
    f'position is [1, 15, {D}], position needs [16, {D}], '
    'scale is [2], scale needs []'
  )


def test_one_tensor_for_two_parameters(tmp_path):
  """Tied weights: each gets it in its own order, and each must fit."""
  save_file({'tied': random(3, 5)}, tmp_path / 'model.safetensors')
  tensors = Tensors(tmp_path)
  sources = {'embedding': Source('tied'), 'head': Source('tied', LINEAR)}
  found = values(convert.load(tensors, sources, abstract({'embedding': (3, 5), 'head': (5, 3)})))
  np.testing.assert_array_equal(found['embedding'], tensors['tied'].read())
  np.testing.assert_array_equal(found['head'], tensors['tied'].read().T)
  with pytest.raises(ValueError, match=re.escape('tied is [3, 5], embedding needs [4, 5]')):
    convert.load(tensors, sources, abstract({'embedding': (4, 5), 'head': (5, 3)}))


def test_sources_that_do_not_fit_the_module(tensors):
  """A mistake of ours, not of the file."""
  sources = {path: source for path, source in SOURCES.items() if path != 'scale'} | {'scales': Source('scale')}
  with pytest.raises(AssertionError, match=r"sources do not fit the module: \['scale', 'scales'\]"):
    convert.load(tensors, sources, like())


def test_names_of_a_source():
  assert Source('layers.{}.w').names(3) == ['layers.0.w', 'layers.1.w', 'layers.2.w']
  assert Source('w').names(3) == ['w']


def test_strided_tensors_of_a_file(tensors):
  """A transposed view, as files of PyTorch hold them, is read in its own order."""
  tensor = tensors['head.weight']
  rows, columns = tensor.shape
  view = type(tensor)(tensor.file, (columns, rows), tensor.dtype, tensor.offset, (4, 4 * columns))

  class Views(Tensors):
    def __init__(self):
      self.path, self._tensors = tensor.file, {'view': view}

  found = convert.load(Views(), {'w': Source('view')}, abstract({'w': (columns, rows)}))
  np.testing.assert_array_equal(values(found)['w'], FILE['head.weight'].T)
