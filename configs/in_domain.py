"""FS: train on every sport, be measured on people who were never seen (paper, section 4.1). For own videos too.

    ./launch_tpu.sh configs/in_domain.py
    ./launch_tpu.sh configs/in_domain.py:dataset=my_videos          # imported by python -m crosstrainer_jax.prepare
    ./launch_tpu.sh configs/in_domain.py:held_out=soccer            # measured on one sport alone

On two CPU cores a run takes about six minutes. Its scores have not been measured for this version.

Arguments: `held_out` (a sport to measure on), `seed`, `dataset`, `smoke`; `paper` for the sizes of configs/paper.py.
"""

import ml_collections

from crosstrainer_jax.configs import arguments, compact, paper


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
  """The compact preset, or the paper's, under FS."""
  args = arguments.parse_arg(arg, held_out='', seed=0, dataset='skillsim', smoke=False, paper=False)
  if args.paper and args.smoke:
    raise ValueError('paper and smoke are sizes: give one of them')
  config = paper.preset() if args.paper else compact.preset()
  config.seed = args.seed
  config.data.dataset = args.dataset
  config.split.setting = 'FS'
  config.split.held_out = args.held_out
  if args.smoke:
    compact.smoke(config)
  return config
