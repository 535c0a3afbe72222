"""The how-to world as a dataset: its videos are written, curated by the offline rules, and made into records.

So what trains on it has gone through every step that real videos go through, mistakes of the gates included.
"""

from __future__ import annotations

import os
import pathlib

from crosstrainer_jax.curation import scan
from crosstrainer_jax.curation.look import Windows
from crosstrainer_jax.curation.run import RECORDS, Run
from crosstrainer_jax.curation.steps import Settings
from crosstrainer_jax.datasets.howto import folder, script
from crosstrainer_jax.input.turns import take_turns

NAME = 'howto'


def prepare(
  data_dir: str | os.PathLike[str], seed: int = 0, videos: int = 400, test_fraction: float = 0.2
) -> pathlib.Path:
  """The directory of the dataset below `data_dir`, which is made first where it is absent.

  Args:
    seed: of the world, and of the channels that are the test split.
    test_fraction: part of the channels.

  Raises:
    ValueError: a setting that cannot be.
  """
  place = pathlib.Path(data_dir) / NAME / f'seed{seed}-{videos}-t{test_fraction:g}'
  with take_turns(place, f'the dataset {place}'):
    root = place / 'videos'
    folder.write(root, seed, videos)
    settings = Settings(str(root), windows=Windows(longest=script.SECONDS))
    own = Run(
      place / 'library', scan.Folder(str(root), table=str(root / folder.TABLE_FILE)), settings, test_fraction, seed
    )
    made = own.make()
    for suffix, content in (('md', made.to_markdown()), ('json', made.to_json())):
      (own.place / f'report.{suffix}').write_text(content, encoding='utf-8')
    own.write_records(NAME, mu1=0.0, mu2=script.SECONDS, fps=4.0, size=64)
  return records_of(own.place)


def records_of(place: pathlib.Path) -> pathlib.Path:
  """The newest records of a curation."""
  return max((place / RECORDS / NAME).glob('*/dataset_info.json')).parent
