"""The paper's sizes: EgoVLPv2 (or CLIP) → f_m of 4096 → Llama-3.1-8B-Instruct with LoRA (CrossTrainer, section 4.1).

    ./launch_tpu.sh configs/cross_sport.py:paper \\
      --config.encoder.weights=/weights/EgoVLPv2.pth --config.decoder.weights=/weights/Llama-3.1-8B-Instruct

`decoder.weights` is a directory or a repository of the Hugging Face hub; so is `encoder.weights`
(openai/clip-vit-large-patch14 for CLIP), or the file of EgoVLPv2's checkpoint. Frozen weights lie in bfloat16, what
trains in float32. Clips are best imported at the frame rate and size of the encoder (docs/pretrained.md).

The paper says: ranks, α, dropout, both learning rates, 2 epochs. It is silent on what is marked *ours*; those follow
LLaVA-1.5's published LoRA training where that has a value.
"""

import ml_collections

from crosstrainer_jax.configs import compact


def preset() -> ml_collections.ConfigDict:
  """The compact preset with the paper's models and training."""
  config = compact.preset()
  config.encoder.weights = 'weights/EgoVLPv2.pth'
  config.encoder.dtype = 'bfloat16'

  # Its sizes are those of its directory; only what a directory does not say is a setting.
  config.decoder = ml_collections.ConfigDict({
    'weights': 'meta-llama/Llama-3.1-8B-Instruct', 'revision': '',
    # ours: the longest sequence, as in LLaVA
    'max_position': 2048, 'dtype': 'bfloat16', 'param_dtype': 'bfloat16', 'attention': 'auto', 'remat': 'full',
    'unroll': False,
    # QLoRA where memory is short: nf4 or int4 holds the frozen kernels in 4 bits, `quantize_tile` inputs to a scale
    'quantize': '', 'quantize_tile': 64,
  })  # fmt: skip
  del config.tokenizer
  # ours: the targets. Every linear layer of L but the head, as in LLaVA
  config.lora = ml_collections.ConfigDict({
    'rank': 128, 'alpha': 256.0, 'dropout': 0.05, 'targets': '_proj$', 'weights': '',
  })  # fmt: skip
  config.mapper.whiten = False

  training = config.training
  training.frozen = ('^decoder/(?!.*lora_)',)
  # ours: in clips
  training.batch_size = 128
  # ours: several clips share a row
  training.row_tokens = 2048
  # ours: the paper knows neither
  training.view_dropout = 0.0
  training.name_dropout = 0.0
  training.optimizer = ml_collections.ConfigDict({
    'name': 'adamw', 'learning_rate': 2e-4,
    # f_m at 2e-3
    'learning_rate_rules': (('^mapper/', 10.0),),
    # ours: cosine with 3 % warm-up, no decay of weights
    'warmup_fraction': 0.03, 'final_fraction': 0.0, 'b1': 0.9, 'b2': 0.999, 'weight_decay': 0.0, 'clip_norm': 1.0,
  })  # fmt: skip
  config.stage1.epochs = 2.0
  config.stage2.epochs = 2.0
  # ours: a pretrained L reads lists from the beginning, so half of them may be predicted ones
  config.stage2.feedback, config.stage2.attributes = 1, 1
  config.stage2.true_ratio = 0.5
  # ours: lengths
  config.eval.max_attribute_tokens = 64
  config.eval.max_feedback_tokens = 256
  config.eval.batch_size = 64
  return config


def pod(config: ml_collections.ConfigDict) -> None:
  """Enough clips in an update for a row to each of 256 chips: 13 of about 155 tokens fill a row of 2,048.

  The paper's 128 clips fill 10 rows. So many in an update are another training, which nobody has tried: about ten
  updates an epoch of the paper's 34,000 comments, at a learning rate that was meant for more and smaller ones.
  """
  config.training.batch_size = 13 * 256
