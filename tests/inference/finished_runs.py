"""Finished runs without training: weights are random and wide, so that texts differ from clip to clip."""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import ml_collections
import numpy as np
from flax import nnx

from crosstrainer_jax import settings
from crosstrainer_jax.inference.trained import Card
from crosstrainer_jax.input.tokenizer import load_tokenizer
from crosstrainer_jax.models.decoder import Decoder, DecoderConfig
from crosstrainer_jax.models.llama_family import hugging_face_config, sources
from crosstrainer_jax.run import open_run
from crosstrainer_jax.training import checkpoints
from crosstrainer_jax.weights import convert
from crosstrainer_jax.weights.files import write_shards

SIZES = {
  'hidden_size': 32, 'intermediate_size': 48, 'num_layers': 2, 'num_heads': 4, 'num_kv_heads': 2, 'head_dim': 8,
  'max_position': 640, 'tie_embeddings': False,
}  # fmt: skip


def _tokenizers() -> ModuleType:
  path = Path(__file__).parents[1] / 'input' / 'hub_tokenizers.py'
  spec = importlib.util.spec_from_file_location('hub_tokenizers', path)
  assert spec is not None
  assert spec.loader is not None
  module = importlib.util.module_from_spec(spec)
  sys.modules.setdefault(spec.name, module)
  spec.loader.exec_module(module)
  return module


def wide(state: nnx.State, seed: int) -> nnx.State:
  """The state with matrices drawn anew, of standard deviation 0.2, and norms around 1."""
  random = np.random.default_rng(seed)

  def draw(path: Any, leaf: jax.Array) -> jax.Array:
    name = jax.tree_util.keystr(path)
    if 'whitening' in name or not leaf.ndim:
      return leaf
    drawn = random.normal(1.0 if 'scale' in name else 0.0, 0.2, leaf.shape).astype(np.float32)
    return jax.device_put(drawn.astype(leaf.dtype), leaf.sharding)

  return jax.tree_util.tree_map_with_path(draw, state)


def write_base(directory: Path, kind: str, **changes: Any) -> Path:
  """A decoder in the hub's form, with the tokenizer `kind` of hub_tokenizers.py; `changes` are of its config."""
  _tokenizers().write(directory, kind)
  rows = -(-len(load_tokenizer(directory)) // 64) * 64
  config = DecoderConfig(vocab_size=rows, **{**SIZES, **changes})
  fields = hugging_face_config(config) | {'torch_dtype': config.param_dtype, 'eos_token_id': None, 'bos_token_id': None}
  (directory / 'config.json').write_text(json.dumps(fields))
  state = wide(nnx.state(nnx.jit(lambda: Decoder(config, nnx.Rngs(0)))(), nnx.Param), 1)
  write_shards(directory, convert.tensors(state, sources(config)), 20_000)
  return directory


def config_on(base: Path, *overrides: str) -> ml_collections.ConfigDict:
  """The paper's preset with the encoder that is shipped, on a decoder of `write_base`, in float32."""
  return settings.load_config(
    'configs/cross_sport.py:paper',
    [
      'encoder.weights=shipped',
      'encoder.dtype=',
      f'decoder.weights={base}',
      'decoder.max_position=640',
      'decoder.dtype=float32',
      'decoder.param_dtype=float32',
      'decoder.remat=none',
      'lora.rank=4',
      'mapper.whiten=true',
      'eval.max_attribute_tokens=16',
      'eval.max_feedback_tokens=24',
      'eval.batch_size=8',
      *overrides,
    ],
  )


def finish(config: ml_collections.ConfigDict, workdir: Path, dataset: Path) -> Path:
  """A workdir as training leaves it, but that nothing was learned."""
  run = open_run(config, workdir, dataset)
  trained, _ = run.blueprint.split(run.initial)
  checkpoints.save_params(workdir / 'stage2' / 'params', wide(trained, 2))
  (workdir / 'stage2' / 'done.json').write_text('{"updates": 0}')
  Card(
    'skillsim', sorted({run.clips[i].sport for i in run.split.train}), simulated=True, views=run.views,
    seconds=run.seconds, frames=run.seconds * run.video_encoder.config.frames_per_token, fit=run.source.fit,
    threshold=0.5, precision=0.75, encoder=run.video_encoder.fingerprint, validation_clips=8,
  ).write(workdir)  # fmt: skip
  return workdir
