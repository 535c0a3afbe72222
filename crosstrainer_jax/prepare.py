"""Prepares a dataset as records.

- the embedded world: `python -m crosstrainer_jax.prepare skillsim`
- your own videos (docs/own_videos.md): `python -m crosstrainer_jax.prepare manifest.jsonl --name my_videos`
- a dataset that others publish: `python -m crosstrainer_jax.prepare egoexo4d --root /data/egoexo4d`
- clips, gigabytes and time of any, nothing written: the same with `--estimate`
"""

import argparse
import importlib
import sys
from collections.abc import Sequence
from typing import Any

from crosstrainer_jax.datasets import SOURCES
from crosstrainer_jax.datasets.manifest import builder, plan
from crosstrainer_jax.input.buckets import on_this_machine


def main(arguments: Sequence[str] | None = None) -> None:
  """The verb. Exits with status 1 and a message where the input is at fault."""
  given = sys.argv[1:] if arguments is None else list(arguments)
  published = given[0] if given and given[0] in SOURCES else ''
  options = _published_parser(published).parse_args(given[1:]) if published else _parser().parse_args(given)
  try:
    if published:
      _import_takes(published, options)
    elif options.source == 'skillsim':
      # Rendering is of no concern to who imports videos.
      from crosstrainer_jax.datasets.skillsim import builder as skillsim

      meant_for_videos = [name for name in _changed(options) if name not in _FOR_ALL]
      if meant_for_videos:
        raise ValueError(f'--{", --".join(meant_for_videos)}: for own videos; the world has its settings in a config')
      if options.dry_run or options.estimate:
        print(skillsim.estimate(options.data_dir, options.workers or None))
      else:
        skillsim.prepare(options.data_dir, options.workers or None)
    else:
      _import(options)
  except (ValueError, OSError) as error:
    sys.exit(f'error: {error}')
  except KeyboardInterrupt:
    sys.exit('\ninterrupted; run the same command again to go on')


def _import(options: argparse.Namespace) -> None:
  if not options.name:
    raise ValueError('--name is missing: a name for the dataset, for example --name my_videos')
  settings = {
    name: getattr(options, name)
    for name in ('root', 'mu1', 'mu2', 'fps', 'size', 'fit', 'stride', 'test_fraction', 'seed', 'workers')
  } | {'frames': not options.without_frames}
  if not (options.dry_run or options.estimate):
    place = on_this_machine(options.data_dir, '--data_dir')
    builder.prepare(options.source, place, options.name, overwrite=options.overwrite, **settings)
    return
  config = plan.ManifestConfig(name=options.name, manifest=options.source, **settings)
  planned = plan.make_plan(config)
  print(planned.describe())
  print(plan.describe_skips(planned.skips) or 'nothing to skip')
  if options.estimate:
    print(plan.estimate(planned, config).describe())
  if not planned.segments:
    raise ValueError(f'{options.source}: no clip can be made of it')


def _import_takes(name: str, options: argparse.Namespace) -> None:
  from crosstrainer_jax.datasets.takes import builder as takes
  from crosstrainer_jax.datasets.takes import survey

  source = importlib.import_module(f'{SOURCES[name]}.source').from_options(options)
  settings: dict[str, Any] = {
    field: getattr(options, field) for field in ('mu1', 'mu2', 'fps', 'size', 'fit', 'workers')
  }
  settings |= {'name': options.name or '', 'frames': not options.without_frames}
  if options.dry_run or options.estimate:
    print(survey.describe(source, takes.TakesConfig(**settings), sample=options.estimate))
    return
  place = on_this_machine(options.data_dir, '--data_dir')
  takes.prepare(source, place, overwrite=options.overwrite, beam_options=options.beam_options, **settings)


# Options that make sense for the embedded world too.
_FOR_ALL = ('source', 'data_dir', 'workers', 'dry_run', 'estimate')


def _changed(options: argparse.Namespace) -> list[str]:
  """The options that differ from their defaults."""
  parser = _parser()
  return [name for name, value in vars(options).items() if value != parser.get_default(name)]


def _parser() -> argparse.ArgumentParser:
  defaults = plan.ManifestConfig(name='defaults')
  parser = argparse.ArgumentParser(
    prog='python -m crosstrainer_jax.prepare',
    description='Makes records (ArrayRecord, by TFDS) of the embedded world, your own videos or a published dataset.',
    epilog='The fields of a manifest are in docs/own_videos.md. A killed import goes on when the command is run again.',
  )
  add = parser.add_argument
  published = ', '.join(f"'{name}'" for name in SOURCES)
  add(
    'source',
    help=f"'skillsim', or a manifest: .jsonl or .csv; or {published}, which have options of their own: NAME --help",
  )
  _add_ways(parser)
  own = parser.add_argument_group('own videos')
  own.add_argument('--name', help='name of the dataset; it is written to DATA_DIR/NAME')
  own.add_argument(
    '--root', default='', help="folder that the manifest's paths start from (default: the manifest's own)"
  )
  _add_clips(own, defaults)
  add = own.add_argument
  add(
    '--stride',
    type=float,
    default=0.0,
    help='seconds from window to window of rows without commentary (default: no overlap)',
  )
  add(
    '--test_fraction',
    type=float,
    default=defaults.test_fraction,
    help='part of the participants without a split that goes to the test split (default: %(default)s)',
  )
  add('--seed', type=int, default=0, help='decides which participants those are (default: %(default)s)')
  return parser


def _published_parser(name: str) -> argparse.ArgumentParser:
  from crosstrainer_jax.datasets.takes import builder as takes

  parser = argparse.ArgumentParser(
    prog=f'python -m crosstrainer_jax.prepare {name}',
    description=f'Makes records (ArrayRecord, by TFDS) of {name}, from the folder that it was downloaded to.',
    epilog=f'data/{name}/README.md tells how to get it. A killed import goes on when the command is run again.',
  )
  importlib.import_module(f'{SOURCES[name]}.source').add_options(parser)
  parser.add_argument('--name', help=f'name of the dataset; it is written to DATA_DIR/NAME (default: {name})')
  _add_ways(parser)
  _add_clips(parser, takes.TakesConfig())
  parser.add_argument(
    '--beam_options',
    nargs=argparse.REMAINDER,
    help='comes last: Apache Beam does the work, with the options that follow, for example --runner=FlinkRunner',
  )
  return parser


def _add_ways(parser: argparse.ArgumentParser) -> None:
  add = parser.add_argument
  add('--data_dir', default='runs/datasets', help='where datasets lie (default: %(default)s)')
  add('--workers', type=int, default=0, help='clips made, or videos decoded, at a time (default: one per core)')
  add('--dry-run', action='store_true', help='read the annotations and open every video; write nothing')
  add('--estimate', action='store_true', help='print clips, gigabytes and time, from a short sample; write nothing')


def _add_clips(parser: argparse._ActionsContainer, defaults: Any) -> None:
  """How clips are cut."""
  add = parser.add_argument
  add('--mu1', type=float, default=defaults.mu1, help='seconds of a clip before its comment (default: %(default)s)')
  add('--mu2', type=float, default=defaults.mu2, help='seconds of a clip after its comment (default: %(default)s)')
  add('--fps', type=float, default=defaults.fps, help='frames per second (default: %(default)s)')
  add('--size', type=int, default=defaults.size, help='pixels of the square frames (default: %(default)s)')
  add(
    '--fit',
    choices=('letterbox', 'crop'),
    default=defaults.fit,
    help='the whole picture between black bars, or its middle square (default: %(default)s)',
  )
  add(
    '--without_frames',
    action='store_true',
    help='records that name times only: features are made from the videos, see python -m crosstrainer_jax.features',
  )
  add('--overwrite', action='store_true', help='replace a dataset of this name that was made otherwise')


if __name__ == '__main__':
  main()
