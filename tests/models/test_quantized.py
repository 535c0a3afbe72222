"""Kernels in 4 bits: qwix's own numbers, layer by layer, near the whole ones, frozen, loaded in bounded memory."""

import dataclasses
import functools
import importlib.metadata
import math
import pathlib
import sys

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest
from flax import nnx

from crosstrainer_jax.configs import paper
from crosstrainer_jax.models import llama_family, peft_adapter, pretrained, quantized
from crosstrainer_jax.models.attention import mask_of
from crosstrainer_jax.models.decoder import Decoder, Visible
from crosstrainer_jax.models.decoder_config import DecoderConfig
from crosstrainer_jax.models.lora import LoRAConfig, merged
from crosstrainer_jax.models.quantized import QuantizedLoRALinear
from crosstrainer_jax.models.rotary import rotary_angles, rotary_frequencies
from crosstrainer_jax.training import optimizer, sharding, stages
from crosstrainer_jax.training.step import init_state
from crosstrainer_jax.weights import convert
from crosstrainer_jax.weights.tensors import Tensors

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from hub_directories import LLAMA, write_llama  # noqa: E402

qwix = pytest.importorskip('qwix')

KINDS = ('nf4', 'int4')
LORA = LoRAConfig(rank=4, alpha=8.0, dropout=0.0)
SMALL = DecoderConfig(vocab_size=40, hidden_size=64, intermediate_size=128, num_layers=2, num_heads=4, num_kv_heads=2,
                      head_dim=16, lora=LORA)  # fmt: skip
LLAMA_8B = DecoderConfig(
  vocab_size=128_256, hidden_size=4096, intermediate_size=14_336, num_layers=32, num_heads=32, num_kv_heads=8,
  head_dim=128, tie_embeddings=False, max_position=8192, dtype='bfloat16', param_dtype='bfloat16', lora=LoRAConfig(),
)  # fmt: skip


def close(a, b, atol=1e-5):
  np.testing.assert_allclose(np.asarray(a, np.float32), np.asarray(b, np.float32), atol=atol, rtol=0)


def inputs(config=SMALL, rows=2, length=7):
  x = jax.random.normal(jax.random.key(3), (rows, length, config.hidden_size))
  return x, jnp.tile(jnp.arange(length), (rows, 1)), jnp.ones((rows, length), jnp.int32)


@functools.cache
def make(kind='', **changes):
  """Decoders that differ in nothing but how their kernels are held; adapters do something."""
  config = dataclasses.replace(SMALL, quantize=kind, quantize_tile=32, **changes)

  def create():
    decoder = Decoder(config, nnx.Rngs(params=0, dropout=1))
    linears = [getattr(part, name) for part, name in places(decoder)]
    for number, linear in enumerate(linears):
      linear.lora_b[...] = 0.1 * jax.random.normal(jax.random.key(number), linear.lora_b.shape)
    return decoder

  # how the layers are gone through changes nothing of what they hold
  held = {name: value for name, value in changes.items() if name not in ('remat', 'unroll')}
  if held != changes:
    return nnx.merge(nnx.graphdef(nnx.eval_shape(create)), nnx.state(make(kind, **held)), copy=True)
  return nnx.jit(create)()


def places(decoder):
  """Every linear layer of a block: the module that holds it, and its name."""
  paths = (path.split('/') for path in llama_family.linears())
  return [(getattr(decoder.layers, part), name) for part, name in paths]


@functools.partial(jax.jit, static_argnums=(1, 2))
def reference(kernel, kind, tile):
  """What qwix makes of a kernel, and what that stands for."""
  theirs = {'nf4': 'nf4', 'int4': jnp.int4}[kind]
  packed = qwix.quantize(kernel.astype(jnp.float32), theirs, tiled_axes={0: tile}, channelwise_axes=(1,))
  return packed, qwix.dequantize(packed)


@nnx.jit
def whole_kernel(kernel):
  return kernel.dequantized()


def dequantised(decoder):
  """The decoder of `make()`, with the kernels that those of `decoder` stand for."""
  whole = nnx.clone(make())
  for (part, name), (other, _) in zip(places(decoder), places(whole), strict=True):
    getattr(other, name).kernel[...] = whole_kernel(getattr(part, name).kernel)
  return whole


@nnx.jit
def run(decoder, x, positions, segments):
  return decoder(x, positions, segments)[0]


# --- (a) numbers


@pytest.mark.parametrize('dtype', [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize('kind', KINDS)
def test_numbers_are_those_of_qwix(kind, dtype):
  kernel = jax.random.normal(jax.random.key(0), (128, 24)).astype(dtype)
  layer = nnx.jit(lambda kernel: quantized.QuantizedKernel(kernel, kind, 64, ('embed', 'mlp')))(kernel)
  packed, _ = reference(kernel, kind, 64)
  assert (layer.qvalue.dtype, layer.qvalue.shape) == (jnp.uint8, (64, 24))
  np.testing.assert_array_equal(quantized.unpack(layer.qvalue[...], kind), packed.qvalue.astype(int))
  np.testing.assert_array_equal(layer.scale[...], packed.scale.astype(dtype))
  assert layer.scale.shape == (2, 24)
  rounded = dataclasses.replace(packed, scale=packed.scale.astype(dtype).astype(jnp.float32))
  np.testing.assert_array_equal(layer.dequantized(), qwix.dequantize(rounded))


def test_every_layer_of_the_stack_is_quantised_alone():
  found, whole = dequantised(make('nf4')), make()
  for (part, name), (other, _) in zip(places(found), places(whole), strict=True):
    kernels, originals = getattr(part, name).kernel[...], getattr(other, name).kernel[...]
    for kernel, original in zip(kernels, originals, strict=True):
      close(kernel, reference(original, 'nf4', 32)[1], 1e-6)


def test_nf4_beats_int4_on_normal_numbers():
  """Error of a kernel, in units of its standard deviation; 64 numbers to a scale."""
  kernel = jax.random.normal(jax.random.key(0), (1024, 256))
  errors = {}
  for kind in KINDS:
    errors[kind] = float(jnp.std(reference(kernel, kind, 64)[1] - kernel))
  assert errors['nf4'] == pytest.approx(0.092, abs=2e-3)
  assert errors['int4'] == pytest.approx(0.103, abs=2e-3)


# --- (b), (c) the decoder


@pytest.mark.parametrize('kind', KINDS)
def test_scanned_is_layer_by_layer(kind):
  decoder, (x, positions, segments) = make(kind), inputs()
  graph, state = nnx.split(decoder.layers)
  angles = rotary_angles(positions, rotary_frequencies(SMALL.head_dim, SMALL.rope_theta))
  mask, hidden = mask_of(segments, segments), x
  block = nnx.jit(lambda layer, x: layer(x, angles, Visible(segments, mask, 'xla', None)))
  for number in range(SMALL.num_layers):
    layer = nnx.merge(graph, jax.tree.map(lambda leaf: leaf[number], state))  # noqa: B023
    hidden, _ = block(layer, hidden)
  close(run(decoder, x, positions, segments), decoder.final_norm(hidden))
  close(run(make(kind, unroll=True), x, positions, segments), decoder.final_norm(hidden))


@pytest.mark.parametrize('kind', KINDS)
def test_it_is_the_decoder_with_the_dequantised_kernels(kind):
  """With caches and adapters: a whole decoder, whose kernels are replaced, gives the same."""
  decoder = make(kind)
  whole = dequantised(decoder)
  x, positions, segments = inputs()
  close(run(decoder, x, positions, segments), run(whole, x, positions, segments))
  cache = decoder.init_cache(2, 7)
  step = nnx.jit(lambda decoder, at, cache: decoder(x[:, at], positions[:, at], segments[:, at], cache=cache))
  _, cache = step(decoder, jnp.arange(4), cache)
  last, _ = step(decoder, jnp.arange(4, 7), cache)
  close(last, run(whole, x, positions, segments)[:, 4:])


def test_it_is_near_the_whole_decoder():
  """Error of the hidden states, relative: nf4 0.092, int4 0.100; random kernels in tiles of 32."""
  errors = {}
  for kind in KINDS:
    found, expected = run(make(kind), *inputs()), run(make(), *inputs())
    errors[kind] = float(jnp.linalg.norm(found - expected) / jnp.linalg.norm(expected))
  assert errors['nf4'] < errors['int4'] < 0.12


def test_bfloat16_stays_near_float32():
  half = make('nf4', dtype='bfloat16')
  hidden = run(half, *inputs())
  # 0.030 was measured
  assert hidden.dtype == jnp.bfloat16
  close(hidden, run(make('nf4'), *inputs()), 0.1)


@pytest.mark.parametrize('remat', ['none', 'full', 'dots'])
def test_adapters_get_the_gradient_and_the_base_none(remat):
  """The very gradient of a decoder with the dequantised kernels, of adapters and input."""
  decoder, arguments = make('nf4', remat=remat), inputs()

  def gradients(decoder):
    graph, adapters, rest = nnx.split(decoder, nnx.LoRAParam, ...)

    def loss(adapters, x):
      hidden, _ = nnx.merge(graph, adapters, rest, copy=True)(x, *arguments[1:])
      return jnp.square(hidden[..., 0]).sum()

    return jax.jit(jax.grad(loss, argnums=(0, 1)))(adapters, arguments[0])

  found, expected = gradients(decoder), gradients(dequantised(decoder))
  jax.tree.map(lambda a, b: close(a, b, 1e-4), found, expected)
  assert all(float(jnp.abs(leaf).max()) > 1e-6 for leaf in jax.tree.leaves(found))


def test_the_base_cannot_be_trained():
  """What is not a float has no gradient, by JAX; that of the scales is zero."""
  x, kernel = jnp.ones((3, 64)), reference(jnp.eye(64), 'nf4', 32)[0]
  qvalue = quantized.pack(kernel.qvalue)

  def loss(*base):
    return quantized.matmul(x, *base, 'nf4').sum()

  assert not jax.grad(loss, argnums=1)(qvalue, kernel.scale).any()
  with pytest.raises(TypeError, match='uint8'):
    jax.grad(loss)(qvalue, kernel.scale)


@pytest.mark.parametrize('remat', ['none', 'full'])
def test_no_more_than_one_layer_is_whole(remat):
  """Memory of a gradient beside its arguments, as compiled: the base costs nothing for each layer more."""

  def temporary(layers):
    config = dataclasses.replace(
      SMALL, hidden_size=256, intermediate_size=512, num_layers=layers, remat=remat, quantize='nf4', quantize_tile=64
    )
    graph, adapters, rest = nnx.split(nnx.eval_shape(lambda: Decoder(config, nnx.Rngs(0))), nnx.LoRAParam, ...)

    def loss(adapters, rest):
      decoder = nnx.merge(graph, adapters, rest, copy=True)
      return decoder(*inputs(config, 1, 4))[0].sum()

    compiled = jax.jit(jax.grad(loss)).lower(adapters, rest).compile()
    return compiled.memory_analysis().temp_size_in_bytes

  kernels = 2 * 256 * 64 + 2 * 256 * 32 + 3 * 256 * 512
  # bytes: activations and gradients, but no second copy of the numbers, not even in 4 bits
  assert temporary(10) - temporary(2) < 8 * kernels // 4


# --- settings


def test_layers_without_an_adapter_are_quantised_too():
  config = dataclasses.replace(SMALL, quantize='nf4', qkv_bias=True, lora=dataclasses.replace(LORA, targets='q_proj'))
  decoder = nnx.jit(lambda: Decoder(config, nnx.Rngs(0)))()
  assert type(decoder.layers.attention.q_proj) is QuantizedLoRALinear
  assert type(decoder.layers.mlp.up_proj) is quantized.QuantizedLinear
  before = run(decoder, *inputs())
  decoder.layers.attention.v_proj.bias[...] += 1.0
  assert jnp.abs(run(decoder, *inputs()) - before).max() > 1e-2
  paths = convert.flat(nnx.state(decoder, nnx.Param))
  assert {path.rpartition('/')[0] for path in paths if path.endswith('qvalue')} == {
    f'layers/{path}/kernel' for path in llama_family.linears()
  }
  assert not any(path.endswith('/kernel') for path in paths)


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'quantize': 'int8'}, "quantize must be empty or one of nf4, int4, not 'int8'"),
    ({'quantize': 'nf4', 'quantize_tile': 48}, 'quantize_tile = 48 is not even, or does not divide'),
    ({'quantize': 'nf4', 'quantize_tile': 0}, 'quantize_tile = 0 is not even'),
  ],
)
def test_impossible_settings_are_refused_by_name(changes, message):
  with pytest.raises(ValueError, match=message):
    dataclasses.replace(SMALL, **changes)


def test_without_qwix_the_remedy_is_named(monkeypatch):
  monkeypatch.setitem(sys.modules, 'qwix', None)
  with pytest.raises(ValueError, match=r'crosstrainer_jax\[qlora\]'):
    nnx.eval_shape(lambda: Decoder(dataclasses.replace(SMALL, quantize='nf4'), nnx.Rngs(0)))


# --- (d), (e) from a directory, in training


def settings(directory, kind='nf4', tile=16):
  """The paper's config, with a small decoder."""
  config = paper.preset()
  config.decoder.update(weights=str(directory), quantize=kind, quantize_tile=tile, max_position=64, dtype='float32')
  config.decoder.param_dtype = 'float32'
  config.lora.update(rank=4, dropout=0.0)
  config.training.optimizer.learning_rate = 1e-2
  return config


def batch(rows=8):
  random = np.random.default_rng(0)
  tokens = random.integers(1, 380, (rows, 12))
  tokens[:, :2] = 381
  return {
    'tokens': tokens,
    'features': random.normal(size=(rows, 1, 2, 6)).astype(np.float16),
    'video_slots': np.tile([0, 1, *[0] * 10], (rows, 1)),
    'positions': np.tile(np.arange(12), (rows, 1)),
    'segment_ids': np.ones((rows, 12), np.int32),
    'target_slots': np.tile(np.arange(7, 11), (rows, 1)),
    'target_ids': tokens[:, 8:],
    'target_weights': np.ones((rows, 4), np.float32),
  }


def meshes():
  return sharding.make_mesh((1, 1, 1), jax.devices()[:1]), sharding.make_mesh((1, 4, 2))


def build(config: ml_collections.ConfigDict, mesh):
  return stages.build(config, 384, 6, 381, 0, mesh)


def updated(config, mesh, updates, blueprint, params):
  """Losses of `updates` on one batch, and the parameters that train afterwards."""
  trained, frozen = blueprint.split(params)
  before = jax.tree.map(np.asarray, frozen)
  step = stages.make_update(blueprint, params, config.training, mesh)
  state = init_state(jax.tree.map(jnp.copy, trained), optimizer.make_optimizer(config.training.optimizer), 0)
  losses = []
  for _ in range(updates):
    state, scalars = step(state, sharding.put_batch(batch(), mesh), 1e-2)
    losses.append(float(scalars['loss']))
  jax.tree.map(np.testing.assert_array_equal, frozen, before)
  return losses, state.params


@pytest.fixture(scope='module')
def directory(tmp_path_factory):
  return write_llama(tmp_path_factory.mktemp('llama'), hidden_size=64, intermediate_size=96)


def loaded(directory):
  """Its parameters, on one device."""
  base = pretrained.find(settings(directory))
  state = nnx.state(nnx.eval_shape(lambda: Decoder(base.config, nnx.Rngs(0))), nnx.Param)
  return base.load(nnx.split_state(state, nnx.LoRAParam, ...)[1])


def test_a_directory_is_quantised_layer_by_layer(directory):
  tensors, params = Tensors(directory), loaded(directory)
  for path, name in llama_family.linears().items():
    kernel = functools.reduce(lambda state, key: state[key], path.split('/'), params['layers'])['kernel']
    assert kernel['qvalue'].dtype == jnp.uint8
    for layer in range(LLAMA['num_hidden_layers']):
      weight = jnp.asarray(tensors[f'model.layers.{layer}.{name}.weight'].read().T)
      packed, _ = reference(weight, 'nf4', 16)
      np.testing.assert_array_equal(kernel['qvalue'].get_value()[layer], quantized.pack(packed.qvalue))
      np.testing.assert_allclose(kernel['scale'].get_value()[layer], packed.scale, rtol=1e-6)
  embedding = params['embedding']['embedding'].get_value()
  np.testing.assert_array_equal(embedding, tensors['model.embed_tokens.weight'].read())


def test_one_kernel_at_a_time_is_read(directory, monkeypatch):
  """What is read in a piece, beside what stays: one tensor of one layer."""
  shapes, load = [], convert.load
  monkeypatch.setattr(convert, 'load', lambda t, s, like, *rest: shapes.append(like) or load(t, s, like, *rest))
  loaded(directory)
  assert len(shapes) == 1 + 7 * LLAMA['num_hidden_layers']
  assert all(variable.ndim == 2 for like in shapes[1:] for variable in convert.flat(like).values())
  assert not any('kernel' in path and 'lm_head' not in path for path in convert.flat(shapes[0]))


def test_everything_that_does_not_fit_is_listed_at_once(directory):
  config = dataclasses.replace(
    pretrained.find(settings(directory)).config, intermediate_size=48, num_layers=3, lora=None
  )
  like = nnx.state(nnx.eval_shape(lambda: Decoder(config, nnx.Rngs(0))), nnx.Param)
  with pytest.raises(
    ValueError, match=r'9 missing: .*2\.mlp\.up_proj.*; 6 of another shape: .*kernel needs \[48, 64\]'
  ):
    quantized.load(Tensors(directory), llama_family.sources(config), like, 'nf4')


@pytest.mark.parametrize('kind', KINDS)
def test_updates_lower_the_loss(kind, directory):
  losses, params = updated(settings(directory, kind), meshes()[0], 4, *build(settings(directory, kind), meshes()[0]))
  assert losses[1] < losses[0]
  assert losses[-1] < losses[0] - 0.5
  assert {path[-1] for path, _ in nnx.to_flat_state(params['decoder'])} == {'lora_a', 'lora_b'}


def test_eight_devices_are_one_device(directory):
  one, eight = meshes()
  config = settings(directory)
  built = [build(config, mesh) for mesh in (one, eight)]
  whole, split = (params for _, params in built)
  for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(split), strict=True):
    np.testing.assert_array_equal(a.astype(jnp.float32), b.astype(jnp.float32))
  up = split['decoder']['layers']['mlp']['up_proj']['kernel']
  for name in ('qvalue', 'scale'):
    assert up[name].get_value().sharding.spec == jax.P(None, 'fsdp', 'tensor')
  losses, params = zip(
    *(updated(config, mesh, 2, *made) for mesh, made in zip((one, eight), built, strict=True)), strict=True
  )
  close(*losses, 1e-4)
  # Adam's first updates have the size of the learning rate, whatever that of the gradient
  jax.tree.map(lambda a, b: close(a, b, 2e-3), *params)


# --- (f), (g) export, bytes


def test_merging_dequantises_first():
  linear = make('nf4').layers.mlp.up_proj
  alone = merged(linear.kernel.dequantized(), linear.lora_a[...], linear.lora_b[...], linear.scale)
  assert alone.dtype == jnp.float32
  graph, state = nnx.split(linear)
  x = jax.random.normal(jax.random.key(0), (5, 64))
  for number in range(SMALL.num_layers):
    layer = nnx.merge(graph, jax.tree.map(lambda leaf: leaf[number], state))  # noqa: B023
    close(layer(x), x @ alone[number], 1e-4)


def test_adapters_are_exported_as_before(tmp_path):
  decoder = make('nf4')
  adapters = nnx.state(decoder, nnx.LoRAParam)
  peft_adapter.save(tmp_path, decoder.config, adapters, 'owner/base')
  loaded = peft_adapter.load(tmp_path, decoder.config, nnx.state(nnx.eval_shape(lambda: decoder), nnx.LoRAParam))
  jax.tree.map(np.testing.assert_array_equal, loaded, adapters)


def test_kernels_cannot_be_written_as_tensors_of_a_checkpoint():
  """A merged export finds no kernel, rather than 4-bit numbers in its place."""
  state = nnx.state(make('nf4'), nnx.Param)
  with pytest.raises(KeyError, match='kernel'):
    list(convert.tensors(state, llama_family.sources(make().config)))


def test_bytes_as_they_are_held():
  """With tiles of 32 and scales in float32: 5 bits a number."""
  kernels = [getattr(part, name).kernel for part, name in places(make('nf4'))]
  numbers = sum(kernel.dequantized().size for kernel in kernels)
  assert sum(kernel.qvalue[...].nbytes + kernel.scale[...].nbytes for kernel in kernels) == numbers * 5 / 8


@pytest.mark.parametrize('kind', KINDS)
def test_bytes_of_the_paper_from_shapes_alone(kind):
  """Llama-3.1-8B in tiles of 64, scales in bfloat16: 4.25 bits a number of the kernels, 5.81 GB in all, not 16.06."""
  config = dataclasses.replace(LLAMA_8B, quantize=kind)
  state = nnx.state(nnx.eval_shape(lambda: Decoder(config, nnx.Rngs(0))), nnx.Param)
  base = convert.flat(nnx.split_state(state, nnx.LoRAParam, ...)[1])
  held = {path: math.prod(variable.shape) * variable.dtype.itemsize for path, variable in base.items()}
  kernels = sum(2 * math.prod(variable.shape) for path, variable in base.items() if path.endswith('/qvalue'))
  assert kernels == 6_979_321_856
  assert sum(size for path, size in held.items() if '/kernel/' in path) * 8 / kernels == 4.25
  assert sum(held.values()) == pytest.approx(5.81e9, rel=1e-3)


def test_the_version_is_the_one_that_was_tested():
  assert importlib.metadata.version('qwix').startswith('0.1.')
