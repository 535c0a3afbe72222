"""A handful of own videos, learned until the model reproduces what the coach said of them.

    python -m crosstrainer_jax.prepare manifest.jsonl --name my_videos --mu1 1 --mu2 1
    ./launch_tpu.sh configs/own_videos.py:dataset=my_videos
    python -m crosstrainer_jax.assess new_video.mp4 --checkpoint "runs/own_videos-dataset=my_videos"

With `setting=FIT` every clip trains and is measured: it shows that the way from a file to feedback works, and claims
nothing about other videos. With people to spare, `setting=FS` keeps some of them for the test. On two CPU cores 20
clips take a minute or two, and are reproduced word for word (docs/real_videos.md).

Arguments: `dataset`, `setting`, `seed`.
"""

import ml_collections

from crosstrainer_jax.configs import arguments, compact


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
  """The compact preset with many passes over few clips."""
  args = arguments.parse_arg(arg, dataset='my_videos', setting='FIT', seed=0)
  config = compact.preset()
  config.seed = args.seed
  config.data.dataset = args.dataset
  config.split.setting = args.setting
  config.training.batch_size = 8
  config.training.optimizer.name = 'adamw'
  config.training.optimizer.learning_rate = 1e-3
  config.training.optimizer.weight_decay = 0.0
  config.stage1.epochs = 60.0
  config.stage2.epochs = 240.0
  config.stage2.fold_epochs = 30.0
  config.eval.rows = ()
  config.eval.max_feedback_tokens = 96
  config.eval.batch_size = 32
  return config
