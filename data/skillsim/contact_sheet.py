"""Draws `contact_sheet.png`: the skills through their phases, then sports against faults, clean twin above the fault.

Command: `python -m crosstrainer_jax.datasets.skillsim.contact_sheet`.
Each cell of the lower part shows the moment where the clip differs most from its twin.
"""

import argparse
import dataclasses
import pathlib

import numpy as np
from PIL import Image, ImageDraw

from crosstrainer_jax.datasets.skillsim.body import INDEX
from crosstrainer_jax.datasets.skillsim.faults import FAULTS, Fault
from crosstrainer_jax.datasets.skillsim.render import SIZE
from crosstrainer_jax.datasets.skillsim.sports import SPORTS
from crosstrainer_jax.datasets.skillsim.world import Spec, World

_LEFT, _TOP, _CAPTION = 84, 30, 12
_INK, _PAPER = (30, 30, 30), (255, 255, 255)
_PHASES = ((-6, 'prepare'), (-3, 'load'), (-1, 'drive'), (0, 'contact'), (2, 'follow'), (5, 'recover'))


def _clean(world: World, sport: str, skill: int) -> Spec:
  """A right-handed clip of the sport's skill of that number, its faults removed."""
  index = 0
  while True:
    spec = world.spec(sport, 'train', index)
    if spec.skill == SPORTS[sport][skill].name and not spec.left_handed:
      return dataclasses.replace(spec, faults=())
    index += 4


def _moment(world: World, spec: Spec, twin: Spec) -> int:
  """The frame in which the joints of two clips lie farthest apart."""
  gap = np.linalg.norm(world.joints(spec).joints - world.joints(twin).joints, axis=-1)
  return int(gap[:, [INDEX[n] for n in ('pelvis', 'neck', 'nose', 'left wrist', 'left ankle')]].sum(1).argmax())


def _skills(world: World) -> Image.Image:
  """Every skill, faultless, through its phases: close view, then the left one."""
  width = _LEFT + 2 * len(_PHASES) * SIZE + 8
  rows = [(sport, i) for sport in SPORTS for i in range(3)]
  sheet = Image.new('RGB', (width, _CAPTION + len(rows) * SIZE), _PAPER)
  pen = ImageDraw.Draw(sheet)
  for v in range(2):
    for c, (_, name) in enumerate(_PHASES):
      pen.text((_LEFT + 8 * v + (v * len(_PHASES) + c) * SIZE + 3, 0), name, fill=_INK)
  for r, (sport, i) in enumerate(rows):
    spec = _clean(world, sport, i)
    frames = world.render(spec)
    contact = int(world.joints(spec).contact.argmax())
    top = _CAPTION + r * SIZE
    pen.multiline_text((2, top + 14), spec.skill.replace(' ', '\n', 1), fill=_INK, spacing=1)
    for v in range(2):
      for c, (offset, _) in enumerate(_PHASES):
        left = _LEFT + 8 * v + (v * len(_PHASES) + c) * SIZE
        sheet.paste(Image.fromarray(frames[v, contact + offset]), (left, top))
  return sheet


def _faults(world: World) -> Image.Image:
  """Every fault and direction in every sport, from the left static view: clean twin above, fault below."""
  kinds = [(name, direction) for name, directions in FAULTS.items() for direction in directions]
  sheet = Image.new('RGB', (_LEFT + len(kinds) * (SIZE + 2), _TOP + len(SPORTS) * (2 * SIZE + 6)), _PAPER)
  pen = ImageDraw.Draw(sheet)
  for c, (name, direction) in enumerate(kinds):
    pen.multiline_text((_LEFT + c * (SIZE + 2) + 1, 2), f'{_short(name)}\n{direction}', fill=_INK, spacing=1)
  for r, sport in enumerate(SPORTS):
    top = _TOP + r * (2 * SIZE + 6)
    pen.multiline_text((2, top + 10), f'{sport.replace(" ", chr(10))}\n\nclean', fill=_INK)
    pen.text((2, top + SIZE + 24), 'fault', fill=_INK)
    for c, (name, direction) in enumerate(kinds):
      twin = _clean(world, sport, (r + c // 2) % 3)
      spec = dataclasses.replace(twin, faults=(Fault(name, direction, 0.8, 1, 1.2),))
      t = _moment(world, spec, twin)
      view = 0 if name == 'head position' else 1
      for row, shown in enumerate((twin, spec)):
        picture = Image.fromarray(world.render(shown)[view, t])
        sheet.paste(picture, (_LEFT + c * (SIZE + 2), top + row * SIZE))
  return sheet


def _short(name: str) -> str:
  return (
    name.replace('follow-through', 'follow')
    .replace('positioning', 'pos.')
    .replace('position', 'pos.')
    .replace('control', '')
    .strip()
  )


def main() -> None:
  """Writes the picture beside this file, or where `--out` says."""
  parser = argparse.ArgumentParser(description=main.__doc__)
  parser.add_argument('--out', type=pathlib.Path, default=pathlib.Path(__file__).with_name('contact_sheet.png'))
  parser.add_argument('--seed', type=int, default=0)
  args = parser.parse_args()
  world = World(args.seed)
  parts = [_skills(world), _faults(world)]
  sheet = Image.new('RGB', (max(p.width for p in parts), sum(p.height for p in parts) + 10), _PAPER)
  top = 0
  for part in parts:
    sheet.paste(part, (0, top))
    top += part.height + 10
  sheet.quantize(128, dither=Image.Dither.NONE).save(args.out, optimize=True)
  print(f'{args.out}: {sheet.width} x {sheet.height} pixels, {args.out.stat().st_size / 1000:.0f} kB')


if __name__ == '__main__':
  main()
