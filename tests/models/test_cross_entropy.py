"""The loss in pieces is the plain loss, with its gradients, and computes no more than it needs."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from crosstrainer_jax.models import cross_entropy as module
from crosstrainer_jax.models.cross_entropy import cross_entropy, pieces_of

ROWS, TARGETS, WIDTH, VOCAB = 3, 7, 6, 11


def inputs(dtype=jnp.float32):
  random = np.random.default_rng(0)
  hidden = jnp.asarray(random.normal(size=(ROWS, TARGETS, WIDTH)), dtype)
  head = jnp.asarray(random.normal(size=(WIDTH, VOCAB)), dtype)
  ids = jnp.asarray(random.integers(0, VOCAB, (ROWS, TARGETS)), jnp.int32)
  weights = jnp.asarray(random.choice([0.0, 0.5, 1.0], (ROWS, TARGETS)), jnp.float32)
  return hidden, head, ids, weights


def plain(hidden, head, ids, weights):
  logits = (hidden @ head).astype(jnp.float32)
  losses = optax.softmax_cross_entropy_with_integer_labels(logits, ids)
  return (losses * weights).sum(), ((logits.argmax(-1) == ids) * weights).sum()


@pytest.mark.parametrize('pieces', [1, 3, 7])
def test_it_is_the_plain_loss_with_its_gradients(pieces):
  hidden, head, ids, weights = inputs()
  ours = jax.jit(cross_entropy, static_argnums=4)(hidden, head, ids, weights, pieces)
  np.testing.assert_allclose(ours, plain(hidden, head, ids, weights), rtol=1e-5)

  def scaled(loss):
    return jax.jit(jax.value_and_grad(lambda *trained: 0.3 * loss(*trained, ids, weights)[0], (0, 1)))

  value, gradients = scaled(lambda *all_four: cross_entropy(*all_four, pieces))(hidden, head)
  expected, expected_gradients = scaled(plain)(hidden, head)
  np.testing.assert_allclose(value, expected, rtol=1e-5)
  for one, other in zip(gradients, expected_gradients, strict=True):
    np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.parametrize('trained', [0, 1])
def test_the_gradient_of_what_is_frozen_is_not_computed(trained):
  hidden, head, ids, weights = inputs()
  parts = [hidden, head]

  def flops(argnums):
    gradient = jax.jit(jax.grad(lambda *parts: cross_entropy(*parts, ids, weights, 1)[0], argnums))
    return gradient.lower(*parts).compile().cost_analysis()['flops']

  product = 2 * ROWS * TARGETS * WIDTH * VOCAB
  assert flops((0, 1)) - flops(trained) > 0.9 * product
  alone = jax.grad(lambda part: cross_entropy(*parts[:trained], part, *parts[trained + 1 :], ids, weights, 3)[0])
  both = jax.grad(lambda *parts: cross_entropy(*parts, ids, weights, 3)[0], (0, 1))(*parts)
  np.testing.assert_allclose(alone(parts[trained]), both[trained], atol=1e-6)


def test_what_weighs_nothing_counts_for_nothing():
  hidden, head, ids, weights = inputs()
  other = jnp.where(weights > 0, ids, (ids + 1) % VOCAB)
  gradients = [jax.grad(lambda h, ids=ids: cross_entropy(h, head, ids, weights, 2)[0])(hidden) for ids in (ids, other)]
  np.testing.assert_array_equal(*gradients)
  assert (gradients[0][weights == 0] == 0).all()


def test_half_precision_is_near_single(record_property):
  exact = jax.grad(lambda *parts: cross_entropy(*parts, *inputs()[2:], 2)[0], (0, 1))(*inputs()[:2])
  half = jax.grad(lambda *parts: cross_entropy(*parts, *inputs()[2:], 2)[0], (0, 1))(*inputs(jnp.bfloat16)[:2])
  for one, other in zip(half, exact, strict=True):
    assert one.dtype == jnp.bfloat16
    np.testing.assert_allclose(one.astype(jnp.float32), other, atol=0.05)


def test_logits_of_all_targets_are_never_in_memory(monkeypatch):
  """Llama's vocabulary and 512 targets: the largest array of the program is a piece, not the whole."""
  shapes = [jax.ShapeDtypeStruct(shape, kind) for shape, kind in (
    ((2, 512, 8), jnp.float32), ((8, 128_256), jnp.float32), ((2, 512), jnp.int32), ((2, 512), jnp.float32),
  )]  # fmt: skip
  pieces = pieces_of(512, 2, 128_256)
  assert pieces == 2
  whole = 4 * 2 * 512 * 128_256
  for count, most in ((pieces, 0.51), (8, 0.14)):
    gradient = jax.jit(jax.grad(lambda h, w, i, x, count=count: cross_entropy(h, w, i, x, count)[0]))
    assert gradient.lower(*shapes).compile().memory_analysis().temp_size_in_bytes < 2.2 * most * whole


def test_small_vocabularies_are_one_piece():
  assert pieces_of(40, 16, 2048) == 1
  assert pieces_of(3, 10**6, 10**6) == 3
  assert module.PIECE_BYTES >= 4 * 2048
