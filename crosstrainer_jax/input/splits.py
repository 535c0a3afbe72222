"""FS, ZS-1, ZS-2 and ZS-3 (paper, section 4.1), SPORT, K-shot and FIT: which clips train, validate and test.

| setting | trains on | tests on |
|---|---|---|
| FS | every sport and skill | held-out people, in every sport (or in `held_out` alone) |
| ZS-1 | everything but the held-out skill | the held-out skill |
| ZS-2 | the same sport, without the held-out skill | the held-out skill |
| ZS-3 | every other sport | the held-out sport |
| SPORT | the sport `source` alone | every other sport (or the held-out skill of one): the paper's figure 5 |
| K-shot | `shots` clips of the held-out sport | the held-out sport, as ZS-3 |
| FIT | every clip | the same clips: shows that a few own videos can be learned, and claims no more |

People never cross (but in FIT): whoever is in the test part is in no other part, in any setting; validation is by
person too. Whom the dataset itself put into its pools `test` and `validation`, tests and validates.

K-shot asks how many clips must be labelled. They are drawn one by one, since labels cost by the clip, from the people
who do not test; the draw depends on `draw` alone, so that the first 10 are among the first 50. Nobody validates: those
labels would have to be paid for as well.
"""

import dataclasses
import hashlib
from collections.abc import Sequence
from typing import Any

from crosstrainer_jax.input.source import ClipInfo

SETTINGS = ('FS', 'ZS-1', 'ZS-2', 'ZS-3')
# One sport to skills of others (paper, figure 5).
SPORT = 'SPORT'
# Trains and tests on the same clips, so nothing that holds of the settings above holds of it.
FIT = 'FIT'
KSHOT = 'K-shot'
TEST_POOL, VALIDATION_POOL = 'test', 'validation'


@dataclasses.dataclass(frozen=True)
class Split:
  """Indices into the list of clips that the split was made from."""

  train: list[int]
  validation: list[int]
  test: list[int]


def make_split(
  clips: Sequence[ClipInfo],
  setting: str,
  held_out: str = '',
  validation_share: float = 0.1,
  seed: int = 0,
  source: str = '',
  shots: int = 0,
  draw: int = 0,
) -> Split:
  """Splits `clips`.

  Args:
    setting: one of `SETTINGS`, `SPORT`, `K-shot` or `FIT`.
    held_out: the sport (ZS-3, K-shot), the skill (ZS-1, ZS-2: `skill` or `sport/skill`), or what to test on: for FS a
      sport, for SPORT a skill, '' for all.
    source: the sport that trains under SPORT.
    validation_share: share of the training people who validate, where the dataset names none.
    shots, draw: of K-shot, how many clips train, and the seed that draws them.

  Raises:
    ValueError: unknown setting or name (the known ones are listed), a part without clips, or a leak.
  """
  if setting not in (*SETTINGS, SPORT, KSHOT, FIT):
    raise ValueError(f'config.split.setting={setting!r} is not one of {(*SETTINGS, SPORT, KSHOT, FIT)}')
  if setting == FIT:
    everything = list(range(len(clips)))
    return Split(everything, everything, everything)
  target = _target(clips, setting, held_out, source)
  people = {clip.participant for clip in clips}
  testers = _testers(clips, people, seed)

  def trains(clip: ClipInfo) -> bool:
    if setting == 'FS':
      return True
    if setting == 'ZS-1':
      return (clip.sport, clip.skill) not in target
    if setting == SPORT:
      return clip.sport == source
    if setting == 'ZS-2':
      return clip.sport in {sport for sport, _ in target} and (clip.sport, clip.skill) not in target
    if setting == KSHOT:
      return clip.sport in {sport for sport, _ in target}
    return clip.sport not in {sport for sport, _ in target}

  learners = sorted({clip.participant for clip in clips if clip.participant not in testers and trains(clip)})
  validators = {clip.participant for clip in clips if clip.pool == VALIDATION_POOL} & set(learners)
  if not validators:
    drawn = sorted(learners, key=lambda person: _draw(seed, 'validation', person))
    validators = set(drawn[: round(validation_share * len(learners))])
  parts: dict[str, list[int]] = {'train': [], 'validation': [], 'test': []}
  for index, clip in enumerate(clips):
    if clip.participant in testers:
      if (clip.sport, clip.skill) in target:
        parts['test'].append(index)
    elif trains(clip):
      parts['validation' if clip.participant in validators else 'train'].append(index)
  if setting == KSHOT:
    parts |= {'train': _few(clips, [*parts['train'], *parts['validation']], held_out, shots, draw), 'validation': []}
  split = Split(**parts)
  for name in ('train', 'test'):
    if not parts[name]:
      raise ValueError(
        f'{setting} with held_out={held_out!r} leaves no clip to {name}: '
        f'the dataset has {len(people)} people and skills {_skills(clips)}'
      )
  check_leaks(clips, split, setting, held_out, source)
  return split


def check_leaks(clips: Sequence[ClipInfo], split: Split, setting: str, held_out: str, source: str = '') -> None:
  """Raises ValueError if a person, a take or the held-out skill or sport is on both sides."""
  seen = [clips[i] for i in (*split.train, *split.validation)]
  unseen = [clips[i] for i in split.test]
  for field in ('clip_id', 'participant', 'take'):
    shared = {getattr(clip, field) for clip in seen} & {getattr(clip, field) for clip in unseen}
    if shared:
      raise ValueError(
        f'{setting}: {field} {sorted(shared)[:5]} is in training and in test; '
        'name people and takes uniquely in the dataset'
      )
  between = {clips[i].participant for i in split.train} & {clips[i].participant for i in split.validation}
  if between:
    raise ValueError(f'{setting}: {sorted(between)[:5]} train and validate')
  if setting in ('FS', KSHOT):
    return
  target = _target(clips, setting, held_out, source)
  leaked = {(c.sport, c.skill) for c in seen} & target
  if setting in ('ZS-3', SPORT):
    leaked |= {(c.sport, c.skill) for c in seen if c.sport in {sport for sport, _ in target}}
  if leaked:
    raise ValueError(f'{setting}: held-out {sorted(leaked)} is in training')


def _few(clips: Sequence[ClipInfo], there: Sequence[int], held_out: str, shots: int, draw: int) -> list[int]:
  """The first `shots` clips of a draw from `there`; only what was commented on can be learnt from."""
  spoken = [i for i in there if clips[i].commentary.strip() and clips[i].pool != VALIDATION_POOL]
  if not 1 <= shots <= len(spoken):
    raise ValueError(
      f'K-shot: config.split.shots={shots}, but {held_out!r} has {len(spoken)} clips with commentary of people who do '
      'not test; choose a number from 1 to that'
    )
  return sorted(sorted(spoken, key=lambda i: _draw(draw, 'shots', clips[i].clip_id))[:shots])


def split_of(clips: Sequence[ClipInfo], config: Any) -> Split:
  """The split of a run, from its config; the run's seed draws the clips of K-shot."""
  split = config.split
  return make_split(
    clips,
    split.setting,
    split.held_out,
    split.validation_share,
    split.seed,
    source=split.source,
    shots=split.shots,
    draw=config.seed,
  )


def folds(clips: Sequence[ClipInfo], train: Sequence[int], count: int, seed: int = 0) -> list[list[int]]:
  """Cuts the training part into `count` folds, for attributes that are predicted out of fold.

  Folds are by person; where there are fewer people than folds, by take; where there are fewer takes, by clip. Fewer
  clips than folds make as many folds as clips, and a single one none.
  """
  for field in ('participant', 'take', 'clip_id'):
    names = sorted({getattr(clips[i], field) for i in train}, key=lambda name: _draw(seed, 'fold', name))
    if len(names) >= count:
      break
  count = min(count, len(names))
  if count < 2:
    return []
  fold = {name: number % count for number, name in enumerate(names)}
  return [[i for i in train if fold[getattr(clips[i], field)] == number] for number in range(count)]


def _target(clips: Sequence[ClipInfo], setting: str, held_out: str, source: str) -> set[tuple[str, str]]:
  """The pairs of sport and skill that are tested."""
  pairs = {(clip.sport, clip.skill) for clip in clips}
  sports = sorted({sport for sport, _ in pairs})
  by_skill = setting in ('ZS-1', 'ZS-2', SPORT)
  if setting == SPORT:
    if source not in sports:
      raise ValueError(f'{SPORT}: source={source!r} is no sport of the dataset; it has {sports}')
    pairs = {(sport, skill) for sport, skill in pairs if sport != source}
  if not held_out and setting in ('FS', SPORT):
    return pairs
  if by_skill:
    chosen = {(sport, skill) for sport, skill in pairs if held_out in (skill, f'{sport}/{skill}')}
  else:
    chosen = {(sport, skill) for sport, skill in pairs if held_out == sport}
  if not chosen:
    kind, names = ('skill', sorted({skill for _, skill in pairs})) if by_skill else ('sport', sports)
    other = f' outside {source}' if setting == SPORT else ''
    raise ValueError(f'{setting}: held_out={held_out!r} is no {kind} of the dataset{other}; it has {names}')
  return chosen


def _testers(clips: Sequence[ClipInfo], people: set[str], seed: int) -> set[str]:
  """Whoever the dataset put into its test pool; without one, a fifth of the people by seed (at least one)."""
  testers = {clip.participant for clip in clips if clip.pool == TEST_POOL}
  if testers:
    return testers
  return set(sorted(people, key=lambda person: _draw(seed, 'test', person))[: max(1, len(people) // 5)])


def _draw(seed: int, purpose: str, name: str) -> str:
  return hashlib.sha256(f'{seed} {purpose} {name}'.encode()).hexdigest()


def _skills(clips: Sequence[ClipInfo]) -> list[str]:
  return sorted({f'{clip.sport}/{clip.skill}' for clip in clips})
