"""Encodes the videos of a prepared dataset with a frozen f_v, once, for all runs that train on its features.

    python -m crosstrainer_jax.features my_videos --encoder openai/clip-vit-large-patch14
    python -m crosstrainer_jax.features my_videos --encoder EgoVLPv2.pth --estimate

Training does the same by itself where features are missing; this verb does it beforehand, on several hosts, or on a
machine of its own. A killed run goes on when the command is given again.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import ml_collections


def main(arguments: Sequence[str] | None = None) -> None:
  """The verb. Exits with status 1 and a message where the input is at fault."""
  options = _parser().parse_args(arguments)
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
    settings.keep_compiled(options.data_dir)
    directory = Path(options.dataset)
    if not (directory / 'dataset_info.json').is_file():
      directory = datasets.prepare(ml_collections.ConfigDict({'dataset': options.dataset}), options.data_dir)
    encoder = encoders.load(options.encoder, options.revision, options.fps, options.dtype)
    source = ClipSource(directory)
    clips = source.infos()
    encoding.check_rate((clip.frame_times for clip in clips), encoder)
    shape = encoding.to_common_shape(clips, encoder)
    print(
      f'{directory}: {len(clips)} clips; encoder {encoder.name} {encoder.fingerprint}, {encoder.config.feature_dim} '
      f'numbers a second from {encoder.config.fps} frames'
    )
    if not encoder.by_second:
      if options.estimate or options.hosts:
        raise ValueError(f'--estimate and --hosts: not for {encoder.name}, whose features need the whole clip')
      cached_features(source, clips, encoder, sharding.make_mesh(), options.batch_size, shape)
      return
    plan = second_encoding.make_plan(source, clips, encoder)
    missing = len(plan.missing())
    print(f'{len(plan.seconds)} seconds of video, {missing} of them not encoded yet; store: {plan.directory}')
    if options.estimate:
      _, gigabytes, hours = second_encoding.estimate(plan, encoder, options.batch_size)
      print(f'about {gigabytes:.3g} GB and {hours:.2g} hours on this machine (from one batch)')
      return
    done = second_encoding.encode(plan, encoder, options.batch_size, options.host, options.hosts)
    share = '' if options.hosts is None else f', the share of host {options.host}'
    print(f'{done} seconds encoded{share}')
  except (ValueError, OSError) as error:
    sys.exit(f'error: {error}')
  except KeyboardInterrupt:
    sys.exit('\ninterrupted; run the same command again to go on')


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
    prog='python -m crosstrainer_jax.features',
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  add = parser.add_argument
  add('dataset', help='name of a prepared dataset, or its directory')
  add('--encoder', default='shipped', help='shipped, a file, or a directory or repository of the Hugging Face hub')
  add('--revision', default='', help='commit, tag or branch of a repository')
  add('--fps', type=int, default=0, help="frames of a second that are looked at (default: the encoder's own)")
  add('--dtype', choices=('float32', 'bfloat16'), default='', help='of the computation (default: float32)')
  add('--batch_size', type=int, default=64, help='seconds, or clips, at a time (default: %(default)s)')
  add('--data_dir', default='runs/datasets', help='where datasets lie (default: %(default)s)')
  add('--estimate', action='store_true', help='print seconds, gigabytes and hours, from one batch; write nothing')
  add('--host', type=int, help='this machine, of several that share the work, counted from 0')
  add('--hosts', type=int, help='how many machines share the work')
  return parser


if __name__ == '__main__':
  main()
