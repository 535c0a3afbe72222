"""Qwen2.5-VL as all three parts: its tower is f_v, its merger f_m, its decoder with LoRA L.

    ./launch_tpu.sh configs/cross_sport.py:qwen2_5_vl --config.encoder.weights=/weights/Qwen2.5-VL-7B-Instruct \\
      --config.mapper.weights=/weights/Qwen2.5-VL-7B-Instruct --config.decoder.weights=/weights/Qwen2.5-VL-7B-Instruct

Training is the paper's (configs/paper.py), but for what is set here, all of it ours: CrossTrainer was not tried on this
model, and of the model of SportSkills, which is, no hyper-parameter is known (docs/qwen2_5_vl.md).
"""

import ml_collections

from crosstrainer_jax.configs import paper

WEIGHTS = 'Qwen/Qwen2.5-VL-7B-Instruct'


def preset() -> ml_collections.ConfigDict:
  """The paper's preset on Qwen2.5-VL-7B."""
  config = paper.preset()
  config.encoder.weights = config.mapper.weights = config.decoder.weights = WEIGHTS
  # 8 x 8 tokens a second: of five views of ten seconds 3,200
  config.encoder.size = 224
  config.encoder.batch_size = 16
  config.decoder.max_position = 4096
  config.training.row_tokens = 4096
  config.training.batch_size = 32
  # f_m is pretrained here: it learns as fast as the rest
  config.training.optimizer.learning_rate_rules = ()
  config.eval.batch_size = 16
  return config
