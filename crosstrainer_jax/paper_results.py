"""The tables and figures of the paper from the runs of `sweep settings`: what `eval --table` and `eval --figure` do.

Nothing is trained here. A cell whose runs are not finished stays empty, and the command that makes them is printed.
"""

from __future__ import annotations

import dataclasses
import json
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from crosstrainer_jax.configs import arguments, sweeps
from crosstrainer_jax.evaluation import comparison, published
from crosstrainer_jax.evaluation.comparison import Panel, Place
from crosstrainer_jax.evaluation.finished import Finished, read_finished
from crosstrainer_jax.evaluation.table import Footnotes, markdown, show, terminal
from crosstrainer_jax.pages import replace_block
from crosstrainer_jax.training.telemetry import Progress, say

LICENSED = {
  'egoexo4d': 'Ego-Exo4D, under its licence: data/egoexo4d/README.md',
  'qevd': 'QEVD, under its licence: data/qevd/README.md',
}
ROWS = (
  'always none',
  'random',
  'majority',
  'nearest neighbour',
  'linear classifier on v',
  'fine-tuned retrieval',
  'attribute retrieval',
  'zero-shot VLM',
  'end to end without attributes',
  'CrossTrainer',
)


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


# --- What is planned


@dataclasses.dataclass(frozen=True)
class Planned:
  """A run of the sweep: what it tests, and whether it is finished."""

  name: str
  setting: str
  source: str
  tested: frozenset[tuple[str, str]]
  done: bool

  def serves(self, place: Place) -> bool:
    return (
      self.setting == place.setting
      and place.source in ('', self.source)
      and any(place.sport in ('', sport) and place.skill in ('', skill) for sport, skill in self.tested)
    )


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
    found.append(Planned(run.name, setting, source, frozenset(tested), done))
  return found


def plan(item: str, dataset: str, folder: Path) -> str:
  """Which runs each panel needs and which are there, and the commands; nothing is read of them."""
  runs = planned_runs(dataset, folder)
  lines = [f'{item.capitalize()} from runs on {dataset} in {folder}']
  if dataset in LICENSED:
    lines.append(f'needs licensed data: {LICENSED[dataset]}')
  missing: dict[str, None] = {}
  for panel in comparison.panels(item, dataset, list(sweeps.SKILLS[dataset])):
    places = dict.fromkeys(place for row in panel.places.values() for place in row)
    needed = {run.name: run for place in places for run in runs if run.serves(place)}
    left = [name for name, run in needed.items() if not run.done]
    missing |= dict.fromkeys(left)
    lines.append(f'  {panel.title}: {len(needed)} runs, {len(needed) - len(left)} finished')
  if missing:
    pattern = '|'.join(f'^{name}$' for name in missing)
    lines.append(f'to train what is missing ({len(missing)} runs): {train_command(dataset)}')
    lines.append(f'or only these: {train_command(dataset)} --only={shlex.quote(pattern)}')
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
      entry['commands'] = ['python -m crosstrainer_jax.eval --setting=wild DIR --human_sheet=10']
    else:
      place = Place(cell.setting, cell.sport, cell.skill, cell.row if cell.setting == 'SPORT' else '')
      entry['runs'] = [run.name for run in plans[cell.dataset] if run.serves(place)]
      entry['commands'] = [train_command(cell.dataset), show_command(item, cell.dataset)]
    yield entry


def list_published() -> str:
  """`listed` as JSON Lines."""
  return ''.join(json.dumps(entry, ensure_ascii=False) + '\n' for entry in listed())


# --- What is there


def read_runs(folder: Path, rows: Sequence[str]) -> list[Finished]:
  """The finished runs in a sweep's folder."""
  # scores cost seconds of import, which a dry run should not
  from crosstrainer_jax.measure import reading_of

  found = sorted(path.parent for path in folder.glob('*/done.json') if (path.parent / 'report.json').is_file())
  runs = []
  progress = Progress('scoring runs', len(found), unit='run')
  try:
    for number, workdir in enumerate(found, 1):
      runs.append(read_finished(workdir, reading_of, rows))
      progress.update(number)
  finally:
    progress.close()
  return runs


def publish(item: str, dataset: str, folder: Path, pages: Sequence[Path]) -> None:
  """Prints the item, writes it with its picture into the folder, and fills the pages.

  Raises:
    FileNotFoundError: no run is finished; the message has the command.
  """
  rows = [*ROWS, *(cell.row for cell in published.of_item(item) if cell.item == 'table 4 left')]
  runs = read_runs(folder, rows)
  if not runs:
    raise FileNotFoundError(f'{folder}: no finished run here. Train them: {train_command(dataset)}')
  panels = comparison.panels(item, dataset, list(sweeps.SKILLS.get(dataset, sorted({r.dataset for r in runs}))))
  footnotes = Footnotes()
  others = () if item == 'table 4' else comparison.FLOORS
  tables = [comparison.filled(panel, runs, footnotes, others) for panel in panels]
  facts = _facts(item, dataset, panels, runs)
  console = terminal()
  for line in facts:
    console.print(line, markup=False, soft_wrap=True)
  for table in tables:
    show(table, console)
  for line in footnotes.lines():
    console.print(line, markup=False, style='dim')
  name = item.replace(' ', '-')
  pictures = [_picture(item, panels, runs, facts[0], page.parent / f'{name}.png') for page in pages or [folder / 'x']]
  text = [*(f'{line}\n' for line in facts), *(f'![{item}]({p.name})\n' for p in pictures[:1] if p is not None)]
  text += [*map(markdown, tables), *(f'{line}\n' for line in footnotes.lines())]
  for page in pages:
    replace_block(page, f'eval:{name}', lambda columns, folder: '\n'.join(text))
  if pages:
    say(f'written: {", ".join(map(str, [*pages, *filter(None, pictures)]))}')


def _picture(item: str, panels: Sequence[Panel], runs: Sequence[Finished], title: str, path: Path) -> Path | None:
  if not item.startswith('figure'):
    return None
  from crosstrainer_jax.evaluation import figures

  return figures.draw(panels, runs, title, path)


def _facts(item: str, dataset: str, panels: Sequence[Panel], runs: Sequence[Finished]) -> list[str]:
  """What a reader must know before the numbers."""
  theirs = sorted({comparison.NAMES[panel.dataset] for panel in panels})
  seeds = sorted({run.seed for run in runs})
  facts = [f'{item.capitalize()}: published on {" and ".join(theirs)}, ours on {dataset}']
  if dataset not in {panel.dataset for panel in panels}:
    facts.append('Other people, other comments: the two sides are not comparable. What can be compared is their shape.')
  facts += [
    f'{len(runs)} finished runs, seeds {", ".join(map(str, seeds))}.',
    'Ours: mean [95 % bootstrap over seeds, sports and takes].',
    f'Commands: {train_command(dataset)}; {show_command(item, dataset)}',
  ]
  return facts + [f'{panel.item}: {panel.doubt}' for panel in {p.doubt: p for p in panels if p.doubt}.values()]
