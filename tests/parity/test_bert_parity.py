"""The text encoders against `transformers` on torch: the same folder gives the same states of every layer."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file, save_file

from crosstrainer_jax.models import bert
from crosstrainer_jax.models.bert import Bert, States
from crosstrainer_jax.weights import convert

pytestmark = pytest.mark.parity
torch = pytest.importorskip('torch')
transformers = pytest.importorskip('transformers')

TOLERANCE = 1e-5
FAMILIES = ('bert', 'roberta', 'xlm-roberta')
LENGTHS = np.array([[17], [9], [13], [1]])


def settings(family: str, **fields: Any) -> Any:
  sizes = {
    'vocab_size': 70,
    'hidden_size': 32,
    'num_hidden_layers': 3,
    'num_attention_heads': 4,
    'intermediate_size': 56,
    'max_position_embeddings': 24,
    'type_vocab_size': 3,
    # wide, so that a wrong one shows
    'layer_norm_eps': 1e-2,
    'attn_implementation': 'eager',
  }
  return transformers.AutoConfig.for_model(family, **(sizes | fields))


def randomise(model: Any) -> Any:
  """Weights and norms are wide, since small ones hide errors."""
  torch.manual_seed(0)
  with torch.no_grad():
    for name, weight in model.named_parameters():
      weight.normal_(1.0 if name.endswith('LayerNorm.weight') else 0.0, 0.2)
  return model.eval()


Pair = Callable[..., tuple[Bert, Any]]


@pytest.fixture(scope='module')
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
  """A function of the family and fields: ours, read from the folder that the reference wrote, and the reference."""

  @functools.cache
  def make(family: str, **fields: Any) -> tuple[Bert, Any]:
    model = randomise(transformers.AutoModel.from_config(settings(family, **fields)))
    folder = tmp_path_factory.mktemp(family)
    model.save_pretrained(folder)
    return bert.load(folder, pooler=True), model

  return make


def texts(model: Any) -> dict[str, np.ndarray]:
  """Texts of `LENGTHS`, padded; the third holds the padding token among its own."""
  rng = np.random.default_rng(0)
  pad, mask = model.config.pad_token_id, np.arange(17) < LENGTHS
  tokens = np.where(mask, rng.integers(pad + 1, 70, mask.shape), pad)
  tokens[2, 5] = pad
  return {'tokens': tokens, 'mask': mask, 'token_types': rng.integers(0, 3, mask.shape)}


def theirs(model: Any, given: dict[str, np.ndarray]) -> Any:
  return model(
    torch.tensor(given['tokens']),
    attention_mask=torch.tensor(given['mask'].astype(int)),
    token_type_ids=torch.tensor(given['token_types']),
    output_hidden_states=True,
  )


@nnx.jit
def run(model: Bert, given: dict[str, jax.Array]) -> States:
  return model(**given)


def ours(model: Bert, given: dict[str, np.ndarray]) -> States:
  return run(model, {name: jnp.asarray(value) for name, value in given.items()})


def difference(a: Any, b: Any) -> float:
  return float(np.abs(np.asarray(a) - np.asarray(b)).max())


@pytest.mark.parametrize(
  ('family', 'activation'),
  [*((family, 'gelu') for family in FAMILIES), ('bert', 'gelu_new'), ('bert', 'relu'), ('roberta', 'silu')],
)
def test_every_layer(pair: Pair, family: str, activation: str, record_property: Callable[[str, object], None]) -> None:
  encoder, model = pair(family, **({} if activation == 'gelu' else {'hidden_act': activation}))
  given = texts(model)
  with torch.no_grad():
    expected = theirs(model, given)
  layers = torch.stack(expected.hidden_states).numpy()
  assert layers.std() > 0.3
  found = ours(encoder, given)
  largest = max(difference(found.layers, layers), difference(found.pooled, expected.pooler_output))
  record_property('max_abs_difference', f'{largest:.1e}')
  assert largest <= TOLERANCE
  np.testing.assert_array_equal(found.last, found.layers[-1])


@pytest.mark.parametrize('family', FAMILIES)
def test_without_mask_and_types(pair: Pair, family: str) -> None:
  encoder, model = pair(family)
  tokens = texts(model)['tokens']
  with torch.no_grad():
    expected = model(torch.tensor(tokens), output_hidden_states=True)
  found = ours(encoder, {'tokens': tokens})
  assert difference(found.layers, torch.stack(expected.hidden_states)) <= TOLERANCE


@pytest.mark.parametrize('pad', [0, 2, 5])
def test_positions_follow_the_padding_token(pair: Pair, pad: int) -> None:
  encoder, model = pair('roberta', pad_token_id=pad)
  assert encoder.config.max_length == 24 - pad - 1
  given = texts(model)
  with torch.no_grad():
    expected = theirs(model, given)
  assert difference(ours(encoder, given).layers, torch.stack(expected.hidden_states)) <= TOLERANCE


@pytest.mark.parametrize('family', FAMILIES)
def test_gradients(pair: Pair, family: str, record_property: Callable[[str, object], None]) -> None:
  """Of a scalar of the states of real tokens and of the pooled ones, for every parameter.

  Without the padding token among the real ones: torch keeps the gradient of that row of its table at zero.
  """
  encoder, model = pair(family)
  given = texts(model)
  given['tokens'][2, 5] = 60
  rng = np.random.default_rng(1)
  weight = rng.standard_normal((4, 17, 32)).astype(np.float32) * given['mask'][..., None]
  pooled = rng.standard_normal((4, 32)).astype(np.float32)
  output = theirs(model, given)
  (
    (output.last_hidden_state * torch.tensor(weight)).sum() + (output.pooler_output * torch.tensor(pooled)).sum()
  ).backward()
  expected = {name: parameter.grad.numpy() for name, parameter in model.named_parameters()}

  @nnx.jit
  def gradient(encoder: Bert, given: dict[str, jax.Array]) -> nnx.State:
    def loss(encoder: Bert) -> jax.Array:
      states = encoder(**given)
      return jnp.sum(states.last * weight) + jnp.sum(states.pooled * pooled)

    return nnx.grad(loss)(encoder)

  found = convert.flat(gradient(encoder, {name: jnp.asarray(value) for name, value in given.items()}))
  sources = bert.sources(encoder.config)
  assert found.keys() == sources.keys()
  largest = 0.0
  for path, source in sources.items():
    parts = [expected.pop(name) for name in source.names(3)]
    parts = [part.transpose(source.axes) if source.axes else part for part in parts]
    wanted = np.stack(parts) if '{}' in source.name else parts[0]
    # The softmax does not see a constant that is added to all its inputs.
    assert path.endswith('k_proj/bias') or np.abs(wanted).max() > 100 * TOLERANCE, path
    # sums over 40 tokens: an error is as large as the sum is
    scale = max(1.0, float(np.abs(wanted).max()))
    largest = max(largest, difference(found[path].get_value(), wanted) / scale)
    assert largest <= TOLERANCE, path
  assert not expected
  record_property('max_abs_difference', f'{largest:.1e}')


@pytest.mark.parametrize('family', FAMILIES)
@pytest.mark.parametrize(
  'head', ['AutoModelForMaskedLM', 'AutoModelForSequenceClassification', 'AutoModelForPreTraining']
)
def test_checkpoints_with_a_head(tmp_path: Path, family: str, head: str) -> None:
  model = randomise(getattr(transformers, head).from_config(settings(family)))
  model.save_pretrained(tmp_path)
  assert any(name.startswith(bert.PREFIXES) for name in load_file(tmp_path / 'model.safetensors'))
  given = texts(model)
  with torch.no_grad():
    expected = theirs(model.base_model, given)
  found = ours(bert.load(tmp_path), given)
  assert difference(found.layers, torch.stack(expected.hidden_states)) <= TOLERANCE
  assert found.pooled is None


def test_old_names_of_norms(tmp_path: Path, pair: Pair) -> None:
  """`gamma` and `beta`, as in bert-base-uncased: `transformers` reads them too."""
  encoder, model = pair('bert')
  model.save_pretrained(tmp_path)
  file = tmp_path / 'model.safetensors'
  renamed = {
    'bert.' + name.replace('LayerNorm.weight', 'LayerNorm.gamma').replace('LayerNorm.bias', 'LayerNorm.beta'): value
    for name, value in load_file(file).items()
  }
  save_file(renamed, file, metadata={'format': 'pt'})
  given = texts(model)
  old = transformers.AutoModel.from_pretrained(tmp_path, attn_implementation='eager').eval()
  with torch.no_grad():
    np.testing.assert_array_equal(theirs(old, given).last_hidden_state, theirs(model, given).last_hidden_state)
  np.testing.assert_array_equal(ours(bert.load(tmp_path, pooler=True), given).last, ours(encoder, given).last)


@pytest.mark.parametrize('family', FAMILIES)
def test_defaults_of_a_config(family: str) -> None:
  """A config.json that says nothing but its family means what it means there."""
  expected = transformers.AutoConfig.for_model(family)
  found = bert.BertConfig.from_hugging_face({'model_type': family})
  assert found == bert.BertConfig.from_hugging_face(expected.to_dict())


def test_half_precision(tmp_path: Path, pair: Pair, record_property: Callable[[str, object], None]) -> None:
  """bf16 here is as near to float32 as bf16 there: within 1.5 times its root mean square difference."""
  _, model = pair('bert')
  model.save_pretrained(tmp_path)
  half_model = transformers.AutoModel.from_pretrained(
    tmp_path, attn_implementation='eager', dtype=torch.bfloat16
  ).eval()
  given = texts(model)
  with torch.no_grad():
    exact = theirs(model, given).last_hidden_state.numpy()
    half = theirs(half_model, given).last_hidden_state.float().numpy()
  found = np.asarray(ours(bert.load(tmp_path, dtype='bfloat16'), given).last, np.float32)
  mask = given['mask']
  there, here = (float(np.sqrt(np.mean((x - exact)[mask] ** 2))) for x in (half, found))
  record_property('rms_difference', f'{here:.1e} (torch {there:.1e})')
  assert here <= 1.5 * there
