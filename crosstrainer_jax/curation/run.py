"""One curation: its folder, its steps one after the other, and what it leaves: manifest, report and records."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from crosstrainer_jax.curation import duplicates, gates, manifest, recheck, scan, sentences, steps, truth
from crosstrainer_jax.curation.library import Library
from crosstrainer_jax.curation.report import Report
from crosstrainer_jax.curation.videos import Video
from crosstrainer_jax.curation.work import Counts, Step, Work
from crosstrainer_jax.datasets.howto.folder import read_truth
from crosstrainer_jax.datasets.takes import builder
from crosstrainer_jax.discovery import asking
from crosstrainer_jax.discovery.asking import Asker
from crosstrainer_jax.input.files import write_atomically
from crosstrainer_jax.input.turns import take_turns

# What `audit` and others must know of the run that made a folder.
SETTINGS_FILE = 'curation.json'
RECORDS = 'records'


class Run:
  """A curation in the folder `place`.

  Args:
    folder: of the videos.
    test_fraction, seed: which channels are the test split.

  Raises:
    ValueError: a model that cannot be asked.
  """

  def __init__(
    self, place: pathlib.Path, folder: scan.Folder, settings: steps.Settings, test_fraction: float = 0.2, seed: int = 0
  ):
    if not 0 <= test_fraction < 1:
      raise ValueError(f'--test_fraction {test_fraction:g} must be from 0 to below 1')
    self.place, self.work = place, Work(place)
    self._folder, self._settings = folder, settings
    self._test_fraction, self._seed = test_fraction, seed
    self._steps = steps.steps(settings)

  @property
  def askers(self) -> list[Asker]:
    """The models that are asked."""
    return steps.askers(self._steps)

  def make(self, until: str = duplicates.NAME, beam_options: Sequence[str] | None = None) -> Report:
    """Makes what is not made yet, to the step `until`, and after the last one the manifest.

    Args:
      beam_options: of Apache Beam, which then does the work; None for this machine.

    Raises:
      FileNotFoundError, ValueError: no folder, another folder's curation, or a model that answers no more.
    """
    begun = time.monotonic()
    self._folder.require()
    self.place.mkdir(parents=True, exist_ok=True)
    with take_turns(self.place / SETTINGS_FILE, f'the curation {self.place}'):
      self._keep_settings()
      done: dict[str, Counts] = {scan.STEP: self.work.scan(self._folder)}
      if beam_options is not None:
        done[duplicates.NAME] = self._run_beam(beam_options)
      else:
        done |= self._run_here(until)
      facts = [self._settings.describe()]
      if beam_options is None:  # whose workers ask for themselves
        facts += [
          f'{asker.model.name}: {asker.called} questions asked now, {asker.reused} answered from {asker.store.path}'
          for asker in self.askers
        ]
      found = Report(done, facts)
      if duplicates.NAME in done:
        states = recheck.last_states(self.place)
        rows = (
          recheck.with_state(row, states)
          for video in self._made()
          for row in manifest.rows_of(video, self._test_fraction, self._seed)
        )
        manifest.write(self.place / manifest.FILE, rows)
        found.totals = manifest.totals(self.place)
        if known := read_truth(self._folder.root):
          found.truth = truth.of(self._made(), known)
    facts.append(f'{time.monotonic() - begun:.0f} s now')
    return found

  def _run_here(self, until: str) -> dict[str, Counts]:
    done = {}
    last = steps.NAMES.index(until)
    for number, step in enumerate(self._steps[:last], start=1):
      done[step.name] = self.work.run(number, step, steps.NAMES[number - 1])
    if until == duplicates.NAME:
      done[until] = self.work.find_duplicates(last, steps.NAMES[last - 1])
    return done

  def _run_beam(self, beam_options: Sequence[str]) -> Counts:
    try:
      from crosstrainer_jax.curation import beam_graph
    except ModuleNotFoundError as error:
      raise ValueError(
        '--beam_options: Apache Beam is not installed; in an environment of its own: '
        "pip install 'crosstrainer_jax[beam]'"
      ) from error
    return beam_graph.run(self.work, self._settings, beam_options)

  def _made(self) -> Iterator[Video]:
    return self.work.videos(len(steps.NAMES) - 1, duplicates.NAME)

  def _keep_settings(self) -> None:
    root = str(pathlib.Path(self._folder.root).absolute())
    file = self.place / SETTINGS_FILE
    if file.is_file() and (before := root_of(self.place)) != root:
      raise ValueError(f'{self.place} is the curation of {before}; give another --output')
    write_atomically(file, json.dumps({'root': root}))

  def estimate(self, price_in: float = 0.0, price_out: float = 0.0) -> str:
    """Calls, tokens and price of what models would be asked; nothing is asked.

    What a gate would keep is not known before it is asked, so that the rules stand in for the gates before it.

    Raises:
      ValueError: no model would be asked.
    """
    if not self.askers:
      raise ValueError('--estimate: the rules ask nobody, and cost nothing')
    settings = self._settings
    self._folder.require()
    self.place.mkdir(parents=True, exist_ok=True)
    with take_turns(self.place / SETTINGS_FILE, f'the curation {self.place}'):
      self._keep_settings()
      self.work.scan(self._folder)
      return self._estimate(settings, price_in, price_out)

  def _estimate(self, settings: steps.Settings, price_in: float, price_out: float) -> str:
    free = steps.steps(dataclasses.replace(settings, punctuation='rules', actionable='rules', demonstrated='rules'))
    lines = []
    for number, step in enumerate(self._steps):
      if isinstance(step, sentences.Sentences | gates.Actionable | gates.Demonstrated) and step.asker:
        pixels = settings.pixels if step.name == gates.DEMONSTRATED else 0
        said = asking.estimate(
          step.asker, self._dry(step, free[:number]), pixels=pixels, price_in=price_in, price_out=price_out
        )
        lines.append(f'{step.name}, behind rules for the steps before it:\n{said}')
    return '\n\n'.join(lines)

  def _dry(
    self, step: sentences.Sentences | gates.Actionable | gates.Demonstrated, before: Sequence[Step]
  ) -> asking.Dry:
    def ask(dry: Asker) -> Iterable[Video]:
      copy = dataclasses.replace(step, asker=dry)
      for video in self.work.videos(0, scan.STEP):
        for other in before:
          video = other.apply(video)
        yield copy.apply(video)

    return ask

  def write_records(self, name: str, **sampling: Any) -> None:
    """Makes the dataset of the kept clips; `sampling` are fields of `TakesConfig`. Raises what `prepare` does."""
    source = Library(self._folder.root, str(self.place / manifest.FILE))
    builder.prepare(source, self.place / RECORDS, name=name, overwrite=True, **sampling)


def root_of(place: pathlib.Path) -> str:
  """The folder of videos that a curation was made of. Raises FileNotFoundError."""
  file = place / SETTINGS_FILE
  if not file.is_file():
    raise FileNotFoundError(f'{place}: no curation here; python -m crosstrainer_jax.curate run makes one')
  return str(json.loads(file.read_text())['root'])
