"""The recipe: a killed stage resumes, and every stage sees the clips that it may see."""

import json
import shutil

import jax
import numpy as np

from crosstrainer_jax import provenance, recipe
from crosstrainer_jax.input import pipeline, splits
from crosstrainer_jax.run import open_run


def test_a_stage_killed_before_its_end_resumes_from_its_checkpoint(small_run, small_data, run, tmp_path, capsys):
  workdir = tmp_path / 'run'
  shutil.copytree(small_run, workdir)
  (workdir / 'stage2' / 'done.json').unlink()
  shutil.rmtree(workdir / 'stage2' / 'params')
  opened = open_run(provenance.recorded_config(workdir), workdir, small_data)
  recipe.train(opened)
  assert 'stage2: resumed at update' in capsys.readouterr().out
  before = run.params('stage2')
  jax.tree.map(np.testing.assert_array_equal, jax.tree.leaves(before), jax.tree.leaves(opened.params('stage2')))


def test_stage_one_draws_training_clips_alone(run):
  task = pipeline.Task('attributes', 1)
  stage = pipeline.Stage(run.clips, run.split.train, [task], run.text, 3, 0, 0.0, run.seconds)
  seen = []

  def video(index):
    seen.append(index)
    return run.video(index)

  batches = pipeline.batches(stage, video, 4, 0)
  for _ in range(12):
    next(iter(batches))
  batches.close()
  assert set(seen) <= set(run.split.train)


def test_out_of_fold_predictions_cover_the_training_clips(small_run, run):
  predicted = json.loads((small_run / 'folds' / 'predicted.json').read_text())
  assert set(predicted) == {run.clips[i].clip_id for i in run.split.train}
  parts = splits.folds(run.clips, run.split.train, 2)
  people = [{run.clips[i].participant for i in part} for part in parts]
  assert not people[0] & people[1]
