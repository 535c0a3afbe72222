"""Encodes the videos of a prepared dataset with a frozen f_v, once, for all runs that train on its features.

    python -m crosstrainer_jax.features --config configs/cross_sport.py:paper,dataset=my_videos \\
      --config.encoder.weights=/weights/EgoVLPv2.pth --estimate
    python -m crosstrainer_jax.features my_videos --encoder openai/clip-vit-large-patch14 --dtype bfloat16

With --config the features are those that a run of this config reads: dataset, weights, revision, fps and dtype are its
own, and any setting of it can be changed as for a run. Training encodes by itself what is missing; this verb does it
beforehand, on several hosts, or on a machine of its own. A killed run goes on when the command is given again.
"""

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import ml_collections


def main(arguments: Sequence[str] | None = None) -> None:
  """The verb. Exits with status 1 and a message where the input is at fault."""
  given = sys.argv[1:] if arguments is None else arguments
  options = _parser().parse_args([re.sub(r'^--?config\.', '--override=', argument) for argument in given])
  # JAX costs seconds of import, which --help should not.
  from crosstrainer_jax import datasets, settings
  from crosstrainer_jax.inference import encoding, second_encoding
  from crosstrainer_jax.input.source import ClipSource
  from crosstrainer_jax.models import encoders
  from crosstrainer_jax.run import cached_features
  from crosstrainer_jax.training import sharding

  try:
    if (options.host is None) != (options.hosts is None) or (options.hosts and not 0 <= options.host < options.hosts):
      raise ValueError('--host and --hosts go together: this one of so many, counted from 0')
    if options.batch_size < 1:
      raise ValueError(f'--batch_size is {options.batch_size}, not at least 1')
    chosen, data = _chosen(options)
    settings.keep_compiled(options.data_dir)
    directory = Path(data.dataset)
    if not (directory / 'dataset_info.json').is_file():
      directory = datasets.prepare(data, options.data_dir)
    encoder = encoders.load(chosen.weights, chosen.revision, chosen.fps, chosen.dtype)
    source = ClipSource(directory)
    clips = source.infos()
    encoding.check_rate((clip.frame_times for clip in clips), encoder)
    shape = encoding.to_common_shape(clips, encoder)
    print(
      f'{directory}: {len(clips)} clips; encoder {encoder.name} {encoder.fingerprint}, {encoder.config.feature_dim} '
      f'numbers a second from {encoder.config.fps} frames'
    )
    if not encoder.by_second:
      if options.hosts:
        raise ValueError(f'--hosts: {encoder.name} sees whole clips, whose features one machine makes')
      mesh = sharding.make_mesh()
      if options.estimate:
        _print_estimate(*encoding.estimate(source, encoder, mesh, options.batch_size, shape))
      else:
        cached_features(source, clips, encoder, mesh, options.batch_size, shape)
      return
    plan = second_encoding.make_plan(source, clips, encoder)
    missing = len(plan.missing())
    print(f'{len(plan.seconds)} seconds of video, {missing} of them not encoded yet; store: {plan.directory}')
    if options.estimate:
      for line in second_encoding.others(plan, encoder):
        print(line)
      _print_estimate(*second_encoding.estimate(plan, encoder, options.batch_size))
      return
    done = second_encoding.encode(plan, encoder, options.batch_size, options.host, options.hosts)
    share = '' if options.hosts is None else f', the share of host {options.host}'
    print(f'{done} seconds encoded{share}')
  except (ValueError, OSError) as error:
    sys.exit(f'error: {error}')
  except KeyboardInterrupt:
    sys.exit('\ninterrupted; run the same command again to go on')


def _print_estimate(gigabytes: float, hours: float) -> None:
  print(f'about {gigabytes:.3g} GB and {hours:.2g} hours on this machine (from one batch)')


def _chosen(options: argparse.Namespace) -> tuple[ml_collections.ConfigDict, ml_collections.ConfigDict]:
  """The encoder (weights, revision, fps, dtype) and the group `data` of a config: a run's own, or of these options."""
  from crosstrainer_jax import settings

  if options.config is None:
    if options.override:
      raise ValueError(f'--config.{options.override[0]}: of which config? Name it with --config')
    if options.dataset is None:
      raise ValueError('name a prepared dataset, or a config with --config')
    encoder = {'weights': options.encoder, 'revision': options.revision, 'fps': options.fps, 'dtype': options.dtype}
    return ml_collections.ConfigDict(encoder), ml_collections.ConfigDict({'dataset': options.dataset})
  ours = [name for name in ('encoder', 'revision', 'fps', 'dtype') if getattr(options, name) != _DEFAULTS[name]]
  if ours:
    raise ValueError(f'--{ours[0]}: the config says it; change it there, with --config.encoder.…=')
  if options.dataset is not None:
    raise ValueError(f'{options.dataset}: the config says which dataset; change it there, with --config.data.dataset=')
  config = settings.load_config(options.config, options.override)
  if 'source' not in config.get('encoder', {}):
    raise ValueError(f'{options.config}: no run of this config reads features')
  if config.encoder.source != 'features':
    raise ValueError(f'{options.config}: encoder.source is {config.encoder.source}, so its runs read no features')
  return config.encoder, config.data


_DEFAULTS = {'encoder': 'shipped', 'revision': '', 'fps': 0, 'dtype': ''}


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
    prog='python -m crosstrainer_jax.features',
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  add = parser.add_argument
  add('dataset', nargs='?', help='name of a prepared dataset, or its directory')
  add('--config', help='takes dataset and encoder from a config; --config.encoder.weights=… changes what it says')
  add('--override', action='append', default=[], help=argparse.SUPPRESS)
  add('--encoder', help='shipped, a file, or a directory or repository of the Hugging Face hub')
  add('--revision', help='commit, tag or branch of a repository')
  add('--fps', type=int, help="frames of a second that are looked at (default: the encoder's own)")
  add('--dtype', choices=('float32', 'bfloat16'), help='of the computation (default: float32)')
  add('--batch_size', type=int, default=64, help='seconds, or clips, at a time (default: %(default)s)')
  add('--data_dir', default='runs/datasets', help='where datasets lie (default: %(default)s)')
  add('--estimate', action='store_true', help='print seconds, gigabytes and hours, from one batch; write nothing')
  add('--host', type=int, help='this machine, of several that share the work, counted from 0')
  add('--hosts', type=int, help='how many machines share the work')
  parser.set_defaults(**_DEFAULTS)
  return parser


if __name__ == '__main__':
  main()
