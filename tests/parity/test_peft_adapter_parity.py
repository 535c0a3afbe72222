"""Adapters of L against PEFT: the same adapter gives the same logits and gradients, in both directions."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from crosstrainer_jax.models import lora, peft_adapter
from crosstrainer_jax.models.decoder import Decoder
from crosstrainer_jax.models.llama_family import ignored, read_config, sources
from crosstrainer_jax.weights import convert
from crosstrainer_jax.weights.tensors import Tensors

# peft asks transformers for `is_gradient_checkpointing` by its old name.
pytestmark = [
  pytest.mark.parity,
  pytest.mark.filterwarnings('ignore:`is_gradient_checkpointing` is deprecated:FutureWarning'),
]
torch = pytest.importorskip('torch')
transformers = pytest.importorskip('transformers')
peft = pytest.importorskip('peft')

TOLERANCE = 1e-4
TOKENS = np.random.default_rng(0).integers(0, 64, (3, 17))
LINEARS = ['q_proj', 'k_proj', 'v_proj', 'o_proj', 'gate_proj', 'up_proj', 'down_proj']
TARGETS = {'all': LINEARS, 'two': ['q_proj', 'v_proj'], 'pattern': r'.*(self_attn|mlp)\.(k|up)_proj'}


@pytest.fixture(scope='module')
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
  directory = tmp_path_factory.mktemp('base')
  config = transformers.LlamaConfig(
    vocab_size=64, hidden_size=32, intermediate_size=56, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, max_position_embeddings=64, bos_token_id=None, eos_token_id=None, pad_token_id=None,
  )  # fmt: skip
  torch.manual_seed(0)
  model = transformers.LlamaForCausalLM(config)
  with torch.no_grad():
    for path, weight in model.named_parameters():
      weight.normal_(1.0 if 'norm' in path else 0.0, 0.2)
  model.save_pretrained(directory)
  return directory


def plain(base: Path) -> Any:
  return transformers.LlamaForCausalLM.from_pretrained(base, attn_implementation='eager').eval()


@pytest.fixture(scope='module')
def adapted(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., tuple[Any, Path]]:
  """A model with a random adapter (B too, which is zero in a fresh one), and the adapter's directory."""

  def make(targets: str, **settings: Any) -> tuple[Any, Path]:
    config = peft.LoraConfig(
      r=4, lora_alpha=10, lora_dropout=0.3, target_modules=TARGETS[targets], task_type='CAUSAL_LM', **settings
    )
    model = peft.get_peft_model(plain(base), config)
    torch.manual_seed(1)
    with torch.no_grad():
      for path, weight in model.named_parameters():
        if 'lora' in path:
          weight.normal_(0.0, 0.2)
    directory = tmp_path_factory.mktemp('adapter')
    model.save_pretrained(directory)
    return model.eval(), directory

  return make


def load(base: Path, adapter: Path) -> Decoder:
  config = read_config(base, lora=peft_adapter.read_config(adapter))
  graph, abstract, rest = nnx.split(nnx.eval_shape(lambda: Decoder(config, nnx.Rngs(0))), nnx.Param, ...)
  low, full = nnx.split_state(abstract, nnx.LoRAParam, ...)
  state = convert.load(Tensors(base), sources(config), full, ignored(config))
  streams = nnx.split(nnx.jit(lambda: Decoder(config, nnx.Rngs(0)))(), nnx.Param, ...)[2]
  assert jax.tree.structure(rest) == jax.tree.structure(streams)
  return nnx.merge(graph, nnx.merge_state(state, peft_adapter.load(adapter, config, low)), streams)


def logits(decoder: Decoder, tokens: jax.Array, deterministic: bool = True) -> jax.Array:
  positions = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)
  hidden, _ = decoder(decoder.embed(tokens), positions, jnp.ones_like(tokens), deterministic)
  return decoder.logits(hidden)


def difference(a: Any, b: Any) -> float:
  return float(np.abs(np.asarray(a) - np.asarray(b)).max())


@pytest.mark.parametrize('targets', TARGETS)
def test_logits_and_gradients(
  targets: str, base: Path, adapted: Callable, record_property: Callable[[str, object], None]
) -> None:
  model, directory = adapted(targets)
  decoder = load(base, directory)
  tokens = jnp.asarray(TOKENS)
  reference = model(torch.tensor(TOKENS), labels=torch.tensor(TOKENS))
  found = difference(nnx.jit(logits)(decoder, tokens), reference.logits.detach())
  with torch.no_grad():
    assert difference(reference.logits, plain(base)(torch.tensor(TOKENS)).logits) > 100 * TOLERANCE

  reference.loss.backward()
  expected = {path: weight.grad.numpy() for path, weight in model.named_parameters() if weight.grad is not None}

  @nnx.jit
  def gradient(decoder: Decoder) -> nnx.State:
    def loss(decoder: Decoder) -> jax.Array:
      log_probs = jax.nn.log_softmax(logits(decoder, tokens)[:, :-1])
      return -jnp.mean(jnp.take_along_axis(log_probs, tokens[:, 1:, None], axis=-1))

    return nnx.grad(loss, argnums=nnx.DiffState(0, nnx.LoRAParam))(decoder)

  table = peft_adapter.sources(decoder.config)
  gradients = convert.flat(gradient(decoder))
  assert set(gradients) == set(table)
  assert len(expected) == len(table) * decoder.config.num_layers
  for path, leaf in gradients.items():
    names = [name.replace('.weight', '.default.weight') for name in table[path].names(leaf.shape[0])]
    wanted = np.stack([expected[name].T for name in names])
    assert np.abs(wanted).max() > 10 * TOLERANCE, path
    found = max(found, difference(leaf[...], wanted))
  record_property('max_abs_difference', f'{found:.1e}')
  assert found <= TOLERANCE


def test_dropout_is_off_unless_training(base: Path, adapted: Callable) -> None:
  _, directory = adapted('all')
  decoder, tokens = load(base, directory), jnp.asarray(TOKENS)
  still = logits(decoder, tokens)
  assert difference(still, logits(decoder, tokens)) == 0
  assert difference(still, logits(decoder, tokens, deterministic=False)) > 1e-2


def test_rank_stabilised_scale(base: Path, adapted: Callable) -> None:
  model, directory = adapted('two', use_rslora=True)
  with torch.no_grad():
    expected = model(torch.tensor(TOKENS)).logits
  assert difference(logits(load(base, directory), jnp.asarray(TOKENS)), expected) <= TOLERANCE


def test_peft_opens_what_is_saved_here(base: Path, adapted: Callable, tmp_path: Path) -> None:
  model, directory = adapted('all')
  decoder = load(base, directory)
  peft_adapter.save(tmp_path / 'saved', decoder.config, nnx.state(decoder, nnx.LoRAParam), str(base))
  again = peft.PeftModel.from_pretrained(plain(base), tmp_path / 'saved').eval()
  with torch.no_grad():
    np.testing.assert_array_equal(again(torch.tensor(TOKENS)).logits, model(torch.tensor(TOKENS)).logits)


def test_merging_is_what_peft_merges(base: Path, adapted: Callable) -> None:
  model, directory = adapted('all')
  decoder = load(base, directory)
  merged = model.merge_and_unload().state_dict()
  linear = decoder.layers.attention.q_proj
  ours = lora.merged(linear.kernel[...], linear.lora_a[...], linear.lora_b[...], linear.scale)
  for layer in range(2):
    assert difference(ours[layer].T, merged[f'model.layers.{layer}.self_attn.q_proj.weight']) <= 1e-5


def test_the_first_adapter_is_drawn_as_peft_draws_it(base: Path) -> None:
  """Between ± 1 / √inputs, whatever the rank; 2.45 times narrower than he_uniform, which nnx.LoRA draws from."""
  config = peft.LoraConfig(r=16, target_modules=LINEARS, task_type='CAUSAL_LM')
  theirs = peft.get_peft_model(plain(base), config).state_dict()
  a = theirs['base_model.model.model.layers.0.mlp.down_proj.lora_A.default.weight'].numpy()
  layer = lora.LoRALinear(56, 32, lora=lora.LoRAConfig(rank=16, dropout=0.0), rngs=nnx.Rngs(0))
  ours = np.asarray(layer.lora_a[...])
  for drawn in (a, ours):
    assert 0.9 * 56**-0.5 < np.abs(drawn).max() <= 56**-0.5
    assert drawn.std() == pytest.approx((3 * 56) ** -0.5, rel=0.1)
  assert not np.asarray(layer.lora_b[...]).any()
