"""A finished run, read back from its folder: what it was, and every metric of its rows before it is summed.

Scores of a part of the test clips, such as one skill, and of several runs together need no model then.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

import ml_collections
import numpy as np

from crosstrainer_jax.baselines.prediction import Reference
from crosstrainer_jax.evaluation import predictions, scores
from crosstrainer_jax.evaluation.panels import is_other
from crosstrainer_jax.evaluation.report import read_report
from crosstrainer_jax.input.recorded_config import recorded_config

REFERENCES = 'references.jsonl'


@dataclasses.dataclass(frozen=True)
class Finished:
  """One run.

  Attributes:
    dataset, setting, held_out, source, seed: of its config.
    other: whether it learnt attributes of another backend than the other runs of its sweep (its name says so).
    hardware: that it was evaluated on.
    references: the test clips.
    rows: row name → metric name → statistic over these clips, or why the row lacks it.
  """

  workdir: Path
  dataset: str
  setting: str
  held_out: str
  source: str
  seed: int
  other: bool
  hardware: str
  references: list[Reference]
  rows: dict[str, dict[str, scores.Scored]]

  @property
  def takes(self) -> list[str]:
    return [reference.take for reference in self.references]

  @property
  def tested(self) -> set[tuple[str, str]]:
    """Sport and skill of the test clips."""
    return {(reference.sport, reference.skill) for reference in self.references}

  def where(self, sport: str = '', skill: str = '') -> np.ndarray:
    """bool[N]: the clips of a sport or skill; "" for all."""
    return np.array([(not sport or r.sport == sport) and (not skill or r.skill == skill) for r in self.references])


def read_finished(
  workdir: str | Path,
  reading: Callable[[ml_collections.ConfigDict, Sequence[Reference]], scores.Reading],
  rows: Sequence[str] = (),
  metrics: Collection[str] = (),
) -> Finished:
  """Reads the run in `workdir`, and counts.

  Args:
    reading: how texts are read, by the run's config and for these test clips.
    rows: those that are wanted; none for all.
    metrics: names of those that are wanted; none for all.

  Raises:
    FileNotFoundError: the run has not been evaluated.
    ValueError: a file of predictions is broken or is of other clips.
  """
  workdir = Path(workdir)
  config = recorded_config(workdir)
  folder = workdir / 'predictions'
  references = predictions.read_references(folder / REFERENCES)
  how = reading(config, references)
  found = {}
  for path in sorted(folder.glob('*.jsonl')):
    name = path.stem.replace('_', ' ')
    if path.name != REFERENCES and (not rows or name in rows):
      found[name] = scores.statistics(predictions.read_predictions(path), references, how, metrics)
  split = config.split
  what = config.data.dataset, split.setting, split.held_out, split.source, config.seed
  hardware = read_report(workdir / 'report.json').hardware
  return Finished(workdir, *what, is_other(workdir.name), hardware, references, found)
