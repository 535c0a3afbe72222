"""An exported folder, opened by torch and transformers alone, answers as this package does, token for token."""

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from crosstrainer_jax.inference.trained import Trained
from crosstrainer_jax.models.decoder import Decoder
from crosstrainer_jax.models.decoder_config import DecoderConfig
from crosstrainer_jax.models.llama_family import hugging_face_config, sources
from crosstrainer_jax.models.rotary import RopeScaling
from crosstrainer_jax.weights import convert
from crosstrainer_jax.weights.files import write_shards
from tests.inference import finished_runs
from tests.parity.exported_folders import CLIPS, EXAMPLE, assert_same_answers, run_example

pytestmark = pytest.mark.parity
torch = pytest.importorskip('torch')
transformers = pytest.importorskip('transformers')

TOLERANCE = 1e-4


def _load(path: Path) -> ModuleType:
  spec = importlib.util.spec_from_file_location(path.stem, path)
  assert spec is not None
  assert spec.loader is not None
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


# --- Config: every family as transformers opens it

SIZES = {
  'vocab_size': 96, 'hidden_size': 32, 'intermediate_size': 56, 'num_layers': 3, 'num_heads': 4, 'num_kv_heads': 2,
  'head_dim': 8, 'max_position': 64, 'rms_norm_eps': 1e-3, 'rope_theta': 100.0,
}  # fmt: skip
FAMILIES = {
  'llama, tied': {},
  'llama, biases, not tied': {'qkv_bias': True, 'o_bias': True, 'mlp_bias': True, 'tie_embeddings': False},
  'llama3 rope, own head_dim': {'rope_scaling': RopeScaling('llama3', 8.0, 1.0, 4.0, 32), 'head_dim': 12},
  'linear rope': {'rope_scaling': RopeScaling('linear', 4.0)},
  'mistral, window': {'sliding_window': 48},
  'qwen2, window': {'qkv_bias': True, 'sliding_window': 48},
  'qwen3': {'qk_norm': True, 'head_dim': 12},
}


@pytest.mark.parametrize('name', FAMILIES)
def test_what_is_written_gives_the_same_logits(name: str, tmp_path: Path, record_property: Callable) -> None:
  config = DecoderConfig(**{**SIZES, **FAMILIES[name]})
  decoder = nnx.jit(lambda: Decoder(config, nnx.Rngs(0)))()
  nnx.update(decoder, finished_runs.wide(nnx.state(decoder, nnx.Param), 3))
  tokens = np.random.default_rng(0).integers(0, 96, (3, 17))
  (tmp_path / 'config.json').write_text(json.dumps(hugging_face_config(config)))
  write_shards(tmp_path, convert.tensors(nnx.state(decoder, nnx.Param), sources(config)), 30_000)
  model, report = transformers.AutoModelForCausalLM.from_pretrained(
    tmp_path, dtype=torch.float32, attn_implementation='eager', output_loading_info=True
  )
  assert not report['missing_keys']
  assert not report['unexpected_keys']
  positions = jnp.broadcast_to(jnp.arange(17), tokens.shape)
  ours = decoder.logits(decoder(decoder.embed(tokens), positions, jnp.ones_like(tokens))[0])
  with torch.no_grad():
    theirs = model.eval()(torch.tensor(tokens)).logits.numpy()
  found = float(np.abs(np.asarray(ours) - theirs).max())
  record_property('max_abs_difference', f'{found:.1e}')
  assert theirs.std() > 0.3
  assert found <= TOLERANCE


# --- Whole folders


def test_a_trained_run_of_the_compact_preset(small_run: Path, export: Callable) -> None:
  _, _, folder = export(small_run, clips=20)
  answers = assert_same_answers(folder)
  assert len({tuple(row['feedback_tokens']) for row in answers}) > CLIPS // 2
  assert {'level'} < set(answers[0])


@pytest.fixture(scope='module')
def llama_run(adapted_run: Callable[..., Path]) -> Path:
  scaling = {
    'rope_type': 'llama3', 'factor': 8.0, 'low_freq_factor': 1.0, 'high_freq_factor': 4.0,
    'original_max_position_embeddings': 32,
  }  # fmt: skip
  return adapted_run('llama3', rope_theta=100.0, rope_scaling=scaling)


@pytest.fixture(scope='module')
def llama_export(llama_run: Path, export: Callable) -> tuple[Trained, Any, Path]:
  return export(llama_run, clips=3)


def test_a_run_on_a_pretrained_llama_with_an_adapter(llama_export: tuple) -> None:
  """With a chat template, several end tokens, no padding token, and a placeholder behind the table."""
  trained, _, folder = llama_export
  facts = json.loads((folder / 'prompts.json').read_text())
  assert len(facts['before_ids']) > 1
  assert len(facts['after_ids']) > 1
  assert len(facts['end_ids']) == 3
  assert facts['placeholder_id'] == trained.text.rows
  answers = assert_same_answers(folder)
  assert len({tuple(row['attribute_tokens']) for row in answers}) > CLIPS // 2


# peft asks transformers for it by its old name.
@pytest.mark.filterwarnings('ignore:`is_gradient_checkpointing` is deprecated:FutureWarning')
def test_the_adapter_on_its_base_is_the_merged_model(llama_run: Path, llama_export: tuple) -> None:
  peft = pytest.importorskip('peft')
  _, _, folder = llama_export
  base = transformers.AutoModelForCausalLM.from_pretrained(llama_run.parent / 'base', dtype=torch.float32)
  plain = {name: tensor.clone() for name, tensor in base.state_dict().items()}
  merged = peft.PeftModel.from_pretrained(base, folder / 'adapter').merge_and_unload().state_dict()
  exported = transformers.AutoModelForCausalLM.from_pretrained(folder / 'language_model').state_dict()
  assert set(merged) == set(exported)
  assert max(float((merged[name] - exported[name]).abs().max()) for name in merged) <= 1e-5
  assert max(float((plain[name] - exported[name]).abs().max()) for name in merged) > 0.1


def test_a_wrong_answer_is_seen(llama_export: tuple, tmp_path: Path) -> None:
  _, _, folder = llama_export
  expected = json.loads((folder / 'expected.json').read_text())
  expected['clips'][1]['feedback_tokens'][0] += 1
  (tmp_path / 'expected.json').write_text(json.dumps(expected))
  (tmp_path / 'clips.safetensors').write_bytes((folder / 'clips.safetensors').read_bytes())
  done = run_example(folder, tmp_path / 'clips.safetensors')
  assert done.returncode == 1
  assert '2 of 3 expected answers were given; others: [1]' in done.stdout


def test_clips_of_numpy(llama_export: tuple, tmp_path: Path) -> None:
  _, _, folder = llama_export
  example = _load(EXAMPLE)
  clips = example.read(folder / 'clips.safetensors')
  np.savez(tmp_path / 'clips.npz', **clips)
  done = run_example(folder, tmp_path / 'clips.npz')
  assert done.returncode == 0, done.stderr
  assert '0 of 0 expected answers' in done.stdout
  coach = example.Coach(folder)
  for number, row in enumerate(json.loads((folder / 'expected.json').read_text())['clips']):
    answer = coach.assess(*(clips[name][number] for name in ('features', 'valid', 'sports')))
    assert answer == {name: row[name] for name in answer}
    assert set(row) - set(answer) == {'clip_id', 'sport'}
