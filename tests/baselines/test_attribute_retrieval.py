"""Attribute-Retrieval: incorrect attributes of the training clips alone, those that the video shows."""

import dataclasses
import json
import shutil

import numpy as np
import pytest

from crosstrainer_jax.baselines import attribute_retrieval
from crosstrainer_jax.baselines.prediction import Reference

TEST = list(range(120, 180))


@pytest.fixture(scope='module')
def trained(retrieval_setting, tmp_path_factory):
  setting = retrieval_setting(tmp_path_factory.mktemp('row'), epochs=30.0)
  attribute_retrieval.train(setting)
  return setting


def predict(setting):
  return attribute_retrieval.predict(setting, TEST, [Reference.from_clip(setting.clips[i]) for i in TEST])


def test_attributes_are_those_that_the_video_shows(trained):
  answers = predict(trained)
  truths = [set(trained.clips[i].incorrect) for i in TEST]
  hits = sum(len(set(a.attributes) & truth) for a, truth in zip(answers, truths, strict=True))
  f1 = 2 * hits / sum(len(a.attributes) + len(truth) for a, truth in zip(answers, truths, strict=True))
  everything = 2 * sum(map(len, truths)) / (3 * len(TEST) + sum(map(len, truths)))
  assert f1 > 0.85 > everything
  assert all(a.feedback is None and a.level is None for a in answers)


def test_the_threshold_and_k_bound_what_is_named(trained, tmp_path):
  shutil.copytree(trained.directory, tmp_path / 'row')
  setting = dataclasses.replace(
    trained, directory=tmp_path / 'row', config=trained.config.copy_and_resolve_references()
  )
  path = setting.directory / attribute_retrieval.THRESHOLD_FILE
  recorded = json.loads(path.read_text())
  assert recorded['clips'] == len(setting.validation)
  path.write_text(json.dumps({'threshold': 2.0}))
  assert all(answer.attributes == [] for answer in predict(setting))
  path.write_text(json.dumps({'threshold': 0.0}))
  assert {len(answer.attributes) for answer in predict(setting)} == {3}
  setting.config.prompt.k = 1
  assert {len(answer.attributes) for answer in predict(setting)} == {1}


def test_correct_attributes_teach_and_are_never_named(trained, monkeypatch):
  asked = {}

  class Retriever:
    scale = 1.0

    def __init__(self, setting, name, texts):
      asked['texts'] = texts

    def fit(self, clips, right, relation, writer):
      asked['pairs'] = dict(zip(clips, right, strict=True))

    def similarities(self, clips):
      return np.zeros((len(clips), len(asked['texts'])))

  monkeypatch.setattr(attribute_retrieval, 'Retriever', Retriever)
  attribute_retrieval.train(trained)
  assert 'correct: balance' in asked['texts']
  clip = trained.clips[trained.train[0]]
  named = [asked['texts'][number] for number in asked['pairs'][trained.train[0]]]
  assert named == [*(f'incorrect: {n}' for n in clip.incorrect), *(f'correct: {n}' for n in clip.correct)]
  monkeypatch.undo()
  assert all(name in ('balance', 'knee bend', 'timing') for answer in predict(trained) for name in answer.attributes)


def test_without_any_attribute_there_is_nothing_to_retrieve(trained, tmp_path, capsys):
  silent = [dataclasses.replace(clip, correct=[], incorrect=[]) for clip in trained.clips]
  attribute_retrieval.train(dataclasses.replace(trained, clips=silent, directory=tmp_path))
  assert 'no training clip has an attribute' in capsys.readouterr().out
  assert not list(tmp_path.iterdir())
