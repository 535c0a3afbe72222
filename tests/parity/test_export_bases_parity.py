"""Exports of runs on other bases (another family, half precision, 4 bits) answer as this package does."""

import json
from collections.abc import Callable
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from crosstrainer_jax.inference.export import Export
from crosstrainer_jax.models.decoder_config import DecoderConfig
from crosstrainer_jax.models.llama_family import sources
from crosstrainer_jax.models.lora import LoRAConfig
from crosstrainer_jax.weights import convert
from tests.models import hub_directories
from tests.parity.exported_folders import assert_same_answers

pytestmark = pytest.mark.parity
torch = pytest.importorskip('torch')
transformers = pytest.importorskip('transformers')


def test_a_run_on_qwen_with_clip(adapted_run: Callable, export: Callable, tmp_path: Path) -> None:
  """Biases, tied embeddings, a padding token of its own, an f_v of the hub; a base that samples, and often ends."""
  clip = hub_directories.write_clip(tmp_path / 'clip')
  generation = {'do_sample': True, 'repetition_penalty': 1.8, 'top_k': 5, 'eos_token_id': list(range(40, 320, 16))}
  settings = {'model_type': 'qwen2', 'tie_word_embeddings': True, 'generation': generation}
  workdir = adapted_run('qwen', f'encoder.weights={clip}', 'encoder.fps=4', 'mapper.whiten=false', **settings)
  _, _, folder = export(workdir)
  assert not (folder / 'encoder.safetensors').exists()
  answers = assert_same_answers(folder)
  ends = set(json.loads((folder / 'prompts.json').read_text())['end_ids'])
  assert len(ends) == 19
  assert any(row['feedback_tokens'][-1] in ends for row in answers)
  assert len({len(row['feedback_tokens']) for row in answers}) > 3
  assert not any(ends & set(row['feedback_tokens'][:-1]) for row in answers)


def test_a_base_in_bfloat16(adapted_run: Callable, export: Callable) -> None:
  """W + A·B is rounded to the base's type; in float32 the folder answers as the run does."""
  workdir = adapted_run('plain', dtype=jnp.bfloat16)
  trained, (_, params), folder = export(workdir, dtype='float32')
  assert_same_answers(folder)
  narrow = folder.parent / 'narrow'
  Export(trained).write(narrow)
  assert json.loads((narrow / 'language_model' / 'config.json').read_text())['torch_dtype'] == 'bfloat16'
  model = transformers.AutoModelForCausalLM.from_pretrained(narrow / 'language_model')
  assert model.dtype == torch.bfloat16
  exact = merged(params, trained.decoder)
  for name, tensor in model.state_dict().items():
    assert np.abs(tensor.float().numpy() - exact[name]).max() <= 2**-8 * np.abs(exact[name]).max(), name


def test_a_base_in_4_bits(adapted_run: Callable, export: Callable) -> None:
  """W is what it was in training, rounded to nf4."""
  _, _, folder = export(adapted_run('plain', 'decoder.quantize=nf4', 'decoder.quantize_tile=4'))
  assert_same_answers(folder)


def merged(params: nnx.State, config: DecoderConfig) -> dict[str, np.ndarray]:
  """W + α/r · A·B of every layer, computed here in numpy."""
  found, lora = {}, config.lora
  assert isinstance(lora, LoRAConfig)
  flat = {path: np.asarray(variable[...], np.float32) for path, variable in convert.flat(params['decoder']).items()}
  for path, source in sources(config).items():
    value, place = flat[path], path.removesuffix('/kernel')
    if f'{place}/lora_a' in flat:
      value = value + lora.scale * np.einsum('lir,lro->lio', flat[f'{place}/lora_a'], flat[f'{place}/lora_b'])
    for layer, name in enumerate(source.names(config.num_layers)):
      one = value[layer] if '{}' in source.name else value
      found[name] = one.T if source.axes else one
  return found
