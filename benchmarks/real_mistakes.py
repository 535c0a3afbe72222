"""Mistakes of real people, drawn as the embedded world draws its athletes: what does the frozen encoder see of them?

    python benchmarks/real_mistakes.py [--data ../shared/data/exercise_correction] [--write]
    python benchmarks/real_mistakes.py --checkpoint runs/cross_sport          # what the trained model names, as well

The landmarks (MediaPipe, from the project Exercise-Correction, MIT) come with a label a frame: plank (hips high, hips
low), bicep curl (lean back), lunge (knee over toe), and, as a control without a mistake, the two stages of a squat.
Assumed of them, since the files do not say: the pictures were 16:9, the camera was level, and MediaPipe's depth is
twice too long (shoulders would otherwise be twice as wide as hips to shoulders ask for). Arms, legs and feet that a
file lacks hang or stand straight down.

Reported are single frames, each repeated to fill one token of the encoder: zero-shot from probes that were trained on
frames of the embedded world, and few-shot from k labelled frames a class.
"""

import argparse
import collections
import dataclasses
import functools
import pathlib
import sys
import tempfile
import time
from collections.abc import Callable, Sequence

import av
import jax
import numpy as np
from drawn_landmarks import EXERCISES, Frames, contact_sheet, picture, read, seen_joints, views
from flax import nnx
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

import crosstrainer_jax
from crosstrainer_jax.datasets.skillsim import render
from crosstrainer_jax.datasets.skillsim.body import REFERENCE
from crosstrainer_jax.datasets.skillsim.faults import LOAD, Fault
from crosstrainer_jax.datasets.skillsim.sports import SPORTS
from crosstrainer_jax.datasets.skillsim.world import World
from crosstrainer_jax.evaluation.table import MISSING, Table, markdown, show, terminal
from crosstrainer_jax.inference.encoding import make_encode
from crosstrainer_jax.models import encoders
from crosstrainer_jax.training import sharding

ROOT = pathlib.Path(__file__).resolve().parent.parent
PAGE = ROOT / 'docs' / 'real_mistakes.md'
SHOTS = (5, 20, 100)
PENALTY = 0.1  # inverse strength C of the L2 penalty, fixed beforehand for every row
BATCH = 64

Features = Callable[[np.ndarray], np.ndarray]


def make_features(encoder: encoders.Encoder) -> Features:
  """A function uint8[N, H, W, 3] -> float32[N, D]: each frame held for one token of the encoder."""
  encode = make_encode(encoder, sharding.make_mesh((1, 1, 1), jax.devices()[:1]))
  length = encoder.config.frames_per_token
  times = np.tile(np.arange(length, dtype=np.float32) / encoder.config.fps, (BATCH, 1, 1))

  def features(images: np.ndarray) -> np.ndarray:
    parts = []
    for start in range(0, len(images), BATCH):
      part = images[start : start + BATCH]
      padded = np.pad(part, ((0, BATCH - len(part)), (0, 0), (0, 0), (0, 0)))
      parts.append(encode(np.repeat(padded[:, None, None], length, 2), times)[: len(part), 0, 0])
    return np.concatenate(parts).astype(np.float32)

  return features


def untrained(encoder: encoders.Encoder) -> encoders.Encoder:
  """The same network with random weights: what its shape alone gives."""
  _, module = encoders.build(encoder.name, dataclasses.asdict(encoder.config), seed=1)
  graph, params = nnx.split(module, nnx.Param)
  return dataclasses.replace(encoder, graph=graph, params=params, fingerprint='untrained')


def classifier(features: np.ndarray, labels: np.ndarray) -> Pipeline:
  """Logistic regression on standardised features, fitted."""
  return make_pipeline(StandardScaler(), LogisticRegression(C=PENALTY, max_iter=2000)).fit(features, labels)


@dataclasses.dataclass
class WorldFrames:
  """Single frames of the world with and without one fault, each pair alike in all else.

  images uint8[N, H, W, 3], joints float32[N, 3 J] as `seen_joints`, faulty bool[N].
  """

  images: np.ndarray
  joints: np.ndarray
  faulty: np.ndarray


def world_frames(fault: tuple[str, str], split: str, pairs: int, seed: int = 0) -> WorldFrames:
  """Frames at the moment of the load, where both faults that are asked for show, seen from anywhere around.

  `pairs` clips of `split` over all sports; other faults stay as they are. Implements and props are left away, as there
  are none around the real people.
  """
  world = World(seed)
  rng = np.random.default_rng([seed, pairs])
  images, joints = [], []
  for number in range(pairs):
    spec = world.spec(list(SPORTS)[number % len(SPORTS)], split, number)
    others = tuple(other for other in spec.faults if other.name != fault[0])
    added = Fault(*fault, float(rng.uniform(0.3, 1)), int(rng.choice([-1, 1])), float(rng.uniform(0, 2 * np.pi)))
    moment = round((spec.event + LOAD / spec.style.tempo) * render.FPS)
    azimuth, elevation = rng.uniform(0, 2 * np.pi, 1), float(rng.uniform(0, 0.2))
    look = render.random_look(rng)
    scene = render.random_scene(rng, 'none')
    for faults in (others, (*others, added)):
      body = world.joints(dataclasses.replace(spec, faults=faults)).joints[moment : moment + 1]
      camera = views(body, azimuth, elevation)
      images.append(render.draw(body, camera, look, scene, height=spec.body.height)[0])
      joints.append(seen_joints(body, camera, spec.body.height)[0])
  return WorldFrames(np.stack(images), np.stack(joints), np.tile([False, True], pairs))


def by_block(
  score: Callable[[np.ndarray], float], blocks: np.ndarray, resamples: int = 1000, seed: int = 0
) -> tuple[float, float, float]:
  """`score` (of indices of frames) of all frames, and its 95 % percentile bootstrap interval over blocks."""
  members = [np.flatnonzero(blocks == block) for block in np.unique(blocks)]
  rng = np.random.default_rng(seed)
  drawn = [
    score(np.concatenate([members[i] for i in rng.integers(len(members), size=len(members))])) for _ in range(resamples)
  ]
  low, high = np.nanpercentile(drawn, [2.5, 97.5])
  return score(np.arange(len(blocks))), float(low), float(high)


def zero_shot(exercises: Sequence[Frames], features: Features, pairs: int) -> Table:
  """Probes that the world taught, on real frames; by the features and by the joints themselves."""
  columns = ['fault of the world', 'world: AUC', 'real: AUC', 'real: accuracy', 'majority', 'n']
  table = Table('Zero-shot from the world', columns, [])
  for frames in exercises:
    exercise, truth, count = frames.exercise, frames.mistaken, str(len(frames.labels))
    if exercise.fault is None:
      table.rows.append((exercise.mistakes, ['not applicable', *[MISSING] * 4, count]))
      continue
    train, test = (world_frames(exercise.fault, split, n) for split, n in (('train', pairs), ('test', pairs // 2)))
    real_joints = seen_joints(frames.joints, frames.camera, REFERENCE.height)
    for name, here, there, real in (
      ('f_v', features(train.images), features(test.images), features(picture(frames))),
      ('joints', train.joints, test.joints, real_joints),
    ):
      probe = classifier(here, train.faulty)
      chance = probe.predict_proba(real)[:, 1]
      cells = [
        ': '.join(exercise.fault),
        f'{roc_auc_score(test.faulty, probe.predict_proba(there)[:, 1]):.2f}',
        auc_by_block(truth, chance, frames.blocks),
        percent(*by_block(functools.partial(_mean, (chance > 0.5) == truth), frames.blocks)),
        f'{100 * max(truth.mean(), 1 - truth.mean()):.0f}',
        count,
      ]
      table.rows.append((f'{exercise.mistakes}, {name}', cells))
  return table


def auc_by_block(truth: np.ndarray, scores: np.ndarray, blocks: np.ndarray) -> str:
  """The area under the ROC curve with its interval, as text."""
  return '{:.2f} [{:.2f}, {:.2f}]'.format(*by_block(functools.partial(_auc, truth, scores), blocks))


def _auc(truth: np.ndarray, scores: np.ndarray, index: np.ndarray) -> float:
  """NaN where one class is absent."""
  if len(set(truth[index].tolist())) < 2:
    return float('nan')
  return float(roc_auc_score(truth[index], scores[index]))


def _mean(values: np.ndarray, index: np.ndarray) -> float:
  return float(values[index].mean())


def percent(value: float, low: float, high: float) -> str:
  return f'{100 * value:.0f} [{100 * low:.0f}, {100 * high:.0f}]'


@dataclasses.dataclass(frozen=True)
class Draw:
  """Indices of the frames that train and test in one draw; `fewest` a class to train on."""

  train: np.ndarray
  test: np.ndarray
  fewest: int


def draw_frames(labels: np.ndarray, blocks: np.ndarray, shots: int, seed: int) -> Draw:
  """Half of the blocks, side by side (the first follows the last), give up to `shots` frames a class; all frames of
  the other half test. So no run of one label is on both sides, and at most two pairs of blocks touch."""
  rng = np.random.default_rng([seed, shots])
  names = np.unique(blocks)
  half = (rng.integers(len(names)) + np.arange(len(names) // 2)) % len(names)
  inside = np.isin(blocks, names[half])
  chosen = []
  for label in np.unique(labels):
    pool = np.flatnonzero(inside & (labels == label))
    chosen.append(rng.permutation(pool)[:shots])
  return Draw(np.concatenate(chosen), np.flatnonzero(~inside), min(map(len, chosen)))


def few_shot(frames: Frames, rows: dict[str, np.ndarray], draws: int) -> tuple[Table, list[int]]:
  """Accuracies over draws, in a table, and the fewest frames a class that trained for each of `SHOTS`.

  `rows` holds features float32[N, D] by name. Every row sees the same draws.
  """
  labels, blocks = frames.labels, frames.blocks
  exercise = frames.exercise
  kinds = list(exercise.labels)
  described = ', '.join(f'{exercise.labels[kind]} {(labels == kind).sum()}' for kind in kinds)
  title = f'{exercise.name}: {described} frames in {len(np.unique(blocks))} blocks'
  scores: dict[str, list[list[float]]] = {name: [[] for _ in SHOTS] for name in ('random', 'majority', *rows)}
  fewest = []
  for column, shots in enumerate(SHOTS):
    plans = [draw_frames(labels, blocks, shots, seed) for seed in range(draws)]
    fewest.append(min(plan.fewest for plan in plans))
    for seed, plan in enumerate(plans):
      truth = labels[plan.test]
      guesses = {
        'random': np.random.default_rng(seed).choice(kinds, len(truth)),
        'majority': np.full(len(truth), _most_frequent(labels[~np.isin(blocks, blocks[plan.test])])),
        **{name: classifier(x[plan.train], labels[plan.train]).predict(x[plan.test]) for name, x in rows.items()},
      }
      for name, guess in guesses.items():
        scores[name][column].append(float((guess == truth).mean()))
  table = Table(title, [f'k = {shots}' for shots in SHOTS], [])
  for name, columns in scores.items():
    table.rows.append((name, [percent(float(np.mean(c)), *np.percentile(c, [2.5, 97.5])) for c in columns]))
  return table, fewest


def _most_frequent(labels: np.ndarray) -> str:
  kinds, counts = np.unique(labels, return_counts=True)
  return str(kinds[counts.argmax()])


def named(exercises: Sequence[Frames], checkpoint: pathlib.Path, per_class: int) -> Table:
  """What the attributes F_a of a trained model say of single frames, each held for one of its windows."""
  coach = crosstrainer_jax.load(checkpoint)
  columns = ['attribute', 'named, mistaken', 'named, correct', 'AUC', 'named most', 'n']
  table = Table('Named by F_a of the trained CrossTrainer', columns, [])
  for frames in exercises:
    exercise = frames.exercise
    if exercise.fault is None:
      table.rows.append((exercise.mistakes, ['not applicable', *[MISSING] * 5]))
      continue
    index = evenly(frames.mistaken, per_class)
    with tempfile.TemporaryDirectory() as folder:
      path = pathlib.Path(folder) / 'frames.mkv'
      write_stills(path, picture(frames)[index], coach.window)
      segments = coach.assess(path, sport='fitness').segments
    if len(segments) != len(index):
      raise ValueError(f'{len(index)} frames gave {len(segments)} segments of {coach.window} s')
    name = exercise.fault[0]
    said = [{**one.doubtful, **one.attributes} for one in segments]
    chance = np.array([words.get(name, 0.0) for words in said])
    truth, blocks = frames.mistaken[index], frames.blocks[index]
    shares = [f'{100 * chance[truth == kind].mean():.0f}' for kind in (True, False)]
    cells = [name, *shares, auc_by_block(truth, chance, blocks), _most_named(said), str(len(index))]
    table.rows.append((exercise.mistakes, cells))
  return table


def _most_named(said: Sequence[dict[str, float]]) -> str:
  """The attribute with the highest mean probability, and that in per cent."""
  sums: collections.Counter[str] = collections.Counter()
  for words in said:
    sums.update(words)
  return '; '.join(f'{name} {100 * total / len(said):.0f}' for name, total in sums.most_common(1)) or 'nothing'


def evenly(truth: np.ndarray, per_class: int) -> np.ndarray:
  """Sorted indices of up to `per_class` frames of either class, spread evenly over the file."""
  chosen = []
  for kind in (False, True):
    pool = np.flatnonzero(truth == kind)
    chosen.append(pool[np.linspace(0, len(pool) - 1, min(per_class, len(pool))).round().astype(int)])
  return np.sort(np.concatenate(chosen))


def write_stills(path: pathlib.Path, images: np.ndarray, seconds: float, fps: int = render.FPS) -> None:
  """A lossless video in which each of uint8[N, H, W, 3] stays for `seconds`."""
  with av.open(str(path), 'w') as container:
    stream = container.add_stream('ffv1', rate=fps)
    stream.height, stream.width = images.shape[1:3]
    stream.pix_fmt = 'bgr0'
    for image in images:
      for _ in range(round(seconds * fps)):
        container.mux(stream.encode(av.VideoFrame.from_ndarray(image, 'rgb24')))
    container.mux(stream.encode(None))


def main() -> None:
  """Prints the tables."""
  parser = argparse.ArgumentParser(description=(__doc__ or '').split('\n')[0])
  data = ROOT.parent / 'shared' / 'data' / 'exercise_correction'
  parser.add_argument('--data', type=pathlib.Path, default=data, help='folder of the landmark files')
  parser.add_argument('--weights', default='shipped', help='of the encoder; default: those of the package')
  parser.add_argument('--checkpoint', type=pathlib.Path, help='workdir of a trained run, to see what it names')
  parser.add_argument('--pairs', type=int, default=1200, help="frames of the world with and without a probe's fault")
  parser.add_argument('--draws', type=int, default=60, help='of few-shot frames')
  parser.add_argument('--per_class', type=int, default=40, help='frames a class that the trained model is shown')
  parser.add_argument('--sheet', type=pathlib.Path, help='writes a PNG of drawn frames here; keep it out of the repo')
  parser.add_argument('--write', action='store_true', help=f'writes {PAGE.relative_to(ROOT)}')
  options = parser.parse_args()
  try:
    exercises = [read(options.data, exercise) for exercise in EXERCISES]
    encoder = encoders.load(options.weights)
    if options.sheet:
      contact_sheet(exercises).save(options.sheet)
    with threadpool_limits(1, 'blas'):
      parts = report(exercises, encoder, options)
  except (FileNotFoundError, ValueError) as error:
    parser.exit(2, f'{error}\n')
  console = terminal(sys.stdout)
  for part in parts:
    if isinstance(part, Table):
      show(part, console)
    else:
      console.print(part, markup=False)
      console.print()
  if options.write:
    PAGE.write_text(page(parts, f'python benchmarks/{" ".join([pathlib.Path(sys.argv[0]).name, *sys.argv[1:]])}'))
    print(f'written: {PAGE}')


def report(exercises: Sequence[Frames], encoder: encoders.Encoder, options: argparse.Namespace) -> list[Table | str]:
  """Tables and what belongs beside them, in order."""
  begun = time.monotonic()
  features, floor = make_features(encoder), make_features(untrained(encoder))
  parts: list[Table | str] = [zero_shot(exercises, features, options.pairs), ZERO_SHOT]
  parts.append('\n'.join(f'- {f.exercise.name}: {f.exercise.why}.' for f in exercises))
  if options.checkpoint:
    parts += [named(exercises, options.checkpoint, options.per_class), NAMED]
  parts.append(FEW_SHOT.format(draws=options.draws))
  for frames in exercises:
    images = picture(frames)
    rows = {
      'f_v, untrained': floor(images),
      'f_v': features(images),
      'joints as drawn': seen_joints(frames.joints, frames.camera, REFERENCE.height),
      'landmarks of the file': frames.landmarks,
    }
    table, fewest = few_shot(frames, rows, options.draws)
    parts.append(table)
    if short := [f'k = {k}: {n}' for k, n in zip(SHOTS, fewest, strict=True) if n < k]:
      parts.append(f'Fewest frames a class in a draw, where the training half had less than k: {", ".join(short)}.')
  parts.append(f'Encoder {encoder.fingerprint}, {options.pairs} pairs of world frames, {options.draws} draws; '
               f'{time.monotonic() - begun:.0f} s.')  # fmt: skip
  return parts


ZERO_SHOT = (
  'A linear probe learns one fault of the world from single drawn frames (half with, half without it, all sports, seen '
  'from all around) and is applied to the drawn real frames as it is. World: on people of its test split. Joints: the '
  'same probe on the joints themselves; where they separate the mistake and f_v does not, the encoder does not see it; '
  'where f_v does and they do not, it goes by something else that comes with the mistake, not by what the fault means. '
  'AUC asks only for the order of the frames, 0.5 is chance; accuracy also for the cut at 50 %, which the world set. '
  'Intervals: 95 % bootstrap over blocks (below), of which there are few.'
)
NAMED = (
  'Each frame fills one window of the model. Named: mean probability in per cent (share of sampled lists) of the '
  'attribute, over frames with the mistake and without; AUC between the two; the attribute named most over all of them.'
)
FEW_SHOT = (
  'Few-shot, accuracy in per cent: logistic regression on k labelled frames a class. The files name no person and no '
  'video, so frames are split by blocks: consecutive frames until all labels were seen. Half of the blocks, side by '
  'side, train, the others test; one person may still be on both sides. A block is a handful of held poses, whose '
  'frames are near copies: there is far less in n frames than n. Mean over {draws} draws of blocks and frames, and the '
  'range of 95 % of them. Floors: random, and the majority of the training half. Landmarks of the file (x, y, z, '
  'visibility) also tell where in the picture a person is and how large, which changes from video to video; the joints '
  'as drawn do not, and stand for a perfect eye before the same linear reader.'
)


def page(parts: Sequence[Table | str], command: str) -> str:
  """The report as Markdown."""
  assumed = (__doc__ or '').split('\n\n')[2:]
  body = [markdown(part) if isinstance(part, Table) else f'{part}\n' for part in parts]
  head = ['# Real mistakes, drawn', f'Made by `{command}`.', *assumed]
  return '\n\n'.join(part.strip() for part in [*head, *body]) + '\n'


if __name__ == '__main__':
  main()
