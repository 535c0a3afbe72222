"""Mistake-conditioned retrieval: the how-to clip to watch, given a learner's clip (docs/sportskills.md).

    python -m crosstrainer_jax.retrieve                                      # the embedded worlds
    python -m crosstrainer_jax.retrieve --config=configs/retrieval.py:seed=1

[P] the query is a learner's clip without what the expert said of it; pairs for training come from weak supervision.
[O] how pairs are built, towers, scores. On two CPU cores a run takes about three minutes, and as long again for the
worlds the first time.

Arguments: `dataset` (learners), `library`, `seed`, `smoke`.
"""

import ml_collections

from crosstrainer_jax.configs import arguments, compact


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
  """The compact preset's encoder and towers, on learners' clips and a library."""
  args = arguments.parse_arg(arg, dataset='skillsim', library='howto', seed=0, smoke=False)
  config = compact.preset()
  config.seed = args.seed
  config.data.dataset = args.dataset
  config.split.setting = 'FS'
  config.contrastive.epochs = 8.0
  # `ratings` is a file of graded judgements in the place of the embedded truth; `howto` is of the embedded library.
  config.retrieve = ml_collections.ConfigDict({
    'library': args.library, 'ratings': '', 'resamples': 1000,
    'rows': (
      'random', 'sport and skill', 'visual nearest neighbour', 'two towers, zero-shot', 'two towers, weak pairs',
    ),
    'howto': {'seed': 0, 'videos': 400, 'test_fraction': 0.2},
  })  # fmt: skip
  if args.smoke:
    config.data.skillsim.train_clips, config.data.skillsim.test_clips = 24, 8
    config.retrieve.howto.videos = 24
    config.retrieve.resamples = 50
    config.contrastive.epochs = 1.0
    config.contrastive.batch_size = 16
    config.contrastive.width = config.contrastive.dim = 16
  return config
