"""The datasets: each folder holds a TFDS builder and a README. This page is their registry and what the rest asks of them.

A new dataset is one folder with `builder.py` and one entry in `FAMILIES`; an imported set of own videos needs no entry.
"""

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from crosstrainer_jax.input.source import ClipInfo
from crosstrainer_jax.input.splits import Split

# Datasets that are made on the spot -> module with prepare(data_dir, **config), nouns() and ceiling(config, clips, split).
FAMILIES = {'skillsim': 'crosstrainer_jax.datasets.skillsim'}
IMPORTED = 'manifest'


def prepare(config: Any, data_dir: str | Path) -> Path:
  """The directory of the dataset that `config.data` names, made first if this project makes it.

  Raises:
    FileNotFoundError: nothing is imported under that name; the message says what is, and how to import.
  """
  if config.dataset in FAMILIES:
    builder = importlib.import_module(f'{FAMILIES[config.dataset]}.builder')
    return Path(builder.prepare(data_dir, **config[config.dataset].to_dict()).data_dir)
  folder = Path(data_dir) / IMPORTED / config.dataset
  versions = sorted(path.parent for path in folder.glob('*/dataset_info.json'))
  if not versions:
    found = sorted({path.parent.parent.name for path in (Path(data_dir) / IMPORTED).glob('*/*/dataset_info.json')})
    raise FileNotFoundError(
      f'no dataset {config.dataset!r} in {data_dir}: made on the spot are {sorted(FAMILIES)}, imported are {found}. '
      f'Import it: python -m crosstrainer_jax.prepare MANIFEST --name {config.dataset} --data_dir {data_dir}'
    )
  return versions[-1]


def nouns(config: Any, clips: Sequence[ClipInfo]) -> set[str]:
  """Words that give a sport away, to be masked in text scores: the dataset's own list, else the names of sports and skills."""
  words = {word for clip in clips for name in (clip.sport, clip.skill) for word in name.lower().split()}
  if config.dataset in FAMILIES:
    words |= set(importlib.import_module(FAMILIES[config.dataset]).nouns())
  return words


def ceiling(config: Any, clips: Sequence[ClipInfo], split: Split) -> list[set[str]] | None:
  """Faults of the test clips by a learner with perfect joints that knows no sport; None where there are no true joints."""
  if config.dataset not in FAMILIES:
    return None
  module = importlib.import_module(f'{FAMILIES[config.dataset]}.ceiling')
  result: list[set[str]] = module.for_clips(config[config.dataset].to_dict(), clips, split.train, split.test)
  return result
