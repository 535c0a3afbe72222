"""python -m crosstrainer_jax.train --config configs/cross_sport.py: the main job, from data to the results table."""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from crosstrainer_jax import datasets, distributed, provenance, run_layout, settings
from crosstrainer_jax.input.buckets import as_path, check
from crosstrainer_jax.input.files import write_atomically
from crosstrainer_jax.training.telemetry import say, timed

if TYPE_CHECKING:
  from crosstrainer_jax.evaluation.report import Report

settings.define_config_flag()
_WORKDIR = flags.DEFINE_string('workdir', None, 'Where the run is kept. Default: runs/<config name with its argument>.')
_DATA_DIR = flags.DEFINE_string('data_dir', 'runs/datasets', 'Where prepared datasets are kept.')
_DRY_RUN = flags.DEFINE_bool('dry-run', False, 'Print what would be done, and do nothing.')


def main(argv: list[str]) -> None:
  del argv
  config = settings.config_from_flags()
  workdir = as_path(_WORKDIR.value or Path('runs') / settings.run_name(flags.FLAGS.config, flags.FLAGS.override))
  if _DRY_RUN.value:
    say(plan(config, workdir))
    return
  distributed.initialize()
  check(workdir, '--workdir', write=True)
  check(_DATA_DIR.value, '--data_dir', write=False)
  start = time.monotonic()
  if is_done(workdir):
    say(f'{workdir} is done already; its results again:')
  run(config, workdir, _DATA_DIR.value, command_of(flags.FLAGS.config, flags.FLAGS.override)).print()
  say(_what_next(workdir, time.monotonic() - start))


def run(config: settings.ml_collections.ConfigDict, workdir: Path, data_dir: str | Path, command: str) -> Report:
  """Trains and evaluates what `config` says, or goes on with what `workdir` holds of it.

  Args:
    data_dir: where prepared datasets are kept; the run's own is made when it is absent.
    command: what makes this run again, for the report.

  Raises:
    SettingsError: the workdir belongs to another config or to other data.
  """
  # these take seconds to import, which --help and --dry-run should not
  from crosstrainer_jax.evaluation.report import read_report

  if is_done(workdir) and settings.flatten(provenance.recorded_config(workdir)) == settings.flatten(config):
    return read_report(workdir / 'report.json')
  from crosstrainer_jax import measure, recipe
  from crosstrainer_jax.run import open_run

  start, done = time.monotonic(), is_done(workdir)
  settings.keep_compiled(data_dir)
  with timed(f'data: {config.data.dataset}'), distributed.first('data'):
    directory = datasets.prepare(config.data, data_dir)
  opened = open_run(config, workdir, directory)
  recipe.train(opened)
  report = measure.evaluate(opened, command)
  if not done:  # what the run took, not what it takes to print it again
    write_atomically(workdir / 'done.json', f'{{"seconds": {time.monotonic() - start:.1f}}}\n')
  return report


def is_done(workdir: Path) -> bool:
  """Whether a run has come to its end there."""
  return (workdir / 'report.json').is_file() and (workdir / 'done.json').is_file()


def command_of(config: str, overrides: Sequence[str]) -> str:
  """The line for a shell that makes a run of `config` with `overrides`, written `a.b=value`."""
  return f'./launch_tpu.sh {shlex.join([config, *(f"--config.{override}" for override in overrides)])}'


def plan(config: settings.ml_collections.ConfigDict, workdir: Path) -> str:
  """What a run of `config` will do, in a few lines."""
  from crosstrainer_jax.training import stages

  sim = config.data.skillsim
  lines = [
    f'Would run {config.split.setting}, held out: {config.split.held_out or "nothing"}, seed {config.seed}.',
    f'  data       {config.data.dataset} in {_DATA_DIR.value}',
  ]
  clips = 0
  if config.data.dataset == 'skillsim':
    sports = 3 if config.split.setting == 'ZS-3' else 4
    clips = round(sports * sim.train_clips * (1 - config.split.validation_share))
    lines.append(f'  clips      4 × ({sim.train_clips} + {sim.test_clips}), of which about {clips} train')
    first, second = (
      stages.updates_of(part.epochs, clips, config.training.batch_size) for part in (config.stage1, config.stage2)
    )
    lines.append(f'  updates    stage I {first}, stage II {second}, of {config.training.batch_size} clips')
  lines += [
    f'  rows       CrossTrainer, {", ".join(config.eval.rows) or "no trained rival"}, floors and ceiling',
    f'  workdir    {workdir}{" (exists: resumes)" if workdir.is_dir() else ""}',
    '',
    settings.dump(config),
  ]
  return '\n'.join(lines)


def _what_next(workdir: Path, seconds: float) -> str:
  python = os.path.relpath(sys.executable)
  return '\n'.join(
    [
      '',
      f'Done in {seconds:.0f} s.',
      f'  report       {workdir}/report.md (and report.json; every prediction is in {workdir}/predictions)',
      f'  curves       {python} -m tensorboard.main --logdir {workdir}/tensorboard',
      f'  checkpoint   {workdir} (parameters: {workdir}/{run_layout.STAGE2}/params)',
      'Next:',
      f'  {python} -m crosstrainer_jax.assess VIDEO --checkpoint {workdir}      # feedback on a video of your own',
      f'  {python} -m crosstrainer_jax.eval --workdir {workdir}                 # this table again',
      '  ./launch_tpu.sh configs/cross_sport.py:held_out=basketball    # another sport held out',
    ]
  )


if __name__ == '__main__':
  settings.run(main)
