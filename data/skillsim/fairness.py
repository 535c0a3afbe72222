"""Is the embedded world fair? Measured on noise-free joints: `python -m crosstrainer_jax.datasets.skillsim.fairness`.

Six questions, each with the bound that the tests hold:

(a) a sport-aware learner, who knows the nominal motion, finds every fault (recall >= 0.95);
(b) a sport-blind learner, trained on the other three sports, has F1 >= 0.7 on every fault of the fourth;
(c) sport, skill, body, clothes, place and camera alone predict no fault (AUC 0.5 +- 0.03);
(d) every fault, the mildest included, moves something by >= 2 pixels in some view, compared with the clean twin;
(e) one frame does not tell the faults of time: F1 of the best single frame lies >= 0.2 below that of the sequence;
(f) one clip shows the proficiency level: whoever knew number and severities of its faults would name >= 3 levels in 4
    right, the sport-blind learner of (b) >= 0.4 in every sport (a constant answer: 0.25).

Only these ceilings and floors may be used to calibrate the world.
"""

import argparse
import dataclasses
import time
from collections.abc import Sequence

import numpy as np
from scipy.stats import binom, norm
from sklearn.metrics import f1_score, precision_score, recall_score, roc_auc_score

from crosstrainer_jax.datasets.skillsim import ceiling, render
from crosstrainer_jax.datasets.skillsim.body import Body
from crosstrainer_jax.datasets.skillsim.faults import (
  FAULTS,
  MAX_FAULTS,
  MILDEST,
  NAMES,
  SCATTER,
  Fault,
  draw,
  mean_severity,
  rate,
)
from crosstrainer_jax.datasets.skillsim.sports import SKILLS, SPORTS
from crosstrainer_jax.datasets.skillsim.world import Spec, World
from crosstrainer_jax.input.record import LEVELS

OF_TIME = ('timing', 'speed control')
# Probability from which (a) reports a fault: the bound is on recall, and precision stands beside it.
_ASKED_FOR_RECALL = 0.2


@dataclasses.dataclass
class Sample:
  """Specs of one sport and split with their noise-free performances, features and labels."""

  specs: list[Spec]
  performance: ceiling.Performance
  features: np.ndarray
  labels: np.ndarray


def sample(world: World, sport: str, split: str, count: int) -> Sample:
  """The first `count` clips."""
  specs = [world.spec(sport, split, i) for i in range(count)]
  performance = ceiling.perform(world, specs)
  return Sample(specs, performance, ceiling.features(performance), ceiling.labels(specs))


def samples(world: World, train: int, test: int) -> dict[str, tuple[Sample, Sample]]:
  """Training and test clips of every sport."""
  return {sport: (sample(world, sport, 'train', train), sample(world, sport, 'test', test)) for sport in SPORTS}


def aware(world: World, data: dict[str, tuple[Sample, Sample]]) -> dict[str, dict[str, tuple[float, float]]]:
  """(a) Recall and precision per sport and fault, from the difference to the nominal motion of that athlete and
  skill.
  """
  train, test = ([pair[i] for pair in data.values()] for i in (0, 1))
  known, asked = (_from_nominal(world, parts) for parts in (train, test))
  found = ceiling.fit_predict(known, np.concatenate([part.labels for part in train]), asked) >= _ASKED_FOR_RECALL
  scores: dict[str, dict[str, tuple[float, float]]] = {}
  for sport, part, said in zip(data, test, np.split(found, len(test)), strict=True):
    scores[sport] = {
      name: (
        float(recall_score(part.labels[:, k], said[:, k], zero_division=0)),
        float(precision_score(part.labels[:, k], said[:, k], zero_division=0)),
      )
      for k, name in enumerate(NAMES)
    }
  return scores


def _from_nominal(world: World, parts: Sequence[Sample]) -> np.ndarray:
  """Features float[N, F] less those of the clean twins."""
  return np.concatenate([part.features - ceiling.features(ceiling.perform(world, part.specs, False)) for part in parts])


def blind(data: dict[str, tuple[Sample, Sample]]) -> dict[str, dict[str, float]]:
  """(b) F1 per held-out sport and fault of the learner that saw the other sports only."""
  scores: dict[str, dict[str, float]] = {}
  for held_out, (_, test) in data.items():
    others = [train for sport, (train, _) in data.items() if sport != held_out]
    inputs, truth = (np.concatenate([getattr(part, field) for part in others]) for field in ('features', 'labels'))
    said = ceiling.fit_predict(inputs, truth, test.features) >= 0.5
    scores[held_out] = {name: float(f1_score(test.labels[:, k], said[:, k])) for k, name in enumerate(NAMES)}
  return scores


def best_levels(clips: int = 20_000, seed: int = 0) -> tuple[float, float]:
  """(f) Accuracy of the best guess at the level from the true number of faults, and from number and severities.

  Bayes' rule over a fine grid of hidden skill, on random draws of `faults.draw`.
  """
  rng = np.random.default_rng(seed)
  grid = (np.arange(400) + 0.5) / 400
  level_of_grid = (grid * len(LEVELS)).astype(int)
  mean = np.asarray(mean_severity(grid))
  counts = binom.pmf(np.arange(MAX_FAULTS + 1)[:, None], MAX_FAULTS, rate(grid))

  def likelihood(severity: float) -> np.ndarray:
    if severity <= MILDEST:
      return norm.cdf(MILDEST, mean, SCATTER)
    return norm.sf(1, mean, SCATTER) if severity >= 1 else norm.pdf(severity, mean, SCATTER)

  right = np.zeros(2)
  for hidden in rng.uniform(size=clips):
    severities = [fault.severity for fault in draw(rng, hidden)]
    known = counts[len(severities)]
    guesses = known, np.prod([known, *map(likelihood, severities)], 0)
    level = int(hidden * len(LEVELS))
    right += [np.bincount(level_of_grid, guess).argmax() == level for guess in guesses]
  return float(right[0] / clips), float(right[1] / clips)


def shown_levels(world: World, data: dict[str, tuple[Sample, Sample]]) -> dict[str, tuple[float, float]]:
  """(f) Accuracy of the level per sport, of the sport-aware learner of (a) and the sport-blind one of (b)."""
  train, test = ([pair[i] for pair in data.values()] for i in (0, 1))
  known, asked = (_from_nominal(world, parts) for parts in (train, test))
  truth = np.concatenate([ceiling.levels(part.specs) for part in train])
  aware = np.split(ceiling.predict_levels(known, truth, asked), len(test))
  scores: dict[str, tuple[float, float]] = {}
  for (held_out, (_, part)), said in zip(data.items(), aware, strict=True):
    others = [part for sport, (part, _) in data.items() if sport != held_out]
    learnt = np.concatenate([ceiling.levels(part.specs) for part in others])
    blind = ceiling.predict_levels(_joined(others), learnt, part.features)
    right = ceiling.levels(part.specs)
    scores[held_out] = float((said == right).mean()), float((blind == right).mean())
  return scores


def surroundings(world: World, spec: Spec) -> dict[str, list[float]]:
  """All that may not betray a fault, as numbers, by kind."""
  look, scene = world.look(spec), world.scene(spec)
  skill = list(SKILLS).index(spec.skill)
  return {
    'sport and skill': [float(i == skill) for i in range(len(SKILLS))],
    'body': [getattr(spec.body, f.name) for f in dataclasses.fields(Body)] + [spec.left_handed, look.girth],
    'background and clothes': [
      *scene.wall,
      *scene.floor,
      *scene.implement_colour,
      *look.shirt,
      *look.shorts,
      *look.skin,
    ],
    'view': [*world.view_angles(spec).ravel()],
  }


KINDS = ('sport and skill', 'body', 'background and clothes', 'view', 'all')


def nuisances(world: World, train: int, test: int, kinds: Sequence[str] = KINDS) -> dict[str, dict[str, float]]:
  """(c) AUC per kind of surroundings and fault, learnt on `train` training clips and tested on `test` test clips.

  Clips are taken one per take, spread over the sports; give a world of many participants, since a few have chance
  correlations.
  """
  inputs, truth = [], []
  for split, count in (('train', train), ('test', test)):
    specs = [world.spec(list(SPORTS)[i % 4], split, i) for i in range(0, 5 * count, 5)]
    rows = [surroundings(world, spec) for spec in specs]
    table = {kind: np.array([row[kind] for row in rows], float) for kind in KINDS[:-1]}
    inputs.append({**table, 'all': np.concatenate(list(table.values()), 1)})
    truth.append(ceiling.labels(specs))
  scores = {}
  for kind in kinds:
    chance = ceiling.fit_predict(inputs[0][kind], truth[0], inputs[1][kind])
    scores[kind] = {name: float(roc_auc_score(truth[1][:, k], chance[:, k])) for k, name in enumerate(NAMES)}
  return scores


def displacement(world: World, spec: Spec) -> float:
  """Largest distance in pixels, over views, frames and joints, between a clip and its clean twin."""
  joints, twin = (world.joints(spec, faults).joints for faults in (True, False))
  largest = 0.0
  for camera in world.cameras(spec):
    (there, _), (here, _) = (camera.project(j, render.SIZE) for j in (joints, twin))
    largest = max(largest, float(np.linalg.norm(there - here, axis=-1).max()))
  return largest


def visible(world: World, count: int) -> dict[tuple[str, str], float]:
  """(d) Smallest displacement in pixels per fault and direction over `count` test clips a sport with that fault
  alone, at its mildest.
  """
  smallest: dict[tuple[str, str], float] = {}
  for name, directions in FAULTS.items():
    for direction in directions:
      pixels = []
      for sport in SPORTS:
        for i in range(count):
          spec = world.spec(sport, 'test', 5 * i)
          fault = Fault(name, direction, MILDEST, sign=1 if i % 2 else -1, phase=0.7 * i)
          pixels.append(displacement(world, dataclasses.replace(spec, faults=(fault,))))
      smallest[name, direction] = min(pixels)
  return smallest


def single_frames(
  data: dict[str, tuple[Sample, Sample]], names: Sequence[str], frames: Sequence[int] = range(render.FRAMES)
) -> dict[str, tuple[float, float]]:
  """(e) F1 of the best single frame of `frames` and of the sequence, sports mixed, per fault."""
  train, test = ([pair[i] for pair in data.values()] for i in (0, 1))
  columns = [NAMES.index(name) for name in names]
  known, asked = (np.concatenate([part.labels for part in parts])[:, columns] for parts in (train, test))
  whole = ceiling.fit_predict(*(_joined(train), known, _joined(test)))
  best = np.zeros(len(names))
  for t in frames:
    frame = ceiling.fit_predict(_stills(train, t), known, _stills(test, t))
    best = np.maximum(best, [f1_score(asked[:, k], frame[:, k] >= 0.5) for k in range(len(names))])
  return {name: (float(best[k]), float(f1_score(asked[:, k], whole[:, k] >= 0.5))) for k, name in enumerate(names)}


def _joined(parts: Sequence[Sample]) -> np.ndarray:
  return np.concatenate([part.features for part in parts])


def _stills(parts: Sequence[Sample], t: int) -> np.ndarray:
  """What one frame shows: posture without any speed, and where the implement is."""
  rows = []
  for part in parts:
    values = ceiling.channels(part.performance)
    posture = [value for name, value in values.items() if 'speed' not in name and name not in ('rise', 'turn')]
    away = part.performance.implement - part.performance.joints[:, :, 0]
    posture += [np.linalg.norm(away[..., :2], axis=-1), away[..., 2]]
    rows.append(np.stack([value[:, t] for value in posture], 1))
  return np.concatenate(rows)


def _table(title: str, scores: dict[str, dict[str, float]]) -> None:
  print(f'\n{title}\n')
  print('| | ' + ' | '.join(NAMES) + ' |')
  print('|---' * (len(NAMES) + 1) + '|')
  for row, values in scores.items():
    print(f'| {row} | ' + ' | '.join(f'{values[name]:.2f}' for name in NAMES) + ' |')


def main() -> None:
  """Prints the tables."""
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--seed', type=int, default=0)
  parser.add_argument('--entanglement', type=float, default=0.3)
  parser.add_argument('--train', type=int, default=1200, help='training clips per sport')
  parser.add_argument('--test', type=int, default=400, help='test clips per sport')
  parser.add_argument(
    '--nuisance', type=int, default=8000, help='training clips for (c), with three times as many to test'
  )
  args = parser.parse_args()
  begin = time.monotonic()
  world = World(args.seed, args.entanglement)
  data = samples(world, args.train, args.test)
  known = aware(world, data)
  _table('(a) sport-aware: recall', {s: {n: v[0] for n, v in row.items()} for s, row in known.items()})
  _table('(a) sport-aware: precision', {s: {n: v[1] for n, v in row.items()} for s, row in known.items()})
  _table('(b) sport-blind, by held-out sport: F1', blind(data))
  crowd = World(args.seed, args.entanglement, participants=4096)
  _table('(c) surroundings alone, 4,096 participants: AUC', nuisances(crowd, args.nuisance, 3 * args.nuisance))
  print('\n(d) smallest displacement in pixels\n\n| fault | direction | pixels |\n|---|---|---|')
  for (name, direction), pixels in visible(world, 40).items():
    print(f'| {name} | {direction} | {pixels:.1f} |')
  print('\n(e) best single frame against the sequence: F1\n\n| fault | frame | sequence |\n|---|---|---|')
  for name, (frame, sequence) in single_frames(data, (*OF_TIME, 'follow-through', 'knee bend')).items():
    print(f'| {name} | {frame:.2f} | {sequence:.2f} |')
  print('\n(f) level: accuracy\n\n| | sport-aware | sport-blind |\n|---|---|---|')
  for sport, (informed, blindly) in shown_levels(world, data).items():
    print(f'| {sport} | {informed:.2f} | {blindly:.2f} |')
  number, both = best_levels()
  print(f'\nBest guess from the true number of faults {number:.2f}, from number and severities {both:.2f}.')
  print(f'\n{time.monotonic() - begin:.0f} s')


if __name__ == '__main__':
  main()
