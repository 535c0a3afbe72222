"""python -m crosstrainer_jax.export WORKDIR --output FOLDER: a finished run as one folder that can be deployed."""

import argparse
import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> None:
  """The verb. Exits with status 1 and a message where the input is at fault."""
  options = _parser().parse_args(arguments)
  # JAX and the model cost seconds of import, which --help should not.
  from crosstrainer_jax.inference import export
  from crosstrainer_jax.inference.trained import read_trained
  from crosstrainer_jax.input.buckets import check, on_this_machine

  try:
    output = on_this_machine(options.output, '--output')
    check(options.workdir, 'workdir', write=False)
    export.refuse(output, options.overwrite)
    for line in export.left_behind(output):
      print(line, flush=True)
    run = read_trained(options.workdir, None, options.encoder_weights, options.decoder_weights)
    made = export.Export(run, options.dtype, options.clips)
    if options.dry_run:
      print(f'Would write {output}:', *(_line(p.name, p.size, p.what) for p in made.parts()), sep='\n')
      return
    print(f'Writing {output} …', flush=True)
    written = made.write(output, options.overwrite)
  except (ValueError, OSError) as error:
    sys.exit(f'error: {error}')
  except KeyboardInterrupt:
    sys.exit('\ninterrupted; nothing was written')
  print(*(_line(p.name, p.size, p.what) for p in written), sep='\n')
  print(f'Done: {output}/README.md says what it is; docs/export.md, how to serve it.')


def _line(name: str, size: int, what: str) -> str:
  return f'  {name:<22}{_size(size):>10}  {what}'


def _size(count: float) -> str:
  for unit in ('B', 'kB', 'MB'):
    if count < 1000:
      return f'{count:.0f} {unit}'
    count /= 1000
  return f'{count:.1f} GB'


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
    prog='python -m crosstrainer_jax.export', description=__doc__, epilog='docs/export.md says how to serve the folder.'
  )
  add = parser.add_argument
  add('workdir', help='of a finished run, for example runs/cross_sport')
  add('--output', required=True, help='the folder to write')
  add('--clips', type=int, default=0, help='test clips to add, with our own answers to them; default: none')
  add(
    '--dtype',
    default='',
    choices=('', 'float32', 'bfloat16', 'float16'),
    help='of the weights of L; default: of those that it started from',
  )
  add('--encoder_weights', default='', help='where the weights of f_v lie now, if they were moved')
  add('--decoder_weights', default='', help='where the pretrained L lies now, if it was moved')
  add('--overwrite', action='store_true', help='replace an export that is there')
  add('--dry-run', action='store_true', help='print what would be written, and how large it is; write nothing')
  return parser


if __name__ == '__main__':
  main()
