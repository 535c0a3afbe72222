"""Video tokens stand at the placeholders, and the loss counts the targets of the rows that count."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from crosstrainer_jax.models import crosstrainer, encoders
from crosstrainer_jax.models.crosstrainer import CrossTrainer, decoder_config, negative_log_likelihood

ROWS, LENGTH, TARGETS, VIEWS, SECONDS, DIM, VIDEO, VOCAB = 3, 14, 4, 2, 2, 6, 3, 24
CONFIG = decoder_config(
  'llama',
  {'vocab_size': VOCAB, 'hidden_size': 16, 'intermediate_size': 16, 'num_layers': 1, 'num_heads': 2, 'num_kv_heads': 1,
   'head_dim': 8, 'max_position': 32},
)  # fmt: skip


@functools.cache
def model() -> CrossTrainer:
  return nnx.jit(lambda: CrossTrainer(CONFIG, DIM, VIDEO, nnx.Rngs(0), whitened=True))()


def make_batch() -> dict[str, np.ndarray]:
  random = np.random.default_rng(0)
  tokens = random.integers(4, VOCAB, (ROWS, LENGTH)).astype(np.int32)
  # the placeholders stand elsewhere in every row, and not all side by side
  for row, places in enumerate([(1, 2, 3, 4), (2, 3, 4, 5), (1, 2, 6, 7)]):
    tokens[row, list(places)] = VIDEO
  is_video = tokens == VIDEO
  video_slots = np.where(is_video, np.cumsum(is_video, 1) - 1, 0).astype(np.int32)
  segments = np.ones((ROWS, LENGTH), np.int32)
  segments[1, 12:] = 0
  slots = np.tile(np.arange(8, 12, dtype=np.int32), (ROWS, 1))
  return {
    'tokens': tokens,
    'segment_ids': segments,
    'positions': np.tile(np.arange(LENGTH, dtype=np.int32), (ROWS, 1)),
    'target_slots': slots,
    'target_ids': np.take_along_axis(tokens, slots + 1, 1),
    'target_weights': np.array([[1, 1, 1, 1], [1, 1, 0, 0], [1, 1, 1, 0]], np.float32),
    'video_slots': video_slots,
    'features': random.normal(size=(ROWS, VIEWS, SECONDS, DIM)).astype(np.float16),
  }


@functools.cache
def compiled():
  def both(model, batch):
    return negative_log_likelihood(model, batch, True), model.decoder.logits(model.target_states(batch, True))

  return nnx.jit(both)


def weighted(batch, *weights):
  return batch | {'target_weights': batch['target_weights'] * np.array(weights, np.float32)[:, None]}


def loss(batch) -> list[float]:
  return [float(value) for value in compiled()(model(), batch)[0]]


def logits(batch) -> np.ndarray:
  return np.asarray(compiled()(model(), batch)[1])


def test_the_nth_placeholder_is_the_nth_video_token():
  batch = make_batch()
  embedded = np.asarray(nnx.jit(CrossTrainer.embed)(model(), batch))
  video = np.asarray(model().mapper(batch['features'].astype(np.float32))).reshape(ROWS, VIEWS * SECONDS, -1)
  words = np.asarray(model().decoder.embed(jnp.asarray(batch['tokens'])))
  for row in range(ROWS):
    places = batch['tokens'][row] == VIDEO
    np.testing.assert_allclose(embedded[row, places], video[row], atol=1e-5)
    np.testing.assert_array_equal(embedded[row, ~places], words[row, ~places])


def test_the_loss_is_the_likelihood_of_the_next_tokens():
  batch = make_batch()
  hidden, _ = model().decoder(model().embed(batch), batch['positions'], batch['segment_ids'])
  everywhere = np.asarray(jax.nn.log_softmax(model().decoder.logits(hidden)))
  expected, right = 0.0, 0
  for row in range(ROWS):
    for column in range(int(batch['target_weights'][row].sum())):
      place = 8 + column
      expected -= everywhere[row, place, batch['tokens'][row, place + 1]]
      right += everywhere[row, place].argmax() == batch['tokens'][row, place + 1]
  total, weight, correct = loss(batch)
  assert total == pytest.approx(expected, rel=1e-5)
  assert (weight, correct) == (9, right)


def test_only_target_tokens_count():
  batch = make_batch()
  uncounted = batch | {'target_ids': np.where(batch['target_weights'] > 0, batch['target_ids'], 5)}
  assert loss(uncounted) == loss(batch)
  counted = batch | {'target_ids': (batch['target_ids'] + 1) % VOCAB}
  assert loss(counted)[0] != loss(batch)[0]


def test_what_comes_after_a_slot_is_not_seen():
  batch = make_batch()
  later = batch | {'tokens': batch['tokens'].copy()}
  later['tokens'][:, 10] = 4 + (later['tokens'][:, 10] - 3) % (VOCAB - 4)
  np.testing.assert_allclose(logits(later)[:, :2], logits(batch)[:, :2], atol=1e-5)
  assert np.abs(logits(later)[:, 2] - logits(batch)[:, 2]).max() > 1e-3


def test_a_row_of_weight_zero_changes_nothing():
  batch = weighted(make_batch(), 1, 1, 0)
  rubbish = {name: value.copy() for name, value in batch.items()}
  rubbish['features'][2], rubbish['target_ids'][2], rubbish['tokens'][2, 9:] = 50.0, 7, 8
  assert loss(rubbish) == pytest.approx(loss(batch))
  assert loss(batch)[1] == 6
  alone = jax.tree.map(lambda value: value[:2], make_batch())
  assert loss(alone) == pytest.approx(loss(batch), rel=1e-5)


def test_a_row_weighs_what_it_weighs():
  parts = []
  for row in range(ROWS):
    weights = np.zeros(ROWS)
    weights[row] = row + 1
    parts.append(loss(weighted(make_batch(), *weights)))
  both = loss(weighted(make_batch(), 1, 2, 3))
  assert both == pytest.approx(np.sum(parts, 0).tolist(), rel=1e-5)


def test_the_video_of_one_row_changes_that_row():
  batch, other = make_batch(), make_batch()
  other['features'][1] = other['features'][1, ::-1]
  change = np.abs(logits(other) - logits(batch)).max((1, 2))
  assert change[1] > 1e-3
  np.testing.assert_allclose(change[[0, 2]], 0, atol=1e-5)


def test_a_video_token_that_is_padding_is_not_seen():
  batch = make_batch()
  batch['segment_ids'][0, [3, 4]] = 0
  other = batch | {'features': batch['features'].copy()}
  other['features'][0, 1] = 9.0
  np.testing.assert_allclose(logits(other), logits(batch), atol=1e-5)
  other['features'][0, 0] = 9.0
  assert np.abs(logits(other)[0] - logits(batch)[0]).max() > 1e-3


def test_gradients_reach_mapper_and_decoder():
  graph, params = nnx.split(model(), nnx.Param)
  batch = make_batch()
  gradients = jax.jit(jax.grad(lambda params: negative_log_likelihood(nnx.merge(graph, params), batch, False)[0]))(
    params
  )
  still = [path for path, leaf in nnx.to_flat_state(gradients) if not np.abs(leaf.get_value()).max() > 0]
  assert set(still) == {('mapper', 'whitening', 'mean'), ('mapper', 'whitening', 'matrix')}
  assert {path[0] for path, _ in nnx.to_flat_state(gradients)} == {'mapper', 'decoder'}


def test_frames_give_what_their_features_give():
  settings = encoders.VideoTransformerConfig(
    image_size=16, fps=2, channels=4, keypoints=2, width=8, layers=1, heads=2, feature_dim=DIM
  )

  frames = np.random.default_rng(1).integers(0, 256, (ROWS, VIEWS, 4, 16, 16, 3), np.uint8)
  valid = np.ones((ROWS, VIEWS, 4), bool)
  valid[0, 1, 3], valid[2, 0] = False, False

  @jax.jit
  def tokens() -> tuple[jax.Array, ...]:
    encoder = encoders.VideoTransformer(settings, nnx.Rngs(1))
    whole = CrossTrainer(CONFIG, DIM, VIDEO, nnx.Rngs(0), encoder)
    features = encoder(frames.reshape(-1, 4, 16, 16, 3), valid.reshape(-1, 4)).reshape(ROWS, VIEWS, SECONDS, DIM)
    batches = {'features': features}, {'frames': frames, 'frames_valid': valid}, {'frames': frames}
    return tuple(whole.video_tokens(batch) for batch in batches)

  cached, live, unmasked = tokens()
  np.testing.assert_allclose(live, cached, atol=1e-5)
  # without a word on validity all frames are real
  np.testing.assert_allclose(unmasked[1], cached[1], atol=1e-5)
  assert np.abs(unmasked[0] - cached[0]).max() > 1e-4


def test_frames_without_an_encoder_are_a_clear_error():
  batch = make_batch()
  del batch['features']
  with pytest.raises(ValueError, match=r'no encoder: set config\.encoder\.source'):
    model().video_tokens(batch | {'frames': np.zeros((ROWS, VIEWS, 4, 16, 16, 3), np.uint8)})


def test_unknown_decoders_and_settings_are_refused():
  with pytest.raises(ValueError, match=r"config\.decoder\.name='gpt' is not one of \['llama'\]"):
    decoder_config('gpt', {})
  with pytest.raises(ValueError, match=r"decoder 'llama' has no setting \['heads'\]; it has \['attention', 'dropout'"):
    decoder_config('llama', {'vocab_size': 8, 'heads': 4})
  assert set(crosstrainer.DECODERS) == {'llama'}
