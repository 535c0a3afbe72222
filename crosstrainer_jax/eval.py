"""python -m crosstrainer_jax.eval: evaluates a trained run again; without arguments the newest under runs/."""

import shlex
import sys
from pathlib import Path

from absl import flags

from crosstrainer_jax import datasets, measure, recipe, settings
from crosstrainer_jax.training.telemetry import say

_WORKDIR = flags.DEFINE_string('workdir', None, 'The run to evaluate. Default: the newest one under --runs.')
_RUNS = flags.DEFINE_string('runs', 'runs', 'Where runs are looked for.')
_DATA_DIR = flags.DEFINE_string('data_dir', 'runs/datasets', 'Where prepared datasets are kept.')


def newest_run(runs: str | Path) -> Path:
  """The run under `runs` whose stage II finished last.

  Raises:
    FileNotFoundError: none has.
  """
  finished = sorted(Path(runs).glob(f'**/{recipe.STAGE2}/done.json'), key=lambda path: path.stat().st_mtime)
  finished = [path for path in finished if (path.parent.parent / 'config.json').is_file()]
  if not finished:
    raise FileNotFoundError(
      f'no trained run under {runs}/. Train one: ./launch_tpu.sh configs/cross_sport.py, or name one with --workdir'
    )
  return finished[-1].parent.parent


def main(argv: list[str]) -> None:
  del argv
  workdir = Path(_WORKDIR.value) if _WORKDIR.value else newest_run(_RUNS.value)
  say(f'Evaluating {workdir}{"" if _WORKDIR.value else ", the newest run"}')
  config = settings.recorded_config(workdir)
  settings.keep_compiled(_DATA_DIR.value)
  if not (workdir / recipe.STAGE2 / 'done.json').is_file():
    raise FileNotFoundError(f'{workdir}: stage II is not finished; start its launch command again, it resumes')
  run = recipe.open_run(config, workdir, datasets.prepare(config.data, _DATA_DIR.value))
  report = measure.evaluate(run, shlex.join(['python', '-m', 'crosstrainer_jax.eval', *sys.argv[1:]]))
  report.print()
  say(f'written: {workdir}/report.md, {workdir}/report.json, {workdir}/predictions/')


if __name__ == '__main__':
  settings.run(main)
