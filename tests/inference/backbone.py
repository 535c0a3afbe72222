"""Runs on a small Qwen2.5-VL, which is f_v, f_m and L."""

from pathlib import Path

import ml_collections

from crosstrainer_jax import settings
from tests.inference.finished_runs import finish
from tests.input import hub_tokenizers
from tests.models import hub_directories

__all__ = ['config_on', 'finish', 'write_base']


def write_base(directory: Path) -> Path:
  """A directory of the hub's form with a tokenizer."""
  hub_tokenizers.write(directory, 'qwen2.5')
  return hub_directories.write_qwen(directory)


def config_on(base: Path, *overrides: str) -> ml_collections.ConfigDict:
  """The preset on the model in `base`, for short clips and few updates, in float32."""
  return settings.load_config(
    'configs/cross_sport.py:qwen2_5_vl',
    [
      *(f'{part}.weights={base}' for part in ('encoder', 'mapper', 'decoder')),
      # the frames of the embedded world
      'encoder.fps=4',
      'encoder.size=16',
      'encoder.dtype=',
      'decoder.dtype=float32',
      'decoder.param_dtype=float32',
      'decoder.remat=none',
      'decoder.max_position=1024',
      'training.row_tokens=1024',
      'training.batch_size=8',
      'lora.rank=4',
      'stage1.epochs=1.0',
      'stage2.epochs=1.0',
      'stage2.folds=0',
      'stage2.true_ratio=1.0',
      'stage2.attributes=0',
      'eval.rows=()',
      'eval.max_attribute_tokens=8',
      'eval.max_feedback_tokens=8',
      'assess.validation_clips=4',
      'assess.samples=2',
      *overrides,
    ],
  )
