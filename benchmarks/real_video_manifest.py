"""Writes a manifest of the real videos in ../shared/data, with commentary of our own after looking at the frames.

    python benchmarks/real_video_manifest.py runs/real --data ../shared/data
    python -m crosstrainer_jax.prepare runs/real/manifest.jsonl --root ../shared/data --name real --mu1 1 --mu2 1

Windows are 1 to 2 s long and do not overlap. The videos show few people, so all is training data, and no figure on it
says anything about new videos. Nobody's level is known, and no fault was labelled apart from the words.
"""

import argparse
import json
import pathlib
from typing import Any

SQUAT = {
  'videos': ['tfjs_squats/pose_squats.mp4'], 'sport': 'fitness', 'skill': 'squat', 'participant': 'squatter',
  'licence': 'Apache-2.0', 'provenance': 'tensorflow/tfjs-models, pose-detection/test_data',
}  # fmt: skip
KICK = {
  'videos': [f'pose2sim_4view/cam0{i}.mp4' for i in (1, 2, 3, 4)],
  'views': ['front left', 'front', 'back left', 'back'],
  'sport': 'martial arts', 'skill': 'side kick', 'participant': 'kicker', 'take': 'kick',
  'licence': 'BSD-3-Clause', 'provenance': 'perfanalytics/pose2sim, Demo_SinglePerson',
}  # fmt: skip
PARK = {
  'videos': ['sports2d_demo/demo.mp4'], 'licence': 'BSD-3-Clause', 'provenance': 'davidpagnon/Sports2D, Demo',
}  # fmt: skip
WALK = {**PARK, 'sport': 'gait', 'skill': 'walking', 'participant': 'walker'}
JUMP = {**PARK, 'sport': 'parkour', 'participant': 'jumper'}


def flip(file: str, skill: str) -> dict[str, Any]:
  """The five flips may show one athlete or several; as one participant they can never leak between splits."""
  return {
    'videos': [f'pkvision_flips/{file}'], 'sport': 'parkour', 'skill': skill, 'participant': 'flipper',
    'licence': 'MIT', 'provenance': 'AirKyzzZ/pkvision, data/final_clips',
  }  # fmt: skip


# (recording, start, end, commentary)
COMMENTS: list[tuple[dict[str, Any], float, float, str]] = [
  (SQUAT, 0.4, 2.0,
   'You send the hips back first and both heels stay flat on the floor. The hands only meet halfway down; bring '
   'them together before you bend.'),
  (SQUAT, 2.0, 3.6,
   'The knees press out against the band and stay over the toes on the way up. Your chest tips forward at the '
   'bottom, so lift it before the hips rise.'),
  (SQUAT, 3.6, 5.2,
   'You stand up fully with the hips open and the weight even on both feet. Do not let the arms hang loose; stay '
   'tight for the next repetition.'),
  (SQUAT, 5.2, 6.8,
   'This is your deepest squat, with the hips down at the height of the knees. The feet are narrow; set them '
   'shoulder width apart.'),
  (SQUAT, 6.8, 8.4,
   'Your head stays up and the eyes look straight ahead while you rise. The arms drop before the legs are '
   'straight; keep the hands in front until you stand.'),
  (SQUAT, 8.4, 10.0,
   'Good upright posture with the shoulders over the hips. The rest between the squats is too long; keep an even '
   'rhythm.'),
  (SQUAT, 10.0, 11.4,
   'Smooth and slow on the way down, with good control of the speed. The knees start close together and the band '
   'is slack; push them apart from the start.'),
  (SQUAT, 11.4, 13.0,
   'You hold the bottom position with steady balance and still feet. The trunk leans far over the thighs; keep '
   'the back more upright.'),
  (KICK, 0.0, 1.66,
   'Good balance on the standing leg, and the foot comes back down softly. The trunk falls away to the side and '
   'the head drops; stay taller and lift the knee before you extend the leg.'),
  (JUMP | {'skill': 'jumping jack'}, 0.0, 1.2,
   'The arms and legs open wide at the same time. The landing is heavy with a deep knee bend; stay light on the '
   'balls of the feet.'),
  (WALK, 2.1, 3.6,
   'Relaxed upright walk with the head level and the eyes forward. The elbow hardly bends; let the arm swing '
   'more freely from the shoulder.'),
  (WALK, 3.6, 5.1,
   'The heel strikes first and you roll through to a clear push off from the toes. The front arm stays low; '
   'match the swing of both arms.'),
  (JUMP | {'skill': 'front flip off a wall'}, 5.1, 6.3,
   'Arms high before the take off, a fast tuck, and you open in time to see the ground. You lean out from the '
   'wall instead of jumping up, so there is little height.'),
  (JUMP | {'skill': 'front flip off a wall'}, 6.3, 7.6,
   'Both feet land together and you run out of it at once. The landing tips forward until both hands touch the '
   'grass; keep the chest up and absorb with the knees.'),
  (flip('back_double_full.mp4', 'back double full'), 0.0, 1.69,
   'Strong push off the block, and the arms wrap tight to the chest for the twist. On the landing the chest '
   'falls forward and the knees fold; spot the mat earlier and land taller.'),
  (flip('backflip.mp4', 'back flip'), 0.0, 1.1,
   'Both arms swing back together with a good knee bend before the jump. The trunk folds too far forward in the '
   'preparation; keep the chest higher.'),
  (flip('backflip.mp4', 'back flip'), 1.1, 2.28,
   'Tight tuck at the top, and both feet land together on the beam. You sink into a deep crouch and the arms '
   'come up unevenly; stand up sooner to hold the balance.'),
  (flip('double_cork.mp4', 'double cork'), 0.0, 1.75,
   'The swing leg and both arms carry you high off the box. You land with the chest low and a round back, one '
   'hand near the floor; finish the rotation earlier.'),
  (flip('frontflip.mp4', 'front flip'), 0.0, 1.41,
   'Quick tuck, and you hold the landing without an extra step. You bend forward before the feet leave the '
   'floor, so the flip stays low; jump up first and then rotate.'),
  (flip('gainer.MOV', 'gainer'), 0.0, 1.39,
   'Big arm swing at the take off, and both feet land together on the lower box. The landing sinks into a full '
   'squat with the hands down in front; open the tuck earlier.'),
]  # fmt: skip


def main() -> None:
  """Writes manifest.jsonl and says what is in it."""
  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  parser.add_argument('folder', type=pathlib.Path, help='where manifest.jsonl is written')
  parser.add_argument('--data', type=pathlib.Path, default=pathlib.Path('../shared/data'), help='default: %(default)s')
  options = parser.parse_args()
  rows = [r | {'start': start, 'end': end, 'commentary': said, 'split': 'train'} for r, start, end, said in COMMENTS]
  missing = sorted({v for row in rows for v in row['videos'] if not (options.data / v).is_file()})
  if missing:
    parser.error(f'not in {options.data}: {", ".join(missing)}; set --data')
  options.folder.mkdir(parents=True, exist_ok=True)
  path = options.folder / 'manifest.jsonl'
  path.write_text('\n'.join(json.dumps(row) for row in rows) + '\n')
  takes = len({row['videos'][0] for row in rows})
  people = len({row['participant'] for row in rows})
  print(f'{path}: {len(rows)} windows of {takes} takes, {people} participants')
  print(f'python -m crosstrainer_jax.prepare {path} --root {options.data} --name real --mu1 1 --mu2 1')


if __name__ == '__main__':
  main()
