"""Cached generation equals repeated full passes, whatever the padding, the batch and the number of samples."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from crosstrainer_jax.inference import generate as module
from crosstrainer_jax.inference.generate import generate, read_prefix
from crosstrainer_jax.input.mrope import Grid, places, positions
from crosstrainer_jax.models.decoder import Decoder
from crosstrainer_jax.models.decoder_config import DecoderConfig

EOS, PAD, LENGTH, NEW = 3, 0, 8, 7
CONFIG = DecoderConfig(
  vocab_size=20, hidden_size=24, intermediate_size=40, num_layers=2, num_heads=4, num_kv_heads=2, head_dim=6,
  max_position=32, tie_embeddings=False,
)  # fmt: skip
LENGTHS = (8, 3, 5)


@functools.cache
def decoder() -> Decoder:
  made = nnx.jit(lambda: Decoder(CONFIG, nnx.Rngs(0)))()
  # Wide weights, lest the text repeat one word, as an untrained model's does.
  for kernel in (made.lm_head.kernel, made.layers.attention.o_proj.kernel, made.layers.mlp.down_proj.kernel):
    kernel[...] *= 3
  return made


def prompts(side: str = 'right') -> tuple[jax.Array, jax.Array]:
  """Embeddings float[3, 8, D] with noise at the padding, and their mask."""
  slots = jnp.arange(LENGTH)[None]
  lengths = jnp.array(LENGTHS)[:, None]
  mask = slots < lengths if side == 'right' else slots >= LENGTH - lengths
  words = jax.random.normal(jax.random.key(1), (3, LENGTH, CONFIG.hidden_size))
  order = jnp.broadcast_to(slots, mask.shape) if side == 'right' else (slots - (LENGTH - lengths)) % LENGTH
  placed = jnp.take_along_axis(words, order[..., None], axis=1)
  return jnp.where(mask[..., None], placed, 5.0), mask


def greedy(x: jax.Array, mask: jax.Array, new: int = NEW, eos: int | list[int] = EOS) -> tuple[np.ndarray, np.ndarray]:
  tokens, log_probs = generate(decoder(), x, mask, new, eos_id=eos, pad_id=PAD)
  return np.asarray(tokens), np.asarray(log_probs)


@functools.cache
def reference() -> tuple[np.ndarray, np.ndarray]:
  """The same by full forward passes, row by row, without cache and without padding."""

  @nnx.jit
  def step(decoder: Decoder, x: jax.Array, length: jax.Array) -> jax.Array:
    slots = jnp.arange(x.shape[1])[None]
    hidden, _ = decoder(x, slots, (slots < length).astype(jnp.int32))
    return jax.nn.log_softmax(decoder.logits(hidden[0, length - 1]))

  (x, _), embed = prompts(), decoder().embed
  tokens, log_probs = np.full((3, NEW), PAD), np.zeros((3, NEW))
  for row, length in enumerate(LENGTHS):
    text = jnp.zeros((1, LENGTH + NEW, CONFIG.hidden_size)).at[0, :length].set(x[row, :length])
    for i in range(NEW):
      scores = step(decoder(), text, jnp.asarray(length + i))
      tokens[row, i], log_probs[row, i] = int(jnp.argmax(scores)), float(jnp.max(scores))
      if tokens[row, i] == EOS:
        break
      text = text.at[0, length + i].set(embed(jnp.array([[tokens[row, i]]]))[0, 0])
  return tokens, log_probs


@pytest.mark.parametrize('side', ['left', 'right'])
def test_greedy_equals_the_argmax_of_full_passes(side: str) -> None:
  tokens, log_probs = greedy(*prompts(side))
  np.testing.assert_array_equal(tokens, reference()[0])
  np.testing.assert_allclose(log_probs, reference()[1], atol=1e-4)
  assert len({tuple(row) for row in tokens}) == 3  # the prompts matter
  assert len(np.unique(tokens)) > 3


def test_layers_one_by_one_write_what_the_stack_writes() -> None:
  tokens, log_probs = generate(decoder(), *prompts(), NEW, eos_id=EOS, pad_id=PAD, split_layers=True)
  np.testing.assert_array_equal(tokens, reference()[0])
  np.testing.assert_allclose(log_probs, reference()[1], atol=1e-4)


def test_large_layers_are_split_where_there_is_room(monkeypatch: pytest.MonkeyPatch) -> None:
  layers = nnx.state(decoder().layers)
  needed = sum(leaf.nbytes for leaf in jax.tree.leaves(layers))
  assert not module._should_split_layers(CONFIG, layers)  # small
  monkeypatch.setattr(module, 'SPLIT_BYTES', needed)
  monkeypatch.setattr(module, '_room', lambda device: 2 * needed)
  assert module._should_split_layers(CONFIG, layers)
  assert not module._should_split_layers(dataclasses.replace(CONFIG, quantize='nf4', quantize_tile=8), layers)
  assert not jax.jit(lambda layers: module._should_split_layers(CONFIG, layers))(layers)
  monkeypatch.setattr(module, '_room', lambda device: needed)
  assert not module._should_split_layers(CONFIG, layers)


def test_a_batch_equals_its_members_alone() -> None:
  x, mask = prompts()
  together = greedy(x, mask)
  for row, length in enumerate(LENGTHS):
    alone = greedy(x[row : row + 1, :length], mask[row : row + 1, :length])
    np.testing.assert_array_equal(alone[0][0], together[0][row])
    np.testing.assert_allclose(alone[1][0], together[1][row], atol=1e-4)


@pytest.mark.parametrize('side', ['left', 'right'])
def test_a_prefix_that_was_read_before_changes_nothing(side: str) -> None:
  """Padding within the prefix and within the rest, and a row without a prefix, included."""
  x, mask = prompts(side)
  cut = 4
  before = read_prefix(decoder(), x[:, :cut], mask[:, :cut])
  np.testing.assert_array_equal(before.counts, mask[:, :cut].sum(1))
  # Every row needs a token behind the prefix.
  rows = np.flatnonzero(np.asarray(mask[:, cut:]).any(1))
  assert len(rows) >= 2
  for key, settings in (
    (None, {}),
    (jax.random.key(3), {'temperature': 1.3, 'num_samples': 4, 'top_k': 9, 'top_p': 0.9}),
  ):
    common = {'eos_id': EOS, 'pad_id': PAD, 'key': key, **settings}
    tokens, log_probs = generate(decoder(), x, mask, NEW, **common)
    again, their_log_probs = generate(decoder(), x[:, cut:], mask[:, cut:], NEW, prefix=before, **common)
    np.testing.assert_array_equal(again[rows], tokens[rows])
    np.testing.assert_allclose(their_log_probs[rows], log_probs[rows], atol=1e-5)


def test_pictures_may_stand_in_what_was_read_before_and_in_the_rest() -> None:
  """Text goes on behind the furthest place of a picture, wherever the prefix is cut."""
  config = dataclasses.replace(CONFIG, mrope_section=(1, 1, 1))
  seeing = nnx.merge(*nnx.split(decoder()))
  seeing.config = seeing.layers.attention.config = config
  x, _ = prompts()
  x, mask = x[:1], jnp.ones((1, LENGTH), bool)
  where, _ = positions([1, places(Grid(1, 1, 3)), 1, places(Grid(2, 1, 1, 5.0)), 1])
  common = {'eos_id': EOS, 'pad_id': PAD}
  whole, scores = generate(seeing, x, mask, NEW, positions=where[None], **common)
  plain, other = generate(seeing, x, mask, NEW, **common)
  assert np.abs(other - scores).max() > 1e-3
  before = read_prefix(seeing, x[:, :4], mask[:, :4], where[None, :4])
  assert before.counts.tolist() == [4]
  rest = where[None, 4:] - 4
  again, their_scores = generate(seeing, x[:, 4:], mask[:, 4:], NEW, prefix=before, positions=rest, **common)
  np.testing.assert_array_equal(again, whole)
  np.testing.assert_allclose(their_scores, scores, atol=1e-5)


@pytest.mark.parametrize('cut', [{'top_k': 1}, {'top_p': 1e-6}])
def test_sampling_from_the_most_probable_token_alone_is_greedy(cut: dict[str, float]) -> None:
  x, mask = prompts()
  tokens, _ = generate(decoder(), x, mask, NEW, eos_id=EOS, pad_id=PAD, temperature=2.0, key=jax.random.key(0), **cut)
  np.testing.assert_array_equal(tokens, reference()[0])


def test_a_text_ends_at_any_end_token_and_is_padded() -> None:
  free = reference()[0]
  stop = int(free[0, 2])
  tokens, log_probs = greedy(*prompts(), eos=[EOS, stop])
  for row in range(3):
    ends = [i for i in range(NEW) if free[row, i] in (EOS, stop)]
    end = ends[0] + 1 if ends else NEW
    np.testing.assert_array_equal(tokens[row, :end], free[row, :end])
    assert (tokens[row, end:] == PAD).all()
    assert (log_probs[row, end:] == 0).all()
    assert (log_probs[row, :end] < 0).all()
  assert tokens[0, 2] == stop


def test_one_new_token() -> None:
  np.testing.assert_array_equal(greedy(*prompts(), new=1)[0], reference()[0][:, :1])


def test_a_row_that_pads_the_batch_gives_padding() -> None:
  x, mask = prompts()
  tokens, log_probs = greedy(x, mask.at[1].set(False))
  assert (tokens[1] == PAD).all()
  assert (log_probs[1] == 0).all()
  np.testing.assert_array_equal(tokens[::2], reference()[0][::2])


def test_samples_follow_the_distribution_of_the_model() -> None:
  x, mask = prompts()
  scores = decoder().logits(decoder()(x[:1], jnp.arange(LENGTH)[None], mask[:1].astype(jnp.int32))[0][0, -1])
  for temperature in (1.0, 0.5):
    tokens, log_probs = generate(
      decoder(), x, mask, 1, eos_id=EOS, pad_id=PAD, temperature=temperature, num_samples=2000, key=jax.random.key(5)
    )
    assert tokens.shape == log_probs.shape == (3, 2000, 1)
    expected = jax.nn.softmax(scores / temperature)
    share = np.bincount(np.asarray(tokens[0, :, 0]), minlength=CONFIG.vocab_size) / 2000
    # Three standard errors of a share at its largest.
    np.testing.assert_allclose(share, expected, atol=3 * np.sqrt(0.25 / 2000))
    # Log-probabilities are the model's own, whatever the temperature.
    np.testing.assert_allclose(log_probs[0, :, 0], jax.nn.log_softmax(scores)[tokens[0, :, 0]], atol=1e-4)


def test_samples_differ_repeat_by_key_and_score_as_the_model_does() -> None:
  x, mask = prompts('left')
  settings = {'eos_id': EOS, 'pad_id': PAD, 'temperature': 1.5, 'num_samples': 4}
  tokens, log_probs = generate(decoder(), x, mask, NEW, key=jax.random.key(5), **settings)
  again, _ = generate(decoder(), x, mask, NEW, key=jax.random.key(5), **settings)
  other, _ = generate(decoder(), x, mask, NEW, key=jax.random.key(6), **settings)
  np.testing.assert_array_equal(tokens, again)
  assert (tokens != other).any()
  assert all(len(np.unique(row, axis=0)) > 1 for row in np.asarray(tokens))
  # One sample scored by a full pass over prompt and text: the prefill of its own prompt was the one that it used.
  for row in range(3):
    text = tokens[row, 3]
    whole = jnp.concatenate([x[row : row + 1], decoder().embed(text[None])], axis=1)
    segments = jnp.concatenate([mask[row], jnp.ones(NEW, bool)])[None].astype(jnp.int32)
    hidden, _ = decoder()(whole, jnp.maximum(jnp.cumsum(segments, axis=1) - 1, 0), segments)
    scores = jax.nn.log_softmax(decoder().logits(hidden[0, LENGTH - 1 : -1]))
    real = np.cumsum(np.asarray(text) == EOS) - (np.asarray(text) == EOS) == 0
    np.testing.assert_allclose(log_probs[row, 3][real], scores[jnp.arange(NEW), text][real], atol=1e-4)


def test_compiles_once_for_a_shape() -> None:
  x, mask = prompts()
  module._generate.clear_cache()
  for temperature in (0.5, 0.7):
    generate(decoder(), x, mask, 2, eos_id=EOS, pad_id=PAD, temperature=temperature, key=jax.random.key(0))
  twin = nnx.jit(lambda: Decoder(CONFIG, nnx.Rngs(7)))()
  generate(twin, x, mask, 2, eos_id=5, pad_id=1, temperature=0.5, key=jax.random.key(0))
  assert module._generate._cache_size() == 1


def test_works_inside_jit() -> None:
  @nnx.jit
  def whole(decoder: Decoder, x: jax.Array, mask: jax.Array) -> jax.Array:
    return generate(decoder, x, mask, NEW, eos_id=EOS, pad_id=PAD)[0]

  np.testing.assert_array_equal(whole(decoder(), *prompts()), reference()[0])


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    ({'max_new_tokens': 0}, 'max_new_tokens'),
    ({'max_new_tokens': 26}, 'max_position = 32'),
    ({'temperature': 1.0}, 'key'),
    ({'temperature': -1.0}, 'negative'),
    ({'prompt_mask': jnp.ones((3, 7), bool)}, 'does not fit'),
  ],
)
def test_impossible_requests_are_refused(change: dict, message: str) -> None:
  x, mask = prompts()
  arguments = {'prompt_embeddings': x, 'prompt_mask': mask, 'max_new_tokens': NEW, 'eos_id': EOS, 'pad_id': PAD}
  with pytest.raises(ValueError, match=message):
    generate(decoder(), **(arguments | change))
