"""A trained run on single-view videos in the wild, against what the coach in them says (paper, section 4.4).

The folder is one that yt-dlp makes: videos with captions or a Whisper transcript (data/youtube/README.md). The model
sees a window around each sentence, in which nothing is heard; the sentence is the hidden reference. The paper lets
people judge what is written; the scores here say how much of it the coach said as well.
"""

from __future__ import annotations

import collections
import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from crosstrainer_jax import backends, provenance, wording
from crosstrainer_jax.baselines import BASELINES
from crosstrainer_jax.baselines.prediction import Prediction, Reference
from crosstrainer_jax.datasets.manifest.rows import resolve
from crosstrainer_jax.datasets.takes.take import Comment, Lose, Loss, Take
from crosstrainer_jax.datasets.youtube.source import YouTube
from crosstrainer_jax.discovery.dataset import read_attributes
from crosstrainer_jax.evaluation import scores, wordnet
from crosstrainer_jax.evaluation.predictions import write_predictions, write_references
from crosstrainer_jax.evaluation.report import Report
from crosstrainer_jax.extraction import reading_of
from crosstrainer_jax.inference.coach import Coach
from crosstrainer_jax.input import splits, video
from crosstrainer_jax.input.files import write_atomically
from crosstrainer_jax.input.source import ClipSource
from crosstrainer_jax.measure import hardware
from crosstrainer_jax.pictures import VideoPictures, Window
from crosstrainer_jax.run_layout import CROSSTRAINER
from crosstrainer_jax.training.telemetry import Progress, say

SETTING = 'wild'
# The piece of a video that each clip is, beside the predictions.
WINDOWS = 'predictions/windows.jsonl'
# Floors that look at training clips alone, which is all that there is beside the model itself.
FLOORS = ('always none', 'random', 'majority')
BROKEN, OUTSIDE = 'the video cannot be read', 'a sentence outside of the video'


def evaluate(workdir: Path, dataset: Path, source: YouTube, command: str) -> Report:
  """Predicts, scores, and writes `wild/<folder>/` of the workdir: predictions, report.md and report.json.

  Args:
    dataset: directory of the run's own dataset, from which the floors are taken.

  Raises:
    FileNotFoundError, ValueError: no videos with narration, or a run that cannot be opened.
  """
  losses: collections.Counter[str] = collections.Counter()
  lost: list[Loss] = []

  def lose(loss: Loss) -> None:
    losses[loss.reason] += 1
    lost.append(loss)

  takes = list(source.takes(lose))
  if not takes:
    raise ValueError(f'{source.root}: no video with usable narration{_counted(losses)}')
  config = provenance.recorded_config(workdir)
  discoverer = backends.create(config.discovery.backend, backends.ModelSettings.of(config.discovery))
  names = wording.canonical_names(config.discovery)
  coach = Coach(workdir)
  references: list[Reference] = []
  answers: list[Prediction] = []
  windows: dict[str, Window] = {}
  progress = Progress('assessing videos', len(takes), unit='video')
  try:
    for take in takes:
      for comment, window, answer in _assess(coach, source.root, take, lose):
        found = discoverer.discover(comment.text, take.sport)
        reference = Reference(
          f'{take.name}/{comment.name}', take.name, take.sport, take.skill, take.participant,
          wording.renamed(found.incorrect, names), None, comment.text,
        )  # fmt: skip
        references.append(reference)
        answers.append(reference.answer(*answer))
        windows[reference.clip_id] = window
      progress.update(1)
  finally:
    progress.close()
  if not references:
    raise ValueError(f'{source.root}: no clip could be made{_counted(losses)}')
  for reason, count in losses.items():
    say(f'  {count} × {reason} (first: {next(loss.id for loss in lost if loss.reason == reason)})')
  rows = {CROSSTRAINER: answers} | _floors(workdir, dataset, config.seed, references)
  wordnet.obtain()
  reading = reading_of(config, references)
  report = Report(
    title=f'{Path(source.root).name}, in the wild',
    setting=SETTING,
    held_out='',
    seed=config.seed,
    command=command,
    hardware=hardware(),
    n_clips=len(references),
    n_takes=len(takes),
    n_headline=int(scores.headline_mask(references).sum()),
    columns=[name for name in scores.columns(reading) if 'F1' not in name and name != 'level accuracy'],
    rows={
      name: scores.score(row, references, reading, config.eval.resamples, config.seed) for name, row in rows.items()
    },
    variants=scores.variants(reading),
    notes=[
      *scores.notes(references),
      'The reference is what the coach says at that moment, found by speech recognition: much of it is no feedback on '
      'what is seen. Clips with a fault are those in which the narration names one.',
      *(f'Left out: {count} × {reason}.' for reason, count in losses.items()),
    ],
    details=scores.details(),
    resamples=config.eval.resamples,
    bootstrap_seed=config.seed,
  )
  folder = folder_of(workdir, source.root)
  write_references(folder / 'predictions' / 'references.jsonl', references)
  for name, row in rows.items():
    write_predictions(folder / 'predictions' / f'{name.replace(" ", "_")}.jsonl', row)
  _write_windows(folder, source.root, windows)
  report.write(folder)
  say(f'written: {folder}/report.md, {folder}/report.json, {folder}/predictions/')
  return report


def folder_of(workdir: Path, root: str) -> Path:
  """Where the predictions for the videos under `root` lie."""
  return workdir / SETTING / Path(root).resolve().name


def pictures(folder: Path, root: str) -> VideoPictures:
  """What people see of the clips in `folder_of`, cut from the videos under `root`.

  Raises:
    FileNotFoundError: the folder was written without a record of its windows.
  """
  path = folder / WINDOWS
  if not path.is_file():
    raise FileNotFoundError(f'there is no {path}: evaluate these videos again, without --human-sheet')
  windows = {}
  for line in path.read_text(encoding='utf-8').splitlines():
    values = json.loads(line)
    windows[values['clip_id']] = Window(resolve(root, values['video']), values['begin'], values['end'])
  return VideoPictures(windows)


def _write_windows(folder: Path, root: str, windows: Mapping[str, Window]) -> None:
  home = Path(root).resolve()
  lines = [
    {'clip_id': clip_id, 'video': str(window.path.relative_to(home)), 'begin': window.begin, 'end': window.end}
    for clip_id, window in windows.items()
  ]
  write_atomically(folder / WINDOWS, ''.join(json.dumps(line, ensure_ascii=False) + '\n' for line in lines))


def _assess(coach: Coach, root: str, take: Take, lose: Lose) -> list[tuple[Comment, Window, tuple[list[str], str]]]:
  """Both passes for the window around each comment of a video that can be read."""
  path = resolve(root, take.videos[0])
  try:
    duration = video.probe(path).duration
  except video.VideoError as error:
    lose(Loss('video', take.name, BROKEN, str(error)))
    return []
  comments, spans = [], []
  for comment in sorted(take.comments, key=lambda c: c.time or 0.0):
    middle = comment.time or 0.0
    begin = min(max(0.0, middle - coach.window / 2), max(0.0, duration - coach.window))
    if middle > duration:
      lose(Loss('comment', f'{take.name}/{comment.name}', OUTSIDE, f'{middle:.1f} s of {duration:.1f} s'))
      continue
    comments.append(comment)
    spans.append((begin, min(duration, begin + coach.window)))
  windows = [Window(path, *span) for span in spans]
  return list(zip(comments, windows, coach.answer_at([path], spans, take.sport), strict=True))


def _floors(workdir: Path, dataset: Path, seed: int, references: Sequence[Reference]) -> dict[str, list[Prediction]]:
  """What the training clips of the run say, whatever is seen."""
  clips = ClipSource(dataset).infos()
  config = provenance.recorded_config(workdir)
  wording.put_attributes(clips, read_attributes(workdir / 'attributes.jsonl'), config.discovery)
  split = splits.split_of(clips, config)
  train = [Reference.from_clip(clips[i]) for i in split.train if clips[i].commentary.strip()]
  nothing = np.zeros((len(train), 1), np.float32), np.zeros((len(references), 1), np.float32)
  return {name: BASELINES[name](seed).fit(train, nothing[0]).predict(nothing[1], references) for name in FLOORS}


def _counted(losses: collections.Counter[str]) -> str:
  listed = ', '.join(f'{count} × {reason}' for reason, count in itertools.islice(losses.items(), 5))
  return f' ({listed})' if listed else ''
