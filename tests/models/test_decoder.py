"""The decoder is causal, blind to padding and other segments, and the same however it is scanned, cached, placed."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from crosstrainer_jax.models.attention import mask_of
from crosstrainer_jax.models.decoder import LOGICAL_AXES, Decoder, KVCache, Visible
from crosstrainer_jax.models.decoder_config import DecoderConfig
from crosstrainer_jax.models.rotary import rotary_angles, rotary_frequencies

TINY = DecoderConfig(
  vocab_size=40, hidden_size=24, intermediate_size=40, num_layers=3, num_heads=4, num_kv_heads=2, head_dim=6
)
FREQUENCIES = rotary_frequencies(TINY.head_dim, TINY.rope_theta)


# How a decoder computes; what it holds is the same.
HOW = ('dropout', 'dtype', 'max_position', 'remat', 'unroll')


def create(config: DecoderConfig) -> Decoder:
  decoder = Decoder(config, nnx.Rngs(params=0, dropout=1))
  keys = iter(jax.random.split(jax.random.key(2), 3))
  for norm in (decoder.layers.input_norm, decoder.layers.post_attention_norm, decoder.final_norm):
    norm.scale[...] = jax.random.uniform(next(keys), norm.scale.shape, minval=0.5, maxval=1.5)
  return decoder


@functools.cache
def parameters(config: DecoderConfig) -> nnx.State:
  return jax.jit(lambda: nnx.split(create(config), nnx.Param, ...)[1])()


@functools.cache
def made(config: DecoderConfig) -> tuple[nnx.GraphDef[Decoder], nnx.State, nnx.State]:
  graph, _, rest = nnx.split(nnx.eval_shape(lambda: create(config)), nnx.Param, ...)
  if jax.tree.leaves(rest):
    # the compiler drops the parameters, which are not returned
    rest = jax.jit(lambda: nnx.split(create(config), nnx.Param, ...)[2])()
  return graph, parameters(dataclasses.replace(config, **{name: getattr(TINY, name) for name in HOW})), rest


def make(config: DecoderConfig = TINY) -> Decoder:
  """A decoder whose norms are random too, so that a forgotten scale shows."""
  return nnx.merge(*made(config), copy=True)


@nnx.jit(static_argnames='deterministic')
def run(
  decoder: Decoder, x: jax.Array, positions: jax.Array, segments: jax.Array, deterministic: bool = True
) -> jax.Array:
  return decoder(x, positions, segments, deterministic)[0]


def inputs(batch: int = 2, length: int = 9, seed: int = 3) -> tuple[jax.Array, jax.Array, jax.Array]:
  x = jax.random.normal(jax.random.key(seed), (batch, length, TINY.hidden_size))
  positions = jnp.broadcast_to(jnp.arange(length), (batch, length))
  return x, positions, jnp.ones((batch, length), jnp.int32)


def close(a: jax.Array, b: jax.Array, tolerance: float = 2e-5) -> None:
  np.testing.assert_allclose(a, b, atol=tolerance, rtol=tolerance)


def test_mask_truth_table() -> None:
  mask = mask_of(jnp.array([[0, 1, 1, 2, 2, 0]]), jnp.array([[0, 1, 1, 2, 2, 0]]))
  expected = np.zeros((6, 6), bool)
  for query, key in [(1, 1), (2, 1), (2, 2), (3, 3), (4, 3), (4, 4)]:
    expected[query, key] = True
  np.testing.assert_array_equal(mask[0, 0], expected)
  later = mask_of(jnp.array([[2]]), jnp.array([[0, 1, 1, 2, 2, 0]]), first_slot=4)
  np.testing.assert_array_equal(later[0, 0], expected[4:5])


def test_no_token_sees_a_later_one() -> None:
  decoder, (x, positions, segments) = make(), inputs()
  before = run(decoder, x, positions, segments)
  after = run(decoder, x.at[:, 5].add(1.0), positions, segments)
  np.testing.assert_array_equal(before[:, :5], after[:, :5])
  assert jnp.all(jnp.max(jnp.abs(before - after)[:, 5:], axis=(0, 2)) > 1e-3)


@pytest.mark.parametrize('slots', [[3, 4, 5, 6, 7], [0, 1, 2, 3, 4], [0, 2, 3, 6, 8]], ids=['left', 'right', 'between'])
def test_padding_changes_nothing(slots: list[int]) -> None:
  decoder, (x, positions, segments) = make(), inputs(length=5)
  alone = run(decoder, x, positions, segments)
  at = jnp.array(slots)
  noise = 9 * jax.random.normal(jax.random.key(8), (2, 9, TINY.hidden_size))
  padded = run(
    decoder,
    noise.at[:, at].set(x),
    jnp.zeros((2, 9), jnp.int32).at[:, at].set(positions),
    jnp.zeros((2, 9), jnp.int32).at[:, at].set(segments),
  )
  close(padded[:, at], alone)
  assert jnp.all(jnp.isfinite(padded))


def test_packed_segments_are_as_if_alone() -> None:
  decoder, (x, _, _) = make(), inputs(batch=1)
  positions, segments = jnp.array([[0, 1, 2, 3, 0, 1, 2, 3, 4]]), jnp.array([[1] * 4 + [2] * 5])
  packed = run(decoder, x, positions, segments)
  for part in (slice(0, 4), slice(4, 9)):
    close(packed[:, part], run(decoder, x[:, part], positions[:, part], segments[:, part]))


def test_scanned_unrolled_and_layer_by_layer_without_jit_are_the_same() -> None:
  decoder, batch = make(), inputs()
  scanned = run(decoder, *batch)
  close(run(make(dataclasses.replace(TINY, unroll=True)), *batch), scanned)
  x, positions, segments = batch
  mask, angles = mask_of(segments, segments), rotary_angles(positions, FREQUENCIES)
  layers = decoder.split_layers()
  close(decoder(*batch, layers=layers)[0], scanned)
  for layer in layers:
    x, _ = layer(x, angles, Visible(segments, mask, 'xla', None))
  close(decoder.final_norm(x), scanned)


def test_layers_start_different() -> None:
  kernel = make().layers.attention.q_proj.kernel[...]
  assert kernel.shape[0] == TINY.num_layers
  assert jnp.abs(kernel[0] - kernel[1]).max() > 1e-2


def loss_and_gradient(
  decoder: Decoder, *arguments: jax.Array, deterministic: bool = True
) -> tuple[jax.Array, nnx.State]:
  @nnx.jit
  def compute(decoder: Decoder) -> tuple[jax.Array, nnx.State]:
    def loss(decoder: Decoder) -> jax.Array:
      hidden, _ = decoder(*arguments, deterministic=deterministic)
      return jnp.mean(jnp.square(decoder.logits(hidden)))

    return nnx.value_and_grad(loss, argnums=nnx.DiffState(0, nnx.Param))(decoder)

  return compute(decoder)


@pytest.mark.parametrize('deterministic', [True, False])
@pytest.mark.parametrize('remat', ['full', 'dots'])
def test_remat_changes_no_gradient(remat: str, deterministic: bool) -> None:
  """With dropout on, the recomputed mask must be the one of the forward pass."""
  kept = dataclasses.replace(TINY, dropout=0.0 if deterministic else 0.5)
  loss, gradient = loss_and_gradient(make(kept), *inputs(), deterministic=deterministic)
  again, regradient = loss_and_gradient(
    make(dataclasses.replace(kept, remat=remat)), *inputs(), deterministic=deterministic
  )
  close(loss, again, 1e-6)
  jax.tree.map(lambda a, b: close(a, b, 1e-5), gradient, regradient)


def test_every_parameter_gets_a_gradient() -> None:
  config = dataclasses.replace(TINY, tie_embeddings=False)
  decoder, (_, positions, segments) = make(config), inputs()
  tokens = jax.random.randint(jax.random.key(0), positions.shape, 0, 40)

  def loss(decoder: Decoder) -> jax.Array:
    hidden, _ = decoder(decoder.embed(tokens), positions, segments)
    return optax.softmax_cross_entropy_with_integer_labels(decoder.logits(hidden)[:, :-1], tokens[:, 1:]).mean()

  for path, leaf in nnx.to_flat_state(nnx.jit(nnx.grad(loss))(decoder)):
    assert jnp.abs(leaf[...]).max() > 1e-6, path


def test_dropout_is_off_unless_asked_and_drawn_anew_each_time_and_layer() -> None:
  decoder = make(dataclasses.replace(TINY, dropout=0.5))
  arguments = inputs()
  np.testing.assert_array_equal(run(decoder, *arguments), run(decoder, *arguments))
  first, second = run(decoder, *arguments, deterministic=False), run(decoder, *arguments, deterministic=False)
  assert jnp.abs(first - second).max() > 1e-2
  assert jnp.abs(first - run(decoder, *arguments)).max() > 1e-2
  streams = jax.random.key_data(decoder.layers.dropout.rngs.key[...])
  assert len(np.unique(streams, axis=0)) == TINY.num_layers
  # Twice a layer and step: after attention, after the MLP.
  np.testing.assert_array_equal(decoder.layers.dropout.rngs.count[...], [4] * TINY.num_layers)


def test_dropout_differs_between_layers() -> None:
  """Layers made equal, so that only their masks can tell them apart."""
  decoder = make(dataclasses.replace(TINY, dropout=0.5, num_layers=2))
  x, positions, segments = inputs()
  graphdef, params, streams = nnx.split(decoder.layers, nnx.Param, ...)
  mask, angles = mask_of(segments, segments), rotary_angles(positions, FREQUENCIES)

  def layer(i: int) -> jax.Array:
    stream = jax.tree.map(lambda leaf: leaf[i], streams)
    block = nnx.merge(graphdef, jax.tree.map(lambda leaf: leaf[0], params), stream)
    return nnx.jit(lambda block: block(x, angles, Visible(segments, mask, 'xla', None), False)[0])(block)

  assert jnp.abs(layer(0) - layer(1)).max() > 1e-2


def test_without_dropout_the_state_is_parameters_only() -> None:
  assert not jax.tree.leaves(nnx.state(make(), nnx.RngState))


def decode_by_parts(
  decoder: Decoder, parts: list[int], x: jax.Array, positions: jax.Array, segments: jax.Array
) -> tuple[jax.Array, KVCache]:
  """Hidden states of a sequence given in parts of these lengths, and the cache at the end."""
  cache = decoder.init_cache(x.shape[0], sum(parts))
  step = nnx.jit(lambda decoder, *arguments: decoder(*arguments[:3], cache=arguments[3]))
  hidden, start = [], 0
  for part in parts:
    at = slice(start, start + part)
    out, cache = step(decoder, x[:, at], positions[:, at], segments[:, at], cache)
    hidden.append(out)
    start += part
  return jnp.concatenate(hidden, axis=1), cache


@pytest.mark.parametrize('parts', [[9], [5, 1, 1, 1, 1], [4, 3, 2]])
def test_cached_equals_full(parts: list[int]) -> None:
  decoder, (x, _, _) = make(), inputs()
  segments = jnp.array([[0, 0, 1, 1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 1, 1, 1, 1, 1]])
  positions = jnp.maximum(jnp.cumsum(segments, axis=1) - 1, 0)
  hidden, cache = decode_by_parts(decoder, parts, x, positions, segments)
  real = np.asarray(segments, bool)
  close(hidden[real], run(decoder, x, positions, segments)[real])
  assert cache.index == 9


def test_a_grown_and_repeated_cache_goes_on_as_before() -> None:
  decoder, (x, positions, segments) = make(), inputs()
  _, cache = decode_by_parts(decoder, [6], x[:, :6], positions[:, :6], segments[:, :6])
  wide, at = cache.repeat(3).grow(3), slice(6, 9)
  thrice = [jnp.repeat(a[:, at], 3, axis=0) for a in (x, positions, segments)]
  hidden, _ = decoder(*thrice, cache=wide)
  close(hidden, jnp.repeat(run(decoder, x, positions, segments)[:, at], 3, axis=0))


def test_tied_and_untied_heads() -> None:
  tied, untied = make(), make(dataclasses.replace(TINY, tie_embeddings=False))
  hidden = inputs()[0]
  close(tied.logits(hidden), hidden @ tied.embedding.embedding[...].T)
  close(untied.logits(hidden), hidden @ untied.lm_head.kernel[...])
  assert not hasattr(tied, 'lm_head')


def test_bfloat16_computes_in_bfloat16_and_gives_float32_logits() -> None:
  decoder = make(dataclasses.replace(TINY, dtype='bfloat16'))
  hidden = run(decoder, *inputs())
  assert hidden.dtype == jnp.bfloat16
  assert decoder.logits(hidden).dtype == jnp.float32
  assert decoder.layers.mlp.up_proj.kernel.dtype == jnp.float32
  assert decoder.init_cache(1, 2).keys.dtype == jnp.bfloat16
  # 8 bits of mantissa through three layers.
  close(hidden.astype(jnp.float32), run(make(), *inputs()), 0.1)


def test_frozen_weights_cost_no_gradient() -> None:
  """The FLOPs of the gradient of the input alone are about two thirds of those of input and weights."""
  decoder, (x, positions, segments) = make(dataclasses.replace(TINY, hidden_size=96, intermediate_size=256)), inputs()
  x = jnp.zeros((2, 9, 96))
  graphdef, state = nnx.split(decoder)

  def loss(x: jax.Array, state: nnx.State) -> jax.Array:
    return jnp.sum(jnp.square(nnx.merge(graphdef, state, copy=True)(x, positions, segments)[0]))

  flops = [jax.jit(jax.grad(loss, n)).lower(x, state).compile().cost_analysis()['flops'] for n in (0, (0, 1))]
  assert 0.6 < flops[0] / flops[1] < 0.75


def test_parameter_count_from_shapes_alone() -> None:
  llama = DecoderConfig(
    vocab_size=128_256, hidden_size=4096, intermediate_size=14_336, num_layers=32, num_heads=32, num_kv_heads=8,
    head_dim=128, rope_theta=500_000.0, tie_embeddings=False, max_position=131_072, param_dtype='bfloat16',
  )  # fmt: skip
  state = nnx.state(nnx.eval_shape(lambda: Decoder(llama, nnx.Rngs(0))))
  assert sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(state)) == 8_030_261_248


def test_every_parameter_names_its_axes() -> None:
  state = nnx.state(make(dataclasses.replace(TINY, tie_embeddings=False)), nnx.Param)
  for path, leaf in nnx.to_flat_state(state):
    axes = leaf.get_metadata('logical_axes')
    # a stack has the layers before them
    assert len(axes) + (path[0] == 'layers') == leaf[...].ndim, path
    assert set(axes) <= set(LOGICAL_AXES), path


def test_on_a_mesh_it_computes_the_same() -> None:
  mesh = jax.make_mesh((4, 2), ('fsdp', 'tensor'), axis_types=(AxisType.Auto,) * 2)
  rules = {'embed': 'fsdp', 'mlp': 'tensor', 'heads': 'tensor', 'kv_heads': 'tensor', 'vocab': 'tensor'}
  arguments = inputs(batch=4)
  alone = make()
  graph, state = nnx.split(alone)

  def place(variable: nnx.Variable) -> NamedSharding:
    axes = variable.get_metadata('logical_axes')
    stacked = (None,) * (variable[...].ndim - len(axes))
    return NamedSharding(mesh, PartitionSpec(*stacked, *(rules[axis] for axis in axes)))

  places = jax.tree.map(place, state, is_leaf=lambda v: isinstance(v, nnx.Variable))
  placed = nnx.merge(graph, jax.device_put(state, places))
  kernel = placed.layers.attention.q_proj.kernel[...]
  assert kernel.addressable_shards[0].data.shape == (3, 6, 12)
  hidden = run(placed, *jax.device_put(arguments, NamedSharding(mesh, PartitionSpec('fsdp'))))
  close(hidden, run(alone, *arguments))


def test_too_long_a_sequence_is_refused() -> None:
  decoder = make(dataclasses.replace(TINY, max_position=8))
  with pytest.raises(ValueError, match='max_position = 8'):
    decoder(*inputs())
  short = [a[:, :1] for a in inputs()]
  with pytest.raises(ValueError, match='max_position = 8'):
    decoder(*short, cache=decoder.init_cache(2, 9))
