"""An exported folder, opened by torch and transformers alone, answers as this package does, token for token."""

import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from crosstrainer_jax.inference import reference_clips
from crosstrainer_jax.inference.export import Export
from crosstrainer_jax.inference.trained import Trained, read_trained
from crosstrainer_jax.models.decoder import Decoder, DecoderConfig
from crosstrainer_jax.models.llama_family import hugging_face_config, sources
from crosstrainer_jax.models.lora import LoRAConfig
from crosstrainer_jax.models.rotary import RopeScaling
from crosstrainer_jax.weights import convert
from crosstrainer_jax.weights.files import write_shards
from tests.inference import finished_runs
from tests.models import hub_directories

pytestmark = pytest.mark.parity
torch = pytest.importorskip('torch')
transformers = pytest.importorskip('transformers')

TOLERANCE = 1e-4
ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / 'examples' / 'assess_with_torch.py'
CLIPS = 24


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


@pytest.fixture(scope='module')
def export(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., tuple[Trained, Any, Path]]:
  """Exports a finished run; `more/` in it has clips of all parts of the data, with some seconds and views unseen."""

  def make(workdir: Path, **settings: Any) -> tuple[Trained, Any, Path]:
    folder = tmp_path_factory.mktemp('exported') / 'model'
    trained = read_trained(workdir)
    made = Export(trained, **settings)
    made.write(folder)
    model, source = made.model, trained.source()
    assert source is not None
    seen = reference_clips.look(trained, model[1], source, np.linspace(0, len(source) - 1, CLIPS).astype(int).tolist())
    random = np.random.default_rng(0)
    seen.valid[:, 1:] &= random.random(seen.valid[:, 1:].shape) < 0.5
    assert 0.2 < seen.valid.mean() < 0.9
    more = folder / 'more'
    more.mkdir()
    seen.write(more / reference_clips.CLIPS)
    reference_clips.write_answers(more / reference_clips.EXPECTED, trained, *model, seen)
    return trained, model, folder

  return make


def run_example(folder: Path, clips: Path) -> 'subprocess.CompletedProcess[str]':
  # Neither this package nor JAX may be needed: the example is copied away, and JAX cannot be imported.
  lonely = folder / 'example.py'
  lonely.write_text(EXAMPLE.read_text())
  blocked = "import sys, runpy; sys.modules['jax'] = sys.modules['crosstrainer_jax'] = None; sys.argv = sys.argv[1:]; "
  command = [sys.executable, '-W', 'error', '-c', blocked + "runpy.run_path(sys.argv[0], run_name='__main__')"]
  return subprocess.run([*command, str(lonely), str(folder), str(clips)], capture_output=True, text=True, cwd='/')


def assert_same_answers(folder: Path) -> list[dict[str, Any]]:
  """All expected answers are given; returns them."""
  for place in (folder, folder / 'more'):
    if not (place / reference_clips.EXPECTED).is_file():
      continue
    done = run_example(folder, place / reference_clips.CLIPS)
    assert done.returncode == 0, done.stdout + done.stderr
    expected: list[dict[str, Any]] = json.loads((place / reference_clips.EXPECTED).read_text())['clips']
    assert f'{len(expected)} of {len(expected)} expected answers were given; others: none' in done.stdout
  assert len(expected) == CLIPS
  return expected


def test_a_trained_run_of_the_compact_preset(small_run: Path, export: Callable) -> None:
  _, _, folder = export(small_run, clips=20)
  answers = assert_same_answers(folder)
  assert len({tuple(row['feedback_tokens']) for row in answers}) > CLIPS // 2
  assert {'level'} < set(answers[0])


@pytest.fixture(scope='module')
def adapted_run(small_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
  """The workdir of a run with LoRA on a pretrained decoder, which lies beside it as `base`."""

  def make(kind: str, *overrides: str, generation: dict[str, Any] | None = None, **settings: Any) -> Path:
    root = tmp_path_factory.mktemp('adapted')
    base = finished_runs.write_base(root / 'base', kind, **settings)
    if generation is not None:
      (base / 'generation_config.json').write_text(json.dumps(generation))
    return finished_runs.finish(finished_runs.config_on(base, *overrides), root / 'run', small_data)

  return make


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
