"""ZS-1, ZS-2 and SPORT: a skill that was never seen, by what else was (paper, section 4.1 and figure 5).

    ./launch_tpu.sh configs/cross_skill.py:held_out=dribbling                          # ZS-1: all but dribbling trains
    ./launch_tpu.sh configs/cross_skill.py:setting=ZS-2,held_out=dribbling             # soccer without dribbling trains
    ./launch_tpu.sh configs/cross_skill.py:setting=SPORT,source=basketball             # to every skill of other sports

A name that two sports share is written `sport/skill`. `python -m crosstrainer_jax.sweep settings` does all of them.

Arguments: `setting`, `held_out` (a skill), `source` (the sport that trains under SPORT), `seed`, `dataset`, `smoke`;
`paper` for the sizes of configs/paper.py.
"""

import ml_collections

from crosstrainer_jax.configs import arguments, compact, paper


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
  """The compact preset, or the paper's, with a skill held out."""
  args = arguments.parse_arg(
    arg, setting='ZS-1', held_out='', source='', seed=0, dataset='skillsim', smoke=False, paper=False
  )
  if args.paper and args.smoke:
    raise ValueError('paper and smoke are sizes: give one of them')
  arguments.one_of('setting', args.setting, ('ZS-1', 'ZS-2', 'SPORT'))
  config = paper.preset() if args.paper else compact.preset()
  config.seed = args.seed
  config.data.dataset = args.dataset
  config.split.setting = args.setting
  config.split.held_out = args.held_out or ('' if args.setting == 'SPORT' else 'dribbling')
  config.split.source = args.source
  if args.setting == 'SPORT' and not args.source:
    config.split.source = 'basketball'
  if args.smoke:
    compact.smoke(config)
  return config
