"""What a sweep has found, for the terminal and for a page: a function for each sweep, from the reports of its runs."""

from __future__ import annotations

import dataclasses
import os
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import ml_collections

from crosstrainer_jax import provenance
from crosstrainer_jax.configs import arguments, compact, sweeps
from crosstrainer_jax.evaluation import dials, shots, studies
from crosstrainer_jax.evaluation.aggregate import aggregate
from crosstrainer_jax.evaluation.report import Report
from crosstrainer_jax.input.splits import KSHOT
from crosstrainer_jax.pages import Render
from crosstrainer_jax.settings import SettingsError
from crosstrainer_jax.training.telemetry import say


class Run(Protocol):
  """A run of a sweep, planned or finished."""

  @property
  def name(self) -> str: ...
  @property
  def config(self) -> ml_collections.ConfigDict: ...
  @property
  def workdir(self) -> Path: ...
  @property
  def done(self) -> bool: ...
  @property
  def seconds(self) -> float: ...
  def report(self) -> Report: ...


def expected_seconds(runs: Sequence[Run], guess: float) -> float:
  """Seconds of one run: the median of those that are done, which the first one's caching does not sway."""
  return statistics.median([run.seconds for run in runs if run.done] or [guess])


def transfer(runs: Sequence[Run], command: str, pictures: Path) -> tuple[Render, str]:
  """The page's part and the JSON; there are no pictures."""
  del pictures
  reports = [run.report() for run in runs]
  summary = dataclasses.replace(aggregate(reports), commands=[command])
  summary.print()
  facts = origin(runs)

  def render(columns: Sequence[str], folder: Path) -> str:
    for column in columns:
      if column not in summary.columns:
        raise SettingsError(f'there is no column {column!r}: {arguments.nearest(column, summary.columns)}')
    return '\n'.join([summary.to_markdown(columns), *(f'- {fact}' for fact in facts)]) + '\n'

  return render, summary.to_json()


def of_dials(runs: Sequence[Run], command: str, pictures: Path) -> tuple[Render, str]:
  """The page's part and the JSON; plots go into the folder `pictures`."""
  grid = grid_of(runs)
  found = dials.gaps(grid)
  dials.print_table(grid)
  first = runs[0].report()
  sports = list(dict.fromkeys(run.config.split.held_out for run in runs))
  seeds = list(dict.fromkeys(run.config.seed for run in runs))
  subtitle = f'{first.setting}, held out: {", ".join(sports)}; seed {", ".join(map(str, seeds))}'
  paths = {dial: pictures / f'dials-{dial.replace("_", "-")}.png' for dial in grid}
  for dial, path in paths.items():
    dials.plot(dial, found, subtitle, path)
    say(f'written: {path}')
  facts = _facts(subtitle, runs, command)

  def page(folder: Path) -> str:
    return dials.to_markdown(grid, facts, [_link(path, folder) for path in paths.values()])

  return _whole('dials', page, runs), dials.to_json(found)


def kshot(runs: Sequence[Run], command: str, pictures: Path) -> tuple[Render, str]:
  """The page's part and the JSON; the plot goes into the folder `pictures`."""
  grid = shots_of(runs)
  shots.print_table(grid)
  sports = ', '.join(dict.fromkeys(run.config.split.held_out for run in runs))
  seeds = ', '.join(str(seed) for seed in dict.fromkeys(run.config.seed for run in runs))
  subtitle = f'new sport: {sports}; seed {seeds}'
  found, path = shots.points(grid), pictures / 'kshot.png'
  shots.plot(found, subtitle, path)
  say(f'written: {path}')
  facts = _facts(subtitle, runs, command)

  def page(folder: Path) -> str:
    return shots.to_markdown(grid, facts, [_link(path, folder)])

  return _whole('kshot', page, runs), shots.to_json(found)


def of_studies(runs: Sequence[Run], command: str, pictures: Path) -> tuple[Render, str]:
  """The page's part and the JSON; there are no pictures."""
  del pictures
  base = sweeps.UNCHANGED
  grid: dict[str, list[Report]] = {condition: [] for condition in sweeps.STUDIES}
  for run in runs:
    condition = next((c for c in sweeps.STUDIES if run.name.endswith(f'-{c.replace(" ", "_")}')), base)
    grid[condition].append(run.report())
  studies.print_table(grid, base)
  facts = _facts(runs[0].report().setting, runs, command)

  def page(folder: Path) -> str:
    return studies.to_markdown(grid, base, facts)

  return _whole('studies', page, runs), studies.to_json(studies.findings(grid, base))


def shots_of(runs: Sequence[Run]) -> dict[str, dict[int, list[Report]]]:
  """Reports by start and number of clips; the ZS-3 runs are those that go on without a clip."""
  grid: dict[str, dict[int, list[Report]]] = {shots.TRANSFER: {}, shots.SCRATCH: {}}
  for run in runs:
    without = run.config.split.setting != KSHOT
    start = shots.TRANSFER if without or run.config.init.from_run else shots.SCRATCH
    grid[start].setdefault(0 if without else run.config.split.shots, []).append(run.report())
  return grid


def grid_of(runs: Sequence[Run]) -> dict[str, dict[float, list[Report]]]:
  """Reports by dial and its value; those with every dial at its default serve every dial."""
  defaults = compact.preset().data.skillsim
  grid: dict[str, dict[float, list[Report]]] = {dial: {} for dial in sweeps.DIALS}
  for run in runs:
    world, report = run.config.data.skillsim, run.report()
    moved = [dial for dial in sweeps.DIALS if world[dial] != defaults[dial]]
    for dial in moved or sweeps.DIALS:
      grid[dial].setdefault(world[dial], []).append(report)
  return grid


def origin(runs: Sequence[Run]) -> list[str]:
  """What was scored and by which code; no dates, so that the same runs give the same page."""
  scored: dict[str, None] = {}
  commits: dict[str, None] = {}
  for run in runs:
    report = run.report()
    scored[
      f'{report.held_out}: {report.n_clips} clips, {report.n_headline} with a fault, in {report.n_takes} takes'
    ] = None
    environment = provenance.recorded_environment(run.workdir)
    for start in (environment, *environment.get('later', ())):
      commits[f'{start["commit"]}{" with local changes" if start["dirty"] else ""}'] = None
  seeds = ', '.join(str(seed) for seed in dict.fromkeys(run.config.seed for run in runs))
  return [
    f'Scored: {"; ".join(scored)}.',
    f'Seeds of training: {seeds}. Median time of a run: {expected_seconds(runs, 0):.0f} s.',
    f'Commit: {"; ".join(commits)}.',
  ]


def _facts(what: str, runs: Sequence[Run], command: str) -> list[str]:
  """The lines above a table."""
  hardware = '; '.join(dict.fromkeys(run.report().hardware for run in runs))
  return [f'{what}; {len(runs)} runs.', f'Command: {command}', f'Hardware: {hardware}']


def _link(picture: Path, folder: Path) -> str:
  return Path(os.path.relpath(picture, folder)).as_posix()


def _whole(name: str, page: Callable[[Path], str], runs: Sequence[Run]) -> Render:
  """Renders a page's part that has no choice of columns, and where its runs come from."""

  def render(columns: Sequence[str], folder: Path) -> str:
    if columns:
      raise SettingsError(f'the block of the sweep {name} has no choice of columns: write <!-- sweep:{name} -->')
    return page(folder) + '\n'.join(f'- {fact}' for fact in origin(runs)) + '\n'

  return render


# Each: runs, command, folder for pictures → the page's part, and JSON.
RESULTS: dict[str, Callable[[Sequence[Run], str, Path], tuple[Render, str]]] = {
  'transfer': transfer,
  'dials': of_dials,
  'kshot': kshot,
  'studies': of_studies,
}
