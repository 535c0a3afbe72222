"""SportSkills: a video-text representation of how-to clips, and what it is worth (docs/sportskills.md).

    python -m crosstrainer_jax.represent                                      # the embedded how-to world
    python -m crosstrainer_jax.represent --config=configs/sportskills.py:seed=1
    python -m crosstrainer_jax.represent --config=configs/sportskills.py:dataset=library --data_dir=runs/library/records

[P] is the paper's, [O] ours: two towers, image or video by text, compared with and without training on how-to clips
[P]; symmetric InfoNCE, negatives over the whole mesh, recall within pools of one sport and one size [O]. On two CPU
cores a run takes two to three minutes, the world included.

Arguments: `dataset`, `seed`, `smoke`.
"""

import ml_collections

from crosstrainer_jax.configs import arguments, compact


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
  """The compact preset's encoder and towers, on a library of how-to clips."""
  args = arguments.parse_arg(arg, dataset='howto', seed=0, smoke=False)
  config = compact.preset()
  config.seed = args.seed
  config.data.dataset = args.dataset
  # [O] A channel is a participant: no creator is on both sides.
  config.data.howto = ml_collections.ConfigDict({'seed': 0, 'videos': 400, 'test_fraction': 0.2})
  config.split.setting = 'FS'
  # Chosen on validation channels (of 6 and 12 epochs, and towers of twice the width and depth).
  config.contrastive.epochs = 12.0
  # [P] the rows: untrained, trained on what the activity is called, trained on how-to narration. [O] candidates of a
  # pool, all of one sport.
  config.represent = ml_collections.ConfigDict({
    'rows': ('untrained', 'activity labels', 'how-to narration'), 'pool': 50, 'resamples': 1000,
  })  # fmt: skip
  if args.smoke:
    config.data.howto.videos = 24
    config.represent.pool = 5
    config.represent.resamples = 100
    config.contrastive.epochs = 2.0
    config.contrastive.batch_size = 16
    config.contrastive.width = config.contrastive.dim = 16
  return config
