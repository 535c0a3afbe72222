"""The paper's tables and figures from finished runs of `sweep settings`, printed and written to pages.

Nothing is trained here: a cell whose runs are not finished stays empty, and says so.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from crosstrainer_jax.configs import sweeps
from crosstrainer_jax.evaluation import comparison, figures, panels, published, report, wordnet
from crosstrainer_jax.evaluation.finished import Finished, read_finished
from crosstrainer_jax.evaluation.panels import Panel
from crosstrainer_jax.evaluation.table import Footnotes, markdown, show, terminal
from crosstrainer_jax.extraction import reading_of
from crosstrainer_jax.input.recorded_config import recorded_config
from crosstrainer_jax.pages import replace_block
from crosstrainer_jax.paper_plan import show_command, train_command
from crosstrainer_jax.training.telemetry import Progress, say

# Rows that stand in a table of the paper's.
ROWS = tuple(row for row in report.ROWS if row not in ('video zeroed', 'CrossTrainer with true attributes'))


def read_runs(folder: Path, settings: set[str], rows: Sequence[str], metrics: Collection[str] = ()) -> list[Finished]:
  """The finished runs of these settings in a sweep's folder, with these rows and metrics."""
  done = sorted(path.parent for path in folder.glob('*/done.json') if (path.parent / 'report.json').is_file())
  found = [workdir for workdir in done if recorded_config(workdir).split.setting in settings]
  runs = []
  progress = Progress('scoring runs', len(found), unit='run')
  try:
    for workdir in found:
      runs.append(read_finished(workdir, reading_of, rows, metrics))
      progress.update(1)
  finally:
    progress.close()
  return runs


def publish(item: str, dataset: str, folder: Path, pages: Sequence[Path]) -> None:
  """Prints the item, writes it with its picture into the folder, and fills the pages.

  Raises:
    FileNotFoundError: no run is finished; the message has the command.
  """
  rows = [*ROWS, *(cell.row for cell in published.of_item(item) if cell.item == 'table 4 left')]
  found = panels.panels(item, dataset, sweeps.SKILLS[dataset])
  settings = {place.setting for panel in found for row in panel.places.values() for place in row}
  wordnet.obtain()
  metrics = {
    name
    for panel in found
    for number in range(len(panel.columns))
    for column in (*comparison.shown_columns(panel, number), comparison.truth_column(panel))
    if column is not None
    for name in column.metrics
  }
  runs = read_runs(folder, settings, rows, metrics)
  if not runs:
    raise FileNotFoundError(f'{folder}: no finished run here. Train them: {train_command(dataset)}')
  footnotes = Footnotes()
  others = () if item == 'table 4' else comparison.OTHERS
  tables = [comparison.filled(panel, runs, footnotes, others) for panel in found]
  facts = _facts(item, dataset, found, runs)
  console = terminal()
  for line in facts:
    console.print(line, markup=False, soft_wrap=True)
  for table in tables:
    show(table, console)
  for line in footnotes.lines():
    console.print(line, markup=False, style='dim')
  name = item.replace(' ', '-')
  text = [f'{line}\n' for line in facts]
  written = [*pages]
  if item.startswith('figure'):
    places = {page.parent for page in pages} or {folder}
    written += [figures.draw(found, runs, facts[0], place / f'{name}.png') for place in places]
    text.append(f'![{item}]({name}.png)\n')
  text += [*map(markdown, tables), *(f'{line}\n' for line in footnotes.lines())]
  for page in pages:
    replace_block(page, f'eval:{name}', lambda columns, folder: '\n'.join(text))
  if written:
    say(f'written: {", ".join(map(str, written))}')


def _facts(item: str, dataset: str, found: Sequence[Panel], runs: Sequence[Finished]) -> list[str]:
  """What a reader must know before the numbers."""
  theirs = sorted({panels.NAMES[panel.dataset] for panel in found})
  seeds = sorted({run.seed for run in runs})
  clips = ' to '.join(map(str, sorted({f(len(run.references) for run in runs) for f in (min, max)})))
  facts = [f'{item.capitalize()}: published on {" and ".join(theirs)}, ours on {dataset}']
  if dataset not in {panel.dataset for panel in found}:
    facts.append('Other people, other comments: the two sides are not comparable. What can be compared is their shape.')
  facts += [
    f'Finished runs: {len(runs)}, seeds {", ".join(map(str, seeds))}, of {clips} test clips each.',
    f'Hardware: {"; ".join(dict.fromkeys(run.hardware for run in runs))}',
    'Ours: mean over sports of the mean over seeds [95 % bootstrap over seeds, sports and takes].',
    f'Commands: {train_command(dataset)}; {show_command(item, dataset)}',
  ]
  return facts + [f'{panel.item}: {panel.doubt}' for panel in {p.doubt: p for p in found if p.doubt}.values()]
