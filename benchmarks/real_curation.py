"""Curation on real material: real videos and caption files as a folder of yt-dlp, and real instructions at the gate.

    python benchmarks/real_curation.py ../shared/data

Every caption file of the folder becomes a video of its own, with one of the real videos beside it in turn, so that all
forms, broken ones too, go through all steps; then the sentences of real exercise instructions are put to the gate
`actionable`, all of which should pass.
"""

import argparse
import collections
import json
import os
import pathlib
import re
import tempfile

from crosstrainer_jax.curation import manifest, rules, scan, steps
from crosstrainer_jax.curation.run import Run
from crosstrainer_jax.input import video

VIDEOS = (
  'tfjs_squats/pose_squats.mp4', 'tfjs_squats/pose_1.mp4', 'pose2sim_4view/cam01.mp4', 'pose2sim_4view/cam02.mp4',
  'sports2d_demo/demo.mp4', 'pkvision_flips/back_double_full.mp4', 'pkvision_flips/backflip.mp4',
  'pkvision_flips/double_cork.mp4', 'pkvision_flips/frontflip.mp4', 'pkvision_flips/gainer.MOV',
)  # fmt: skip
CAPTIONS = ('webvtt_fixtures/*.vtt', 'webvtt_fixtures/*.srt', 'webvtt_fixtures/*.sbv')
XML = 'youtube_transcript_api_fixtures/transcript.xml.static'


# A real video, and the exercise whose real instructions are said in it, four seconds a sentence.
TOLD = (('tfjs_squats/pose_squats.mp4', 'Bodyweight Squat'), ('tfjs_squats/pose_1.mp4', 'Bodyweight Squat'))


def sentences_of(exercise: dict) -> list[str]:
  """The sentences of its instructions."""
  found = [part.strip() for step in exercise['instructions'] for part in re.split(r'(?<=[.!?])\s+', step)]
  return [sentence for sentence in found if len(sentence.split()) >= 3]


def tell(root: pathlib.Path, data: pathlib.Path, exercises: list[dict]) -> int:
  """Videos with instructions in the place of captions."""
  for number, (path, name) in enumerate(TOLD):
    length = video.probe(data / path).duration
    said = sentences_of(next(exercise for exercise in exercises if exercise['name'] == name))
    said = said[: int(length // 4)]
    times = [(f'00:00:{4 * n:02d},200', f'00:00:{4 * n + 3:02d},800') for n in range(len(said))]
    lines = [f'{n}\n{a} --> {b}\n{text}\n' for n, ((a, b), text) in enumerate(zip(times, said, strict=True), 1)]
    (root / f'told [t{number}].en.srt').write_text('\n'.join(lines))
    (root / f'told [t{number}].mp4').write_bytes((data / path).read_bytes())
  return len(TOLD)


def write(root: pathlib.Path, data: pathlib.Path) -> int:
  """The folder; returns how many videos it has."""
  captions = [file for pattern in CAPTIONS for file in sorted(data.glob(pattern))] + [data / XML]
  for number, file in enumerate(captions):
    shown = data / VIDEOS[number % len(VIDEOS)]
    stem = f'{file.name.split(".")[0]} [r{number:02d}]'
    suffix = '.srv1' if file.name.endswith('.static') else file.suffix
    os.symlink(shown.resolve(), root / f'{stem}{shown.suffix.lower()}')
    os.symlink(file.resolve(), root / f'{stem}.en{suffix}')
  return len(captions)


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('data', type=pathlib.Path, help='folder of the real material')
  options = parser.parse_args()
  with tempfile.TemporaryDirectory() as scratch:
    # Links are followed no further than the root, so that the files are brought below it.
    root = pathlib.Path(scratch) / 'videos'
    root.mkdir()
    count = write(root, options.data)
    exercises = json.loads((options.data / 'free_exercise_db' / 'exercises.json').read_text())
    for link in root.iterdir():
      target = link.resolve()
      link.unlink()
      link.write_bytes(target.read_bytes())
    count += tell(root, options.data, exercises)
    place = pathlib.Path(scratch) / 'library'
    report = Run(place, scan.Folder(str(root), sport='gymnastics', skill='flip'), steps.Settings(str(root))).make()
    report.print()
    print(f'{count} videos')
    for row in manifest.read(place):
      if row['kept']:
        print(f'kept: {row["id"]} {row["start"]:.1f}–{row["end"]:.1f} s {row["execution"]}: {row["narration"]}')

  sentences = [sentence for exercise in exercises for sentence in sentences_of(exercise)]
  verdicts = [rules.actionable(sentence) for sentence in sentences]
  passed = sum(bool(verdict.answer) for verdict in verdicts)
  share = 100 * passed / len(sentences)
  print(f'\nactionable: {passed} of {len(sentences)} sentences of real instructions pass, {share:.1f} %')
  reasons = collections.Counter(verdict.reason for verdict in verdicts if not verdict.answer)
  for reason, times in reasons.most_common(8):
    print(f'  {times} × {reason}')
  for sentence, verdict in [(s, v) for s, v in zip(sentences, verdicts, strict=True) if not v.answer][:12]:
    print(f'  not: {sentence}  [{verdict.reason}]')


if __name__ == '__main__':
  main()
