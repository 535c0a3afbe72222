"""An adapter of PEFT against a record of what PEFT makes of it: parity for a machine without PyTorch."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from safetensors.numpy import save_file

from crosstrainer_jax.models import llama_family, peft_adapter
from crosstrainer_jax.models.decoder import Decoder
from crosstrainer_jax.models.pretrained import Pretrained
from crosstrainer_jax.weights import convert
from tests.models import hub_directories
from tests.models.test_llama_golden import TOKENS, VARIANTS, logits

GOLDEN = Path(__file__).parent.parent / 'golden' / 'peft_adapter.npz'
TOLERANCE = 1e-4
# The adapted one of the golden decoders.
BASE = 'qwen2'


def draw(shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
  """Random weights float32 of an adapter, drawn in the order of their names."""
  random = np.random.default_rng(2)
  return {name: random.normal(0, 0.3, shapes[name]).astype(np.float32) for name in sorted(shapes)}


def test_logits_and_gradients(tmp_path):
  with np.load(GOLDEN) as file:
    golden = dict(file)
  settings, expected = str(golden.pop('config')), golden.pop('logits')
  # what is left are gradients, by the names of the parameters
  (tmp_path / 'adapter').mkdir()
  (tmp_path / 'adapter' / 'adapter_config.json').write_text(settings)
  tensors = draw({name: gradient.shape for name, gradient in golden.items()})
  save_file(tensors, tmp_path / 'adapter' / 'adapter_model.safetensors')
  base = hub_directories.write_llama(tmp_path / 'base', **VARIANTS[BASE])
  lora = peft_adapter.read_config(tmp_path / 'adapter')
  assert (lora.rank, lora.dropout, lora.scale) == (3, 0.1, 6 / 3**0.5)
  config = llama_family.read_config(base, lora=lora)
  graph, abstract, rest = nnx.split(nnx.eval_shape(lambda: Decoder(config, nnx.Rngs(0))), nnx.Param, ...)
  state = Pretrained(base, config, tmp_path / 'adapter').load(abstract)
  # streams of dropout, which is off
  rest = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), rest, is_leaf=lambda leaf: hasattr(leaf, 'dtype'))

  @nnx.jit
  def run(decoder: Decoder) -> tuple[jax.Array, nnx.State]:
    def loss(decoder: Decoder) -> tuple[jax.Array, jax.Array]:
      found = logits(decoder, jnp.asarray(TOKENS))
      log_probs = jax.nn.log_softmax(found[:, :-1])
      return -jnp.mean(jnp.take_along_axis(log_probs, TOKENS[:, 1:, None], axis=-1)), found

    gradient, found = nnx.grad(loss, argnums=nnx.DiffState(0, nnx.LoRAParam), has_aux=True)(decoder)
    return found, gradient

  found, gradient = run(nnx.merge(graph, state, rest))
  np.testing.assert_allclose(found, expected, atol=TOLERANCE, rtol=0)
  plain = np.load(GOLDEN.with_name('llama_family.npz'))[f'{BASE}/logits']
  assert np.abs(plain - expected).max() > 1000 * TOLERANCE
  sources, gradients = peft_adapter.sources(config), convert.flat(gradient)
  assert {name for path in gradients for name in sources[path].names(config.num_layers)} == set(golden)
  for path, leaf in gradients.items():
    wanted = np.stack([golden[name].T for name in sources[path].names(config.num_layers)])
    assert np.abs(wanted).max() > 100 * TOLERANCE, path
    np.testing.assert_allclose(leaf[...], wanted, atol=TOLERANCE, rtol=0, err_msg=path)
