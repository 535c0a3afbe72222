"""What every importer of a real dataset makes of its annotations: takes with what was said of them, and what was lost.

A source reads the files of one dataset and yields `Take`s one at a time, so that memory does not grow with their
number; `builder` makes records of them. A take is the unit of work: it is small, it can be pickled, and nothing of
another take is needed to decode its clips.
"""

import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol


@dataclasses.dataclass(frozen=True)
class Comment:
  """What makes one clip: a remark at a time, or a labelled segment.

  Attributes:
    name: stable, unique within the take, for example `qfbn5o/4` (expert and recording).
    text: what was said; "" where the segment has labels alone.
    time: seconds of the recording; None for a segment without a time point of its own.
    start, end: the window, where the dataset gives one; else [time - mu1, time + mu2]. Of one that is longer than
      mu1 + mu2 the middle is taken; a start alone means all from there on.
    expert: who said it, "" when unknown.
    prefix: fixed words that the files put before the answer.
    faults: what is truly done wrong, where labels say so; None where nobody knows.
    proficiency: index into `record.LEVELS`, -1 for that of the take.
    extra: what this dataset alone has; goes into the record as JSON.
  """

  name: str
  text: str = ''
  time: float | None = None
  start: float | None = None
  end: float | None = None
  expert: str = ''
  prefix: str = ''
  faults: tuple[str, ...] | None = None
  proficiency: int = -1
  extra: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Take:
  """An uninterrupted recording of one person, seen from one or several sides, with its comments.

  Attributes:
    name, participant: unique within the dataset; splits never cut through either.
    split: `train`, `validation` or `test`.
    views: one name for each of `videos`, for example `ego`, `exo1`.
    videos: paths relative to the root, with '/'.
    features: for each view the path of a file of precomputed features, where these stand in for videos; else empty.
    encoder: whose features those are, a name of `feature_files.FAMILIES`; "" without them.
    proficiency: index into `record.LEVELS`, -1 when unknown.
    start, end: what belongs to this take, where a recording holds several; None for all of it.
    turn: quarter turns clockwise that bring its videos upright, where these lie on their side and do not say so.
  """

  name: str
  sport: str
  skill: str
  participant: str
  split: str
  views: tuple[str, ...]
  videos: tuple[str, ...]
  comments: tuple[Comment, ...]
  features: tuple[str, ...] = ()
  encoder: str = ''
  proficiency: int = -1
  start: float | None = None
  end: float | None = None
  licence: str = ''
  turn: int = 0

  def to_json(self) -> str:
    """One line, the same for the same take."""
    return json.dumps(dataclasses.asdict(self), ensure_ascii=False, sort_keys=True)

  @classmethod
  def from_json(cls, line: str) -> 'Take':
    """Inverse of `to_json`."""
    content = json.loads(line)
    for name in ('views', 'videos', 'features'):
      content[name] = tuple(content[name])
    comments = content.pop('comments')
    for comment in comments:
      comment['faults'] = None if comment['faults'] is None else tuple(comment['faults'])
    return cls(**content, comments=tuple(Comment(**comment) for comment in comments))


@dataclasses.dataclass(frozen=True)
class Loss:
  """An annotation that makes no clip.

  Attributes:
    what: the kind of annotation, for example `comment`, `take`, `proficiency`.
    id: by which the reader finds it in the dataset's files.
    reason: to count by, the same words for every case.
    detail: what differs from case to case.
  """

  what: str
  id: str
  reason: str
  detail: str = ''


# Takes a loss down: on disk, with a count by reason, never in a list that grows.
Lose = Callable[[Loss], None]


class Source(Protocol):
  """The annotations of one dataset.

  `name` is the dataset's, `root` the folder that all paths start from; `content()` holds the settings that decide what
  comes out, and names the files it was read from with size and date.
  """

  @property
  def name(self) -> str: ...

  @property
  def root(self) -> str: ...

  def content(self) -> dict[str, Any]: ...

  def takes(self, lose: Lose) -> Iterator[Take]:
    """Takes in a fixed order, each with at least one comment; no video need be opened for that.

    Raises:
      FileNotFoundError, ValueError: a file without which there is nothing to import is missing or broken; the message
        names it and the remedy.
    """
    ...
