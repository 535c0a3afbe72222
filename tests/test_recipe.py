"""The recipe: resuming a stage, and no word of the held-out sport before the test."""

import dataclasses
import json
import pickle
import shutil

import jax
import numpy as np
import pytest

from crosstrainer_jax import recipe, settings
from crosstrainer_jax.input import pipeline, splits
from crosstrainer_jax.input.source import ClipSource


def dataset(small_run):
  return next((small_run.parent / 'datasets').rglob('dataset_info.json')).parent


@pytest.fixture(scope='module')
def run(small_run):
  return recipe.open_run(settings.recorded_config(small_run), small_run, dataset(small_run))


def test_a_stage_killed_before_its_end_resumes_from_its_checkpoint(small_run, tmp_path, capsys):
  workdir = tmp_path / 'run'
  shutil.copytree(small_run, workdir)
  (workdir / 'stage2' / 'done.json').unlink()
  shutil.rmtree(workdir / 'stage2' / 'params')
  opened = recipe.open_run(settings.recorded_config(workdir), workdir, dataset(small_run))
  recipe.train(opened)
  assert 'stage2: resumed at update' in capsys.readouterr().out
  before = recipe.open_run(settings.recorded_config(small_run), small_run, dataset(small_run)).params('stage2')
  jax.tree.map(np.testing.assert_array_equal, jax.tree.leaves(before), jax.tree.leaves(opened.params('stage2')))


def test_the_tokenizer_never_reads_the_held_out_sport(run):
  texts = ' '.join(recipe.training_texts(run.clips, run.split.train)).lower()
  held_out = {clip.sport for clip in (run.clips[i] for i in run.split.test)}
  assert held_out == {'soccer'}
  assert 'soccer' not in texts
  assert 'penalty' not in texts
  assert 'basketball' in texts


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


def test_reader_processes_can_be_given_the_video(run):
  index = run.split.train[0]
  for hidden in (False, True):
    video = dataclasses.replace(run.video, hidden=hidden)
    copy = pickle.loads(pickle.dumps(video))
    np.testing.assert_array_equal(copy(index)['features'], video(index)['features'])
    assert video(index)['features'].any() != hidden
  frames = dataclasses.replace(run.video, cache=None)
  seen = pickle.loads(pickle.dumps(frames))(index)
  assert seen['frames'].shape == (3, 16, 64, 64, 3)
  assert seen['frames_valid'].all()


def test_out_of_fold_predictions_cover_the_training_clips(small_run, run):
  predicted = json.loads((small_run / 'folds' / 'predicted.json').read_text())
  assert set(predicted) == {run.clips[i].clip_id for i in run.split.train}
  parts = splits.folds(run.clips, run.split.train, 2)
  people = [{run.clips[i].participant for i in part} for part in parts]
  assert not people[0] & people[1]


def test_clips_without_commentary_are_left_out_and_said(run, capsys):
  clips = ClipSource(run.source.directory).infos()
  for index in run.split.train[:3]:
    clips[index].commentary = '  '
  kept = recipe._spoken(clips, run.split)
  assert kept.train == run.split.train[3:]
  assert '3 training clips without commentary' in capsys.readouterr().out


def test_nothing_to_learn_from_is_an_error(run):
  clips = ClipSource(run.source.directory).infos()
  for clip in clips:
    clip.commentary = ''
  with pytest.raises(ValueError, match='no training clip has commentary'):
    recipe._spoken(clips, run.split)
