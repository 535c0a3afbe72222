"""python -m crosstrainer_jax.assess VIDEO: what to improve in your own video, segment by segment."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path


def main(arguments: Sequence[str] | None = None) -> None:
  """The verb. Exits with status 1 and a message where the input is at fault."""
  options = _parser().parse_args(arguments)
  # JAX and the model cost seconds of import, which --help should not.
  import crosstrainer_jax
  from crosstrainer_jax.eval import newest_run

  try:
    workdir = Path(options.checkpoint) if options.checkpoint else newest_run('runs')
    say = (lambda _: None) if options.json else lambda text: print(f'  {text} …', file=sys.stderr, flush=True)
    if not options.checkpoint:
      print(f'using {workdir}, the newest run', file=sys.stderr)
    coach = crosstrainer_jax.load(workdir)
    result = coach.assess(options.video, options.sport, options.stride, say)
  except (ValueError, OSError) as error:
    sys.exit(f'error: {error}')
  print(result.to_json() if options.json else result.describe())


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(prog='python -m crosstrainer_jax.assess', description=__doc__)
  parser.add_argument('video', nargs='+', help='a video file; or one file per view of the same take')
  parser.add_argument('--sport', default='', help='what the person does, for example basketball; default: "a sport"')
  parser.add_argument('--checkpoint', help='workdir of a trained run; default: the newest under runs/')
  parser.add_argument('--stride', type=float, default=0.0, help='seconds between windows; default: end to end')
  parser.add_argument('--json', action='store_true', help='print JSON')
  return parser


if __name__ == '__main__':
  main()
