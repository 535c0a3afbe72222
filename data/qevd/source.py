"""QEVD as takes: the long sessions with live feedback (`coach`), or the short clips with their labels (`short`)."""

import argparse
import dataclasses
import pathlib
from collections.abc import Iterator
from typing import Any

from crosstrainer_jax.datasets.qevd import archives
from crosstrainer_jax.datasets.qevd.exercises import GROUPS, OTHER
from crosstrainer_jax.datasets.qevd.sessions import takes_of_session
from crosstrainer_jax.datasets.qevd.short_clips import takes_of_clips
from crosstrainer_jax.datasets.takes.take import Lose, Take

PARTS = ('coach', 'short')


@dataclasses.dataclass(frozen=True)
class QEVD:
  """The dataset below `root`.

  Attributes:
    part: one of `PARTS`.
    sports: those to take; () for the five of the paper, and with `short` the exercises that it leaves out too.
  """

  root: str
  part: str = 'coach'
  sports: tuple[str, ...] = ()

  def __post_init__(self) -> None:
    if self.part not in PARTS:
      raise ValueError(f'part {self.part!r} is none of {", ".join(PARTS)}')
    known = (*GROUPS, OTHER)
    for sport in self.sports:
      if sport not in known:
        raise ValueError(f'sport {sport!r} is none of QEVD; choose from: {", ".join(known)}')

  @property
  def name(self) -> str:
    return 'qevd' if self.part == 'coach' else 'qevd_short'

  @property
  def wanted(self) -> tuple[str, ...]:
    """The sports that come out."""
    return self.sports or ((*GROUPS,) if self.part == 'coach' else (*GROUPS, OTHER))

  def content(self) -> dict[str, Any]:
    root = pathlib.Path(self.root)
    names = (archives.LABELS, archives.FEEDBACKS, archives.WORKERS) if self.part == 'short' else ()
    files = [path for name in names if (path := archives.find(root, name))]
    for folder, _, _ in self._sessions() if self.part == 'coach' else ():
      clocks = sorted((root / folder / 'long_range_videos').glob('*_timestamps.npy'))
      files += [f'{folder}/{archives.LONG_RANGE}', *(path.relative_to(root).as_posix() for path in clocks)]
    return {'part': self.part, 'sports': list(self.wanted), 'files': archives.stamps(root, files)}

  def takes(self, lose: Lose) -> Iterator[Take]:
    """Sessions of the one archive for training and of the other for test; or the clips with the split of the files.

    Raises:
      FileNotFoundError: nothing of this part is below the root.
      ValueError: a file is not whole.
    """
    root = pathlib.Path(self.root)
    if self.part == 'short':
      yield from takes_of_clips(root, self.wanted, lose)
      return
    sessions = self._sessions()
    if not sessions:
      raise FileNotFoundError(
        f'{root}: no {archives.LONG_RANGE} in {" or ".join(archives.SESSIONS)} below it; '
        f'python -m crosstrainer_jax.doctor qevd {root} says what is missing'
      )
    for folder, archive, split in sessions:
      for record in archives.records(root / folder / archives.LONG_RANGE):
        yield from takes_of_session(record, root, folder, archive, split, self.wanted, lose)

  def _sessions(self) -> list[tuple[str, str, str]]:
    """(folder, short name, split) of every archive of sessions that is unpacked."""
    root = pathlib.Path(self.root)
    found = [
      (archives.unpacked(root, archive, archives.LONG_RANGE), *names) for archive, names in archives.SESSIONS.items()
    ]
    return [(folder, name, split) for folder, name, split in found if folder is not None]


def add_options(parser: argparse.ArgumentParser) -> None:
  """Of `prepare`, for this dataset."""
  parser.add_argument('--root', required=True, help='folder that the archives are unpacked in')
  parser.add_argument(
    '--part',
    choices=PARTS,
    default='coach',
    help='the long sessions with live feedback, or the short clips with labels, which become qevd_short '
    '(default: %(default)s)',
  )
  parser.add_argument(
    '--sports',
    default='',
    help=f"groups of exercises, by commas, of {', '.join((*GROUPS, OTHER))} (default: the paper's five; with "
    'part short all)',
  )


def from_options(options: argparse.Namespace) -> QEVD:
  """The source that the options of `prepare` ask for."""
  sports = tuple(sport.strip().lower() for sport in options.sports.split(',') if sport.strip())
  return QEVD(options.root, options.part, sports)
