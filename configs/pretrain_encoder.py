"""Pretraining of the compact video encoder on generic motion.

    python -m crosstrainer_jax.pretrain --config configs/pretrain_encoder.py

Its result ships as crosstrainer_jax/weights/video_transformer.safetensors; the file's header holds the command,
the seed and the score. It took 78 minutes on two CPU cores that had other work too; what to expect is in
crosstrainer_jax/weights/README.md.
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """The run that made the shipped weights."""
  config = ml_collections.ConfigDict()
  config.seed = 0
  config.mesh = (1, -1, 1)
  config.mesh_across = (-1, 1, 1)
  config.steps = 5000
  config.batch_size = 16
  # Weight of the maps' looking at the joints, beside the regression of 3-D joints.
  config.localisation = 0.3
  # Weight of implement, contact and speeds, against a joint's coordinate.
  config.emphasis = 6.0
  # Seconds per update, drawn at random: mostly whole clips, some short windows.
  config.seconds = (4, 4, 2, 1)
  config.workers = 0
  config.save_every = 200
  config.test_clips = 256

  config.encoder = ml_collections.ConfigDict()
  config.encoder.name = 'video_transformer'
  config.encoder.model = ml_collections.ConfigDict(
    {
      'image_size': 64,
      'fps': 4,
      'tokens_per_second': 1,
      'patch': 4,
      'channels': 48,
      'keypoints': 32,
      'values': 4,
      'width': 128,
      'layers': 3,
      'heads': 4,
      'mlp_ratio': 4,
      'feature_dim': 256,
    }
  )

  config.optimizer = ml_collections.ConfigDict(
    {
      'name': 'adamw',
      'learning_rate': 3e-3,
      'warmup_fraction': 0.05,
      'final_fraction': 0.02,
      'b1': 0.9,
      'b2': 0.98,
      'weight_decay': 0.02,
      'clip_norm': 1.0,
      'learning_rate_rules': (),
    }
  )
  return config
