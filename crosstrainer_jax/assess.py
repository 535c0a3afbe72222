"""python -m crosstrainer_jax.assess VIDEO: what to improve in your own video, segment by segment."""

import argparse
import contextlib
import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> None:
  """The verb. Exits with status 1 and a message where the input is at fault."""
  options = _parser().parse_args(arguments)
  # JAX and the model cost seconds of import, which --help should not.
  import crosstrainer_jax
  from crosstrainer_jax.eval import newest_run
  from crosstrainer_jax.input.buckets import as_path, check
  from crosstrainer_jax.training.telemetry import Progress

  bar: Progress | None = None

  def progress(done: int, total: int) -> None:
    nonlocal bar
    bar = bar or Progress('assessing', total, unit='segment')
    bar.update(done)

  try:
    workdir = as_path(options.checkpoint) if options.checkpoint else newest_run('runs')
    check(workdir, '--checkpoint', write=False)
    if not options.checkpoint:
      print(f'using {workdir}, the newest run', file=sys.stderr)
    # What is said on the way is no part of the answer.
    with contextlib.redirect_stdout(sys.stderr):
      coach = crosstrainer_jax.load(workdir, options.encoder_weights, options.decoder_weights)
      result = coach.assess(options.video, options.sport, options.stride, progress)
  except (ValueError, OSError) as error:
    sys.exit(f'error: {error}')
  except KeyboardInterrupt:
    print('\ninterrupted; nothing was assessed', file=sys.stderr)
    sys.exit(130)
  finally:
    if bar is not None:
      bar.close()
  print(result.to_json() if options.json else result.describe())


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(prog='python -m crosstrainer_jax.assess', description=__doc__)
  parser.add_argument('video', nargs='+', help='a video file; or one file per view of the same take')
  parser.add_argument('--sport', default='', help='what the person does, for example basketball; default: "a sport"')
  parser.add_argument('--checkpoint', help='workdir of a trained run; default: the newest under runs/')
  parser.add_argument('--encoder_weights', default='', help='where the weights of f_v lie now, if they were moved')
  parser.add_argument('--decoder_weights', default='', help='where the pretrained L lies now, if it was moved')
  parser.add_argument('--stride', type=float, default=0.0, help='seconds between windows; default: end to end')
  parser.add_argument('--json', action='store_true', help='print JSON')
  return parser


if __name__ == '__main__':
  main()
