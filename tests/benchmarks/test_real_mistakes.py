import importlib.util
import itertools
import pathlib
import sys

import numpy as np
import pytest
from flax import nnx

from crosstrainer_jax.datasets.skillsim import render
from crosstrainer_jax.datasets.skillsim.body import INDEX, REFERENCE
from crosstrainer_jax.datasets.skillsim.camera import Camera
from crosstrainer_jax.input import video
from crosstrainer_jax.models import encoders

BENCHMARKS = pathlib.Path(__file__).resolve().parents[2] / 'benchmarks'


def script(name: str):
  """A benchmark as a module; they find each other as they do when run as scripts."""
  spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f'{name}.py')
  module = importlib.util.module_from_spec(spec)
  sys.modules[name] = module
  spec.loader.exec_module(module)
  return module


drawn_landmarks = script('drawn_landmarks')
real_mistakes = script('real_mistakes')

NAMES = [
  'nose', *(f'{side}_{part}' for part in ('shoulder', 'elbow', 'wrist', 'hip', 'knee', 'ankle', 'foot_index')
            for side in ('left', 'right')),
]  # fmt: skip
# Seen from its right side: faces the right edge of the picture, left limbs farther away; pixels of 1600 x 900.
STANDING = {
  'nose': (840, 150, 0), 'shoulder': (800, 250, 70), 'elbow': (800, 370, 80), 'wrist': (830, 470, 80),
  'hip': (800, 450, 35), 'knee': (800, 600, 35), 'ankle': (800, 750, 35), 'foot_index': (860, 770, 35),
}  # fmt: skip


def landmarks(changes: dict | None = None) -> np.ndarray:
  """float[1, K, 3] of one standing person in the order of NAMES, in the units of the files."""
  rows = []
  for name in NAMES:
    side, _, part = name.partition('_')
    x, y, away = {**STANDING, **(changes or {})}[part or name]
    rows.append((x / 1600, y / 900, {'left': 1, 'right': -1}.get(side, 0) * away / 1600 * 2))
  return np.array([rows])


@pytest.fixture(scope='module')
def encoder(tmp_path_factory) -> encoders.Encoder:
  path = tmp_path_factory.mktemp('weights') / 'small.safetensors'
  sizes = {'channels': 8, 'keypoints': 4, 'width': 16, 'layers': 1, 'heads': 2, 'feature_dim': 12}
  config, module = encoders.build('video_transformer', sizes, seed=0)
  encoders.save(path, 'video_transformer', config, nnx.state(module, nnx.Param), {})
  return encoders.load(path)


def made_frames(labels: list[str], exercise=drawn_landmarks.EXERCISES[1]):
  """Frames of a person who leans in the picture wherever the label says so."""
  marks = np.concatenate(
    [landmarks({'shoulder': (700 if label == 'L' else 800, 260, 70)}) for label in labels]
  ) + np.random.default_rng(0).normal(0, 2e-3, (len(labels), len(NAMES), 3))
  joints = drawn_landmarks.to_joints(NAMES, marks)
  camera = drawn_landmarks.views(joints, np.full(len(joints), -np.pi / 2))
  blocks = drawn_landmarks.contiguous_blocks(np.array(labels))
  return drawn_landmarks.Frames(
    exercise, np.array(labels), blocks, marks.reshape(len(labels), -1).astype(np.float32), joints, camera
  )


def test_joints_stand_upright_in_metres():
  joints = drawn_landmarks.to_joints(NAMES, landmarks())[0]
  at = {name: joints[i] for name, i in INDEX.items()}
  shoulders, hips = ((at[f'left {part}'] + at[f'right {part}']) / 2 for part in ('shoulder', 'hip'))
  assert np.linalg.norm(shoulders - hips) == pytest.approx(drawn_landmarks.TRUNK * REFERENCE.height, rel=1e-4)
  assert joints[:, 2].min() == 0
  assert at['left toe'][2] < at['left ankle'][2] < at['left knee'][2] < at['pelvis'][2] < at['neck'][2] < at['head'][2]
  # a thigh of 150 pixels beside a trunk of 200, whatever the picture's sides are called
  thigh = np.linalg.norm(at['right knee'] - at['right hip'])
  assert thigh == pytest.approx(0.75 * drawn_landmarks.TRUNK * REFERENCE.height, rel=1e-4)
  # facing right: toes and nose ahead, the left side farther from the camera
  assert at['nose'][0] > at['head'][0] + 0.08
  assert at['left toe'][0] > at['left ankle'][0]
  assert at['left shoulder'][1] - at['right shoulder'][1] == pytest.approx(2 * 70 / 200 * 0.56, rel=0.01)


@pytest.mark.parametrize(('missing', 'below'), [('elbow', 'shoulder'), ('knee', 'hip')])
def test_limbs_that_a_file_lacks_point_down(missing, below):
  lower = {'elbow': 'wrist', 'knee': 'ankle'}[missing]
  kept = [i for i, name in enumerate(NAMES) if missing not in name and lower not in name]
  joints = drawn_landmarks.to_joints([NAMES[i] for i in kept], landmarks()[:, kept])[0]
  for side in ('left', 'right'):
    chain = joints[[INDEX[f'{side} {part}'] for part in (below, missing, lower)]]
    np.testing.assert_allclose(chain[:, :2], chain[[0] * 3, :2], atol=1e-6)
    assert (np.diff(chain[:, 2]) < -0.2).all()


def test_absent_feet_point_ahead():
  kept = [i for i, name in enumerate(NAMES) if 'foot' not in name]
  joints = drawn_landmarks.to_joints([NAMES[i] for i in kept], landmarks()[:, kept])[0]
  foot = joints[INDEX['right toe']] - joints[INDEX['right ankle']]
  np.testing.assert_allclose(foot, [REFERENCE.foot * REFERENCE.height, 0, 0], atol=0.02)


def test_the_drawing_repeats_the_picture():
  joints = drawn_landmarks.to_joints(NAMES, landmarks())
  camera = drawn_landmarks.views(joints, np.array([-np.pi / 2]))
  assert isinstance(camera, Camera)
  pixels = camera.project(joints, render.SIZE)[0][0]
  assert ((pixels > 1) & (pixels < render.SIZE - 1)).all()
  at = {name: pixels[i] for name, i in INDEX.items()}
  assert at['nose'][0] > at['pelvis'][0]  # faces right
  assert at['head'][1] < at['pelvis'][1] < at['right ankle'][1]  # head up
  image = drawn_landmarks.picture(made_frames(['C', 'L']))
  assert image.shape == (2, render.SIZE, render.SIZE, 3)
  assert image.dtype == np.uint8
  assert (image[0] != image[1]).any()


def test_blocks_end_between_runs_and_hold_every_label():
  labels = np.array(list('CCLLHHCCCHLLCL'))
  blocks = drawn_landmarks.contiguous_blocks(labels)
  # the rest without H joins the block before it
  assert blocks.tolist() == [0] * 6 + [1] * 8
  assert drawn_landmarks.contiguous_blocks(np.array(list('CLCL'))).tolist() == [0, 0, 1, 1]
  assert drawn_landmarks.contiguous_blocks(np.array(list('CLC'))).tolist() == [0, 0, 0]


def test_draws_keep_blocks_apart_and_side_by_side():
  labels = np.array(list('CCCLLL' * 7))
  blocks = drawn_landmarks.contiguous_blocks(labels)
  seen = set()
  for seed in range(40):
    draw = real_mistakes.draw_frames(labels, blocks, 2, seed)
    assert not set(blocks[draw.train]) & set(blocks[draw.test])
    assert [(labels[draw.train] == kind).sum() for kind in 'CL'] == [2, 2] == [draw.fewest] * 2
    inside = [block not in blocks[draw.test] for block in range(7)]
    assert sum(inside) == 3
    assert sum(a != b for a, b in itertools.pairwise([*inside, inside[0]])) == 2
    seen.add(tuple(inside))
  assert len(seen) == 7
  assert real_mistakes.draw_frames(labels, blocks, 100, 0).fewest == 9


def test_intervals_resample_blocks():
  blocks = np.repeat(np.arange(6), 50)
  values = np.repeat([0.0, 0.0, 0.0, 1.0, 1.0, 1.0], 50)
  value, low, high = real_mistakes.by_block(lambda i: float(values[i].mean()), blocks)
  assert value == 0.5
  assert low < 0.25  # 300 frames would give 0.44, six blocks do not
  assert high > 0.75


def test_few_shot_learns_what_is_there_and_nothing_else(monkeypatch):
  monkeypatch.setattr(real_mistakes, 'SHOTS', (5, 30))
  frames = made_frames(list('CCCCCCCCLLLLLLLL' * 6))
  noise = np.random.default_rng(3).normal(size=(len(frames.labels), 4))
  joints = drawn_landmarks.seen_joints(frames.joints, frames.camera, REFERENCE.height)
  table, fewest = real_mistakes.few_shot(frames, {'noise': noise, 'joints': joints}, draws=4)
  assert fewest == [5, 24]
  scores = {name: [int(cell.split()[0]) for cell in cells] for name, cells in table.rows}
  assert scores['joints'] == [100, 100]
  assert all(25 < score < 75 for name in ('random', 'noise') for score in scores[name])
  assert scores['majority'] == [50, 50]
  assert 'correct 48, lean back 48 frames in 6 blocks' in table.title


def test_world_frames_come_in_pairs_that_differ_by_the_fault():
  frames = real_mistakes.world_frames(('balance', 'tipping'), 'train', 8)
  assert frames.images.shape == (16, render.SIZE, render.SIZE, 3)
  assert frames.faulty.tolist() == [False, True] * 8
  joints = frames.joints.reshape(16, -1, 3)
  trunk = joints[:, INDEX['neck']] - joints[:, INDEX['pelvis']]
  upright = trunk[:, 1] / np.linalg.norm(trunk, axis=-1)  # camera axis y is up
  assert (upright[0::2] > upright[1::2]).mean() > 0.8


def test_zero_shot_reports_what_does_not_apply(encoder):
  plank, curl = drawn_landmarks.EXERCISES[:2]
  curls = made_frames(list('CCCLLL' * 4))
  planks = made_frames(list('CCHHLL' * 2), plank)
  table = real_mistakes.zero_shot([planks, curls], real_mistakes.make_features(encoder), pairs=60)
  rows = dict(table.rows)
  assert rows[plank.mistakes][0] == 'not applicable'
  assert rows[f'{curl.mistakes}, f_v'][0] == 'balance: tipping'
  # the made people lean clearly, and the joints show it
  assert float(rows[f'{curl.mistakes}, joints'][2].split()[0]) > 0.9


def test_features_hold_each_frame_for_one_token(encoder):
  images = drawn_landmarks.picture(made_frames(list('CL' * 3)))
  features = real_mistakes.make_features(encoder)(images)
  assert features.shape == (6, 12)
  clip = np.repeat(images[1:2], encoder.config.frames_per_token, 0)[None]
  expected = np.asarray(encoder.apply(encoder.params, clip))[0, 0]
  np.testing.assert_allclose(features[1], expected, atol=5e-3, rtol=5e-3)
  other = real_mistakes.make_features(real_mistakes.untrained(encoder))(images)
  assert np.abs(other - features).max() > 0.05


class FakeCoach:
  """Reads the video as the real coach does, and sees a fault wherever the picture is the leaning one."""

  window = 4.0

  def __init__(self, leaning: np.ndarray):
    self.leaning = leaning

  def assess(self, path: pathlib.Path, sport: str):
    spans = video.sliding_windows(video.probe(path).duration, self.window, self.window)
    wanted = [[begin + i / render.FPS for i in range(16)] for begin, _ in spans]
    segments = []
    for (begin, end), shown in zip(spans, video.read_windows(path, wanted, render.SIZE, 'letterbox'), strict=True):
      assert len(shown.frames) == 16
      assert (shown.frames == shown.frames[0]).all()
      tips = any((shown.frames[0] == image).all() for image in self.leaning)
      segments.append(Segment(begin, end, {'balance': 0.9} if tips else {}, {} if tips else {'balance': 0.2}))
    return Answer(segments)


class Segment:
  def __init__(self, start, end, attributes, doubtful):
    self.start, self.end, self.attributes, self.doubtful = start, end, attributes, doubtful


class Answer:
  def __init__(self, segments):
    self.segments = segments


def test_named_shows_every_frame_to_the_model(monkeypatch):
  frames = made_frames(list('CCLL' * 4))
  leaning = drawn_landmarks.picture(frames)[frames.mistaken]
  monkeypatch.setattr('crosstrainer_jax.load', lambda workdir: FakeCoach(leaning))
  table = real_mistakes.named([frames], pathlib.Path('run'), per_class=5)
  assert table.rows == [(frames.exercise.mistakes, ['balance', '90', '20', '1.00 [1.00, 1.00]', 'balance 55', '10'])]


def test_the_page_is_markdown():
  table = real_mistakes.Table('T', ['a'], [('row', ['1'])])
  page = real_mistakes.page([table, 'words'], 'python x.py')
  assert page.startswith('# Real mistakes, drawn\n\nMade by `python x.py`.\n\nThe landmarks')
  assert '| row | 1 |' in page


def test_wrong_files_are_refused_by_name(tmp_path):
  exercise = drawn_landmarks.EXERCISES[0]
  with pytest.raises(FileNotFoundError, match='set --data'):
    drawn_landmarks.read(tmp_path, exercise)
  path = tmp_path / exercise.file
  path.write_text('label,a,b\nC,1,2\n')
  with pytest.raises(ValueError, match='expected rows of a label'):
    drawn_landmarks.read(tmp_path, exercise)
  path.write_text('label,nose_x,nose_y,nose_z,nose_v\nQ,1,2,3,4\n')
  with pytest.raises(ValueError, match=r"unknown labels \['Q'\]"):
    drawn_landmarks.read(tmp_path, exercise)


@pytest.mark.real
def test_real_people_are_drawn_as_they_stood(real_data):
  folder = real_data / 'exercise_correction'
  exercises = {exercise.name: drawn_landmarks.read(folder, exercise) for exercise in drawn_landmarks.EXERCISES}
  assert [len(frames.labels) for frames in exercises.values()] == [710, 604, 1107, 853]
  for frames in exercises.values():
    head, feet = (frames.joints[:, INDEX[name], 2] for name in ('head', 'right toe'))
    assert np.isfinite(frames.joints).all()
    if frames.exercise.name != 'plank':
      assert (head > feet + 0.6).mean() > 0.99
    for block in np.unique(frames.blocks):
      assert set(frames.labels[frames.blocks == block]) == set(frames.exercise.labels)
  hips = exercises['plank'].joints[:, INDEX['pelvis'], 2]
  medians = [np.median(hips[exercises['plank'].labels == label]) for label in 'HCL']
  assert medians == sorted(medians, reverse=True)
  width = np.ptp(exercises['plank'].joints, axis=1)
  assert (width[:, 0] > width[:, 2]).mean() > 0.95  # a plank lies
  heights = [
    np.median(np.ptp(frames.joints[frames.labels == label][..., 2], 1))
    for frames, label in (
      (exercises['squat stage'], 'up'),
      (exercises['squat stage'], 'down'),
      (exercises['lunge'], 'C'),
    )
  ]
  # metres up to the middle of the head: standing, squatting, on one knee
  np.testing.assert_allclose(heights, [1.6, 1.15, 1.2], atol=0.1)


def test_absent_files_end_in_a_sentence(tmp_path, monkeypatch, capsys):
  monkeypatch.setattr(sys, 'argv', ['real_mistakes.py', '--data', str(tmp_path)])
  with pytest.raises(SystemExit, match='2'):
    real_mistakes.main()
  said = capsys.readouterr().err
  assert said == f'{tmp_path / "plank_test.csv"}: not there; set --data to the folder of the landmark files\n'
