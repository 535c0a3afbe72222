"""Labelled body landmarks of real people, read from CSV and drawn by the renderer of the embedded world.

The files hold MediaPipe's image landmarks (x and z in image widths, y in image heights) and a label a frame. What they
do not say is assumed: pictures of 16:9, a level camera, and a depth that MediaPipe guesses twice too long, since
shoulders would otherwise be twice as wide as a trunk of that length asks for. Limbs that a file lacks hang or stand
straight down.
"""

import csv
import dataclasses
import pathlib
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from crosstrainer_jax.datasets.skillsim import render
from crosstrainer_jax.datasets.skillsim.body import INDEX, JOINTS, REFERENCE
from crosstrainer_jax.datasets.skillsim.camera import Camera, look_at, orbit

ASPECT, DEPTH = 16 / 9, 0.5
TRUNK = 0.32  # shoulders to hips as MediaPipe sets them, in standing heights: then legs are as long as the figure's
FOCAL = 1.8  # the longest lens of the world's pretraining cameras: nearest to the flat picture that landmarks are
FILL = 0.85  # share of the picture between the outermost joints; the rest is for head, hands and shoes


@dataclasses.dataclass(frozen=True)
class Exercise:
  """One file of labelled landmarks.

  Attributes:
    labels: meaning of each label; the first one is correct form.
    mistake: the label that `fault`, a name and direction of the world, is held against; None where nothing fits.
    why: what speaks for and against that pair.
  """

  name: str
  file: str
  labels: dict[str, str]
  mistake: str
  fault: tuple[str, str] | None
  why: str

  @property
  def mistakes(self) -> str:
    """What the labels beside the first mean, for a reader."""
    return f'{self.name}: {", ".join(list(self.labels.values())[1:])}'


EXERCISES = (
  Exercise(
    'plank',
    'plank_test.csv',
    {'C': 'correct', 'H': 'hips high', 'L': 'hips low'},
    'H',
    None,
    'not applicable: nobody in the world lies on hands and feet, and no fault lifts or drops the hips out of line',
  ),
  Exercise(
    'bicep curl',
    'bicep_test.csv',
    {'C': 'correct', 'L': 'lean back'},
    'L',
    ('balance', 'tipping'),
    'loose: both take the trunk off the vertical, but the fault goes to the side, and nobody in the world leans back',
  ),
  Exercise(
    'lunge',
    'lunge_err_test.csv',
    {'C': 'correct', 'L': 'knee over toe'},
    'L',
    ('knee bend', 'too deep'),
    'plausible: a knee past the toes bends more; but the fault is a low pelvis and says nothing of the shin',
  ),
  Exercise(
    'squat stage',
    'squat_test.csv',
    {'up': 'up', 'down': 'down'},
    'down',
    ('knee bend', 'too deep'),
    'a control: being down is no mistake, but a probe of knee bend that does not see it cannot see the lunge either',
  ),
)


@dataclasses.dataclass
class Frames:
  """Labelled frames in the order of their file.

  Attributes:
    landmarks: float32[N, 4 K], the numbers of the file; labels: str[N]; blocks: int[N], see `contiguous_blocks`.
    joints: float32[N, J, 3] in metres, z up; camera: one pose a frame.
  """

  exercise: Exercise
  labels: np.ndarray
  blocks: np.ndarray
  landmarks: np.ndarray
  joints: np.ndarray
  camera: Camera

  @property
  def mistaken(self) -> np.ndarray:
    return self.labels == self.exercise.mistake


def read(folder: pathlib.Path, exercise: Exercise) -> Frames:
  """One file of the folder.

  Raises:
    FileNotFoundError, ValueError: no such file, or one of another kind.
  """
  path = folder / exercise.file
  if not path.is_file():
    raise FileNotFoundError(f'{path}: not there; set --data to the folder of the landmark files')
  with path.open(newline='') as file:
    header, *rows = csv.reader(file)
  names = [column.removesuffix('_x') for column in header[1::4]]
  if header != ['label', *(f'{name}_{axis}' for name in names for axis in 'xyzv')] or not rows:
    raise ValueError(f'{path}: expected rows of a label and x, y, z, v of each landmark, under a header')
  labels = np.array([row[0] for row in rows])
  if unknown := set(labels.tolist()) - set(exercise.labels):
    raise ValueError(f'{path}: unknown labels {sorted(unknown)}; expected {sorted(exercise.labels)}')
  values = np.array([row[1:] for row in rows], np.float32)
  joints = to_joints(names, values.reshape(len(rows), -1, 4)[..., :3])
  blocks = contiguous_blocks(labels)
  return Frames(exercise, labels, blocks, values, joints, views(joints, np.full(len(joints), -np.pi / 2)))


def contiguous_blocks(labels: np.ndarray) -> np.ndarray:
  """int[N]: consecutive frames until all labels were seen and the next run of one label begins.

  The files name neither video nor person; a run of one label is mostly one pose held, whose frames are near copies.
  What remains at the end without all labels joins the last block.
  """
  blocks, number, seen = np.zeros(len(labels), int), 0, {labels[0]}
  for i in range(1, len(labels)):
    if labels[i] != labels[i - 1] and len(seen) == len(set(labels)):
      number, seen = number + 1, set()
    seen.add(labels[i])
    blocks[i] = number
  if len(seen) < len(set(labels)):
    blocks[blocks == number] = max(number - 1, 0)
  return blocks


def to_joints(names: Sequence[str], landmarks: np.ndarray) -> np.ndarray:
  """Image landmarks float[N, K, 3] (x right, y down, z away; shares of width, height, width) as joints of the world's
  figure, float32[N, J, 3] in metres: x right, y away from the camera, z up, the lowest joint on the ground.

  Every frame is scaled to one standing height, by the distance between shoulders and hips.
  """
  body, height = REFERENCE, REFERENCE.height
  points = np.stack([landmarks[..., 0] * ASPECT, landmarks[..., 2] * ASPECT * DEPTH, -landmarks[..., 1]], -1)
  at = {name: points[:, k].astype(float) for k, name in enumerate(names)}
  trunk = (at['left_shoulder'] + at['right_shoulder'] - at['left_hip'] - at['right_hip']) / 2
  scale = TRUNK * height / np.linalg.norm(trunk, axis=-1, keepdims=True)
  at = {name: point * scale for name, point in at.items()}
  down = np.array([0.0, 0.0, -height])
  across = at['left_shoulder'] - at['right_shoulder']
  front = _unit(np.cross(across, trunk))
  ahead = _unit(front * np.array([1.0, 1.0, 0.0])) * height
  joints = np.empty((len(points), len(JOINTS), 3))

  def put(name: str, position: np.ndarray) -> np.ndarray:
    joints[:, INDEX[name]] = position
    return position

  pelvis = put('pelvis', (at['left_hip'] + at['right_hip']) / 2)
  neck = put('neck', pelvis + trunk * scale / 0.93)
  put('chest', pelvis + 0.6 * (neck - pelvis))
  nose = put('nose', at['nose'])
  put('head', nose - 0.075 * height * _gaze(neck, nose, front))
  for side in ('left', 'right'):
    shoulder = put(f'{side} shoulder', at[f'{side}_shoulder'])
    elbow = put(f'{side} elbow', at.get(f'{side}_elbow', shoulder + body.upper_arm * down))
    put(f'{side} wrist', at.get(f'{side}_wrist', elbow + body.forearm * down))
    hip = put(f'{side} hip', at[f'{side}_hip'])
    knee = put(f'{side} knee', at.get(f'{side}_knee', hip + body.thigh * down))
    ankle = put(f'{side} ankle', at.get(f'{side}_ankle', knee + body.shin * down))
    put(f'{side} toe', at.get(f'{side}_foot_index', ankle + body.foot * ahead))
  joints -= joints[:, :1] * np.array([1.0, 1.0, 0.0])
  joints[..., 2] -= joints[..., 2].min(1, keepdims=True)
  return joints.astype(np.float32)


def _gaze(neck: np.ndarray, nose: np.ndarray, front: np.ndarray) -> np.ndarray:
  """Where the head looks, unit vectors float[N, 3]: in the figure the nose lies 0.085 ahead of the neck and 0.095
  above it, which fixes the angle between gaze and neck-nose line in the plane of the trunk's front."""
  line = _unit(nose - neck)
  towards = _unit(front - (front * line).sum(-1, keepdims=True) * line)
  angle = np.arctan2(0.095, 0.085)
  return np.cos(angle) * line + np.sin(angle) * towards


def _unit(vectors: np.ndarray) -> np.ndarray:
  return vectors / (np.linalg.norm(vectors, axis=-1, keepdims=True) + 1e-9)


def views(joints: np.ndarray, azimuth: np.ndarray, elevation: float = 0.0, focal: float = FOCAL) -> Camera:
  """A camera that frames each of `joints` [N, J, 3] on its own, from `azimuth` float[N] in the world (-pi/2: as
  filmed)."""
  centre = (joints.min(1) + joints.max(1)) / 2
  radius = np.linalg.norm(joints - centre[:, None], axis=-1).max(1)
  return look_at(orbit(centre, azimuth, np.full(len(joints), elevation), 2 * focal / FILL * radius), centre, focal)


def picture(frames: Frames) -> np.ndarray:
  """uint8[N, H, W, 3]: every frame drawn, always in the same clothes before the same plain wall."""
  return render.draw(frames.joints, frames.camera, render.Look(), render.Scene(pattern='plain', implement='none'))


def seen_joints(joints: np.ndarray, camera: Camera, height: float) -> np.ndarray:
  """float32[N, 3 J]: joints from the pelvis in camera axes, in body heights; what a perfect eye would measure."""
  return (camera.turn(joints - joints[:, :1]) / height).reshape(len(joints), -1).astype(np.float32)


def contact_sheet(exercises: Sequence[Frames], columns: int = 10, zoom: int = 2) -> Image.Image:
  """A row for every label of every file, frames spread evenly over it."""
  rows = [(frames, label) for frames in exercises for label in frames.exercise.labels]
  side = zoom * render.SIZE
  sheet = Image.new('RGB', (110 + columns * side, len(rows) * side), 'white')
  pen = ImageDraw.Draw(sheet)
  for row, (frames, label) in enumerate(rows):
    pen.multiline_text((4, row * side + 20), f'{frames.exercise.name}\n{frames.exercise.labels[label]}', fill='black')
    where = np.flatnonzero(frames.labels == label)
    images = picture(frames)[where[np.linspace(0, len(where) - 1, columns).round().astype(int)]]
    for column, image in enumerate(images):
      enlarged = Image.fromarray(image).resize((side, side), Image.Resampling.NEAREST)
      sheet.paste(enlarged, (110 + column * side, row * side))
  return sheet
