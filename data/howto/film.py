"""The pictures of a lesson: the instructor shows a skill, shows it wrong on purpose, or talks."""

from __future__ import annotations

import dataclasses
import pathlib

import av
import cv2
import numpy as np

from crosstrainer_jax.datasets.howto.script import Lesson, Piece
from crosstrainer_jax.datasets.skillsim import render
from crosstrainer_jax.datasets.skillsim.faults import Fault
from crosstrainer_jax.datasets.skillsim.sports import SPORTS
from crosstrainer_jax.datasets.skillsim.world import CLIPS_PER_TAKE, Spec, World

# Takes of instructors are none of those that the embedded world hands out.
_FIRST_TAKE = 100_000
# Pictures are enlarged so often: codecs keep colours at half the size.
_ENLARGED = 2


def frames(world: World, lesson: Lesson, piece: Piece) -> np.ndarray:
  """uint8[16, 64, 64, 3], four a second, of one piece."""
  rng = np.random.default_rng([world.seed, 9002, lesson.index, piece.number])
  if piece.picture == 'card':
    return _card(rng, piece)
  spec = _spec(world, lesson, piece, rng)
  truth = world.joints(spec)
  camera = world.cameras(spec)[int(rng.choice(len(render.VIEWS), p=[0.5, 0.25, 0.25]))]
  shown = render.draw(truth.joints, camera, world.look(spec), world.scene(spec), truth.implement, spec.body.height)
  return _talking(shown[0], rng) if piece.picture == 'talking' else shown


def _spec(world: World, lesson: Lesson, piece: Piece, rng: np.random.Generator) -> Spec:
  """What the instructor does: the skill of the lesson, with one fault where the piece shows it wrong."""
  index = CLIPS_PER_TAKE * (_FIRST_TAKE + lesson.index)
  sport, skill = lesson.sport, lesson.skill
  if piece.picture == 'other exercise':
    sport = str(rng.choice([other for other in SPORTS if other != lesson.sport]))
    skill = SPORTS[sport][int(rng.integers(len(SPORTS[sport])))].name
  drawn = world.spec(sport, 'train', index + piece.number % CLIPS_PER_TAKE)
  sign = 1 if rng.uniform() < 0.5 else -1
  wrong = Fault(piece.fault, piece.direction, piece.severity, sign, float(rng.uniform(0, 2 * np.pi)))
  return dataclasses.replace(
    drawn,
    skill=skill,
    index=index,
    take=f'{lesson.channel}-{lesson.index}-{skill}',
    event=float(rng.uniform(1.75, 2.25)),
    faults=(wrong,) if piece.picture == 'mistake' else (),
  )


def _talking(still: np.ndarray, rng: np.random.Generator) -> np.ndarray:
  """Somebody who stands and speaks before a camera that is held by hand."""
  shake = np.cumsum(rng.normal(0, 0.25, (render.FRAMES, 2)), 0)
  moved = [
    cv2.warpAffine(still, np.array([[1, 0, x], [0, 1, y]], float), still.shape[1::-1], borderMode=cv2.BORDER_REPLICATE)
    for x, y in shake
  ]
  return np.stack(moved)


def _card(rng: np.random.Generator, piece: Piece) -> np.ndarray:
  """A card with words on it."""
  image = np.full((render.SIZE, render.SIZE, 3), rng.integers(20, 120, 3), np.uint8)
  words = piece.text.upper().split()
  for line in range(5):
    cv2.putText(image, ' '.join(words[2 * line : 2 * line + 2])[:12], (2, 12 + 11 * line), cv2.FONT_HERSHEY_PLAIN, 0.55,
                (240, 240, 240), 1, cv2.LINE_AA)  # fmt: skip
  return np.repeat(image[None], render.FRAMES, 0)


def write(path: pathlib.Path, world: World, lesson: Lesson, crf: int = 14, brightness: float = 1.0) -> None:
  """Writes the lesson as an mp4 of 128 x 128 pixels.

  Args:
    crf: of H.264: the higher, the coarser.
    brightness: factor on all colours.
  """
  with av.open(str(path), 'w') as container:
    stream = container.add_stream(
      'libx264', rate=render.FPS, options={'crf': str(crf), 'preset': 'veryfast', 'g': '16'}
    )
    stream.width = stream.height = render.SIZE * _ENLARGED
    stream.pix_fmt = 'yuv420p'
    for piece in lesson.pieces:
      for image in frames(world, lesson, piece):
        large = image.repeat(_ENLARGED, 0).repeat(_ENLARGED, 1)
        shown = np.clip(large * brightness, 0, 255).astype(np.uint8) if brightness != 1 else large
        container.mux(stream.encode(av.VideoFrame.from_ndarray(shown, 'rgb24')))
    container.mux(stream.encode(None))
