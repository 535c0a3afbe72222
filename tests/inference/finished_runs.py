"""Finished runs without training: weights are random and wide, so that texts differ from clip to clip."""

from pathlib import Path
from typing import Any

import jax
import ml_collections
import numpy as np
from flax import nnx

from crosstrainer_jax import settings
from crosstrainer_jax.inference.trained import Card
from crosstrainer_jax.run import open_run
from crosstrainer_jax.training import checkpoints
from tests.input import hub_tokenizers
from tests.models import hub_directories


def wide(state: nnx.State, seed: int) -> nnx.State:
  """The state with matrices drawn anew, of standard deviation 0.2, and norms around 1; whitening stays."""
  random = np.random.default_rng(seed)

  def draw(path: Any, leaf: jax.Array) -> jax.Array:
    name = jax.tree_util.keystr(path)
    if 'whitening' in name:
      return leaf
    drawn = random.normal(1.0 if 'scale' in name else 0.0, 0.2, leaf.shape).astype(np.float32)
    return jax.device_put(drawn.astype(leaf.dtype), leaf.sharding)

  return jax.tree_util.tree_map_with_path(draw, state)


def write_base(directory: Path, kind: str, dtype: Any = np.float32, **fields: Any) -> Path:
  """A decoder in the hub's form, with the tokenizer `kind` of hub_tokenizers; `fields` of its config.json."""
  hub_tokenizers.write(directory, kind)
  named = {'max_position_embeddings': 640, 'torch_dtype': np.dtype(dtype).name}
  return hub_directories.write_llama(directory, dtype, **{**named, **fields})


def config_on(base: Path, *overrides: str) -> ml_collections.ConfigDict:
  """The paper's preset with the encoder that is shipped, on a decoder of `write_base`, in float32."""
  return settings.load_config(
    'configs/cross_sport.py:paper',
    [
      'encoder.weights=shipped',
      'encoder.dtype=',
      f'decoder.weights={base}',
      'decoder.max_position=640',
      'training.row_tokens=640',
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
  checkpoints.save_params(workdir / 'stage2' / 'params', wide(run.blueprint.split(run.initial)[0], 2))
  (workdir / 'stage2' / 'done.json').write_text('{"updates": 0}')
  Card(
    'skillsim', sorted({run.clips[i].sport for i in run.split.train}), simulated=True, views=run.views,
    seconds=run.seconds, frames=run.seconds * run.video_encoder.config.frames_per_token, fit=run.source.fit,
    threshold=0.5, precision=0.75, encoder=run.video_encoder.fingerprint, validation_clips=8,
    frame_size=run.source.frame_size,
  ).write(workdir)  # fmt: skip
  return workdir
