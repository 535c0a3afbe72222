"""The recipe: a killed stage resumes, and every stage sees the clips that it may see."""

import dataclasses
import json
import shutil

import jax
import ml_collections
import numpy as np
import pytest

from crosstrainer_jax import provenance, recipe
from crosstrainer_jax.run import open_run
from crosstrainer_jax.training import stages


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


@dataclasses.dataclass
class Call:
  """One stage as the recipe asked for it; `params` is the name of the stage that it starts from."""

  folder: str
  params: str
  tasks: dict[str, int]
  clips: list[int]
  updates: int
  zeroed: bool


@pytest.fixture
def calls(run, tmp_path, monkeypatch):
  """The stages that the recipe asks for, none of which is trained; what a stage returns is its name."""
  made = []

  def train_stage(directory, name, step, blueprint, params, stage, video, config, updates, **_):
    tasks = {task.name: task.share for task in stage.tasks}
    made.append(Call(name, params, tasks, list(stage.train), updates, video.zeroed))
    return name

  monkeypatch.setattr(stages, 'train_stage', train_stage)
  monkeypatch.setattr(recipe, 'predict_attributes', lambda run, params, indices: [[f'by {params}']] * len(indices))
  asked = {}
  monkeypatch.setattr(recipe, '_fit_probes', lambda run, params, predicted: asked.setdefault('probe', params))
  monkeypatch.setattr(recipe, '_write_card', lambda run, params: asked.setdefault('card', params))
  recipe.train(dataclasses.replace(run, workdir=tmp_path, initial='fresh'))
  assert asked == {'probe': 'stage2', 'card': 'stage2'}
  return {call.folder: call for call in made}


def test_every_stage_starts_from_where_the_paper_says(calls):
  assert {name: call.params for name, call in calls.items()} == {
    'stage1': 'fresh', 'folds/0': 'fresh', 'folds/1': 'fresh', 'stage2': 'stage1',
    'rows/end_to_end_without_attributes/stage2': 'fresh',
    'rows/video_zeroed/stage1': 'fresh', 'rows/video_zeroed/stage2': 'rows/video_zeroed/stage1',
  }  # fmt: skip


def test_rivals_get_as_many_updates_and_the_same_clips(run, calls):
  both = calls['stage1'].updates + calls['stage2'].updates
  assert calls['rows/end_to_end_without_attributes/stage2'].updates == both
  assert calls['rows/video_zeroed/stage1'].updates == calls['stage1'].updates
  assert calls['rows/video_zeroed/stage2'].updates == calls['stage2'].updates
  for name, call in calls.items():
    assert call.zeroed == name.startswith('rows/video_zeroed')
    if not name.startswith('folds'):
      assert call.clips == run.split.train, name


def test_tasks_of_the_stages(run, calls):
  shares = {'feedback': run.config.stage2.feedback, 'attributes': run.config.stage2.attributes}
  for name, call in calls.items():
    expected = shares if name.endswith('stage2') else {'attributes': 1}
    assert call.tasks == ({'direct': 1} if 'end_to_end' in name else expected), name


def test_attributes_are_predicted_for_people_whom_their_model_never_saw(run, calls, tmp_path):
  predicted = json.loads((tmp_path / 'folds' / 'predicted.json').read_text())
  assert set(predicted) == {run.clips[i].clip_id for i in run.split.train}
  for index in run.split.train:
    clip = run.clips[index]
    [listed] = predicted[clip.clip_id]
    trained_on = calls[listed.removeprefix('by ')].clips
    assert clip.participant not in {run.clips[i].participant for i in trained_on}


def test_without_a_share_stage_two_leaves_attributes_alone(run, tmp_path, monkeypatch):
  config = ml_collections.ConfigDict(run.config.to_dict())
  config.stage2.attributes = 0
  seen = {}

  def train_stage(directory, name, step, blueprint, params, stage, *_, **__):
    seen[name] = [task.name for task in stage.tasks]
    return params

  monkeypatch.setattr(stages, 'train_stage', train_stage)
  for name in ('_out_of_fold', '_fit_probes', '_write_card'):
    monkeypatch.setattr(recipe, name, lambda *_: {})
  recipe.train(dataclasses.replace(run, workdir=tmp_path, config=config))
  assert seen['stage1'] == ['attributes']
  assert seen['stage2'] == ['feedback']
