"""python -m crosstrainer_jax.eval: evaluates a trained run again; without arguments the newest under runs/."""

import shlex
import sys
from pathlib import Path

import ml_collections
from absl import flags

from crosstrainer_jax import datasets, provenance, recipe, settings
from crosstrainer_jax.input.buckets import as_path, check
from crosstrainer_jax.run import open_run
from crosstrainer_jax.training.telemetry import say


def define_flags() -> None:
  """Not done on import: other verbs have flags of the same names."""
  flags.DEFINE_string('workdir', None, 'The run to evaluate. Default: the newest one under --runs.')
  flags.DEFINE_string('runs', 'runs', 'Where runs are looked for.')
  flags.DEFINE_string('data_dir', None, 'Where prepared datasets are kept. Default: where the run had its own.')


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


def dataset_of(workdir: Path, config: ml_collections.ConfigDict, data_dir: str | None) -> Path:
  """The directory of a run's dataset: the one it was trained on where that is still there and no other is asked for."""
  recorded = as_path(provenance.recorded_environment(workdir).get('dataset', ''))
  if data_dir is None and (recorded / 'dataset_info.json').is_file():
    return recorded
  return datasets.prepare(config.data, data_dir or 'runs/datasets')


def main(argv: list[str]) -> None:
  del argv
  # takes seconds to import, which --help should not
  from crosstrainer_jax import measure

  workdir = as_path(flags.FLAGS.workdir) if flags.FLAGS.workdir else newest_run(flags.FLAGS.runs)
  check(workdir, '--workdir', write=True)
  say(f'Evaluating {workdir}{"" if flags.FLAGS.workdir else ", the newest run"}')
  config = provenance.recorded_config(workdir)
  settings.keep_compiled(flags.FLAGS.data_dir or 'runs/datasets')
  if not (workdir / recipe.STAGE2 / 'done.json').is_file():
    raise FileNotFoundError(f'{workdir}: stage II is not finished; start its launch command again, it resumes')
  run = open_run(config, workdir, dataset_of(workdir, config, flags.FLAGS.data_dir))
  report = measure.evaluate(run, shlex.join(['python', '-m', 'crosstrainer_jax.eval', *sys.argv[1:]]))
  report.print()
  say(f'written: {workdir}/report.md, {workdir}/report.json, {workdir}/predictions/')


if __name__ == '__main__':
  define_flags()
  settings.run(main)
