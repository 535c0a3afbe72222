"""Mistake-conditioned retrieval: the how-to clip to watch, given a learner's clip (docs/sportskills.md).

    python -m crosstrainer_jax.retrieve                                      # the embedded worlds
    python -m crosstrainer_jax.retrieve --config=configs/retrieval.py:seed=1
    python -m crosstrainer_jax.retrieve --config=configs/retrieval.py:qwen2_5_vl,dataset=my_learners,library=library \\
      --config.retrieve.library_dir=runs/library/records --config.retrieve.ratings=ratings.jsonl

[P] the query is a learner's clip without what the expert said of it; pairs for training come from weak supervision; the
re-ranker is Qwen2.5-VL with LoRA (`qwen2_5_vl`). [O] how pairs are built, towers, scores, and the small re-ranker that
is the default. On two CPU cores a run takes about ten minutes, and three more for the worlds the first time.

Arguments: `dataset` (learners), `library`, `seed`, `smoke`, `qwen2_5_vl`.
"""

import ml_collections

from crosstrainer_jax.configs import arguments, compact, qwen2_5_vl


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
  """The compact preset or that of Qwen2.5-VL, on learners' clips and a library."""
  args = arguments.parse_arg(arg, dataset='skillsim', library='howto', seed=0, smoke=False, qwen2_5_vl=False)
  if args.smoke and args.qwen2_5_vl:
    raise ValueError('qwen2_5_vl and smoke are sizes: give one of them')
  config = qwen2_5_vl.preset() if args.qwen2_5_vl else compact.preset()
  config.seed = args.seed
  config.data.dataset = args.dataset
  config.split.setting = 'FS'
  config.contrastive.epochs = 8.0
  # `library_dir` is where the library's records lie, '' for --data_dir. `ratings` is a file of graded judgements in the
  # place of the embedded truth; `howto` is of the embedded library.
  config.retrieve = ml_collections.ConfigDict({
    'library': args.library, 'library_dir': '', 'ratings': '', 'resamples': 1000,
    'rows': (
      'random', 'sport and skill', 'visual nearest neighbour', 'two towers, zero-shot', 'two towers, weak pairs',
      're-ranked', 're-ranked without the learner',
    ),
    'howto': {'seed': 0, 'videos': 400, 'test_fraction': 0.2},
  })  # fmt: skip
  # `top` candidates of the towers are re-ranked. An L that starts from nothing first learns for `attribute_epochs` to
  # write the attributes of a clip; one that can answer 'yes/no' needs neither.
  config.rerank = ml_collections.ConfigDict({
    'top': 50, 'answer': 'attributes', 'attribute_epochs': 6.0, 'epochs': 2.0, 'batch_size': 64,
    'narration_tokens': 96,
  })  # fmt: skip
  if args.qwen2_5_vl:
    config.rerank.update(answer='yes/no', attribute_epochs=0.0, batch_size=16)
  if args.smoke:
    config.data.skillsim.train_clips, config.data.skillsim.test_clips = 24, 8
    config.retrieve.howto.videos = 24
    config.retrieve.resamples = 50
    config.contrastive.epochs = 1.0
    config.contrastive.batch_size = 16
    config.contrastive.width = config.contrastive.dim = 16
  return config
