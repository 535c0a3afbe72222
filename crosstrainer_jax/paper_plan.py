"""Which runs of `sweep settings` the paper's tables and figures need, and the commands that make and show them.

Nothing is read of a run here but whether it is finished.
"""

from __future__ import annotations

import dataclasses
import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from crosstrainer_jax.configs import arguments, sweeps
from crosstrainer_jax.evaluation import panels, published
from crosstrainer_jax.evaluation.panels import is_other

LICENSED = {
  'egoexo4d': 'Ego-Exo4D, under its licence: data/egoexo4d/README.md',
  'qevd': 'QEVD, under its licence: data/qevd/README.md',
}


def check_dataset(dataset: str) -> None:
  """Raises ValueError where the sweep does not know the skills of a dataset."""
  arguments.one_of('--dataset', dataset, sweeps.SKILLS)


def item_of(table: str, figure: str) -> str:
  """`--table=1` or `--figure=4` → `table 1`. Raises ValueError with those that there are."""
  item = f'table {table}' if table else f'figure {figure}'
  return arguments.one_of('item', item, published.ITEMS)


def sweep_folder(dataset: str, sweep_dir: str = '') -> Path:
  """Where the runs of a dataset lie."""
  return Path(sweep_dir or f'runs/sweeps/settings{"" if dataset == "skillsim" else f"-{dataset}"}')


def train_command(dataset: str) -> str:
  """What trains all runs behind the tables; on the paper's datasets with the paper's sizes."""
  size = '' if dataset == 'skillsim' else ' --paper'
  return f'python -m crosstrainer_jax.sweep settings --dataset={dataset}{size}'


def show_command(item: str, dataset: str) -> str:
  kind, number = item.split(' ')
  return f'python -m crosstrainer_jax.eval --{kind}={number} --dataset={dataset}'


@dataclasses.dataclass(frozen=True)
class Planned:
  """A run of the sweep: what it tests, and whether it is finished."""

  name: str
  setting: str
  source: str
  tested: frozenset[tuple[str, str]]
  done: bool
  other: bool


def planned_runs(dataset: str, folder: Path) -> list[Planned]:
  """The runs of `sweep settings` on a dataset that the paper or the project knows."""
  skills = sweeps.SKILLS[dataset]
  every = {(sport, skill) for sport, members in skills.items() for skill in members or ('',)}
  found = []
  for run in sweeps.settings(dataset=dataset).runs:
    path, _, argument = run.config.partition(':')
    given = dict(part.split('=', 1) for part in argument.split(',') if '=' in part)
    setting = given.get('setting') or {'in_domain': 'FS', 'cross_sport': 'ZS-3'}[Path(path).stem]
    held_out, source = given.get('held_out', ''), given.get('source', '')
    tested = {
      'FS': every,
      'SPORT': {pair for pair in every if pair[0] != source},
    }.get(setting) or {pair for pair in every if held_out in pair}
    done = all((folder / run.name / name).is_file() for name in ('done.json', 'report.json'))
    found.append(Planned(run.name, setting, source, frozenset(tested), done, is_other(run.name)))
  return found


def plan(item: str, dataset: str, folder: Path) -> str:
  """Which runs each panel needs and which are there, and the commands; nothing is read of them."""
  runs = planned_runs(dataset, folder)
  lines = [f'{item.capitalize()} from runs on {dataset} in {folder}']
  if dataset in LICENSED:
    lines.append(f'needs licensed data: {LICENSED[dataset]}')
  missing: dict[str, None] = {}
  for panel in panels.panels(item, dataset, sweeps.SKILLS[dataset]):
    places = dict.fromkeys(place for row in panel.places.values() for place in row)
    needed = {run.name: run for place in places for run in runs if place.serves(run)}
    left = [name for name, run in needed.items() if not run.done]
    missing |= dict.fromkeys(left)
    lines.append(f'  {panel.title}: {len(needed)} runs, {len(needed) - len(left)} finished')
  if missing:
    settings = dict.fromkeys(run.setting for run in runs if run.name in missing)
    only = shlex.quote(f'^({"|".join(settings)})-')
    lines.append(f'to train what is missing ({len(missing)} runs): {train_command(dataset)} --only={only}')
  lines.append(f'then: {show_command(item, dataset)}')
  return '\n'.join(lines)


def listed() -> Iterator[dict[str, Any]]:
  """Every published figure, with the runs and the commands that make ours."""
  plans = {dataset: planned_runs(dataset, sweep_folder(dataset)) for dataset in LICENSED}
  for cell in published.cells():
    entry = dataclasses.asdict(cell)
    item = next((name for name in published.ITEMS if cell in published.of_item(name)), '')
    if cell.item == 'table 4 right':
      entry['commands'] = [
        f'python -m crosstrainer_jax.discover --dataset {cell.dataset} --prompt NAME --output other.jsonl',
        'python -m crosstrainer_jax.discover --compare attributes.jsonl other.jsonl',
      ]
    elif not item:
      entry['commands'] = ['python -m crosstrainer_jax.eval --setting=wild DIR --sport_table=sports.csv']
    else:
      place = panels.place_of(cell, sweeps.SKILLS[cell.dataset])
      entry['runs'] = [run.name for run in plans[cell.dataset] if place.serves(run)]
      entry['commands'] = [train_command(cell.dataset), show_command(item, cell.dataset)]
    yield entry


def list_published() -> str:
  """`listed` as JSON Lines."""
  return ''.join(json.dumps(entry, ensure_ascii=False) + '\n' for entry in listed())
