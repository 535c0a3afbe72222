"""The sweeps behind docs/results.md: the runs that each is made of.

    python -m crosstrainer_jax.sweep transfer     # every sport held out in turn, three seeds: the table of the README
    python -m crosstrainer_jax.sweep dials        # two-stage minus end-to-end at three values of each dial of the world
    python -m crosstrainer_jax.sweep settings     # FS, ZS-1, ZS-2, ZS-3 and SPORT: the tables and figures of the paper
    python -m crosstrainer_jax.sweep studies      # what the paper leaves open, one condition changed at a time
    python -m crosstrainer_jax.sweep kshot        # with k labelled clips of the new sport, from ZS-3 and from nothing

Seeds are those of training; the world's own seed stays what the config says. `transfer` trains on one world, and its
runs are among those of `settings`, in one folder. `dials` makes seven worlds, of 0.8 GB each, and trains only the rows
that it compares. In `kshot` the seed also draws the k clips.
"""

import collections
import dataclasses
from collections.abc import Sequence

from crosstrainer_jax.configs import compact

CONFIG = 'configs/cross_sport.py'
SPORTS = ('soccer', 'basketball', 'rock climbing', 'fitness')
# Values of each dial of the embedded world; the compact preset's own is among them.
DIALS = {'entanglement': (0.0, 0.3, 1.0), 'commentary_noise': (0.0, 0.1, 0.4), 'camera_shift': (0.0, 0.5, 1.0)}

# Sports of each dataset, and the skills that are held out in turn; the paper sorts rock climbing into none.
SKILLS: dict[str, dict[str, tuple[str, ...]]] = {
  'skillsim': {
    'soccer': ('dribbling', 'penalty kick', 'juggling'),
    'basketball': ('mikan layup', 'reverse layup', 'mid-range jump shot'),
    'rock climbing': ('static reach', 'dynamic move', 'foot swap'),
    'fitness': ('push press', 'wall ball', 'lunge press'),
  },
  'egoexo4d': {
    'soccer': ('dribbling', 'penalty kick'),
    'basketball': ('mikan layup', 'reverse layup', 'mid-range jump shot'),
    'rock climbing': (),
  },
  'qevd': {
    'stretches': (
      'quad stretch', 'deltoid stretch', 'good morning beginner', 'floor touches', 'toe touchers',
    ),
    'cardio': (
      'high knees', 'quick feet', 'jumping jacks', 'air jump rope', 'butt kickers', 'puddle jumps',
    ),
    'leg strength': (
      'squats', 'squat jumps', 'squat kicks', 'walking lunges', 'lunge jumps', 'standing kicks',
    ),
    'core': ('plank taps', 'moving plank', 'pushups', 'shoulder gators'),
    'full body': ('boxing squat punches', 'mountain climbers'),
  },
}  # fmt: skip

# A second backend without a server: the expert's own words in the place of canonical names.
OTHER_ATTRIBUTES = 'discovery.backend=lexicon-phrases'
END_TO_END = '"end to end without attributes"'
RETRIEVAL = '"fine-tuned retrieval", "attribute retrieval"'

# What the paper leaves open, one at a time: name → what is changed.
UNCHANGED = 'as everywhere else'
STUDIES: dict[str, tuple[str, ...]] = {
  UNCHANGED: (),
  'window 1 + 1 s': ('data.window=(1.0, 1.0)',),
  'window 0.5 + 0.5 s': ('data.window=(0.5, 0.5)',),
  'window 2 + 0 s': ('data.window=(2.0, 0.0)',),
  'one view': ('data.views=1',),
  'two views': ('data.views=2',),
  'true attributes in stage II': ('stage2.true_ratio=1.0',),
  'predicted attributes in stage II': ('stage2.true_ratio=0.0',),
  'raw phrases': ('discovery.backend=lexicon-phrases',),
}

# Guesses for one run on one CPU core, until some are finished: `transfer` with features that are cached, `dials` with a
# world to make and to encode.
TRANSFER_SECONDS, DIALS_SECONDS, KSHOT_SECONDS, STUDIES_SECONDS, SMOKE_SECONDS = 480.0, 660.0, 150.0, 240.0, 60.0

# Numbers of labelled clips. With fewer than `FULL_PASSES` the passes over them are so many more that an update is made
# as often as with that many, whether training goes on from a run or begins from nothing.
SHOTS, SMOKE_SHOTS, FULL_PASSES = (10, 50, 200, 1000), (4, 12), 400
# Of the learning rate, where training goes on from a run (docs/decisions/0002).
SHOTS_RATE = 0.25


@dataclasses.dataclass(frozen=True)
class Run:
  """One run: the name of its folder, its config with the argument, overrides `a.b=value`, and the run that it goes on
  from, which comes before it."""

  name: str
  config: str
  overrides: tuple[str, ...] = ()
  parent: str = ''


@dataclasses.dataclass(frozen=True)
class Sweep:
  """Runs, the seconds that one of them is guessed to take, and their folder, where they share that of another sweep."""

  runs: tuple[Run, ...]
  seconds: float
  folder: str = ''

  def settings(self) -> set[str]:
    """The settings that the sweep decides itself."""
    decided = {'seed', 'data.dataset', 'split.setting', 'split.held_out', 'split.source', 'init.from_run'}
    return decided | {o.partition('=')[0] for run in self.runs for o in run.overrides}


def transfer(held_out: Sequence[str] = SPORTS, seeds: Sequence[str] = ('0', '1', '2'), smoke: bool = False) -> Sweep:
  """ZS-3 with each sport held out in turn; the language prior, which hardly varies, with seed 0 alone."""
  rows = collections.defaultdict(lambda: END_TO_END, {'0': f'{END_TO_END}, "video zeroed"'})
  runs = [
    _run(sport, seed, smoke, overrides=(f'eval.rows=({rows[seed]}, {RETRIEVAL})',), prefix='ZS-3')
    for sport in held_out
    for seed in seeds
  ]
  return Sweep(tuple(runs), SMOKE_SECONDS if smoke else TRANSFER_SECONDS, 'settings')


def dials(held_out: Sequence[str] = ('soccer',), seeds: Sequence[str] = ('0',), smoke: bool = False) -> Sweep:
  """ZS-3 at each value of each dial, the others at their defaults; all dials share the run at the defaults."""
  defaults = compact.preset().data.skillsim
  settings = [('', ())] + [
    (f'{dial}={value:g}', (f'data.skillsim.{dial}={value}',))
    for dial, values in DIALS.items()
    for value in values
    if value != defaults[dial]
  ]
  rows = f'eval.rows=({END_TO_END},)'
  runs = [
    _run(sport, seed, smoke, setting, (*overrides, rows))
    for setting, overrides in settings
    for sport in held_out
    for seed in seeds
  ]
  return Sweep(tuple(runs), SMOKE_SECONDS if smoke else DIALS_SECONDS)


def settings(
  held_out: Sequence[str] = (),
  seeds: Sequence[str] = ('0', '1', '2'),
  smoke: bool = False,
  dataset: str = 'skillsim',
  paper: bool = False,
  other: str = OTHER_ATTRIBUTES,
) -> Sweep:
  """Every setting of section 4.1 with every skill and sport held out in turn, and one sport to the skills of others.

  On the embedded world those of ZS-3 are the runs of `transfer`.

  Args:
    held_out: sports to stay with; none for all.
    paper: the sizes of configs/paper.py.
    other: settings of the runs that learn attributes of another backend, `a.b=value` with commas between (Table 4).
  """
  sports = {sport: skills for sport, skills in SKILLS[dataset].items() if not held_out or sport in held_out}
  size = ''.join(f',{name}' for name, wanted in (('smoke', smoke), ('paper', paper)) if wanted)
  rows = f'eval.rows=({END_TO_END}, {RETRIEVAL})', 'eval.noise=(0.1, 0.2, 0.3, 0.5, 0.7)'

  def run(seed: str, config: str, setting: str, of: str = '', overrides: tuple[str, ...] = ()) -> Run:
    name = '-'.join(filter(None, (setting, of.replace(' ', '_'), f'seed{seed}')))
    argument = {'in_domain': '', 'cross_sport': f'held_out={of},'}.get(config)
    if argument is None:
      argument = f'setting={setting},{"source" if setting == "SPORT" else "held_out"}={of},'
    return Run(name, f'configs/{config}.py:{argument}seed={seed},dataset={dataset}{size}', overrides)

  runs = []
  for seed in seeds:
    runs.append(run(seed, 'in_domain', 'FS', overrides=rows))
    runs.append(run(seed, 'in_domain', 'FS-other', overrides=(*other.split(','), 'eval.rows=()')))
    if dataset == 'skillsim':
      runs += transfer(tuple(sports), (seed,), smoke).runs
    else:
      runs += [run(seed, 'cross_sport', 'ZS-3', sport) for sport in sports]
    runs += [run(seed, 'cross_skill', 'SPORT', sport) for sport in sports]
    for setting in ('ZS-2', 'ZS-1'):
      runs += [run(seed, 'cross_skill', setting, skill) for skills in sports.values() for skill in skills]
  return Sweep(tuple(runs), SMOKE_SECONDS if smoke else TRANSFER_SECONDS)


def kshot(held_out: Sequence[str] = ('soccer',), seeds: Sequence[str] = ('0', '1', '2'), smoke: bool = False) -> Sweep:
  """The ZS-3 run, which is also the one without a clip; then k clips, going on from it and beginning from nothing."""
  defaults, runs = compact.preset(), []
  for sport in held_out:
    for seed in seeds:
      first = _run(sport, seed, smoke, 'shots=0', ('eval.rows=()',))
      runs.append(first)
      for shots in SMOKE_SHOTS if smoke else SHOTS:
        overrides: tuple[str, ...] = ('eval.rows=()', 'split.setting=K-shot', f'split.shots={shots}')
        if not smoke:
          passes = max(1.0, FULL_PASSES / shots)
          epochs = {'stage1.epochs': defaults.stage1.epochs, 'stage2.epochs': defaults.stage2.epochs}
          epochs |= {'stage2.fold_epochs': defaults.stage2.fold_epochs}
          overrides += tuple(f'{name}={passes * value:g}' for name, value in epochs.items())
        gentle = (f'training.optimizer.learning_rate={SHOTS_RATE * defaults.training.optimizer.learning_rate:g}',)
        for start, parent, more in (('transfer', first.name, gentle), ('scratch', '', ())):
          run = _run(sport, seed, smoke, f'shots={shots}-{start}', (*overrides, *more))
          runs.append(dataclasses.replace(run, parent=parent))
  return Sweep(tuple(runs), SMOKE_SECONDS if smoke else KSHOT_SECONDS)


def studies(
  held_out: Sequence[str] = ('soccer',), seeds: Sequence[str] = ('0', '1', '2'), smoke: bool = False
) -> Sweep:
  """ZS-3 under each condition of `STUDIES`, on half of the clips."""
  world = () if smoke else ('data.skillsim.train_clips=600',)
  runs = [
    _run(
      sport,
      seed,
      smoke,
      '' if condition == UNCHANGED else condition.replace(' ', '_'),
      (*world, *overrides, 'eval.rows=()'),
    )
    for sport in held_out
    for seed in seeds
    for condition, overrides in STUDIES.items()
  ]
  return Sweep(tuple(runs), SMOKE_SECONDS if smoke else STUDIES_SECONDS)


SWEEPS = {'transfer': transfer, 'dials': dials, 'settings': settings, 'kshot': kshot, 'studies': studies}


def _run(
  sport: str, seed: str, smoke: bool, setting: str = '', overrides: tuple[str, ...] = (), prefix: str = ''
) -> Run:
  name = '-'.join(filter(None, (prefix, sport.replace(' ', '_'), f'seed{seed}', setting)))
  return Run(name, f'{CONFIG}:held_out={sport},seed={seed}{",smoke" if smoke else ""}', overrides)
