"""The datasets: each folder holds a TFDS builder and a README. This is their registry, and what the rest asks of them.

A new dataset is one folder with `builder.py` and one entry in `FAMILIES`; a set of own videos needs no entry, since the
builder in `manifest/` imports it under its own name.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol

from crosstrainer_jax.input.buckets import as_path

if TYPE_CHECKING:
  from crosstrainer_jax.input.source import ClipInfo
  from crosstrainer_jax.input.splits import Split


class Named(Protocol):
  """What has a sport and a skill: a record, or what is known of it."""

  @property
  def sport(self) -> str: ...

  @property
  def skill(self) -> str: ...


# Datasets with a builder of their own. Each is a package with the module `builder`: prepare(data_dir, **settings), with
# the settings of the config's group `data.<name>` where it has one. What else it may have: `grammar` (nouns()),
# `ceiling` (predict(world, train, test)) with `builder.world(**settings)`, and SIMULATED = True where nobody real is
# seen.
FAMILIES = {'skillsim': 'crosstrainer_jax.datasets.skillsim'}

# Datasets that others publish, imported from where they were downloaded to. Each is a package with the modules `source`
# (add_options(parser), from_options(options) -> a `takes.take.Source`) and `doctor` (add_options, examine(options)).
SOURCES = {
  'egoexo4d': 'crosstrainer_jax.datasets.egoexo4d',
  'expertaf': 'crosstrainer_jax.datasets.expertaf',
  'qevd': 'crosstrainer_jax.datasets.qevd',
  'youtube': 'crosstrainer_jax.datasets.youtube',
}


def prepare(config: Any, data_dir: str | Path) -> Path:
  """The directory of the dataset that `config.data` names, made first if this project makes it.

  Raises:
    FileNotFoundError: nothing is imported under that name; the message says what is, and how to import.
  """
  if config.dataset in FAMILIES:
    return as_path(_module(config, 'builder').prepare(data_dir, **_settings(config)).data_dir)
  versions = sorted(path.parent for path in (as_path(data_dir) / config.dataset).glob('*/dataset_info.json'))
  if not versions:
    found = {path.parent.parent.name for path in as_path(data_dir).glob('*/*/dataset_info.json')}
    what = f'{config.dataset} --root ROOT' if config.dataset in SOURCES else f'MANIFEST --name {config.dataset}'
    raise FileNotFoundError(
      f'no dataset {config.dataset!r} in {data_dir}: made on the spot are {sorted(FAMILIES)}, imported are '
      f'{sorted(found)}. Import it: python -m crosstrainer_jax.prepare {what} --data_dir {data_dir}'
    )
  return versions[-1]


def nouns(config: Any, clips: Sequence[Named]) -> set[str]:
  """Words that give a sport away, to be masked in text scores: of its name, its skills and the dataset's own list."""
  words = {word for clip in clips for name in (clip.sport, clip.skill) for word in name.lower().split()}
  if _has(config, 'grammar'):
    words |= {word for listed in _module(config, 'grammar').nouns().values() for word in listed}
  return words


def ceiling(config: Any, clips: Sequence[ClipInfo], split: Split) -> list[tuple[set[str], int]] | None:
  """Faults and level of each test clip by a learner with true joints that knows no sport.

  None where nobody knows the joints.
  """
  if not _has(config, 'ceiling'):
    return None
  world = _module(config, 'builder').world(**_settings(config))
  train, test = ([clips[i].clip_id for i in part] for part in (split.train, split.test))
  answers: list[tuple[set[str], int]] = _module(config, 'ceiling').predict(world, train, test)
  return answers


def simulated(config: Any) -> bool:
  """Whether nobody real is in the videos, of which users of a model should be warned."""
  return config.dataset in FAMILIES and getattr(importlib.import_module(FAMILIES[config.dataset]), 'SIMULATED', False)


def _settings(config: Any) -> dict[str, Any]:
  return config[config.dataset].to_dict() if config.dataset in config else {}


def _has(config: Any, name: str) -> bool:
  """Whether the dataset is a family that has this module."""
  family = FAMILIES.get(config.dataset)
  return family is not None and importlib.util.find_spec(f'{family}.{name}') is not None


def _module(config: Any, name: str) -> ModuleType:
  return importlib.import_module(f'{FAMILIES[config.dataset]}.{name}')
