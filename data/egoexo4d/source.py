"""Ego-Exo4D v2 as takes: its expert commentary, views, levels and splits. `README.md` says how to get it.

| Ego-Exo4D | record |
|---|---|
| split `train` | `train` |
| split `val` | `test`: commentary on the official test split is not published |
| `Novice`, `Intermediate Expert`, `Early Expert`, `Late Expert` | the level of that name, not of that rank |
| expert, recording | `expert`, clip id `<take>/<expert>/<recording>` |
| drawings, the expert's rating of 10, good executions, tips | `extra` |

Levels go by name: Ego-Exo4D lists Novice, Early, Intermediate, Late, and the paper puts intermediate before early
expert. Scores are of classes, so a name that means the same on both sides matters, and a rank does not.
"""

import argparse
import dataclasses
import pathlib
import re
import tempfile
from collections.abc import Iterator
from typing import Any

from crosstrainer_jax.datasets.egoexo4d import commentary, taxonomy
from crosstrainer_jax.datasets.egoexo4d.index import ANNOTATED, SPLITS, Index, task_of
from crosstrainer_jax.datasets.takes.feature_files import FAMILIES
from crosstrainer_jax.datasets.takes.take import Comment, Lose, Loss, Take

LICENCE = 'Ego-Exo4D licence (ego4d-data.org), not to be passed on'
_LEVELS = {'novice': 0, 'intermediate expert': 1, 'early expert': 2, 'late expert': 3}
_SPLITS = {'train': 'train', 'val': 'test', 'test': 'test'}
_EXO = re.compile(r'(cam|gp)\d+', re.IGNORECASE)
# The paper sees the wearer's own view and four from outside.
_MOST_EXO = 4
NO_COMMENTARY = 'no commentary on the take'
NO_LENGTH = 'no commentary on the take, and takes.json does not say how long it is'
UNKNOWN_LEVEL = 'a level that is not one of the four'
NO_SPLIT = 'no split'
NO_CAMERA = 'no camera of the take is known'
STRAY = 'a camera that does not belong to the rig'
MORE = 'more than four views from outside'
NO_FILE = 'takes.json names no file'


@dataclasses.dataclass(frozen=True)
class EgoExo4D:
  """The source.

  Args:
    root: what the `egoexo` command downloads to.
    sports: scenarios, by the names of `taxonomy.SCENARIOS`.
    all_drills: also drills of those sports that the paper does not use.
    features: a name of `feature_files.FAMILIES`: the release's features by it instead of videos; '' for videos.
    unspoken: takes of the proficiency benchmark without commentary make a clip too, of their middle.

  Raises:
    FileNotFoundError, ValueError: no such folder, or an unknown name.
  """

  root: str
  sports: tuple[str, ...] = taxonomy.PAPER
  all_drills: bool = False
  features: str = ''
  unspoken: bool = False
  name: str = 'egoexo4d'

  def __post_init__(self) -> None:
    if not pathlib.Path(self.root).is_dir():
      raise FileNotFoundError(f'--root {self.root}: no such folder; it is what `egoexo -o` downloads to')
    known = taxonomy.SCENARIOS.values()
    if unknown := [sport for sport in self.sports if sport not in known]:
      raise ValueError(f'--sports {unknown[0]!r} is not one of {", ".join(known)}')
    if self.features and self.features not in FAMILIES:
      raise ValueError(f'--features {self.features!r} is not one of {", ".join(FAMILIES)}')

  def content(self) -> dict[str, Any]:
    annotations = pathlib.Path(self.root) / 'annotations'
    names = ['expert_commentary_{}.json', 'proficiency_demonstrator_{}.json', 'proficiency_demonstration_{}.json']
    files = [pathlib.Path(self.root) / 'takes.json', annotations / 'splits.json']
    files += [annotations / name.format(split) for name in names for split in SPLITS]
    return {
      'sports': list(self.sports),
      'all_drills': self.all_drills,
      'features': self.features,
      'unspoken': self.unspoken,
      'files': {file.name: [file.stat().st_size, file.stat().st_mtime_ns] for file in files if file.is_file()},
    }

  def takes(self, lose: Lose) -> Iterator[Take]:
    """See `Source.takes`."""
    root = pathlib.Path(self.root)
    self._check()
    with tempfile.TemporaryDirectory() as folder:
      index = Index(root, pathlib.Path(folder) / 'index.sqlite', self.sports, self.all_drills)
      try:
        index.lose_the_unjoined(lose)
        for entry in index.takes():
          name, uid = str(entry.get('take_name') or ''), str(entry.get('take_uid') or '')
          said = commentary.comments_of(
            name,
            index.commentary(uid),
            root / 'annotations' / 'expert_commentary' / one_name(name),
            index.demonstrations(uid),
            lose,
          )
          label = index.level(uid)
          level = self.level(name, label, lose)
          if not said and label is not None and self.unspoken:
            said = list(_whole(entry))
          if not said and level >= 0:
            lose(Loss('proficiency', name, NO_LENGTH if self.unspoken else NO_COMMENTARY))
          take = self.take(entry, said, _SPLITS.get(index.split(uid), ''), level, lose) if said else None
          if take is not None:
            yield take
      finally:
        index.close()

  def _check(self) -> None:
    annotations = pathlib.Path(self.root) / 'annotations'
    files = [annotations / f'expert_commentary_{split}.json' for split in ANNOTATED]
    if not any(file.is_file() for file in files) and not (annotations / 'expert_commentary').is_dir():
      raise FileNotFoundError(
        f'{files[0]} is missing, and so are the others of its kind; download them: '
        f'egoexo -o {self.root} --parts annotations -y'
      )

  def level(self, take: str, label: str | None, lose: Lose) -> int:
    """The index into `record.LEVELS` of a label; -1 for none, and for one that is lost."""
    level = _LEVELS.get(' '.join((label or '').lower().split()), -1)
    if label and level < 0:
      lose(Loss('proficiency', take, UNKNOWN_LEVEL, label))
    return level

  def take(self, entry: dict[str, Any], said: list[Comment], split: str, level: int, lose: Lose) -> Take | None:
    """A take as takes.json has it with what was said of it; None where that is lost."""
    name, uid = str(entry['take_name']), str(entry.get('take_uid') or '')
    views = list(self.views(entry, uid, lose))
    reason = NO_SPLIT if not split else '' if views else NO_CAMERA
    if reason:
      for comment in said:
        lose(Loss('comment', f'{name}/{comment.name}', reason))
      return None
    names, paths = zip(*views, strict=True)
    task = task_of(entry)
    return Take(
      name,
      sport=taxonomy.sport_of(task),
      skill=taxonomy.skill_of(task, str(entry.get('task_name') or '')),
      participant=_participant(entry),
      split=split,
      views=names,
      videos=() if self.features else paths,
      features=paths if self.features else (),
      encoder=self.features,
      comments=tuple(said),
      proficiency=level,
      licence=LICENCE,
    )

  def views(self, entry: dict[str, Any], uid: str, lose: Lose) -> Iterator[tuple[str, str]]:
    """(name, path of its video or features) of the wearer's view and of those from outside, `ego`, `exo1` … `exo4`."""
    streams = entry.get('frame_aligned_videos')
    cameras = entry.get('cameras') or {}
    ego: list[tuple[str, str, str]] = []
    exo: list[tuple[str, str, str]] = []
    for camera, found in streams.items() if isinstance(streams, dict) else ():
      # Beside the cameras stand a mosaic of them, and the best of them once more.
      if camera in ('collage', 'best_exo') or not isinstance(found, dict):
        continue
      is_ego = bool(cameras.get(camera)) or camera.lower().startswith('aria')
      stream = 'rgb' if is_ego else '0'
      label = f'{entry["take_name"]}/{camera}'
      if not is_ego and not _EXO.fullmatch(camera):
        lose(Loss('view', label, STRAY))
        continue
      path = (found.get(stream) or {}).get('relative_path')
      if not path:
        lose(Loss('view', label, NO_FILE))
        continue
      (ego if is_ego else exo).append((camera, stream, str(path)))
    exo.sort(key=lambda view: view[0].lower())
    for camera, _, _ in (*ego[1:], *exo[_MOST_EXO:]):
      lose(Loss('view', f'{entry["take_name"]}/{camera}', MORE))
    for name, (camera, stream, path) in [
      *[('ego', view) for view in ego[:1]],
      *[(f'exo{number}', view) for number, view in enumerate(exo[:_MOST_EXO], 1)],
    ]:
      if self.features:
        yield name, f'features/{self.features}/{uid}_{camera}_{stream}.pt'
      else:
        yield name, self._video(entry, path)

  def _video(self, entry: dict[str, Any], path: str) -> str:
    """The small form where that is downloaded, else the full one; the small one where neither is, to be asked for."""
    folder = str(entry.get('root_dir') or f'takes/{entry["take_name"]}')
    full = f'{folder}/{path}'
    small = f'{folder}/frame_aligned_videos/downscaled/448/{path.rpartition("/")[2]}'
    root = pathlib.Path(self.root)
    return full if (root / full).is_file() and not (root / small).is_file() else small


def _whole(entry: dict[str, Any]) -> Iterator[Comment]:
  """All of a task, of which a clip shows the middle; nobody speaks."""
  spans = (entry.get('task_start_sec'), entry.get('task_end_sec')), (0, entry.get('duration_sec'))
  for span in spans:
    start, end = (commentary.seconds(value) for value in span)
    if start is not None and end is not None and start < end:
      yield Comment('whole', start=start, end=end)
      return


def _participant(entry: dict[str, Any]) -> str:
  """The person's number; where it is not known, those of one capture are taken for one person."""
  number = entry.get('participant_uid')
  if number is not None and str(number).strip():
    return str(number)
  return f'of {entry.get("capture_name") or entry["take_name"]}'


def one_name(name: str) -> str:
  """A name that leads to no other folder."""
  return name if name and name not in ('.', '..') and not re.search(r'[/\\\0]', name) else '-'


def add_options(parser: argparse.ArgumentParser) -> None:
  """Of `prepare`, for this dataset."""
  parser.add_argument('--root', required=True, help='folder that the egoexo command has downloaded to')
  parser.add_argument(
    '--sports',
    default=','.join(taxonomy.PAPER),
    help=f'scenarios, by commas, of {", ".join(taxonomy.SCENARIOS.values())} (default: %(default)s)',
  )
  parser.add_argument(
    '--all_drills', action='store_true', help="also the sports' drills that the paper does not use, such as juggling"
  )
  parser.add_argument(
    '--unspoken', action='store_true', help='also takes of the proficiency benchmark without commentary, for its levels'
  )
  parser.add_argument(
    '--features', choices=sorted(FAMILIES), default='', help="the release's own features instead of videos"
  )


def from_options(options: argparse.Namespace) -> EgoExo4D:
  """The source that the options of `prepare` ask for."""
  sports = tuple(sport.strip().lower() for sport in options.sports.split(',') if sport.strip())
  return EgoExo4D(options.root, sports, options.all_drills, options.features, options.unspoken)
