"""python -m crosstrainer_jax.eval: evaluates a trained run again; without arguments the newest under runs/.

python -m crosstrainer_jax.eval --workdir=runs/cross_sport
python -m crosstrainer_jax.eval --table=1                      # a table of the paper, from the runs of `sweep settings`
python -m crosstrainer_jax.eval --figure=4 --dataset=egoexo4d  # likewise on other data; --dry-run says what it needs
python -m crosstrainer_jax.eval --published                    # every published figure, with the command for ours
"""

import shlex
import sys
from pathlib import Path

import ml_collections
from absl import flags

from crosstrainer_jax import datasets, paper_plan, provenance, recipe, settings
from crosstrainer_jax.input.buckets import as_path, check
from crosstrainer_jax.training.telemetry import say


def define_flags() -> None:
  """Not done on import: other verbs have flags of the same names."""
  flags.DEFINE_string('workdir', None, 'The run to evaluate. Default: the newest one under --runs.')
  flags.DEFINE_string('runs', 'runs', 'Where runs are looked for.')
  flags.DEFINE_string('table', '', 'A table of the paper: 1, 3 or 4.')
  flags.DEFINE_string('figure', '', 'A figure of the paper: 4, 5 or 6.')
  flags.DEFINE_bool('published', False, 'Print every published figure with the command that makes ours, as JSON Lines.')
  flags.DEFINE_string('dataset', 'skillsim', 'For tables and figures: the dataset of the runs.')
  flags.DEFINE_string('sweep_dir', '', 'For tables and figures: where the runs lie. Default: as the sweep has it.')
  flags.DEFINE_multi_string(
    'write', [], 'For tables and figures: a Markdown page to write to, between <!-- eval:table-1 --> and <!-- end -->.'
  )
  flags.DEFINE_bool('dry-run', False, 'For tables and figures: say which runs are needed, and read nothing.')
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
  if flags.FLAGS.published:
    say(paper_plan.list_published().rstrip())
    return
  if flags.FLAGS.table or flags.FLAGS.figure:
    _paper()
    return
  # takes seconds to import, which --help should not
  from crosstrainer_jax import measure
  from crosstrainer_jax.run import open_run

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


def _paper() -> None:
  """A table or figure of the paper."""
  given = flags.FLAGS
  if given.table and given.figure:
    raise settings.SettingsError('give --table or --figure, not both')
  item = paper_plan.item_of(given.table, given.figure)
  paper_plan.check_dataset(given.dataset)
  folder = paper_plan.sweep_folder(given.dataset, given.sweep_dir)
  if given['dry-run'].value:
    say(paper_plan.plan(item, given.dataset, folder))
  else:
    from crosstrainer_jax import paper_results

    paper_results.publish(item, given.dataset, folder, [Path(page) for page in given.write])


if __name__ == '__main__':
  define_flags()
  settings.run(main)
