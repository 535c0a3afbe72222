"""Does this config fit that machine, and about how fast will it go?

    python -m crosstrainer_jax.fit configs/cross_sport.py:paper --topology v5e:2x4
    python -m crosstrainer_jax.fit configs/cross_sport.py:pod --topology v5e:16x16 --clips 34000
    python -m crosstrainer_jax.fit configs/cross_sport.py:paper --topology h100:8 --json

The train step and generation are compiled for the machine that is named, on this one and without that one (at 8B four
to six minutes of a CPU core each; the extras `tpu` and `cuda` bring the compilers). What does not fit is answered with
what is lacking and with the best change that fits. For GPUs, where that compiler is not installed, and with --analytic,
the answer is from formulas, and says so. Any setting of the config can be changed as for a run, such as
--config.training.batch_size=64.

Status: 0 where all programs fit, 3 where one does not, 1 for mistakes.
"""

import argparse
import dataclasses
import json
import re
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
  import ml_collections

  from crosstrainer_jax.planning.workload import Clip

NOT_FITTING = 3


def main(arguments: Sequence[str] | None = None) -> None:
  """The verb. Exits with status 1 and a message where the input is at fault."""
  given = sys.argv[1:] if arguments is None else arguments
  options = _parser().parse_args([re.sub(r'^--?config\.', '--override=', argument) for argument in given])
  from crosstrainer_jax.planning import topologies

  topologies.prepare_environment()
  try:
    fits = _fit(options)
  except (ValueError, FileNotFoundError) as error:
    sys.exit(f'Error: {error}')
  except KeyboardInterrupt:
    sys.exit('\ninterrupted')
  if not fits:
    sys.exit(NOT_FITTING)


def _fit(options: argparse.Namespace) -> bool:
  """Prints the plan; whether everything fits."""
  # JAX costs seconds of import, which --help should not.
  from crosstrainer_jax import settings
  from crosstrainer_jax.planning import epochs, machines, plan, report, sizes, topologies

  machine = machines.parse(options.topology, options.slices)
  config = settings.load_config(options.config, options.override)
  if 'decoder' not in config:
    raise ValueError(f'{options.config} trains no L: there is nothing to plan')
  clip = _clip(options, config)
  # For GPUs formulas do; a TPU's compiler is small enough to be asked for.
  compiles = not options.analytic and (machine.chip.is_tpu or topologies.has_compiler(machine))
  how = plan.FORMULAS if not compiles else plan.QUICKLY if options.quick else plan.FULLY
  with tempfile.TemporaryDirectory() as scratch:
    config, decoder_source = sizes.with_decoder_sizes(config, Path(scratch))
    width, each, encoder_source = sizes.feature_dim(config, options.feature_dim)
    clip = dataclasses.replace(clip, each=each)
    made = plan.make_plan(
      config,
      machine,
      clip,
      width,
      how=how,
      generate=not options.train_only,
      search_for={'auto': 'fit', 'always': 'speed', 'never': ''}[options.search],
      most_compiles=options.compiles,
      report=lambda line: print(line, file=sys.stderr, flush=True),
    )
  costs: list[epochs.Cost] = []
  if options.clips and made.train.parts:
    seconds = made.train.parts[0].estimate.seconds
    costs = epochs.of_stages(config, options.clips, seconds, machine.chips)
  title = ' '.join([options.config, *(f'--config.{override}' for override in options.override)])
  sources = {'L': decoder_source, 'features': f'{width} numbers: {encoder_source}'}
  if options.json:
    print(json.dumps(report.data(made, title, sources, costs), indent=1))
  else:
    print(report.text(made, title, sources, costs))
  return made.train.fits and (made.generation is None or made.generation.fits)


def _clip(options: argparse.Namespace, config: 'ml_collections.ConfigDict') -> 'Clip':
  """Lengths from the flags, else from the prepared dataset, else assumed."""
  from crosstrainer_jax.planning import workload

  named = {name: getattr(options, name) for name in ('views', 'seconds', 'prompt_tokens', 'target_tokens')}
  changed = {name: value for name, value in named.items() if value is not None}
  found = sorted(Path(options.data_dir, config.data.dataset).glob('**/dataset_info.json'))
  clip = workload.Clip()
  if found and len(changed) < len(named):
    template = workload.TEMPLATE_TOKENS if config.decoder.get('weights') else 0
    clip = workload.of_dataset(found[-1].parent, template) or clip
  if changed:
    source = f'{", ".join(changed)} given' + ('' if len(changed) == len(named) else f'; the rest {clip.source}')
    clip = dataclasses.replace(clip, **changed, source=source)
  return clip


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
    prog='python -m crosstrainer_jax.fit',
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  add = parser.add_argument
  add('config', help='configs/cross_sport.py:paper, with an argument after the colon as for a run')
  add('--override', action='append', default=[], help=argparse.SUPPRESS)
  add(
    '--topology',
    required=True,
    help='a TPU by topology (v5e:2x4, v6e:16x16, v5p:2x2x2) or name (v5e-8, v5litepod-16, v5p-8), or GPUs of one host '
    '(rtx4090, l40s, a100, h100 or 24gb, 48gb, 80gb, with their number: h100:8)',
  )
  add('--slices', type=int, default=1, help='slices of that topology, joined by the network (default: %(default)s)')
  effort = parser.add_mutually_exclusive_group()
  effort.add_argument(
    '--quick', action='store_true', help='compile in half a minute: memory about, counts as they are, rough seconds'
  )
  effort.add_argument('--analytic', action='store_true', help='formulas alone: in a second, and without a compiler')
  add('--train_only', action='store_true', help='leave out prefill and decoding')
  add(
    '--search',
    choices=('auto', 'always', 'never'),
    default='auto',
    help='try other clips, rematerialisation and mesh: where it does not fit, always, or never (default: %(default)s)',
  )
  add('--compiles', type=int, default=8, help='programs that a search compiles at most (default: %(default)s)')
  add('--clips', type=int, default=0, help='clips that train: prints what all stages cost')
  add('--json', action='store_true', help='print JSON')
  facts = parser.add_argument_group('clips, where the dataset is not prepared here')
  add = facts.add_argument
  add('--data_dir', default='runs/datasets', help='where prepared datasets lie (default: %(default)s)')
  add('--views', type=int, help='cameras (assumed: 5)')
  add('--seconds', type=int, help='seconds of a view, each a video token of most encoders (assumed: 10)')
  add('--prompt_tokens', type=int, help='text around the video (assumed: 65)')
  add('--target_tokens', type=int, help='text to be written (assumed: 40)')
  add('--feature_dim', type=int, default=0, help='numbers of a video feature, where the encoder is not here')
  return parser


if __name__ == '__main__':
  main()
