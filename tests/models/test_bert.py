"""The text encoders equal `transformers`' kept states; padding, batches and places of the weights change nothing."""

import dataclasses
import functools
import json
import pathlib
import runpy
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import save_file

from crosstrainer_jax.models import bert
from crosstrainer_jax.models.bert import Bert, BertConfig, States
from crosstrainer_jax.training import sharding

GOLDEN = pathlib.Path(__file__).resolve().parent.parent / 'golden'
made = runpy.run_path(str(GOLDEN / 'make_bert.py'))
CONFIGS, weights = made['CONFIGS'], made['weights']
TOLERANCE = 1e-5


def write(folder: pathlib.Path, tensors: dict[str, np.ndarray], config: dict[str, Any]) -> pathlib.Path:
  folder.mkdir(parents=True, exist_ok=True)
  (folder / 'config.json').write_text(json.dumps(config))
  save_file(tensors, folder / 'model.safetensors')
  return folder


@pytest.fixture(scope='module')
def encoders(tmp_path_factory: pytest.TempPathFactory) -> Any:
  """A function of the family: the encoder with a pooler."""

  @functools.cache
  def load(family: str) -> Bert:
    folder = write(tmp_path_factory.mktemp(family), weights(CONFIGS[family]), CONFIGS[family])
    return bert.load(folder, pooler=True)

  return load


# XLM-R is RoBERTa with other numbers: what is kept of it is enough.
@pytest.fixture(params=['bert', 'roberta'])
def encoder(request: pytest.FixtureRequest, encoders: Any) -> Bert:
  return encoders(request.param)


@nnx.jit(static_argnames='layers')
def run(
  encoder: Bert,
  tokens: jax.Array,
  mask: jax.Array | None = None,
  types: jax.Array | None = None,
  layers: int | None = None,
) -> States:
  return encoder(tokens, mask, types, layers=layers)


def given(encoder: Bert, lengths: tuple[int, ...] = (9, 4, 6), length: int = 9) -> tuple[jax.Array, jax.Array]:
  """Tokens and mask, padded with the padding token."""
  pad = encoder.config.padding_idx or 0
  mask = jnp.arange(length) < jnp.array(lengths)[:, None]
  tokens = jax.random.randint(jax.random.key(0), (len(lengths), 24), pad + 1, encoder.config.vocab_size)
  return jnp.where(mask, tokens[:, :length], pad), mask


def close(a: Any, b: Any, tolerance: float = TOLERANCE) -> None:
  np.testing.assert_allclose(a, b, atol=tolerance, rtol=0)


def record(family: str) -> dict[str, np.ndarray]:
  with np.load(GOLDEN / 'bert.npz') as file:
    return {name.removeprefix(f'{family}/'): file[name] for name in file if name.startswith(f'{family}/')}


@pytest.mark.parametrize('family', CONFIGS)
def test_golden(family: str, encoders: Any) -> None:
  kept = record(family)
  states = run(
    encoders(family), jnp.array(kept['tokens']), jnp.array(kept['mask'], bool), jnp.array(kept['token_types'])
  )
  assert kept['layers'].std() > 0.3
  close(states.layers, kept['layers'])
  close(states.pooled, kept['pooled'])


@pytest.mark.parametrize(
  ('family', 'change'),
  [
    ('bert', {'activation': 'gelu_new'}),
    ('bert', {'activation': 'relu'}),
    ('bert', {'eps': 1e-12}),
    ('bert', {'heads': 2}),
    ('bert', {'padding_idx': 0}),
    ('roberta', {'padding_idx': None}),
    ('roberta', {'padding_idx': 0}),
  ],
  ids=str,
)
def test_a_changed_field_shows(family: str, change: dict[str, Any], encoders: Any) -> None:
  """The comparison with the record would notice a wrong field: each moves the states by far more than the tolerance."""
  kept, encoder = record(family), encoders(family)
  changed = dataclasses.replace(encoder.config, **change)
  graph = nnx.split(nnx.eval_shape(lambda: Bert(changed, nnx.Rngs(0))))[0]
  other = nnx.merge(graph, nnx.state(encoder), copy=True)
  found = run(other, jnp.array(kept['tokens']), jnp.array(kept['mask'], bool), jnp.array(kept['token_types'])).layers
  assert np.abs(found - kept['layers']).max() >= 10 * TOLERANCE


def test_shapes(encoder: Bert) -> None:
  states = run(encoder, *given(encoder))
  assert states.last.shape == (3, 9, 32)
  assert states.layers.shape == (4, 3, 9, 32)
  assert states.pooled is not None
  assert states.pooled.shape == (3, 32)
  np.testing.assert_array_equal(states.layers[-1], states.last)


def test_a_text_alone_is_the_text_in_a_batch(encoder: Bert) -> None:
  tokens, mask = given(encoder)
  together = run(encoder, tokens, mask).layers
  for row, length in enumerate((9, 4, 6)):
    alone = run(encoder, tokens[row : row + 1, :length]).layers
    close(together[:, row, :length], alone[:, 0])


def test_the_order_of_a_batch_does_not_matter(encoder: Bert) -> None:
  tokens, mask = given(encoder)
  order = jnp.array([2, 0, 1])
  close(run(encoder, tokens[order], mask[order]).last, run(encoder, tokens, mask).last[order])


def test_more_padding_changes_nothing(encoder: Bert) -> None:
  short, long = (run(encoder, *given(encoder, length=length)) for length in (9, 14))
  mask = given(encoder)[1]
  close(long.last[:, :9][mask], short.last[mask])
  close(long.pooled, short.pooled)


def test_what_stands_at_padding_does_not_matter(encoder: Bert) -> None:
  tokens, mask = given(encoder)
  other = jnp.where(mask, tokens, 40)
  close(run(encoder, other, mask).last[mask], run(encoder, tokens, mask).last[mask])


def test_a_row_of_padding_alone_is_finite(encoder: Bert) -> None:
  assert np.isfinite(run(encoder, *given(encoder, (0, 9))).layers).all()


def test_every_token_and_type_counts(encoders: Any) -> None:
  encoder = encoders('bert')
  tokens, mask = given(encoder)
  plain = run(encoder, tokens, mask, jnp.zeros_like(tokens)).last
  np.testing.assert_array_equal(plain, run(encoder, tokens, mask).last)
  for other in (
    run(encoder, tokens.at[:, 3].set(7), mask),
    run(encoder, tokens, mask, jnp.ones_like(tokens)),
    run(encoder, tokens[:, ::-1], mask),
  ):
    assert np.abs(np.asarray(other.last - plain)).max() > 100 * TOLERANCE


def test_positions(encoders: Any) -> None:
  tokens = jnp.array([[5, 6, 1, 8, 1, 1], [1, 1, 3, 3, 3, 3]])
  np.testing.assert_array_equal(encoders('bert').embeddings.positions(tokens), [[0, 1, 2, 3, 4, 5]])
  np.testing.assert_array_equal(
    encoders('roberta').embeddings.positions(tokens), [[2, 3, 1, 4, 1, 1], [1, 1, 2, 3, 4, 5]]
  )
  np.testing.assert_array_equal(
    encoders('xlm-roberta').embeddings.positions(tokens), [[4, 5, 6, 7, 8, 9], [4, 5, 3, 3, 3, 3]]
  )


def test_scanned_is_one_by_one(encoder: Bert) -> None:
  tokens, mask = given(encoder)
  states = run(encoder, tokens, mask)
  x = states.layers[0]
  graph, stacks = nnx.split(encoder.transformer.blocks)
  for number in range(3):
    block = nnx.merge(graph, jax.tree.map(lambda stack, number=number: stack[number], stacks))
    x = block(x, mask[:, None, None, :])
    close(x, states.layers[number + 1])


@pytest.mark.parametrize('layers', [0, 1, 2, 3])
def test_the_first_layers_alone(encoders: Any, layers: int) -> None:
  encoder = encoders('bert')
  tokens, mask = given(encoder)
  states = run(encoder, tokens, mask, layers=layers)
  whole = run(encoder, tokens, mask).layers
  close(states.last, whole[layers])
  close(states.layers, whole[: layers + 1])


def test_jit_is_no_jit(encoders: Any) -> None:
  encoder = encoders('roberta')
  tokens, mask = given(encoder)
  close(encoder(tokens, mask).layers, run(encoder, tokens, mask).layers)


def test_eight_devices_are_one(encoders: Any) -> None:
  encoder = encoders('roberta')
  tokens, mask = (jnp.tile(x, (3, 1))[:8] for x in given(encoder))
  expected = run(encoder, tokens, mask)
  mesh = sharding.make_mesh((1, 4, 2))
  graph, state = nnx.split(encoder)
  placed = jax.device_put(state, sharding.state_shardings(state, mesh))
  spread = nnx.merge(graph, placed)
  assert len(spread.transformer.blocks.fc1.kernel.get_value().sharding.device_set) == 8
  assert not spread.transformer.blocks.fc1.kernel.get_value().sharding.is_fully_replicated
  states = run(spread, *sharding.put_batch((np.asarray(tokens), np.asarray(mask)), mesh))
  close(states.layers, expected.layers)
  close(states.pooled, expected.pooled)


def test_made_by_shape_and_under_jit() -> None:
  config = BertConfig.from_hugging_face(CONFIGS['bert'])
  abstract = nnx.state(nnx.eval_shape(lambda: Bert(config, nnx.Rngs(0))), nnx.Param)
  real = nnx.state(nnx.jit(lambda: Bert(config, nnx.Rngs(0)))(), nnx.Param)
  assert jax.tree.map(jnp.shape, abstract) == jax.tree.map(jnp.shape, real)
  for path, variable in nnx.to_flat_state(abstract):
    axes = sharding.logical_axes(variable)
    assert axes is not None, path
    assert len(axes) == len(variable.shape), path


def test_half_precision(tmp_path: pathlib.Path, encoders: Any) -> None:
  """bf16 keeps 8 bits: states of size 1 stay within 0.06 of float32, and within 0.015 in the mean square."""
  folder = write(tmp_path, weights(CONFIGS['bert']), CONFIGS['bert'])
  tokens, mask = given(encoders('bert'))
  exact = run(encoders('bert'), tokens, mask).last[mask]
  for param_dtype in ('float32', 'bfloat16'):
    encoder = bert.load(folder, dtype='bfloat16', param_dtype=param_dtype)
    last = run(encoder, tokens, mask).last[mask]
    assert last.dtype == jnp.bfloat16
    assert encoder.embeddings.word.embedding.dtype == param_dtype
    error = np.asarray(last, np.float32) - np.asarray(exact)
    assert 0 < np.abs(error).max() < 0.06
    assert np.sqrt(np.mean(error**2)) < 0.015


def test_calls_that_do_not_fit(encoders: Any) -> None:
  encoder = encoders('roberta')
  tokens, mask = given(encoder)
  assert encoder.config.max_length == 22
  with pytest.raises(ValueError, match='texts of 23 tokens, but the encoder takes at most 22'):
    encoder(jnp.zeros((1, 23), jnp.int32))
  with pytest.raises(ValueError, match=r'mask \(3, 8\) does not fit tokens \(3, 9\)'):
    encoder(tokens, mask[:, 1:])
  with pytest.raises(ValueError, match=r'token_types \(2, 9\) does not fit'):
    encoder(tokens, mask, tokens[1:])
  for layers in (-1, 4):
    with pytest.raises(ValueError, match=rf'layers={layers}: the encoder has 0 \(its embeddings\) to 3'):
      encoder(tokens, mask, layers=layers)
  # one bad text does not spoil the others
  states = run(encoder, tokens.at[0, 2].set(64), mask).last
  assert np.isnan(states[0]).any()
  assert np.isfinite(states[1:]).all()


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    ({'model_type': 'albert'}, "model_type='albert' is no text encoder .* bert, roberta, xlm-roberta"),
    ({'position_embedding_type': 'relative_key'}, "position_embedding_type='relative_key' .* only 'absolute'"),
    ({'is_decoder': True}, 'is_decoder=True is not supported, only False'),
    ({'add_cross_attention': True}, 'add_cross_attention=True'),
    ({'is_encoder_decoder': True}, 'is_encoder_decoder=True'),
    ({'pruned_heads': {'1': [0]}}, 'pruned_heads='),
    ({'quantization_config': {'bits': 4}}, 'quantization_config='),
    ({'hidden_act': 'gelu_fast'}, "activation 'gelu_fast' is not known"),
    ({'num_attention_heads': 5}, 'does not divide into 5 heads'),
    ({'model_type': 'roberta', 'pad_token_id': None}, 'roberta: pad_token_id=None is not supported'),
    ({'model_type': 'roberta', 'pad_token_id': -1}, 'pad_token_id=-1'),
  ],
)
def test_configs_that_are_refused(tmp_path: pathlib.Path, change: dict[str, Any], message: str) -> None:
  with pytest.raises(ValueError, match=message):
    BertConfig.from_hugging_face(CONFIGS['bert'] | change)
  write(tmp_path, {}, CONFIGS['bert'] | change)
  with pytest.raises(ValueError, match=str(tmp_path)):
    bert.load(tmp_path)


def test_what_a_config_leaves_out() -> None:
  base = BertConfig.from_hugging_face({'model_type': 'bert', 'position_embedding_type': None, 'pruned_heads': {}})
  assert base == BertConfig(
    vocab_size=30522, position_rows=512, token_types=2, layers=12, width=768, heads=12, mlp=3072,
    activation='gelu', eps=1e-12, padding_idx=None,
  )  # fmt: skip
  assert base.max_length == 512
  roberta = BertConfig.from_hugging_face({'model_type': 'roberta', 'max_position_embeddings': 514})
  assert roberta == dataclasses.replace(base, vocab_size=50265, padding_idx=1, position_rows=514)
  assert roberta.max_length == 512


@pytest.mark.parametrize('prefix', bert.PREFIXES)
def test_a_checkpoint_with_a_head(tmp_path: pathlib.Path, encoders: Any, prefix: str) -> None:
  family = prefix.removesuffix('.')
  named = {prefix + name: value for name, value in weights(CONFIGS[family]).items() if 'pooler' not in name}
  named[prefix + 'embeddings.position_ids'] = np.arange(24)[None]
  one = np.ones(1, np.float32)
  heads = {'cls.predictions.bias': one, 'lm_head.dense.weight': one, 'classifier.weight': one}
  folder = write(tmp_path, named | heads, CONFIGS[family])
  tokens, mask = given(encoders(family))
  np.testing.assert_array_equal(run(bert.load(folder), tokens, mask).last, run(encoders(family), tokens, mask).last)
  with pytest.raises(ValueError, match=f'2 missing: {prefix}pooler.dense.bias, {prefix}pooler.dense.weight'):
    bert.load(folder, pooler=True)
  write(folder, named | {'decoder.weight': one}, CONFIGS[family])
  with pytest.raises(ValueError, match='neither of the encoder nor of a head: decoder.weight'):
    bert.load(folder)


def test_old_names_of_norms(tmp_path: pathlib.Path, encoders: Any) -> None:
  old = {
    name.replace('LayerNorm.weight', 'LayerNorm.gamma').replace('LayerNorm.bias', 'LayerNorm.beta'): value
    for name, value in weights(CONFIGS['bert']).items()
  }
  tokens, mask = given(encoders('bert'))
  encoder = bert.load(write(tmp_path, old, CONFIGS['bert']), pooler=True)
  np.testing.assert_array_equal(run(encoder, tokens, mask).last, run(encoders('bert'), tokens, mask).last)


def test_weights_that_do_not_fit_are_all_listed(tmp_path: pathlib.Path) -> None:
  tensors = weights(CONFIGS['bert'])
  del tensors['encoder.layer.1.output.dense.bias'], tensors['embeddings.LayerNorm.weight']
  tensors['encoder.layer.3.output.dense.bias'] = np.zeros(32, np.float32)
  tensors['embeddings.token_type_embeddings.weight'] = np.zeros((3, 32), np.float32)
  with pytest.raises(ValueError, match='do not fit') as caught:
    bert.load(write(tmp_path, tensors, CONFIGS['bert']))
  for part in (
    '2 missing: embeddings.LayerNorm.weight, encoder.layer.1.output.dense.bias',
    '1 not known here: encoder.layer.3.output.dense.bias',
    '1 of another shape: embeddings.token_type_embeddings.weight is [3, 32]',
  ):
    assert part in str(caught.value)


def test_folders_that_hold_no_model(tmp_path: pathlib.Path) -> None:
  with pytest.raises(FileNotFoundError, match=r'config\.json: this file is missing'):
    bert.load(tmp_path)
  (tmp_path / 'config.json').write_text('{')
  with pytest.raises(ValueError, match=r'config\.json: not JSON'):
    bert.load(tmp_path)
  (tmp_path / 'config.json').write_text(json.dumps(CONFIGS['bert']))
  with pytest.raises(FileNotFoundError, match='no weights here'):
    bert.load(tmp_path)
