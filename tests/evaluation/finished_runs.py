"""Folders of finished runs with answers that are right as often as they are told to be."""

import json
from pathlib import Path

from crosstrainer_jax import settings
from crosstrainer_jax.baselines.prediction import Prediction, Reference
from crosstrainer_jax.evaluation.predictions import write_predictions, write_references
from crosstrainer_jax.evaluation.report import Report

WORDS = ('balance', 'timing', 'speed', 'extension')


def references(skills, clips=8):
  """`clips` clips of each (sport, skill), in takes of two, each with one attribute."""
  return [
    Reference(
      f'{skill}-{n}', f'{skill}-take{n // 2}', sport, skill, f'p{n // 2}', [WORDS[n % 4]], [WORDS[n % 4]],
      f'Work on your {WORDS[n % 4]} when you do the {skill} and keep at it.', n % 4,
    )
    for sport, skill in skills
    for n in range(clips)
  ]  # fmt: skip


def answers(truth, right):
  """The first of every eight clips up to `right` are answered well, the others with another word."""
  found = []
  for number, clip in enumerate(truth):
    word = clip.attributes[0] if number % 8 < right else WORDS[(WORDS.index(clip.attributes[0]) + 1) % 4]
    text = f'Work on your {word} when you do the {clip.skill} and keep at it.'
    level = clip.level if number % 8 < right else (clip.level + 1) % 4
    found.append(Prediction(clip.clip_id, clip.take, clip.sport, clip.skill, [word], text, level))
  return found


def write_run(folder: Path, config: str, skills, rows: dict[str, int], overrides=()) -> Path:
  """A finished run: `rows` maps names to how many of eight clips they answer well."""
  made = settings.load_config(config, list(overrides))
  folder.mkdir(parents=True)
  (folder / 'config.json').write_text(json.dumps(made.to_dict()))
  split = made.split
  report = Report(
    'skillsim', split.setting, split.held_out, made.seed, 'command', 'two abaci', 8, 4, 8, [], rows={}, differences={}
  )
  (folder / 'report.json').write_text(report.to_json())
  (folder / 'done.json').write_text('{"seconds": 1.0}')
  truth = references(skills)
  write_references(folder / 'predictions' / 'references.jsonl', truth)
  for name, right in rows.items():
    write_predictions(folder / 'predictions' / f'{name.replace(" ", "_")}.jsonl', answers(truth, right))
  return folder
