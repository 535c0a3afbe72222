"""A file for the official benchmark of demonstrator proficiency from a trained run (`eval --submission`)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from crosstrainer_jax.evaluation import submission
from crosstrainer_jax.input.buckets import as_path
from crosstrainer_jax.input.record import LEVELS
from crosstrainer_jax.run import Run
from crosstrainer_jax.run_layout import STAGE2
from crosstrainer_jax.training.telemetry import Progress, say

EGO = 'ego'
FORMS = ('logits', 'labels')


def write(run: Run, path: str, test_list: str, form: str) -> Path:
  """Writes the submission for the takes of the official list; the probe sees each view alone.

  Logits of a take are means over its clips. The label form takes the views' joint answer as the benchmark does. Where
  the dataset knows the levels of all takes, those of the validation list for example, the benchmark's accuracy with
  logits is printed.

  Args:
    test_list: proficiency_demonstrator_test.json of the dataset, or a text file with a take's name in each line.
    form: one of `FORMS`.

  Raises:
    FileNotFoundError, ValueError: no list, no probe, or takes of the list that the dataset lacks (all are named).
  """
  takes = read_test_list(test_list)
  logits = view_logits(run, set(takes))
  if form == 'labels':
    levels = {take: int(submission.average_views(found[None])[0].argmax()) for take, found in logits.items()}
    return submission.write_submission(path, submission.label_form(levels, takes))
  ego, exo = ({take: part(found) for take, found in logits.items()} for part in (lambda x: x[0], lambda x: x[1:]))
  content = submission.logits_form(ego, exo, takes)
  written = submission.write_submission(path, content)
  known = {clip.take: LEVELS[clip.proficiency] for clip in run.clips if clip.proficiency >= 0}
  if known.keys() >= set(takes):
    accuracy = submission.official_accuracy(content, {take: submission.CLASS_OF[known[take]] for take in takes})
    scores = ', '.join(f'{views} {value:.1f} %' for views, value in accuracy.items())
    say(f"The benchmark's own accuracy on these {len(takes)} takes, whose levels the dataset knows: {scores}")
  return written


def view_logits(run: Run, takes: set[str]) -> dict[str, np.ndarray]:
  """Take → float64[views, 4] logits in the order of `record.LEVELS`, the egocentric view first.

  Raises:
    ValueError: the run has no probe, or a clip has no view called `ego`.
  """
  probe = run.probe()
  if probe is None:
    raise ValueError(f'{run.workdir}: this run has no probe of proficiency: its training clips have no levels')
  indices = [i for i, clip in enumerate(run.clips) if clip.take in takes]
  without = [run.clips[i].clip_id for i in indices if EGO not in run.clips[i].views]
  if without:
    raise ValueError(f'{len(without)} clips have no view {EGO!r}, first {without[0]!r}: is this Ego-Exo4D?')
  if not indices:
    return {}
  assessor = run.assessor(run.params(STAGE2))
  found = np.full((len(indices), run.views, 4), np.nan)
  progress = Progress('views of clips', run.views, unit='view')
  try:
    for view in range(run.views):
      video, valid = run.videos(indices, (view,))
      seen = valid.any((1, 2))
      if seen.any():
        found[seen, view] = np.asarray(probe.logits(assessor.pooled(video, valid)))[seen]
      progress.update(1)
  finally:
    progress.close()
  by_take: dict[str, list[np.ndarray]] = {}
  for row, index in zip(found, indices, strict=True):
    names = run.clips[index].views
    order = sorted(range(len(names)), key=lambda view: (names[view] != EGO, view))
    by_take.setdefault(run.clips[index].take, []).append(row[order])
  return {take: np.mean(rows, axis=0) for take, rows in by_take.items()}


def read_test_list(path: str) -> list[str]:
  """Names of takes, in the order of the list.

  Raises:
    FileNotFoundError, ValueError: no such file, or nothing in it that is a list of takes.
  """
  file = as_path(path)
  if not file.is_file():
    raise FileNotFoundError(f'{file}: no such list of takes')
  text = file.read_text(encoding='utf-8')
  if file.suffix != '.json':
    takes = [line.strip() for line in text.splitlines() if line.strip()]
  else:
    try:
      content: Any = json.loads(text)
      entries = content['annotations'] if isinstance(content, dict) else content
      takes = [entry['video_paths'][EGO].split('/')[1] for entry in entries]
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
      raise ValueError(f'{file}: no list of takes with video_paths.ego ({type(error).__name__}: {error})') from None
  if not takes:
    raise ValueError(f'{file}: no takes in it')
  return takes
