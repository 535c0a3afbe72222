"""python -m crosstrainer_jax.sweep NAME: the runs behind docs/results.md, resumable.

    python -m crosstrainer_jax.sweep transfer --dry-run                     # which runs, which are done, how long
    python -m crosstrainer_jax.sweep transfer --write=docs/results.md --write=README.md
    python -m crosstrainer_jax.sweep dials --write=docs/results.md          # and docs/dials-*.png
    python -m crosstrainer_jax.sweep settings --seeds=0                     # shown by eval --table=1 and the like
    python -m crosstrainer_jax.sweep settings --dataset=egoexo4d --paper --config.encoder.weights=/weights/EgoVLPv2.pth
    python -m crosstrainer_jax.sweep kshot --write=docs/results.md          # and docs/kshot.png
    python -m crosstrainer_jax.sweep studies --write=docs/results.md
    python -m crosstrainer_jax.sweep transfer --seeds=0 --config.stage1.epochs=1 --sweep_dir=runs/sweeps/short

transfer: every sport held out in turn, three seeds. dials: two-stage minus end-to-end at three values of each dial.
settings: FS, ZS-1, ZS-2, ZS-3, and one sport to the skills of others, with every skill and sport held out in turn; on
the embedded world ZS-3 is transfer, whose runs are not made twice.
studies: what the paper leaves open, one condition changed at a time.
kshot: k labelled clips of the held-out sport, going on from the ZS-3 run and beginning from nothing.
Every run is one of python -m crosstrainer_jax.train, in its own folder. Those that are done are skipped, one that fails
is recorded there in failed.txt, and the others go on. The compact preset makes poor use of many cores, so parts of a
sweep are best run side by side, each on a core of its own; the whole then finds them done and writes the pages:

    taskset -c 0 python -m crosstrainer_jax.sweep transfer --only='soccer|basketball' &
    taskset -c 1 python -m crosstrainer_jax.sweep transfer --only='rock_climbing|fitness'
"""

import collections
import dataclasses
import json
import re
import shlex
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ml_collections
from absl import flags

from crosstrainer_jax import paper_plan, provenance, settings, sweep_results, train
from crosstrainer_jax.configs import arguments, sweeps
from crosstrainer_jax.evaluation import dials, published
from crosstrainer_jax.evaluation.report import Report, read_report
from crosstrainer_jax.input.buckets import on_this_machine
from crosstrainer_jax.input.files import write_atomically
from crosstrainer_jax.pages import replace_block
from crosstrainer_jax.run_layout import CROSSTRAINER
from crosstrainer_jax.training.telemetry import say

# Sweeps whose result is drawn.
PLOTTED = ('dials', 'kshot')

_SEEDS = flags.DEFINE_list('seeds', None, 'Seeds of training. Default: 0,1,2; for dials 0.')
_HELD_OUT = flags.DEFINE_list('held_out', None, 'Sports held out. Default: every one for transfer, else soccer.')
_SMOKE = flags.DEFINE_bool('smoke', False, 'Small runs that show that all works; their scores mean nothing.')
_DATASET = flags.DEFINE_string('dataset', 'skillsim', 'For settings: the dataset, of those that the sweep knows.')
_PAPER = flags.DEFINE_bool('paper', False, "For settings: the paper's sizes (weights by --config.encoder.weights=…).")
_OTHER = flags.DEFINE_string(
  'other',
  sweeps.OTHER_ATTRIBUTES,
  'For settings: what makes the attributes of the runs FS-other, a.b=value with commas between.',
)
_WRITE = flags.DEFINE_multi_string(
  'write', [], 'A Markdown page to put the result in, between <!-- sweep:NAME --> and <!-- end -->; may be repeated.'
)
_ONLY = flags.DEFINE_string('only', '', 'Does only the runs whose names this regular expression is found in.')
_SWEEP_DIR = flags.DEFINE_string(
  'sweep_dir', None, 'Where the runs are kept, a folder each. Default: runs/sweeps/<sweep>, for transfer settings.'
)
# Those of train that mean the same here.
for _name in ('data_dir', 'dry-run', 'override'):
  flags.declare_key_flag(_name)


def main(argv: list[str]) -> None:
  name = _name_of_sweep(argv[1:])
  options: dict[str, Any] = {'held_out': _HELD_OUT.value, 'seeds': _SEEDS.value, 'smoke': _SMOKE.value}
  if name == 'settings':
    options |= {
      'dataset': arguments.one_of('--dataset', _DATASET.value, sweeps.SKILLS),
      'paper': _PAPER.value,
      'other': _OTHER.value,
    }
  elif _PAPER.value or flags.FLAGS['dataset'].present:
    raise settings.SettingsError(f'--dataset and --paper are for the sweep settings, not for {name}')
  sweep = sweeps.SWEEPS[name](**{key: value for key, value in options.items() if value})
  of_dataset = '' if _DATASET.value == 'skillsim' else f'-{_DATASET.value}'
  place = _SWEEP_DIR.value or f'runs/sweeps/{sweep.folder or name}{of_dataset}{"-smoke" if _SMOKE.value else ""}'
  folder = on_this_machine(place, '--sweep_dir')
  runs = plan(sweep, folder, flags.FLAGS.override)
  chosen = choose(runs, _ONLY.value)
  say(describe(name, runs, folder, sweep.seconds))
  if _ONLY.value:
    say(f'Of these only: {", ".join(run.name for run in chosen)}.')
  if name == 'settings' and _WRITE.value:
    raise settings.SettingsError('the runs of settings are shown and written by eval --table and eval --figure')
  for page in _WRITE.value:  # a complaint before the runs, not after them
    replace_block(Path(page), f'sweep:{name}', lambda columns, folder: None)
  if name in PLOTTED:
    dials.need_matplotlib()
  if flags.FLAGS['dry-run'].value:
    return
  failed = perform(chosen, sweep.seconds, flags.FLAGS.data_dir)
  publish(name, runs, folder, [Path(page) for page in _WRITE.value], _command(name))
  if failed:
    say('\n'.join([f'{len(failed)} of {len(runs)} runs failed:', *(f'  {run}: {why}' for run, why in failed.items())]))
    sys.exit(1)


def _name_of_sweep(given: Sequence[str]) -> str:
  if len(given) != 1 or given[0] not in sweeps.SWEEPS:
    raise settings.SettingsError(
      f'name one sweep, {" or ".join(sweeps.SWEEPS)}, not {" ".join(given) or "none"} (flags: --name=value)'
    )
  for name in ('config', 'workdir'):
    if flags.FLAGS[name].present:
      raise settings.SettingsError(f'--{name} is for train: a sweep names configs and folders itself (see --help)')
  return given[0]


def _command(name: str) -> str:
  """What makes the same sweep again."""
  given = [
    *([f'--held_out={",".join(_HELD_OUT.value)}'] if _HELD_OUT.value else []),
    *([f'--seeds={",".join(_SEEDS.value)}'] if _SEEDS.value else []),
    *(['--smoke'] if _SMOKE.value else []),
    *([f'--dataset={_DATASET.value}'] if _DATASET.value != 'skillsim' else []),
    *(['--paper'] if _PAPER.value else []),
    *([f'--other={_OTHER.value}'] if flags.FLAGS['other'].present else []),
    *(f'--config.{override}' for override in flags.FLAGS.override),
  ]
  return shlex.join(['python', '-m', 'crosstrainer_jax.sweep', name, *given])


# --- Planning


@dataclasses.dataclass(frozen=True)
class Run:
  """A run of a sweep, as `train.run` takes it."""

  name: str
  config: ml_collections.ConfigDict
  workdir: Path
  command: str

  @property
  def done(self) -> bool:
    return train.is_done(self.workdir)

  @property
  def seconds(self) -> float:
    """What a finished run took."""
    return float(json.loads((self.workdir / 'done.json').read_text())['seconds'])

  def report(self) -> Report:
    return read_report(self.workdir / 'report.json')


def plan(sweep: sweeps.Sweep, folder: Path, overrides: Sequence[str] = ()) -> list[Run]:
  """The runs of `sweep` under `folder`, all with `overrides` (`a.b=value`).

  Raises:
    SettingsError: an override of what the sweep decides, a config that cannot be, two runs of one name, or a folder
      with a run of another config.
  """
  overrides = [override.removeprefix('--config.') for override in overrides]
  decided = sweep.settings() & {override.partition('=')[0] for override in overrides}
  if decided:
    raise settings.SettingsError(f'the sweep decides {", ".join(sorted(decided))} itself (see --seeds and --held_out)')
  runs = []
  for planned in sweep.runs:
    start = [f'init.from_run={folder / planned.parent}'] if planned.parent else []
    every = [*planned.overrides, *start, *overrides]
    config = settings.load_config(planned.config, every)
    runs.append(Run(planned.name, config, folder / planned.name, train.command_of(planned.config, every)))
  twice = [name for name, count in collections.Counter(run.name for run in runs).items() if count > 1]
  if twice:
    raise settings.SettingsError(f'runs are named twice: {", ".join(twice)}; give each seed and sport once')
  for run in runs:
    _refuse_another(run)
  return runs


def choose(runs: Sequence[Run], pattern: str) -> list[Run]:
  """The runs whose names `pattern` is found in.

  Raises:
    SettingsError: no regular expression, or there is no such run.
  """
  try:
    chosen = [run for run in runs if re.search(pattern, run.name)]
  except re.error as error:
    raise settings.SettingsError(f'--only={pattern} is no regular expression: {error}') from None
  if not chosen:
    raise settings.SettingsError(f'--only={pattern} is found in no name of a run: {", ".join(r.name for r in runs)}')
  return chosen


def _refuse_another(run: Run) -> None:
  if not (run.workdir / 'config.json').is_file():
    return
  old, new = settings.flatten(provenance.recorded_config(run.workdir)), settings.flatten(run.config)
  changed = [key for key in {**old, **new} if old.get(key) != new.get(key)]
  if changed:
    listed = ', '.join(f'{key}: {old.get(key)!r} → {new.get(key)!r}' for key in changed[:5])
    raise settings.SettingsError(
      f'{run.workdir} holds a run of another config ({listed}). Choose another --sweep_dir, or delete that folder.'
    )


def describe(name: str, runs: Sequence[Run], folder: Path, guess: float) -> str:
  """The plan: how many runs, which are done, how long all and the rest take."""
  done = [run for run in runs if run.done]
  each = sweep_results.expected_seconds(runs, guess)
  source = f'median of the {len(done)} that are done' if done else 'a guess until one is done'
  rest = (len(runs) - len(done)) * each
  lines = [
    f'Sweep {name}: {len(runs)} runs in {folder}, {len(done)} done, {len(runs) - len(done)} to do.',
    f'Time: about {_duration(each)} a run ({source}), {_duration(len(runs) * each)} in all, {_duration(rest)} left.',
    *(f'  {_state(run):<14}{run.name:<44} {run.command}' for run in runs),
  ]
  return '\n'.join(lines)


def _state(run: Run) -> str:
  if run.done:
    return f'done {run.seconds:.0f} s'
  if (run.workdir / 'failed.txt').is_file():
    return 'failed before'
  return 'begun' if run.workdir.is_dir() else 'to do'


def _duration(seconds: float) -> str:
  if seconds < 90:
    return f'{seconds:.0f} s'
  minutes = round(seconds / 60)
  return f'{minutes} min' if minutes < 90 else f'{minutes // 60} h {minutes % 60:02d} min'


# --- Running


def perform(runs: Sequence[Run], guess: float, data_dir: str | Path) -> dict[str, str]:
  """Does what is not done, in this process; returns the reason of each run that failed."""
  failed: dict[str, str] = {}
  left = [run for run in runs if not run.done]
  for number, run in enumerate(left, 1):
    say(f'\n=== {run.name} ({number} of {len(left)})')
    start = time.monotonic()
    try:
      report = train.run(run.config, run.workdir, data_dir, run.command)
    except Exception as error:  # whatever it is: one run must not end a night's sweep
      failed[run.name] = f'{type(error).__name__}: {error}'.splitlines()[0]
      write_atomically(run.workdir / 'failed.txt', traceback.format_exc())
      said = f'failed, see {run.workdir}/failed.txt: {failed[run.name]}'
    else:
      (run.workdir / 'failed.txt').unlink(missing_ok=True)
      said = f'{CROSSTRAINER} attribute F1 {report.rows[CROSSTRAINER]["headline/attribute F1"].value:.1f}'
    rest = (len(left) - number) * sweep_results.expected_seconds(runs, guess)
    say(
      f'=== {run.name} ({number} of {len(left)}): {time.monotonic() - start:.0f} s, {said}; '
      f'{len(left) - number} runs left, about {_duration(rest)}'
    )
  return failed


# --- Publishing


def publish(name: str, runs: Sequence[Run], folder: Path, pages: Sequence[Path], command: str) -> None:
  """Prints the result, writes summary.md and summary.json into `folder`, and fills the pages.

  While runs are missing, the pages stay as they are, and what is plotted has no summary.
  """
  done = [run for run in runs if run.done]
  if name == 'settings':
    where = [] if _SWEEP_DIR.value is None else [f'--sweep_dir={folder}']
    for item in published.ITEMS:
      say(shlex.join([*paper_plan.show_command(item, _DATASET.value).split(), *where]))
    return
  missing = f'{len(runs) - len(done)} of {len(runs)} runs are missing'
  if not done or (name in (*PLOTTED, 'studies') and len(done) < len(runs)):
    say(f'No summary: {missing}.')
    return
  if len(done) < len(runs) and pages:
    say(f'{", ".join(map(str, pages))} left as before: {missing}.')
    pages = []
  render, as_json = sweep_results.RESULTS[name](done, command, pages[0].parent if pages else folder)
  summary = folder / 'summary.md'
  write_atomically(summary, render([], folder) or '')
  write_atomically(summary.with_suffix('.json'), as_json)
  for page in pages:
    replace_block(page, f'sweep:{name}', render)
  say(f'written: {", ".join(map(str, [summary, summary.with_suffix(".json"), *pages]))}')


if __name__ == '__main__':
  settings.run(main)
